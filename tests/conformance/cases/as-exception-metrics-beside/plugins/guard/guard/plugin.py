from cpex.framework import Plugin, PluginResult, PluginViolation


class Guard(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.global_context.state["last"] = self.name
        what = payload.args.get("what", {})
        violation = PluginViolation(**what["violation"]) if what.get("violation") else None
        return PluginResult(continue_processing=not what.get("block"), violation=violation, metadata={self.name: "ran"},
                            denial_metadata=what.get("metrics"))
