# SPDX-License-Identifier: Apache-2.0
"""Plugins that never wait; this module does not import asyncio."""

import collections
import contextvars
import datetime
import enum
import os
import sys

from cpex.framework import (
    Plugin,
    PluginConfig,
    PluginError,
    PluginErrorModel,
    PluginPayload,
    PluginResult,
    PluginViolation,
    PluginViolationError,
    ResourcePreFetchResult,
    ToolPreInvokePayload,
    ToolPreInvokeResult,
    hook,
)

seen = contextvars.ContextVar("seen", default="nothing")


class Colour(enum.Enum):
    RED = "red"


class Opaque:
    pass


class Sample(Plugin):
    """Does what the argument `do` of a tool call names."""

    def __init__(self, config):
        super().__init__(config)
        self.ready = False

    async def initialize(self):
        self.ready = True
        seen.set("initialize")

    async def shutdown(self):
        print("shutdown of", self.name)

    async def tool_pre_invoke(self, payload, context):
        do = (payload.args or {}).get("do", "nothing")
        return getattr(self, "do_" + do)(payload, context)

    def do_nothing(self, payload, context):
        return ToolPreInvokeResult()

    def do_name(self, payload, context):
        return ToolPreInvokeResult(metadata={"name": self.name})

    def do_change(self, payload, context):
        assert self.ready and isinstance(payload, ToolPreInvokePayload)
        args = {**payload.args, "added": [1, 2.5, None, True, b"\x00\xff", 2**100]}
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": args}))

    def do_exotic(self, payload, context):
        values = {
            "tuple": (1, (2,)), "set": {3, 1, 2}, "date": datetime.date(2026, 1, 2), "enum": Colour.RED, "keys": {1: "a"},
            "delta": datetime.timedelta(days=1, seconds=3661, microseconds=500000),
        }  # fmt: skip
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": values}))

    def do_opaque(self, payload, context):
        return ToolPreInvokeResult(metadata={"it": Opaque()})

    def do_deep(self, payload, context):
        deep = []
        deep.append(deep)
        return ToolPreInvokeResult(metadata={"deep": deep})

    def do_large(self, payload, context):
        return ToolPreInvokeResult(metadata={"large": "x" * payload.args["size"]})

    def do_metadata(self, payload, context):
        shared = context.global_context
        return ToolPreInvokeResult(
            metadata={
                "request_id": shared.request_id, "user": shared.user, "tenant_id": shared.tenant_id, "state": dict(shared.state),
                "shared_metadata": dict(shared.metadata), "own_state": context.state, "own_metadata": context.metadata,
            }
        )  # fmt: skip

    def do_state(self, payload, context):
        context.global_context.state["n"] = context.global_context.state.get("n", 0) + 1
        context.global_context.metadata["m"] = "m"
        context.state["mine"] = context.state.get("mine", 0) + 1
        context.metadata["also"] = True
        return None if payload.args.get("junk") else ToolPreInvokeResult(continue_processing=True)

    def do_block(self, payload, context):
        violation = PluginViolation(reason="r", description="d", code="C", details={"a": 1}, http_status_code=429)
        return ToolPreInvokeResult(
            continue_processing=False, violation=violation, retry_delay_ms=7, http_headers={"X": "y"}, denial_metadata={"k": 1}
        )

    def do_who_calls(self, payload, context):
        return ToolPreInvokeResult(metadata={"caller": sys._getframe(2).f_code.co_name})

    def do_plain(self, payload, context):
        from cpex.framework import get_hook_registry
        from cpexd_worker._worker import _worker

        find = get_hook_registry().get_payload_type
        return ToolPreInvokeResult(metadata={"plain": [_worker._sdk.plain(find(each)) is not None for each in payload.args["hooks"]]})

    def do_delay(self, payload, context):
        return ToolPreInvokeResult(retry_delay_ms=7)

    def do_floats(self, payload, context):
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": {"a": 1.5, "b": float("inf")}}))

    def do_lists(self, payload, context):
        deep = ["x"]
        for _ in range(90):
            deep = [deep]
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": {"deep": deep}}), metadata={"tuple": (1, 2)})

    def do_given(self, payload, context):
        return ToolPreInvokeResult(modified_payload=payload)

    def do_given_changed(self, payload, context):
        payload.args["more"] = 1
        return ToolPreInvokeResult(modified_payload=payload)

    def do_restored(self, payload, context):
        context.global_context.state["k"] = 1
        del context.global_context.state["k"]
        return ToolPreInvokeResult()

    def do_nested_state(self, payload, context):
        context.global_context.state.setdefault("deep", {})["b"] = 2
        return ToolPreInvokeResult()

    def do_other_context(self, payload, context):
        context.global_context = context.global_context.model_copy(update={"state": {"other": True}})
        return ToolPreInvokeResult()

    def do_other_state(self, payload, context):
        context.global_context.state = collections.OrderedDict(ordered=True)
        context.global_context.metadata = {}
        return ToolPreInvokeResult()

    def do_no_context(self, payload, context):
        context.global_context = None
        return ToolPreInvokeResult()

    def do_odd_result(self, payload, context):
        return ToolPreInvokeResult.model_construct(continue_processing=1, metadata=None, retry_delay_ms=True, modified_payload=payload)

    def do_none(self, payload, context):
        return None

    def do_text(self, payload, context):
        return "text"

    def do_cross(self, payload, context):
        from cpex.framework import ResourcePreFetchPayload

        return PluginResult(modified_payload=ResourcePreFetchPayload(uri="u"))

    def do_local_class(self, payload, context):
        class Local(PluginPayload):
            a: int = 1

        return PluginResult(modified_payload=Local())

    def do_same(self, payload, context):
        return PluginResult(modified_payload=payload if payload.args.get("itself") else payload.model_copy())

    def do_child(self, payload, context):
        class Child(ToolPreInvokePayload):
            more: int = 1

        return PluginResult(modified_payload=Child(name="child"))

    def do_dict(self, payload, context):
        return PluginResult(modified_payload={"plain": True})

    def do_raise(self, payload, context):
        kind = payload.args["kind"]
        if kind == "PluginError":
            error = PluginErrorModel(message="m", plugin_name="other", code="c", details={"x": 1}, mcp_error_code=-1)
            raise PluginError(error)
        if kind == "PluginViolationError":
            raise PluginViolationError("denied", violation=PluginViolation(reason="r", description="d", code="c"))
        if kind == "SystemExit":
            sys.exit(3)
        if kind == "StopIteration":
            raise StopIteration
        if kind == "recursion":
            return self.do_raise(payload, context)
        raise {"ValueError": ValueError, "TimeoutError": TimeoutError, "KeyboardInterrupt": KeyboardInterrupt}[kind]("no")

    def do_secret(self, payload, context):
        secret = context.global_context.state["token"]
        text = f"{secret} {secret!r} {secret.get_secret_value()[:2]}"
        return ToolPreInvokeResult(metadata={"text": text, "secret": secret})

    def do_print(self, payload, context):
        print("printed \udc80")
        os.write(1, b"written\n")
        os.write(3, b"\xc1") if payload.args.get("to_3") else None
        print("to stderr", file=sys.stderr)
        return ToolPreInvokeResult()

    def do_context_variable(self, payload, context):
        before = seen.get()
        seen.set("a call")
        return ToolPreInvokeResult(metadata={"before": before})

    def do_fork(self, payload, context):
        child = os.fork()
        if child == 0:
            return ToolPreInvokeResult(metadata={"child": True})
        _, status = os.waitpid(child, 0)
        return ToolPreInvokeResult(metadata={"status": os.waitstatus_to_exitcode(status)})

    def do_thread(self, payload, context):
        import _thread
        import time

        _thread.start_new_thread(lambda: [time.sleep(0.001) for _ in range(1000)], ())
        return ToolPreInvokeResult()

    def do_modules(self, payload, context):
        return ToolPreInvokeResult(metadata={"asyncio": "asyncio" in sys.modules, "path": sys.path, "argv": sys.argv})

    def do_process(self, payload, context):
        import resource
        import signal

        limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_CORE")}
        mask = os.umask(0o77)
        os.umask(mask)
        return ToolPreInvokeResult(
            metadata={
                "sid": os.getsid(0), "pid": os.getpid(), "env": dict(os.environ), "limits": limits, "umask": mask,
                "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "sigint": int(signal.getsignal(signal.SIGINT)),
                "sigterm": int(signal.getsignal(signal.SIGTERM)), "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "oom": int(open("/proc/self/oom_score_adj").read()), "stdin": sys.stdin.read(),
            }
        )  # fmt: skip

    async def resource_pre_fetch(self, payload, context, extensions):
        labels = None if extensions is None else type(extensions).__name__
        return ResourcePreFetchResult(metadata={"extensions": labels, "uri": payload.uri})

    async def http_pre_request(self, payload, context):
        return PluginResult(modified_payload=payload, metadata={"kind": type(payload).__name__})

    @hook("sample.custom")
    async def custom(self, payload, context):
        return PluginResult(modified_payload=payload, metadata={"type": type(payload).__name__})

    def not_async(self, payload, context):
        return ToolPreInvokeResult()

    async def too_few(self, payload):
        return ToolPreInvokeResult()

    async def bad_await(self, payload, context):
        return await _Bad()

    async def bare_yield(self, payload, context):
        await _Bare()
        return PluginResult(metadata={"went": "on"})


