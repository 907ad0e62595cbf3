import asyncio

from cpex.framework import Plugin, PluginResult


class Waits(Plugin):
    async def tool_pre_invoke(self, payload, context):
        if payload.name == self.name:
            raise TimeoutError("its own")
        if payload.name == "wait_for " + self.name:
            await asyncio.wait_for(asyncio.sleep(5), 0.01)
        await asyncio.sleep(0.6)
        return PluginResult(metadata={self.name: True})
