# SPDX-License-Identifier: Apache-2.0
"""Hooks on messages in the common message format."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from ..cmf.message import Message
from ..models import PluginPayload, PluginResult

__getattr__ = _lazily(__name__)


class MessageHookType(str, Enum):
    """Where a message is looked at; part of the payload."""

    EVALUATE = "evaluate"
    LLM_INPUT = "llm_input"
    LLM_OUTPUT = "llm_output"
    TOOL_PRE_INVOKE = "tool_pre_invoke"
    TOOL_POST_INVOKE = "tool_post_invoke"
    PROMPT_PRE_FETCH = "prompt_pre_fetch"
    PROMPT_POST_FETCH = "prompt_post_fetch"
    RESOURCE_PRE_FETCH = "resource_pre_fetch"
    RESOURCE_POST_FETCH = "resource_post_fetch"


class CmfHookType(str, Enum):
    """The hooks that plugins register for to get messages instead of typed payloads."""

    TOOL_PRE_INVOKE = "cmf.tool_pre_invoke"
    TOOL_POST_INVOKE = "cmf.tool_post_invoke"
    LLM_INPUT = "cmf.llm_input"
    LLM_OUTPUT = "cmf.llm_output"
    RESOURCE_PRE_FETCH = "cmf.resource_pre_fetch"
    RESOURCE_POST_FETCH = "cmf.resource_post_fetch"
    PROMPT_PRE_FETCH = "cmf.prompt_pre_fetch"
    PROMPT_POST_FETCH = "cmf.prompt_post_fetch"


class MessagePayload(PluginPayload):
    """A message, and where it was met."""

    message: Message
    hook: MessageHookType = MessageHookType.EVALUATE


MessageResult = PluginResult[MessagePayload]
