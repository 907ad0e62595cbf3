# SPDX-License-Identifier: Apache-2.0
"""External plugins that upstream's own servers serve: over MCP, gRPC and its Unix socket, each through upstream's client in a worker."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from daemon import BUILD, ROOT, CallError, eventually

pytestmark = pytest.mark.pypi

HOOK = "tool_pre_invoke"

PLUGIN = """
import asyncio, os
from cpex.framework import Plugin, PluginViolation, PluginViolationError, ToolPreInvokeResult, ToolPostInvokeResult

class P(Plugin):
    async def tool_pre_invoke(self, payload, context):
        args = payload.args or {}
        if payload.name == "slow":
            await asyncio.sleep(args["seconds"])
        if payload.name == "die":
            os._exit(3)
        violation = PluginViolation(reason="r", description="d", code=self.config.name, details={"a": [1, None]})
        if payload.name == self.config.name + " blocks":
            return ToolPreInvokeResult(continue_processing=False, violation=violation, metadata={"blocked": True})
        if payload.name == self.config.name + " raises":
            raise ValueError("no")
        if payload.name == "terminated":
            print("ran", file=open("ran", "a"))
            raise ValueError("its session was terminated")
        if payload.name == self.config.name + " violates":
            raise PluginViolationError("no", violation)
        context.state["calls"] = context.state.get("calls", 0) + 1
        context.metadata["seen"] = payload.name
        context.global_context.state[self.config.name] = context.global_context.user
        by = [*args.get("by", []), self.config.name]
        return ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": {**args, "by": by}}),
                                   metadata={self.config.name: self.config.config})

    async def tool_post_invoke(self, payload, context):
        return ToolPostInvokeResult(metadata={self.config.name: context.state.get("calls"), "result": payload.result}, retry_delay_ms=7)
"""

# Upstream's own servers; as many as are named, in one process, for each costs a second to start.
SERVE = """
import asyncio, sys
from cpex.framework.external.grpc.server.runtime import GrpcPluginRuntime
from cpex.framework.external.mcp.server.runtime import run as http
from cpex.framework.external.unix.server.runtime import run as unix

async def main():
    servers = {"http": http, "grpc": lambda: GrpcPluginRuntime().start(), "unix": unix}
    await asyncio.gather(*(servers[name]() for name in sys.argv[1:]))

