# SPDX-License-Identifier: Apache-2.0
"""The host that test_remote.py runs with the real cpex. Each line of its input is a job: [SCENARIO, MANAGER, SOCKET-OR-FILE] as JSON.

Makes the calls of a scenario and prints what came of them as a line of JSON. MANAGER is PluginManager, which takes the file, or
RemotePluginManager, which takes the socket, or a line of Python that imports that one. There are no tests in here; nothing outside main() imports cpex.
"""

import asyncio
import json
import sys
import traceback

LOCAL = {"plugin_id", "plugin_kind", "duration_ns"}  # of an execution record: what no two runs have in common


def plain(value):
    return json.loads(json.dumps(value, default=lambda model: {"class": type(model).__name__, **model.model_dump(mode="json")}))


def violation_of(violation):
    return violation and violation.model_dump() | {"plugin_name": violation.plugin_name}


def records_of(executions):
    return [{key: value for key, value in plain(record).items() if key not in LOCAL} for record in executions or []]


def result_of(result):
    return {
        "continue": result.continue_processing,
        "payload": plain(result.modified_payload),
        "violation": violation_of(result.violation),
        "metadata": result.metadata,
        "retry_delay_ms": result.retry_delay_ms,
        "extensions": plain(result.modified_extensions),
        "retry": [result.http_headers, getattr(result, "denial_metadata", None)],
        "executions": records_of(result.executions),
    }


def error_of(error):
    entry = {"error": f"{type(error).__module__}.{type(error).__name__}", "text": str(error)}
    if hasattr(error, "violation"):
        entry |= {"violation": violation_of(error.violation), "executions": records_of(error.executions)}
        outcome = getattr(error, "denial_outcome", None)  # since cpex 0.1.4
        entry["outcome"] = outcome and plain(dict(outcome.metadata))
    elif hasattr(error, "error"):
        entry |= error.error.model_dump()
    return entry


async def outcome(call):
    try:
        return await call
    except Exception as error:
        return error


class Host:
    """Calls a manager and keeps what it saw."""

    def __init__(self, manager):
        self.manager = manager
        self.seen = []
        self.table = None

    async def call(self, hook, payload, shared, **more):
        got = await outcome(self.manager.invoke_hook(hook, payload, shared, **more))
        if isinstance(got, Exception):
            entry = error_of(got)
        else:
            result, self.table = got
            entry = result_of(result)
            entry["contexts"] = self.table and [[plain(c.state), plain(c.metadata)] for c in self.table.values()]
            names = {shared.request_id + ref.uuid: ref.name for ref in self.manager._registry.get_all_plugins()}
            entry["owners"] = self.table and [names[key] for key in self.table]
        self.seen.append(entry | {"state": plain(shared.state), "global_metadata": plain(shared.metadata)})

    async def one(self, name, hook, payload, context, **more):
        got = await outcome(self.manager.invoke_hook_for_plugin(name, hook, payload, context, **more))
        self.seen.append((error_of(got) if isinstance(got, Exception) else result_of(got)) | {"context": plain(context)})


