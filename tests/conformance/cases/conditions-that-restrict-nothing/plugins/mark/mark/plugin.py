from cpex.framework import Plugin, PluginResult


class Mark(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.state["n"] = context.state.get("n", 0) + 1
        return PluginResult(metadata={self.name: context.state["n"]})
