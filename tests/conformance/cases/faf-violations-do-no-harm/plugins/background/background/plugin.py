from cpex.framework import Plugin, PluginResult, PluginViolation, PluginViolationError


class Background(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.global_context.state["by"] = self.name
        violation = PluginViolation(reason="r", description="d", code="C")
        if payload.name == "block":
            return PluginResult(continue_processing=False, violation=violation, metadata={"a": 1}, retry_delay_ms=9)
        if payload.name == "junk":
            return "junk"
        if payload.name == self.name:
            raise ValueError("no")
        if payload.name == "violation " + self.name:
            raise PluginViolationError("it objects", violation)
        return PluginResult(modified_payload=payload.model_copy(update={"name": "changed"}))
