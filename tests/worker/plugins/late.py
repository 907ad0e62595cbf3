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


class AtTheEnd(Plugin):
    """Imports asyncio when the hook is over: by what is encoded, or by what goes with the payload or the result."""

    async def tool_pre_invoke(self, payload, context):
        result = ToolPreInvokeResult()
        if payload.args.get("by") == "encoding":
            result.metadata["it"] = _Encoded()
        elif payload.args.get("by") == "payload":
            payload.__dict__["it"] = _Collected()
        elif payload.args.get("by") == "result":
            result.__dict__["it"] = _Collected()
        return result

    async def resource_pre_fetch(self, payload, context):
        import sys

        before = "asyncio" in sys.modules
        import asyncio

        await asyncio.sleep(0.001)
        return PluginResult(metadata={"before": before})


class _Encoded:
    def model_dump(self, warnings):
        import asyncio

        return asyncio.__name__


class _Collected:
    def __del__(self):
        import asyncio  # noqa: F401
