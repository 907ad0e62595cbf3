# SPDX-License-Identifier: Apache-2.0
"""Plugins that use asyncio, imported here at once."""

import asyncio
import contextvars

from cpex.framework import Plugin, PluginResult, ToolPreInvokeResult

number = contextvars.ContextVar("number")


class Waits(Plugin):
    def __init__(self, config):
        super().__init__(config)
        self.loop = asyncio.get_running_loop()
        self.background = None
        self.ticks = 0

    async def initialize(self):
        await asyncio.sleep(0)
        self.background = asyncio.create_task(self.tick())

    async def tick(self):
        try:
            while True:
                self.ticks += 1
                await asyncio.sleep(0.01)
        finally:
            print("background task ended", flush=True)

    async def tool_pre_invoke(self, payload, context):
        return await getattr(self, "do_" + payload.args.get("do", "sleep"))(payload.args, context)

    async def do_sleep(self, args, context):
        context.state["begun"] = True
        number.set(args.get("n"))
        await asyncio.sleep(args.get("seconds", 0.01))
        return ToolPreInvokeResult(metadata={"n": number.get()})

    async def do_promises(self, args, context):
        task = asyncio.current_task()
        assert asyncio.get_running_loop() is self.loop is task.get_loop()
        child = asyncio.create_task(asyncio.sleep(0, "child"))
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            timed_out = True
        assert asyncio.current_task() is task and task.cancelling() == 0
        gathered = await asyncio.gather(asyncio.to_thread(lambda: "thread"), asyncio.wait_for(asyncio.sleep(0, "waited"), 1))
        return ToolPreInvokeResult(metadata={"child": await child, "timed_out": timed_out, "gathered": gathered})

    async def do_ticks(self, args, context):
        return ToolPreInvokeResult(metadata={"ticks": self.ticks})

    async def do_survive_cancel(self, args, context):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return ToolPreInvokeResult(metadata={"survived": True})

    async def do_own_timeout(self, args, context):
        await asyncio.wait_for(asyncio.sleep(10), 0.01)

    async def do_bad_await(self, args, context):
        class Bad:
            def __await__(self):
                yield "no future"

        await Bad()
