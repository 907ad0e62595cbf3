from cpex.framework import Plugin, PluginResult


class Mark(Plugin):
    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={"ran": True})

    tool_post_invoke = tool_pre_invoke
