# SPDX-License-Identifier: Apache-2.0
"""What the gateway's calls are tried with: a plugin that blocks, fails, waits, remembers, and listens to hooks of every kind."""

import asyncio

from cpex.framework import (
    HttpHeaderPayload,
    HttpPostRequestResult,
    Plugin,
    PluginViolation,
    PromptPosthookResult,
    PromptPrehookResult,
    ResourcePostFetchResult,
    ResourcePreFetchResult,
    ToolPostInvokeResult,
    ToolPreInvokeResult,
)


def denial(what):
    return PluginViolation(reason="Not allowed", description=f"{what} is forbidden", code="FORBIDDEN", details={"what": what})


def redact(text):
    return text.replace("sesame", "******")


class Guard(Plugin):
    async def tool_pre_invoke(self, payload, context):
        text = str((payload.args or {}).get("text", ""))
        if "wait" in text:
            await asyncio.sleep(1)
        if "broken" in text:
            raise ValueError("the guard is broken")
        if "forbidden" in text:
            return ToolPreInvokeResult(continue_processing=False, violation=denial("that text"))
        context.set_state("asked", text)
        return ToolPreInvokeResult(metadata={"guard": "saw it"})

    async def tool_post_invoke(self, payload, context):
        result = dict(payload.result)
        asked = {"type": "text", "text": f"The guard remembers: {context.get_state('asked')}"}
        result["content"] = [*result.get("content", []), asked]
        return ToolPostInvokeResult(modified_payload=payload.model_copy(update={"result": result}))

    async def prompt_pre_fetch(self, payload, context):
        args = payload.args or {}
        if args.get("name") == "nobody":
            return PromptPrehookResult(continue_processing=False, violation=denial("that name"))
        args = args | {"name": args.get("name", "").title()}
        return PromptPrehookResult(modified_payload=payload.model_copy(update={"args": args}))

    async def prompt_post_fetch(self, payload, context):
        result = payload.result.model_copy(deep=True)
        for message in result.messages:
            message.content.text += " (seen by the guard)"
        return PromptPosthookResult(modified_payload=payload.model_copy(update={"result": result}))

    async def resource_pre_fetch(self, payload, context):
        if "secret" in payload.uri:
            return ResourcePreFetchResult(continue_processing=False, violation=denial(payload.uri))
        return ResourcePreFetchResult()

    async def resource_post_fetch(self, payload, context):
        """The gateway hands over an object of its own class, of which cpexd brings the fields."""
        content = payload.content
        if isinstance(content, dict):
            content = content | {"text": redact(content["text"])}
        else:
            content = content.model_copy(update={"text": redact(content.text)})
        return ResourcePostFetchResult(modified_payload=payload.model_copy(update={"content": content}))

    async def http_post_request(self, payload, context):
        return HttpPostRequestResult(modified_payload=HttpHeaderPayload(root={"x-guard": f"{payload.method} {payload.path}"}))
