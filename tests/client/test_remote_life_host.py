# SPDX-License-Identifier: Apache-2.0
"""The host that test_remote.py runs with the real cpex to see what it does when things go wrong. A job is [SCENARIO, CPEXD, FOLDER].

It has a daemon of its own, in the folder. A scenario asserts; there are no tests in here, and nothing outside of functions
imports cpex.
"""

import asyncio
import gc
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from test_remote_host import serve

SOCKET = ""  # of the scenario's daemon

PLUGIN = '''
import asyncio, pathlib, time

from cpex.framework import Plugin, PromptPrehookResult, ToolPreInvokeResult


class P(Plugin):
    async def tool_pre_invoke(self, payload, context):
        if payload.name == "sleep":
            pathlib.Path(payload.args["file"]).write_text("running")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                pathlib.Path(payload.args["file"]).write_text("cancelled")
                raise
        if payload.name == "nap":
            await asyncio.sleep(payload.args["s"])
        context.set_state("n", payload.args.get("n"))
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": {"got": payload.args.get("n")}}))

    async def prompt_pre_fetch(self, payload, context):
        return PromptPrehookResult(metadata={"saw": payload.prompt_id})

    async def agent_pre_invoke(self, payload, context):
        raise NotImplementedError
'''


class Cpexd:
    def __init__(self, program):
        self.program = program
        package = pathlib.Path("plugins/life/life")
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "plugin.py").write_text(PLUGIN)
        pathlib.Path("plugins/life/requirements.txt").touch()
        self.configure(strict=["tool_pre_invoke"], lax=["prompt_pre_fetch"])
        settings = {"plugins": "life.yaml", "cache_dir": f"{os.getcwd()}/cache", "socket": {"path": SOCKET}, "drain_timeout": "1s",
                    "isolation": {"sandbox": {"write": ["."]}}}
        pathlib.Path("life.json").write_text(json.dumps(settings))
        self.start()

    def configure(self, strict, lax):
        config = {"class_name": "life.plugin.P", "script_path": "plugins/life", "requirements_file": "requirements.txt"}
        entries = [("strict", strict, "fail"), ("lax", lax, "ignore")]
        plugins = [{"name": n, "kind": "isolated_venv", "hooks": h, "on_error": o, "config": config} for n, h, o in entries]
        pathlib.Path("life.yaml").write_text(json.dumps({"plugins": plugins}))

    def start(self):
        self.log = open("life.log", "w+b")
        command = [self.program, "-c", "life.json"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.wait_log(b" notice: ready: ")

    def wait_log(self, text):
        deadline = time.monotonic() + 30
        while text not in pathlib.Path("life.log").read_bytes():
            assert self.process.poll() is None and time.monotonic() < deadline, pathlib.Path("life.log").read_text()
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.log.close()


def sockets():
    """How many Unix sockets this process has open; a running event loop has two itself."""
    unix = {line.split()[6] for line in pathlib.Path("/proc/net/unix").read_text().splitlines()}
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return sum(1 for name in names if name.startswith("socket:[") and name[8:-1] in unix)


def call(manager, name="t", request="r", **args):
    from cpex.framework import GlobalContext, ToolPreInvokePayload

    return manager.invoke_hook("tool_pre_invoke", ToolPreInvokePayload(name=name, args=args), GlobalContext(request_id=request))


def prompt(manager, table=None):
    from cpex.framework import GlobalContext, PromptPrehookPayload

    shared = GlobalContext(request_id="p")
    return manager.invoke_hook("prompt_pre_fetch", PromptPrehookPayload(prompt_id="1"), shared, local_contexts=table)


async def failure_of(awaitable):
    try:
        got = await awaitable
    except Exception as error:
        return error
    raise AssertionError(f"no error, but {got}")


async def started(**more):
    from cpexd_client.cpex import RemoteTenantPluginManager

    manager = RemoteTenantPluginManager(socket=SOCKET, **more)
    await manager.initialize()
    return manager


async def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# ---- Scenarios


async def restart(cpexd):
    """Without a daemon a call ends by the plugins' on_error; a new one is found, and its other configuration, too."""
    from cpex.framework import PluginError, PluginPayload

    manager = await started()
    open_now = sockets()
    under_way = asyncio.ensure_future(failure_of(call(manager, "nap", s=20)))
    await asyncio.sleep(0.1)
    cpexd.stop()
    lost = await under_way
    assert isinstance(lost, PluginError) and "cpexd" in str(lost), lost
    for _ in range(3):
        error = await failure_of(call(manager))
        assert isinstance(error, PluginError) and f"cpexd does not answer at {SOCKET}" in str(error), error
    result, table = await prompt(manager)  # on_error: ignore
    assert result.continue_processing and result.modified_payload is None
    assert [record.plugin_name for record in result.executions] == ["lax"] and len(table) == 1
    result, _ = await manager.invoke_hook("agent_pre_invoke", PluginPayload(), list(table.values())[0].global_context)
    assert result.continue_processing  # nobody listens
    assert isinstance(await failure_of(manager.invoke_hook_for_plugin("strict", "tool_pre_invoke", *direct())), PluginError)
    other = await started()  # what is known of the daemon will do
    assert other.plugin_count == 2 and other.has_hooks_for("tool_pre_invoke")

    cpexd.configure(strict=["tool_pre_invoke"], lax=["prompt_pre_fetch", "agent_pre_invoke"])
    cpexd.start()
    result, _ = await call(manager, n=7)
    assert result.modified_payload.args == {"got": 7}
    assert manager.has_hooks_for("agent_pre_invoke")
    assert not other.has_hooks_for("agent_pre_invoke")
    result, table = await prompt(other)
    assert result.metadata == {"saw": "1"} and other.has_hooks_for("agent_pre_invoke")
    assert sockets() == open_now, "one connection, as before"
    await manager.shutdown()
    await other.shutdown()
    assert sockets() == open_now - 1


def direct():
    from cpex.framework import GlobalContext, ToolPreInvokePayload

    return ToolPreInvokePayload(name="t", args={"n": 1}), GlobalContext(request_id="d")


async def reload(cpexd):
    """While calls go on; not one of them fails."""
    manager = await started()
    cpexd.configure(strict=["tool_pre_invoke", "agent_pre_invoke"], lax=[])
    cpexd.process.send_signal(signal.SIGHUP)
    n, end = 0, time.monotonic() + 30
    while not manager.has_hooks_for("agent_pre_invoke") and time.monotonic() < end:
        n += 1
        result, _ = await call(manager, n=n)
        assert result.modified_payload.args == {"got": n}
    assert manager.has_hooks_for("agent_pre_invoke") and not manager.has_hooks_for("prompt_pre_fetch")
    await manager.shutdown()


async def crowd(cpexd):
    """Many calls of one loop, and many managers; each call gets its own answer, and one connection does."""
    none = sockets()
    managers = [await started() for _ in range(50)]
    assert sockets() == none + 1

    async def one(n):
        result, table = await call(managers[n % 50], request=f"r{n}", n=n)
        (context,) = table.values()
        assert result.modified_payload.args == {"got": n} and context.state == {"n": n}

    await asyncio.gather(*(one(n) for n in range(500)))
    for manager in managers:
        assert sockets() == none + 1, "the last one closes it"
        await manager.shutdown()
    assert sockets() == none


async def loops(cpexd):
    """One manager in the event loops of several threads, which come and go."""
    none = sockets()
    manager = await started()
    wrong = []

    async def some(first):
        for n in range(first, first + 20):
            result, _ = await call(manager, n=n)
            if result.modified_payload.args != {"got": n}:
                wrong.append(n)

    def thread(first):
        try:
            asyncio.run(some(first))
            asyncio.run(some(first + 20))  # another loop
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=thread, args=(n * 100,)) for n in range(4)]
    for each in threads:
        each.start()
    await some(1000)
    while any(each.is_alive() for each in threads):
        await asyncio.sleep(0.05)
    assert not wrong, wrong
    await manager.shutdown()
    gc.collect()  # what the loops that are gone had
    assert sockets() == none


