from cpex.framework import Plugin, PluginResult


class Looks(Plugin):
    async def look(self, payload, context):
        return PluginResult(metadata={name: [type(value).__name__, value] for name, value in payload.model_dump(warnings=False).items()})

    tool_pre_invoke = prompt_pre_fetch = agent_pre_invoke = look
