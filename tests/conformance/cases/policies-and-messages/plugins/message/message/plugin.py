from cpex.framework import Plugin, PluginResult
from cpex.framework.decorator import hook


class Message(Plugin):
    @hook("cmf.tool_pre_invoke")
    async def look(self, payload, context):
        text = payload.message.content[0].text
        if text == "same":
            return PluginResult(modified_payload=payload.model_copy(update={"message": payload.message.model_copy()}))
        part = payload.message.content[0].model_copy(update={"text": "changed"})
        return PluginResult(modified_payload=payload.model_copy(update={"message": payload.message.model_copy(update={"content": [part]}), "hook": "llm_input"}))
