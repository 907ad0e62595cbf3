from cpex.framework import Plugin, PluginResult


class Keys(Plugin):
    async def tool_pre_invoke(self, payload, context):
        args = payload.args | {"b": "changed", "new": 1}
        return PluginResult(modified_payload=payload.model_copy(update={"args": args}), metadata={"order": list(payload.args), "then": list(args)})
