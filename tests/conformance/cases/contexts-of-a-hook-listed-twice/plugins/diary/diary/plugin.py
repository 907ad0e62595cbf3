from cpex.framework import Plugin, PluginResult


class Diary(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.state["n"] = context.state.get("n", 0) + 1
        args = payload.args | {"n": payload.args.get("n", 0) + 1}
        return PluginResult(modified_payload=payload.model_copy(update={"args": args}), metadata={f"run {args['n']}": context.state["n"]})
