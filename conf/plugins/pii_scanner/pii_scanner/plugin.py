# SPDX-License-Identifier: Apache-2.0
"""Redacts US social security numbers in what a tool is given and in what it returns."""

import re

from cpex.framework import (
    Plugin,
    PluginContext,
    ToolPostInvokePayload,
    ToolPostInvokeResult,
    ToolPreInvokePayload,
    ToolPreInvokeResult,
)

# AAA-GG-SSSS, without what is never issued: areas 000, 666 and 9xx, group 00, serial 0000.
SSN = re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}\b")
REDACTED = "[REDACTED]"


def redact(value):
    """Return the value with every number replaced, however deeply it lies, and how many there were."""
    if isinstance(value, str):
        return SSN.subn(REDACTED, value)
    if isinstance(value, dict):
        parts = {key: redact(item) for key, item in value.items()}
        return {key: part for key, (part, _) in parts.items()}, sum(found for _, found in parts.values())
    if isinstance(value, list):
        parts = [redact(item) for item in value]
        return [part for part, _ in parts], sum(found for _, found in parts)
    return value, 0


class PIIScannerPlugin(Plugin):
    """Changes only a payload in which it found something."""

    async def tool_pre_invoke(self, payload: ToolPreInvokePayload, context: PluginContext) -> ToolPreInvokeResult:
        args, found = redact(payload.args)
        if not found:
            return ToolPreInvokeResult()
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": args}), metadata={"ssn_redacted": found})

    async def tool_post_invoke(self, payload: ToolPostInvokePayload, context: PluginContext) -> ToolPostInvokeResult:
        result, found = redact(payload.result)
        if not found:
            return ToolPostInvokeResult()
        return ToolPostInvokeResult(modified_payload=payload.model_copy(update={"result": result}), metadata={"ssn_redacted": found})