async def calls(host):
    """A handful of calls that a host makes: redaction, block, error, contexts, shared state, sizes, extensions."""
    from cpex.framework import GlobalContext, PluginContext, ToolPostInvokePayload, ToolPreInvokePayload
    from cpex.framework.extensions.extensions import Extensions

    def pre(name="search", **args):
        return ToolPreInvokePayload(name=name, args=args)

    pre_hook, post_hook = "tool_pre_invoke", "tool_post_invoke"
    await host.call(pre_hook, pre(query="SSN 123-45-6789", n=2**70, deep=[{"x": 1.5}]), GlobalContext(request_id="r1"))
    shared = GlobalContext(request_id="r2", user="alice", state={"kept": (1, 2), "one": 1}, metadata={"tool": pre()})
    await host.call(pre_hook, pre(), shared)
    host.seen.append({"untouched": [str(type(shared.state["kept"])), type(shared.metadata["tool"]).__name__]})
    result = ToolPostInvokePayload(name="search", result={"text": "123-45-6789"})
    await host.call(post_hook, result, shared, local_contexts=host.table)
    await host.call(post_hook, ToolPostInvokePayload(name="search", result=None), shared, local_contexts=host.table)
    await host.call(post_hook, ToolPostInvokePayload(name="x", result=1), GlobalContext(request_id="r3"), local_contexts=host.table)
    for name in ("denied", "broken", "own-error", "raised-denial"):
        for as_exceptions in (False, True):
            shared = GlobalContext(request_id=name)
            await host.call(pre_hook, pre(name, query="123-45-6789"), shared, violations_as_exceptions=as_exceptions)
    await host.call(pre_hook, pre(query="x" * 1_000_001), GlobalContext(request_id="r4"))
    extensions = Extensions.model_validate({"http": {"headers": {"a": "b"}}, "custom": {"n": 1}})
    await host.call(pre_hook, pre("extended"), GlobalContext(request_id="r5"), extensions=extensions)
    await host.call(pre_hook, pre("not-a-payload"), GlobalContext(request_id="r6"))
    await host.call(pre_hook, pre("unvalidated"), GlobalContext(request_id="r7"))
    await host.call("prompt_pre_fetch", pre(), GlobalContext(request_id="r8"))

    await host.one("pii_scanner", pre_hook, pre(query="123-45-6789"), GlobalContext(request_id="p1"))
    context = PluginContext(global_context=GlobalContext(request_id="p2"), state={"calls": 5})
    await host.one("guard", pre_hook, pre(), context)
    await host.one("guard", pre_hook, {"name": "denied"}, context, payload_as_json=True)
    await host.one("guard", pre_hook, pre("denied"), context, violations_as_exceptions=True)
    await host.one("guard", pre_hook, pre("broken"), context)
    await host.one("guard", "prompt_pre_fetch", pre(), context)
    await host.one("nobody", pre_hook, pre(), context)
    await host.one("guard", pre_hook, {"name": "a"}, context)


async def direct(host):
    """One plugin by its name, whatever the pipeline would say to it: mode, conditions, on_error, the size of the payload."""
    from cpex.framework import GlobalContext, PluginContext, ToolPreInvokePayload

    names = [plugin.name for plugin in host.manager.config.plugins if plugin.conditions or "-" in plugin.name]
    calls = ("search", "denied", "broken", "own-error", "raised-denial", "not-a-payload", "renamed", "taken-out", "late", "blocks-and-changes")
    for name in names:
        for call in calls:
            shared = GlobalContext(request_id=call, state={"one": 1, "kept": (1, 2)}, metadata={"tool": ToolPreInvokePayload(name="a")})
            context = PluginContext(global_context=shared, state={"calls": 5, "mine": [1]}, metadata={"other": None})
            await host.one(name, "tool_pre_invoke", ToolPreInvokePayload(name=call, args={"a": 1}), context)
            host.seen.append([str(type(shared.state["kept"])), type(shared.metadata["tool"]).__name__])
    large = ToolPreInvokePayload(name="search", args={"a": "x" * 1_000_001})
    await host.one(names[0], "tool_pre_invoke", large, GlobalContext(request_id="large"))
    await host.one(names[0], "tool_pre_invoke", large, GlobalContext(request_id="e"), violations_as_exceptions=True)
    host.manager.executor.timeout = 0.2
    for name in names:
        await host.one(name, "tool_pre_invoke", ToolPreInvokePayload(name="slow"), GlobalContext(request_id="slow"))
        del host.seen[-1]["context"]  # what a cancelled plugin had written stays with it


async def spans(host):
    """What an observability provider is told, but for how long it took."""
    from cpex.framework import GlobalContext, ToolPreInvokePayload
    from cpex.framework.observability import current_trace_id

    class Provider:
        def start_span(self, **span):
            host.seen.append(["start", span])
            return span["name"]

        def end_span(self, span_id, status="ok", attributes=None):
            attributes = {key: value for key, value in (attributes or {}).items() if key != "plugin.duration_ns"}
            host.seen.append(["end", span_id, status, attributes])

    class Broken:
        def start_span(self, **span):
            raise RuntimeError("broken")

    call = ToolPreInvokePayload(name="search", args={"a": "123-45-6789"})
    host.manager.observability = Provider()
    await host.manager.invoke_hook("tool_pre_invoke", call, GlobalContext(request_id="untraced"))
    current_trace_id.set("trace")
    for payload in (call, ToolPreInvokePayload(name="denied"), call):
        await host.manager.invoke_hook("tool_pre_invoke", payload, GlobalContext(request_id="traced"))
    await host.manager.invoke_hook("prompt_pre_fetch", call, GlobalContext(request_id="nobody"))
    host.manager.observability = Broken()
    await host.call("tool_pre_invoke", call, GlobalContext(request_id="broken"))
    for what, span, *_ in host.seen:
        if what == "start":  # of one process
            span["attributes"].pop("plugin.uuid", None)
    # CPEX opens a plugin's span when it runs, this one when the answer is there: as many, but nested otherwise.
    host.seen.sort(key=json.dumps)


