from cpex.framework import Plugin, PluginResult, ToolPreInvokeResult


class Typed(Plugin):
    async def tool_pre_invoke(self, payload, context):
        made = {"map": {"name": "m", "args": {"a": 1}, "unknown": 1}, "short": {"name": "m"}, "bytes": {"name": b"m"}, "wrong": {"name": 5},
                "text": "text", "list": [1], "empty": {}, "number": 0, "false": False}[payload.name]
        result = PluginResult if self.config.config.get("untyped") else ToolPreInvokeResult
        return result(modified_payload=made)

    async def tool_post_invoke(self, payload, context):
        return PluginResult()
