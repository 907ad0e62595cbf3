from cpex.framework import Plugin, PluginResult, PluginViolation
from cpex.framework.extensions import Extensions


class Many(Plugin):
    """Returns everything that a result can hold."""

    async def tool_post_invoke(self, payload, context, extensions):
        own = self.config.config
        context.state["runs"] = context.state.get("runs", 0) + 1
        context.global_context.state[self.name] = dict(context.global_context.state)
        return PluginResult(
            continue_processing=not (own.get("blocks") and payload.name in own["blocks"]),
            modified_payload=payload.model_copy(update={"result": [*payload.result, self.name]}),
            violation=PluginViolation(reason="r", description="d", code=self.name),
            metadata={"last": self.name, self.name: payload.result}, retry_delay_ms=own.get("retry", 0),
            modified_extensions=Extensions(custom={"by": self.name}), http_headers={"x-by": self.name})