async def surface(host):
    """What a host asks the manager itself. Another instance of it is the same one."""
    from cpex.framework import GlobalContext, ToolHookType, ToolPreInvokePayload

    manager = host.manager
    plugin = manager.get_plugin("guard")
    host.seen += [
        [manager.initialized, manager.plugin_count, manager.get_plugin("nobody") is None],
        [manager.has_hooks_for(hook) for hook in ("tool_pre_invoke", "tool_post_invoke", "prompt_pre_fetch")],
        [plugin.name, plugin.hooks, plugin.mode, plugin.priority, plugin.tags, plugin.config.description],
        [[p.name, p.mode, p.on_error, p.hooks] for p in manager.config.plugins],
        [[ref.name, ref.mode, ref.priority, ref.hooks, ref.tags] for ref in manager._registry.get_all_plugins()],
        [ref.plugin_ref.name for ref in manager._registry.get_hook_refs_for_hook(hook_type=ToolHookType.TOOL_PRE_INVOKE)],
        [manager.has_hooks_for(ToolHookType.TOOL_PRE_INVOKE), type(manager)().plugin_count, type(manager)().initialized],
    ]
    payload = ToolPreInvokePayload(name="search", args={"a": "123-45-6789"})
    await host.call(ToolHookType.TOOL_PRE_INVOKE, payload, GlobalContext(request_id="enum"))
    await manager.initialize()  # a second time does nothing
    host.seen.append(manager.plugin_count)


async def policies(host):
    """The manager was given policies by its host."""
    from cpex.framework import GlobalContext, ToolPostInvokePayload, ToolPreInvokePayload

    for name in ("renamed", "search"):
        payload = ToolPreInvokePayload(name=name, args={"a": "123-45-6789"})
        await host.call("tool_pre_invoke", payload, GlobalContext(request_id="r1"))
    await host.call("tool_post_invoke", ToolPostInvokePayload(name="a", result="123-45-6789"), GlobalContext(request_id="r2"))
    for entry in host.seen:  # the records of the daemon tell of its own policies
        del entry["executions"]


async def misuse(host):
    """A manager that is not initialized, a daemon that is not there."""
    from cpex.framework import GlobalContext, ToolPreInvokePayload
    from cpexd_client.cpex import RemoteTenantPluginManager

    nowhere = Host(RemoteTenantPluginManager(socket="/nonexistent/cpexd.sock"))
    await nowhere.call("tool_pre_invoke", ToolPreInvokePayload(name="a"), GlobalContext(request_id="r1"))
    host.seen += [*nowhere.seen, error_of(await outcome(nowhere.manager.initialize()))]


async def main(scenario, kind, where):
    from cpex.framework import HookPayloadPolicy, PluginManager
    from cpexd_client.cpex import RemotePluginManager

    PluginManager.reset()
    RemotePluginManager.reset()
    options = {}
    if scenario is policies:
        policy = HookPayloadPolicy(writable_fields=frozenset({"args"}))
        options = {"hook_policies": {"tool_pre_invoke": policy}, "default_hook_policy": "deny"}
    if kind == "PluginManager":
        manager = PluginManager(where, **options)
    else:
        names = {"RemotePluginManager": RemotePluginManager}
        exec(kind, names)  # its name, or a line that imports it as another
        manager = names.get("PluginManager", RemotePluginManager)(socket=where, **options)
    await manager.initialize()
    host = Host(manager)
    await scenario(host)
    await manager.shutdown()
    return host.seen


def serve(do):
    """Answers each job, [true, what do(*job) returned] or [false, the traceback]."""
    for line in sys.stdin:
        try:
            answer = [True, do(*json.loads(line))]
        except Exception:
            answer = [False, traceback.format_exc()]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(lambda scenario, *args: asyncio.run(main(globals()[scenario], *args)))
