# SPDX-License-Identifier: Apache-2.0
"""Hooks around the call of a tool."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import Any, Field, field_validator
from .._types import LazyModel
from ..models import PluginPayload, PluginResult

# Headers are rare here: their module is imported when some arrive.
_Headers = LazyModel("cpex.framework.hooks.http", "HttpHeaderPayload")

__getattr__ = _lazily(__name__)


class ToolHookType(str, Enum):
    """Hook points of tools."""

    TOOL_PRE_INVOKE = "tool_pre_invoke"
    TOOL_POST_INVOKE = "tool_post_invoke"


class ToolPreInvokePayload(PluginPayload):
    """A tool is about to be called."""

    name: str
    args: dict[str, Any] | None = Field(default_factory=dict)
    headers: _Headers | None = None

    @field_validator("headers", mode="before")
    @classmethod
    def _warn_headers_deprecated(cls, value):
        if value is not None:
            from .http import warn_of_headers

            warn_of_headers("ToolPreInvokePayload")
        return value


class ToolPostInvokePayload(PluginPayload):
    """A tool has answered."""

    name: str
    result: Any


ToolPreInvokeResult = PluginResult[ToolPreInvokePayload]
ToolPostInvokeResult = PluginResult[ToolPostInvokePayload]
