from cpex.framework import Plugin, PluginError, PluginResult, PluginViolation, PluginViolationError
from cpex.framework.models import PluginErrorModel


class Secretive(Exception):
    """Has a repr of its own."""

    def __repr__(self):
        return "Secretive(…)"


class Raises(Plugin):
    async def tool_pre_invoke(self, payload, context):
        context.state["tried"] = payload.name
        context.global_context.state["lost"] = payload.name
        if payload.name == "plugin error":
            raise PluginError(PluginErrorModel(message="its own", plugin_name="somebody", code="E1", details={"a": [1]}, mcp_error_code=-1))
        if payload.name == "bare plugin error":
            raise PluginError(PluginErrorModel(message="", plugin_name=""))
        if payload.name == "violation":
            raise PluginViolationError("it objects", PluginViolation(reason="r", description="d", code="C"))
        if payload.name == "bare violation":
            raise PluginViolationError("it objects")
        errors = {
            "chained": lambda: self.chained(), "group": lambda: ExceptionGroup("g", [ValueError("a"), KeyError("b")]), "own": lambda: Secretive("x"),
            "no text": lambda: ValueError(), "two": lambda: ValueError("a", 1), "quotes": lambda: ValueError("it's \"so\""), "os": lambda: FileNotFoundError(2, "No", "f"),
            "newline": lambda: RuntimeError("a\nb"), "stop": lambda: StopAsyncIteration(1), "zero": lambda: self.zero(), "attribute": lambda: payload.nothing,
            "lookup": lambda: payload.args["nothing"], "recursion": lambda: RecursionError("deep"), "not implemented": lambda: NotImplementedError(),
            "long": lambda: ValueError("ä" * 300), "assertion": lambda: AssertionError("no"),
        }
        raise errors[payload.name]()

    def zero(self):
        return 1 / 0

    def chained(self):
        try:
            self.zero()
        except ZeroDivisionError as exc:
            raise ValueError("from") from exc