async def cancel(cpexd):
    """Cancelling a task, a timeout, and the manager's own for one plugin: each ends in the plugin."""
    manager = await started(timeout=1)

    async def seen(name, ends):
        file = pathlib.Path(name).absolute()
        task = asyncio.ensure_future(ends(file))
        await eventually(lambda: file.exists() and file.read_text())
        return file, task

    file, task = await seen("task", lambda file: call(manager, "sleep", file=str(file)))
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    await eventually(lambda: file.read_text() == "cancelled")

    file, task = await seen("waited", lambda file: asyncio.wait_for(call(manager, "sleep", file=str(file)), 0.3))
    assert isinstance(await failure_of(task), asyncio.TimeoutError)
    await eventually(lambda: file.read_text() == "cancelled")

    from cpex.framework import GlobalContext, PluginError, ToolPreInvokePayload

    def alone(file):
        payload = ToolPreInvokePayload(name="sleep", args={"file": str(file)})
        return manager.invoke_hook_for_plugin("strict", "tool_pre_invoke", payload, GlobalContext(request_id="a"))

    file, task = await seen("direct", alone)
    error = await failure_of(task)
    assert isinstance(error, PluginError) and str(error) == "Plugin strict exceeded 1s timeout", error
    await eventually(lambda: file.read_text() == "cancelled")
    result, _ = await call(manager, n=1)
    assert result.modified_payload.args == {"got": 1}
    await manager.shutdown()