asyncio.run(main())
"""

# What the servers say of the plugins, and what the entries here say over it.
REMOTE = {
    "http": {"mode": "transform", "hooks": [HOOK, "tool_post_invoke"], "priority": 30, "config": {"b": 1, "a": None}, "version": "1.2"},
    "stdio": {"mode": "audit", "hooks": [HOOK], "priority": 1, "tags": ["t"], "conditions": [{"tools": ["t", "stdio blocks"]}]},
    "grpc": {"hooks": [HOOK, "tool_post_invoke"], "priority": 20, "on_error": "ignore", "config": {"c": [1.5]}},
    "unix": {"hooks": [HOOK, "tool_post_invoke"], "priority": 3},
    "plain": {"hooks": [HOOK]},
    "many": {"hooks": [HOOK] * 1001},
}
LOCAL = {"stdio": {"mode": "sequential"}, "grpc": {"priority": 2}, "unix": {"hooks": [HOOK]}}


NAMES = ["http", "stdio", "grpc", "unix"]


class Servers:
    """All but that for stdio, which whoever calls it starts."""

    def __init__(self, folder, cache):
        self.cache = cache
        made = subprocess.run([BUILD / "cpexd-venv", "build", "--cache", cache, "--python", "python3", "--requirements",
                               ROOT / "worker-shim" / "shim" / "external.txt"], capture_output=True, text=True, timeout=600)
        assert made.returncode == 0, made.stdout
        self.python = next(line for line in made.stdout.splitlines() if line.startswith("python=")).removeprefix("python=")
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "served").mkdir()
        (folder / "served" / "plugin.py").write_text(PLUGIN)
        plugins = [{"name": name, "kind": "served.plugin.P"} | entry for name, entry in REMOTE.items()]
        (folder / "config.yaml").write_text(json.dumps({"plugins": plugins, "grpc_server_settings": {"uds": str(folder / "grpc.sock")}}))
        self.env = {"PLUGINS_CONFIG_PATH": "config.yaml", "PYTHONPATH": ".", "PLUGINS_SERVER_PORT": str(self.port), "PLUGINS_LOG_LEVEL": "ERROR",
                    "PLUGINS_TRANSPORT": "http", "PLUGINS_UNIX_SOCKET_PATH": str(folder / "unix.sock")}
        self.processes = []

    def entries(self, *names, **more):
        ways = {
            "http": {"mcp": {"proto": "STREAMABLEHTTP", "url": f"http://localhost:{self.port}/mcp"}},
            "stdio": {"mcp": {"proto": "STDIO", "cmd": [self.python, "-m", "cpex.framework.external.mcp.server.runtime"],
                              "cwd": str(self.folder), "env": self.env | {"PLUGINS_TRANSPORT": "stdio"}}},
            "grpc": {"grpc": {"uds": str(self.folder / "grpc.sock")}},
            "unix": {"unix_socket": {"path": str(self.folder / "unix.sock"), "reconnect_delay": 0.01}},
            "many": {"grpc": {"uds": str(self.folder / "grpc.sock")}},
            "plain": {"unix_socket": {"path": str(self.folder / "unix.sock")}},
        }
        return [{"name": name, "kind": "external"} | LOCAL.get(name, {}) | ways[name] | more for name in names]

    def plugins(self, *names, **more):
        return [{"entry": entry, "package": entry["name"], "code": "", "requirements": ""} for entry in self.entries(*names, **more)]

    def start(self, *names):
        names = [name for name in names if not self.listens(name)]
        if names:
            self.processes.append(subprocess.Popen([self.python, "-c", SERVE, *names], cwd=self.folder, env=os.environ | self.env,
                                                   stdout=subprocess.DEVNULL))
        for name in names:
            eventually(lambda: self.listens(name), 30, f"no server listens for {name}")

    def listens(self, name):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET if name == "http" else socket.AF_UNIX) as probe:
            probe.connect(("127.0.0.1", self.port) if name == "http" else str(self.folder / f"{name}.sock"))
            return True

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


@pytest.fixture(scope="module")
def servers(tmp_path_factory, pypi, kept_cache):
    made = Servers(tmp_path_factory.mktemp("servers"), kept_cache)
    yield made
    made.stop()


def call(name, **args):
    return {"name": name, "args": args}


@contextlib.contextmanager
def fails(reason=""):
    with pytest.raises(CallError) as failed:
        yield
    assert reason in failed.value.message


ENTRIES = """
mcp: {proto: STREAMABLEHTTP, url: 'http://a/mcp'}
mcp: {proto: STREAMABLEHTTP, url: 'HTTP://a/mcp', tls: {}}
mcp: {proto: STREAMABLEHTTP, url: ''}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', uds: plugins/s}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', uds: none/s}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', uds: plugins/s, tls: {}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', script: x}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', script: ''}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', cmd: []}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', env: {A: b}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', cwd: plugins}
mcp: {proto: STREAMABLEHTTP, url: 'ftp://a'}
mcp: {proto: SSE, url: 'http://a'}
mcp: {proto: SSE, url: 'http://a', uds: plugins/s}
mcp: {proto: HTTP, url: 'http://a'}
mcp: {proto: GRPC, url: 'http://a'}
mcp: {proto: STDIO}
mcp: {proto: STDIO, cmd: [a], url: 'http://a'}
mcp: {proto: STDIO, cmd: [a], url: ''}
mcp: {proto: STDIO, cmd: [a], uds: plugins/s}
mcp: {proto: STDIO, cmd: [a], tls: {}}
mcp: {proto: STDIO, cmd: ['']}
mcp: {proto: STDIO, cmd: [a, ' ']}
mcp: {proto: STDIO, cmd: []}
mcp: {proto: STDIO, cmd: [a], script: b}
mcp: {proto: STDIO, cmd: [a], script: ''}
mcp: {proto: STDIO, script: /none.py}
mcp: {proto: STDIO, script: /etc/passwd}
mcp: {proto: STDIO, script: none.py}
mcp: {proto: STDIO, script: /bin/sh}
mcp: {proto: STDIO, script: /bin}
mcp: {proto: STDIO, cmd: [a], cwd: none}
mcp: {proto: STDIO, cmd: [a], cwd: plugins}
mcp: {proto: STDIO, cmd: [a], cwd: ''}
mcp: {proto: STDIO, cmd: [a], env: {}}
mcp: {proto: STDIO, cmd: [a], env: {'': b}}
mcp: {proto: STDIO, cmd: [a], env: {' ': b}}
mcp: {proto: STDIO, cmd: [a], env: {A: ''}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', tls: {certfile: none}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', tls: {certfile: /etc/passwd, keyfile: /etc/passwd}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', tls: {keyfile: /etc/passwd}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a', tls: {ca_bundle: ''}}
mcp: {proto: STREAMABLEHTTP, url: 'http://a'}, config: {}
mcp: {proto: STREAMABLEHTTP, url: 'http://a'}, config: {a: 1}
mcp: {proto: STREAMABLEHTTP, url: 'http://a'}, grpc: {target: 'a:1'}
mcp: {proto: STREAMABLEHTTP, url: 'http://a'}, grpc: null
grpc: {target: 'a:1'}
grpc: {target: 'a'}
grpc: {target: ''}
grpc: {}
grpc: {uds: plugins/s}
grpc: {uds: ''}
grpc: {uds: ' '}
grpc: {uds: none/s}
grpc: {uds: plugins/s, target: 'a:1'}
grpc: {uds: plugins/s, tls: {}}
grpc: {target: 'a:1', tls: {verify: false}}
unix_socket: {path: /a}
unix_socket: {path: a}
unix_socket: {path: ''}
unix_socket: {}
tags: []
mcp: null
"""
JUDGE = """
import sys, yaml
from cpex.framework.models import Config
for text in sys.stdin:
    try:
        Config(**yaml.safe_load(text))
        print("taken")
    except Exception:
        print("refused")
