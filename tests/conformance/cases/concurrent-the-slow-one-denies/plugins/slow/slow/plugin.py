import asyncio

from cpex.framework import Plugin, PluginResult, PluginViolation


class Slow(Plugin):
    async def tool_pre_invoke(self, payload, context):
        own, shared = self.config.config, context.global_context
        seen = dict(shared.state)
        shared.state["early " + self.name] = 1
        await asyncio.sleep(own["seconds"])
        shared.state["late " + self.name] = 1
        context.state["ended"] = True
        denies = payload.name in own.get("denies", ())
        violation = PluginViolation(reason=self.name, description="d", code="C") if denies else None
        return PluginResult(continue_processing=not denies, violation=violation, metadata={self.name: seen}, retry_delay_ms=10)
