from cpex.framework import Plugin, PluginResult, PluginViolation, PluginViolationError


class Fails(Plugin):
    async def tool_pre_invoke(self, payload, context):
        if payload.name == self.name:
            raise ValueError("no")
        if payload.name == "violation":
            raise PluginViolationError("it objects", PluginViolation(reason="r", description="d", code="C"))
        return PluginResult(metadata={self.name: "pre"})

    async def tool_post_invoke(self, payload, context):
        return PluginResult(metadata={self.name: "post"})
