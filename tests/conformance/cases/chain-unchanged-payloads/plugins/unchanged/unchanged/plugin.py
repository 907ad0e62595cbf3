from cpex.framework import Plugin, PluginResult


class Unchanged(Plugin):
    async def tool_pre_invoke(self, payload, context):
        how = self.config.config["how"]
        return PluginResult(modified_payload={"itself": payload, "copy": payload.model_copy(), "none": None}[how])
