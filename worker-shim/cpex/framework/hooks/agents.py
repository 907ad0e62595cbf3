# SPDX-License-Identifier: Apache-2.0
"""Hooks around the call of an agent."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import Any, Field, field_validator
from .._types import LazyModel
from ..models import PluginPayload, PluginResult

# Headers are rare here: their module is imported when some arrive.
_Headers = LazyModel("cpex.framework.hooks.http", "HttpHeaderPayload")

__getattr__ = _lazily(__name__)


class AgentHookType(str, Enum):
    """Hook points of agents."""

    AGENT_PRE_INVOKE = "agent_pre_invoke"
    AGENT_POST_INVOKE = "agent_post_invoke"


def _with_attributes(messages):
    """Messages that came as JSON get attribute access."""
    from ..utils import coerce_messages

    return coerce_messages(messages)


class AgentPreInvokePayload(PluginPayload):
    """An agent is about to be called."""

    agent_id: str
    messages: list[Any]
    tools: list[str] | None = None
    headers: _Headers | None = None
    model: str | None = None
    system_prompt: str | None = None
    parameters: dict[str, Any] | None = Field(default_factory=dict)

    @field_validator("headers", mode="before")
    @classmethod
    def _warn_headers_deprecated(cls, value):
        if value is not None:
            from .http import warn_of_headers

            warn_of_headers("AgentPreInvokePayload")
        return value

    @field_validator("messages", mode="before")
    @classmethod
    def _coerce_messages(cls, value):
        return _with_attributes(value)


class AgentPostInvokePayload(PluginPayload):
    """An agent has answered."""

    agent_id: str
    messages: list[Any]
    tool_calls: list[dict[str, Any]] | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _coerce_messages(cls, value):
        return _with_attributes(value)


AgentPreInvokeResult = PluginResult[AgentPreInvokePayload]
AgentPostInvokeResult = PluginResult[AgentPostInvokePayload]
