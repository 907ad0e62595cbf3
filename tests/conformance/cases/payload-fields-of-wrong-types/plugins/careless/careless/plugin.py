from cpex.framework import Plugin, PluginResult


class Careless(Plugin):
    async def change(self, payload, context):
        return PluginResult(modified_payload=payload.model_copy(update=self.config.config["changes"]))

    tool_pre_invoke = prompt_pre_fetch = agent_pre_invoke = change