class _Bad:
    def __await__(self):
        yield "no future"


class _Bare:
    def __await__(self):
        yield


class Billing(Plugin):
    class Charge(PluginPayload):
        cents: int

    @hook("billing.before", Charge, PluginResult)
    async def round_up(self, payload, context):
        return PluginResult(modified_payload=payload.model_copy(update={"cents": payload.cents + 1}))


class Unfinished(Plugin):
    class Payload(PluginPayload):
        later: "NotThere"  # noqa: F821

    @hook("sample.unfinished", Payload, PluginResult)
    async def unfinished(self, payload, context):
        return PluginResult(metadata={"type": type(payload).__name__})


class Exits(Plugin):
    def __init__(self, config):
        sys.exit("cannot start")


class FailsToInitialize(Plugin):
    async def initialize(self):
        raise KeyError("token")


class AnyHook(Plugin):
    """As upstream's clients of external plugins are: one method for all hooks, and an entry that its server completes."""

    async def initialize(self):
        update = {"hooks": ["tool_pre_invoke", "tool_post_invoke"], "priority": 3, "config": {"b": 1, "a": 2}}
        self._config = self._config.model_copy(update=update)

    async def invoke_hook(self, hook, payload, context):
        return ToolPreInvokeResult(metadata={"hook": hook, "payload": type(payload).__name__})

    async def tool_pre_invoke(self, payload, context):
        raise AssertionError("invoke_hook goes before it")


class Retires(Plugin):
    async def tool_pre_invoke(self, payload, context):
        from cpexd_worker._worker import retire

        if payload.args.get("wait"):
            import asyncio

            await asyncio.sleep(payload.args["wait"])
        elif not payload.args.get("not_yet"):
            retire("of no use any more")
        return ToolPreInvokeResult(metadata={"name": payload.name})


class LooksAtConfig(Plugin):
    async def tool_pre_invoke(self, payload, context):
        assert isinstance(self.config, PluginConfig)
        return ToolPreInvokeResult(metadata={"config": self.config.config, "priority": self.priority, "mode": str(self.mode)})


class ShutdownFails(Plugin):
    async def shutdown(self):
        raise RuntimeError("not so fast")
