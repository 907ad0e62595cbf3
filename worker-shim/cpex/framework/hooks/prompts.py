# SPDX-License-Identifier: Apache-2.0
"""Hooks around the fetching of a prompt."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import Any, Field, field_validator
from ..models import PluginPayload, PluginResult

__getattr__ = _lazily(__name__)


class PromptHookType(str, Enum):
    """Hook points of prompts."""

    PROMPT_PRE_FETCH = "prompt_pre_fetch"
    PROMPT_POST_FETCH = "prompt_post_fetch"


class PromptPrehookPayload(PluginPayload):
    """A prompt template is about to be filled in."""

    prompt_id: str
    args: dict[str, str] | None = Field(default_factory=dict)


class PromptPosthookPayload(PluginPayload):
    """A prompt was rendered; `result` has attributes like messages and description."""

    prompt_id: str
    result: Any

    @field_validator("result", mode="before")
    @classmethod
    def _coerce_result(cls, value):
        """What came as JSON gets attribute access."""
        if isinstance(value, dict):
            from ..utils import coerce_nested

            return coerce_nested(value)
        return value


PromptPrehookResult = PluginResult[PromptPrehookPayload]
PromptPosthookResult = PluginResult[PromptPosthookPayload]
