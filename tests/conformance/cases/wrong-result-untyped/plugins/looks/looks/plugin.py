from cpex.framework import Plugin, PluginResult


class Looks(Plugin):
    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={"next": [type(payload).__name__, payload.model_dump() if hasattr(payload, "model_dump") else payload]})
