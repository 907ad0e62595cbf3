from cpex.framework import Plugin, PluginResult


class Some(Plugin):
    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={"ran": True})
