# SPDX-License-Identifier: Apache-2.0
"""A plugin that imports asyncio when it is asked to, and not before."""

from cpex.framework import Plugin, PluginResult, ToolPreInvokeResult


class Late(Plugin):
    """Imports asyncio inside a hook, where the call under way has to find all of it."""

    async def tool_pre_invoke(self, payload, context):
        import sys

        if payload.args.get("not_yet"):
            return ToolPreInvokeResult()
        before = "asyncio" in sys.modules
        import asyncio

        task = asyncio.current_task()
        assert task is not None and task.get_loop() is asyncio.get_running_loop()
        if payload.args.get("cancel"):
            task.cancel()
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return ToolPreInvokeResult(metadata={"cancelled": True})
        assert asyncio.current_task() is task
        async with asyncio.timeout(1):
            value = await asyncio.create_task(asyncio.sleep(0.01, "value"))
        return ToolPreInvokeResult(metadata={"value": value, "before": before})

    async def resource_pre_fetch(self, payload, context):
        if payload.uri == "not yet":
            return PluginResult()
        import asyncio

        return PluginResult(metadata={"running": asyncio.get_running_loop().is_closed()})

    async def prompt_pre_fetch(self, payload, context):
        """A thread brings asyncio in."""
        import threading

        thread = threading.Thread(target=lambda: __import__("asyncio"))
        thread.start()
        thread.join()
        return PluginResult()
