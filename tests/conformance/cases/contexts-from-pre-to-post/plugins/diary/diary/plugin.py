from cpex.framework import Plugin, PluginResult


class Diary(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.state["args"] = payload.args
        context.metadata["from"] = "pre"
        return PluginResult()

    async def tool_post_invoke(self, payload, context):
        context.state["result"] = payload.result
        return PluginResult(metadata={self.name: [context.state.get("args"), context.metadata.get("from")]})