async def budget(cpexd):
    """call_timeout is the daemon's to keep; a daemon that hangs is given up, and found again."""
    from cpex.framework import PluginError

    manager = await started(call_timeout=0.3)
    error = await failure_of(call(manager, "nap", s=20))
    assert isinstance(error, PluginError) and "timeout of 300 ms" in str(error) and error.error.plugin_name == "strict"
    await manager.shutdown()

    manager = await started(timeout=0.2)
    cpexd.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    error = await failure_of(call(manager))
    assert isinstance(error, PluginError) and "cpexd does not answer" in str(error)
    assert 0.8 <= time.monotonic() - began < 3
    result, _ = await prompt(manager)  # on_error: ignore
    assert result.continue_processing
    cpexd.process.send_signal(signal.SIGCONT)
    result, _ = await call(manager, n=3)
    assert result.modified_payload.args == {"got": 3}
    await manager.shutdown()


async def replaced(cpexd):
    """A host shuts a manager down while calls are under way, as the gateway does: they end, and later ones are served."""
    none = sockets()
    manager = await started()
    under_way = [asyncio.ensure_future(call(manager, "nap", s=0.5, n=n)) for n in range(10)]
    await asyncio.sleep(0.1)
    await manager.shutdown()
    assert not manager.initialized and manager.has_hooks_for("tool_pre_invoke")
    for n, task in enumerate(under_way):
        assert (await task)[0].modified_payload.args == {"got": n}
    assert sockets() == none, "the last call closed the connection"
    result, _ = await call(manager, n=1)
    assert result.modified_payload.args == {"got": 1}
    assert sockets() == none
    await manager.initialize()
    assert manager.initialized and sockets() == none + 1
    await manager.shutdown()


async def one_of_all(cpexd):
    """PluginManager's instances are one."""
    from cpex.framework import HookPayloadPolicy, PluginManager
    from cpexd_client.cpex import RemotePluginManager

    first = RemotePluginManager(socket=SOCKET)
    await first.initialize()
    second = RemotePluginManager("", hook_policies={"tool_pre_invoke": HookPayloadPolicy(writable_fields=frozenset({"name"}))})
    assert second.initialized and second.plugin_count == 2 and isinstance(second, PluginManager)
    assert (await call(second, n=1))[0].modified_payload is None, "the policy that came later"
    assert (await call(first, n=1))[0].modified_payload is None
    await second.shutdown()
    assert not first.initialized
    RemotePluginManager.reset()
    assert RemotePluginManager(socket=SOCKET).plugin_count == 0


def main(scenario, program, folder):
    global SOCKET
    os.chdir(folder)
    SOCKET = f"{folder}/life.sock"
    cpexd = Cpexd(program)
    try:
        asyncio.run(globals()[scenario](cpexd))
    finally:
        cpexd.stop()


if __name__ == "__main__":
    serve(main)