"""


def test_entries_are_refused_where_cpex_refuses_them(servers, tmp_path):
    (tmp_path / "plugins").mkdir()
    texts = [f"plugins: [{{name: a, kind: external, hooks: [h], {entry}}}]" for entry in ENTRIES.strip().splitlines()]
    theirs = subprocess.run([servers.python, "-c", JUDGE], input="\n".join(texts), cwd=tmp_path, capture_output=True, text=True, timeout=60)

    def ours(text):
        (tmp_path / "p.yaml").write_text(text)
        check = [BUILD / "cpexd", "--plugins", "p.yaml", "--socket", "s", "--check"]
        done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, timeout=20)
        return "refused" if done.stdout.startswith("refused: ") else "taken"

    assert {text: ours(text) for text in texts} == dict(zip(texts, theirs.stdout.split(), strict=True))


def test_answers_are_those_of_the_manager_in_process(servers, tmp_path):
    """One pipeline of all four, recorded with the real manager and run by cpexd, with what a host sees of it compared."""
    servers.start("http", "grpc", "unix")
    calls = [{"hook": HOOK, "payload": call(tool, n=2**53, f=1.5, text="ä", deep={"a": [None, True, {}]}),
              "global_context": {"request_id": "r", "user": user, "tenant_id": "x", "metadata": {"m": 1}}}
             for tool, user in [("t", "ann"), ("other", {"name": "ann", "n": 1})] +
             [(f"{name} {does}", None) for does in ("blocks", "raises", "violates") for name in NAMES]]
    calls += [{"hook": "tool_post_invoke", "payload": {"name": "t", "result": {"content": [1, "x"]}}, "context_from": 0,
               "global_context": {"request_id": "r"}}]
    (tmp_path / "calls.json").write_text(json.dumps(calls))
    (tmp_path / "plugins.yaml").write_text(json.dumps({"plugins": servers.entries(*NAMES)}))
    record = [sys.executable, ROOT / "tests/conformance/record.py", "--runs", "1", tmp_path]

    done = subprocess.run(record, env=os.environ | {"CONF_PYTHON": servers.python}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert [entry["plugin_name"] for entry in expected["calls"][0]["executions"]] == ["stdio", "grpc", "unix", "http"]
    done = subprocess.run([sys.executable, ROOT / "tests/conformance/run", "-v", tmp_path], env=os.environ | {"CPEXD_BUILD": str(BUILD)},
                          capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed", done.stdout


def check_a_server_that_comes_later(daemon, host, servers):
    """It says what its plugin is, and hosts can tell that there is something new."""
    assert host.call("hooks")["hooks"] == {HOOK: ["stdio", "grpc", "unix"], "tool_post_invoke": ["grpc"]}
    assert daemon.status("http")["status"] == "failed"
    assert "the plugin's server cannot be reached: ConnectError" in daemon.status("http")["error"]
    servers.start("http")
    daemon.wait_ready(generation=2)
    assert host.call("hooks") == {"generation": 2, "hooks": {HOOK: ["stdio", "grpc", "unix", "http"], "tool_post_invoke": ["grpc", "http"]}}
    (told,) = [each for each in host.call("plugins")["plugins"] if each["name"] == "http"]
    assert (told["status"], told["mode"], told["priority"], told["version"]) == ("ready", "transform", 30, "1.2")
    assert daemon.status("http")["mode"] == "transform"
    answer = host.invoke(HOOK, call("t"), plugin="http")
    assert answer["modified_payload"]["args"] == {"by": ["http"]} and answer["generation"] == 2
    assert answer["executions"][0]["config_keys"] == ["b", "a"]


def check_calls_that_take_too_long_or_are_cancelled(daemon, host, servers):
    """They end, the next call gets its own answer, and no worker is lost."""
    before = daemon.worker_pids()
    late = [host.begin(HOOK, call("slow", seconds=4), plugin=name) for name in NAMES]
    cancelled = [host.begin(HOOK, call("slow", seconds=4), plugin=name) for name in NAMES]
    time.sleep(0.2)
    for msgid in cancelled:
        host.notify("cancel", msgid=msgid)
        with fails("cancelled"):
            host.end(msgid)
    for msgid in late:
        with fails("exceeded 2s timeout"):
            host.end(msgid)
    for name in NAMES:
        for n in range(3):
            assert host.invoke(HOOK, call("t", n=n), plugin=name)["modified_payload"]["args"]["n"] == n
    assert daemon.worker_pids() == before


def check_an_error_that_sounds_like_a_lost_session(daemon, host, servers):
    """Upstream's client would connect and call again."""
    with fails("its session was terminated"):
        host.invoke(HOOK, call("terminated"), plugin="http")
    assert (servers.folder / "ran").read_text() == "ran\n"


