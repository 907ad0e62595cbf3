from cpex.framework import Plugin, PluginResult


class Listens(Plugin):
    async def tool_post_invoke(self, payload, context):
        return PluginResult()
