from cpex.framework import Plugin, PluginResult, PluginViolation


class Writes(Plugin):
    async def tool_pre_invoke(self, payload, context):
        shared = context.global_context
        shared.state[self.name] = payload.name
        shared.state.pop("gone", None)
        shared.metadata = {self.name: "replaced"}
        shared.request_id, shared.user, shared.tenant_id = "forged", "mallory", "t"
        if payload.name == "raise":
            raise ValueError("no")
        violation = PluginViolation(reason="r", description="d", code="C")
        return PluginResult(continue_processing=payload.name != "block", violation=violation, metadata={self.name: [shared.user, sorted(shared.state)]})