def check_an_upgrade(daemon, host, servers):
    """What a server has said its plugin is stays as it was, and so do the connections to the servers."""
    before, hooks, plugins = daemon.worker_pids(), host.call("hooks"), host.call("plugins")
    under_way = [host.begin(HOOK, call("slow", seconds=0.5), plugin=name) for name in NAMES]
    assert "4 calls carried" in daemon.ctl("upgrade").stdout
    for msgid in under_way:
        host.end(msgid)
    assert (host.call("hooks"), host.call("plugins"), daemon.worker_pids()) == (hooks, plugins, before)
    answer = host.invoke(HOOK, call("t"), plugin="http")
    assert answer["modified_payload"]["args"] == {"by": ["http"]} and answer["executions"][0]["config_keys"] == ["b", "a"]


def check_servers_that_are_restarted(daemon, host, servers):
    """It costs no worker, and no call that had not begun."""
    before = daemon.worker_pids()
    servers.stop()
    servers.start("http", "grpc", "unix")
    calls = [host.begin(HOOK, call("t", n=n), plugin=name) for name in NAMES for n in range(3)]
    assert [host.end(msgid)["modified_payload"]["args"]["n"] for msgid in calls] == [*range(3)] * 4
    assert daemon.worker_pids() == before


def check_servers_that_die(daemon, host, servers):
    """The call under way fails and is not repeated, others fail without hanging, and when the server is back so is the plugin."""
    with fails():
        host.invoke(HOOK, call("die"), plugin="stdio")
    calls = [host.begin(HOOK, call("slow", seconds=1), plugin=name) for name in ("http", "grpc", "unix")]
    with fails():
        host.invoke(HOOK, call("die"), plugin="http")
    for msgid in calls:
        with fails():
            host.end(msgid)
    assert servers.processes[-1].wait(5) == 3
    for name in ("http", "grpc", "unix"):
        begun = time.monotonic()
        with fails():
            host.invoke(HOOK, call("t"), plugin=name)
        assert time.monotonic() - begun < 10
    servers.start("http", "grpc", "unix")
    for name in NAMES:
        eventually(lambda: daemon.workers(name), 40, f"{name} did not come back")
        assert host.invoke(HOOK, call("t"), plugin=name)["modified_payload"]["args"] == {"by": [name]}


