from cpex.framework import Plugin, PluginResult, PluginViolation, ResourcePreFetchPayload, ToolPreInvokePayload


class Child(ToolPreInvokePayload):
    more: int = 1


class Changes(Plugin):
    async def tool_pre_invoke(self, payload, context):
        args = {"one": 1, "float": 1.0, "reversed": dict(reversed(payload.args.items())), "more": payload.args | {"new": True}}
        how = payload.name
        if how in ("one", "float"):
            new = payload.model_copy(update={"args": payload.args | {"n": args[how]}})
        elif how in args:
            new = payload.model_copy(update={"args": args[how], "name": "changed"})
        elif how == "child":
            new = Child(name="child", args={"c": 1})
        elif how == "other":
            new = ResourcePreFetchPayload(uri="u")
        elif how == "block":
            return PluginResult(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C"),
                                modified_payload=payload.model_copy(update={"args": {}}))
        else:
            new = {"map": {"a": 1}, "text": "text", "empty": {}, "none": None}[how]
        return PluginResult(modified_payload=new, metadata={"did": how}, retry_delay_ms=5)
