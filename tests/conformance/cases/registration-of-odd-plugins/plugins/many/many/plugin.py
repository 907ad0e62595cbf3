from cpex.framework import Plugin, PluginResult
from cpex.framework.decorator import hook


class Base(Plugin):
    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={self.name: sorted(self.config.config.get("known", []))})


class Odd(Plugin):
    @hook("a.b")
    async def dotted(self, payload, context):
        return PluginResult(metadata={"dotted": True})

    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={self.name: "odd"})

    def tool_post_invoke(self, payload, context):
        return PluginResult()


class Fails(Plugin):
    async def initialize(self):
        raise RuntimeError("it will not start")

    async def tool_pre_invoke(self, payload, context):
        return PluginResult(metadata={self.name: "never"})