def test_servers_come_and_go(cpexd, servers):
    servers.stop()
    servers.start("grpc", "unix")
    plugins = servers.plugins(*NAMES, isolation={"timeout": 2, "workers": {"max": 1}}, on_error="fail", conditions=[])
    daemon = cpexd(plugins, cache=servers.cache)
    daemon.expect(r"cannot start|will be replaced|\(on_error: fail\)|: exception: ")
    with daemon.host() as host:
        check_a_server_that_comes_later(daemon, host, servers)
        check_calls_that_take_too_long_or_are_cancelled(daemon, host, servers)
        check_an_error_that_sounds_like_a_lost_session(daemon, host, servers)
        check_an_upgrade(daemon, host, servers)
        check_servers_that_are_restarted(daemon, host, servers)
        check_servers_that_die(daemon, host, servers)


def test_a_reload_keeps_them(cpexd, servers):
    """Where neither the entry nor what its server says of the plugin has changed; the generation that first heard it may be gone by then."""
    servers.start("grpc")
    daemon = cpexd(servers.plugins("grpc", isolation={"workers": {"min": 2}}), cache=servers.cache)

    def changed():
        changed = daemon.admin("reload")["changed"]
        answer = daemon.invoke(HOOK, call("t"))
        assert answer["modified_payload"]["args"] == {"by": ["grpc"]}
        daemon.wait_log(f"generation {answer['generation'] - 1} has ended")
        eventually(lambda: len(daemon.worker_pids()) == 2)
        return changed

    workers = daemon.workers("grpc")
    for _ in range(2):
        assert changed()["kept"] == ["grpc"]
        assert daemon.workers("grpc") == workers
        assert daemon.admin("hooks")["hooks"] == {HOOK: ["grpc"], "tool_post_invoke": ["grpc"]}
    config = servers.folder / "config.yaml"
    text = config.read_text()
    try:
        config.write_text(text.replace('"priority": 20', '"priority": 20, "version": "7"'))
        servers.stop()
        servers.start("grpc")
        assert changed()["restarted"] == ["grpc"]
        assert daemon.admin("plugins")["plugins"][0]["version"] == "7"
    finally:
        config.write_text(text)
        servers.stop()


def test_answers_do_not_shift(cpexd, servers):
    """After a call that was given up, each gets its own answer. Upstream's plain client beside it shows that this is no matter of course."""
    servers.start("unix")
    ours, plain = servers.plugins("unix", "plain", isolation={"timeout": 0.5})
    plain["requirements"] = (ROOT / "worker-shim" / "shim" / "external.txt").read_text()
    plain["entry"] |= {"kind": "isolated_venv", "hooks": [HOOK], "config": {
        "class_name": "cpex.framework.external.unix.client.UnixSocketExternalPlugin", "script_path": "plugins/plain",
        "requirements_file": "requirements.txt"}}
    daemon = cpexd([ours, plain], cache=servers.cache)
    daemon.expect("exceeded 0.5s timeout")

    def answers(name):
        with fails("exceeded 0.5s timeout"):
            daemon.invoke(HOOK, call("slow", seconds=0.8, n=1), plugin=name)
        time.sleep(0.8)
        return [daemon.invoke(HOOK, call("t", n=n), plugin=name)["modified_payload"]["args"]["n"] for n in (2, 3)]

    assert answers("unix") == [2, 3]
    assert answers("plain") == [1, 2]


def test_a_server_that_says_too_much(cpexd, servers):
    servers.start("grpc")
    daemon = cpexd(servers.plugins("many"), cache=servers.cache)
    daemon.expect("cannot start: what its server says is no configuration of a plugin")
    with daemon.host() as host:
        assert host.call("hooks")["hooks"] == {}
    assert daemon.status("many")["status"] == "failed"
