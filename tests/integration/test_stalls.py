# SPDX-License-Identifier: Apache-2.0
"""Nothing that stands in a file holds up calls. The daemon counts the processor time of each turn of its loop, so that a busy machine makes
no difference; calls go on beside it, that there is somebody to be held up."""

import contextlib
import re
import signal
import time

import pytest
from daemon import SANITIZED, CallError, Host, eventually, meanwhile, plugin
from test_metrics import Connection, get

STALL_SECONDS = 0.050
MAX_BYTES = 1 << 20

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer makes everything slower")


def fill(head, unit, tail=""):
    """As much of unit(0), unit(1), … as makes 1 MiB."""
    parts, left, i = [head], MAX_BYTES - len(head) - len(tail), 0
    while len(part := unit(i)) <= left:
        parts.append(part)
        left -= len(part)
        i += 1
    return "".join(parts) + tail


def names(prefix, first, n):
    return ",".join(f"{prefix}{i:x}" for i in range(first, first + n))


NO_PLUGINS = "plugins: []\n"
QUIET = plugin("quiet", "\n    async def tool_pre_invoke(self, payload, context):\n        return Result()\n")
NOBODY = "kind: external, isolation: {socket: none.sock}"
# Whose host socket is as good as that of any other plugin server.
ITSELF = "kind: external, isolation: {socket: cpexd.sock}"
REFUSED = {
    "tiny scalars": fill(f"{NO_PLUGINS}x: [", lambda i: "1,", "]x"),
    "keys": fill(NO_PLUGINS, lambda i: f"k{i}:\n", "]"),
    "one key": fill(NO_PLUGINS, lambda i: "k:\n", "]"),
    "brackets": "plugins: " + "[" * (MAX_BYTES - 9),
    "aliases": f"{NO_PLUGINS}x:\n" + "".join(f"- &a{i} 1\n" for i in range(1000)) + "".join(f"- *a{i % 1000}\n" for i in range(20000)),
    "merge keys": f"{NO_PLUGINS}b: &b {{{','.join(f'k{i}: 1' for i in range(500))}}}\nx:\n" + "- {<<: [*b, *b]}\n" * 20,
    "a text": f"{NO_PLUGINS}x: '" + "a" * (MAX_BYTES - 20),
    "%TAG": fill("", lambda i: f"%TAG !{i:x}! b\n", f"---\n{NO_PLUGINS}"),
    "mistakes": fill("plugins:\n", lambda i: f"- {{nam: p{i}, kid: x.Y, mod: disabled}}\n"),
    "hooks": fill("plugins:\n", lambda i: f"- {{name: p{i}, {NOBODY}, hooks: [{names('h', i * 1000, 1000)}]}}\n"),
    "no modules": fill("plugins:\n", lambda i: f"- {{name: p{i}, kind: x.y.Z, mode: wrong}}\n"),
    "no servers": "plugins:\n" + "".join(f"- {{name: p{i}, {NOBODY}}}\n" for i in range(5000)),
    "too many plugins": fill("plugins:\n", lambda i: f"- {{name: p{i}, {NOBODY}}}\n"),
}
TAKEN = {
    "disabled plugins": fill("plugins:\n", lambda i: f"- {{name: p{i}, kind: x.Y, mode: disabled}}\n"),
    "namesakes": fill("plugins:\n", lambda i: "- {name: p, kind: x.Y, mode: disabled}\n"),
    "conditions": fill(f"plugins:\n- name: p\n  kind: x.Y\n  mode: disabled\n  conditions:\n", lambda i: "  - {tools: [a]}\n"),
    "a large config": fill(f"plugins:\n- name: p\n  kind: x.Y\n  mode: disabled\n  config:\n", lambda i: f"    k{i}: 1\n"),
    "policies": f"{NO_PLUGINS}plugin_settings: {{hook_policies: {{{','.join(f'h{i}: [{names(chr(97), 0, 200)}]' for i in range(900))}}}}}",
    "plugins": "plugins:\n" + "".join(f"- {{name: p{i}, {ITSELF}, hooks: [{names('h', i, 15)}]}}\n" for i in range(1000)),
    "other plugins": "plugins:\n" + "".join(f"- {{name: p{i}, {ITSELF}, priority: 7}}\n" for i in range(1000)),
    "nothing": NO_PLUGINS,
}


@contextlib.contextmanager
def calls(daemon):
    """Without pause while the block runs; all must be answered."""
    with daemon.host() as host, meanwhile(lambda: host.invoke("nobody_listens", {}), pause=0.001):
        yield


def admin(daemon, method):
    with Host(daemon.control, timeout=120) as host:  # it is the daemon that must not take long, and the machine may be busy
        return host.call(method)


def ask_metrics(daemon, path):
    connection = Connection(daemon.folder / "metrics.sock", timeout=60)
    try:
        return get(connection, path)[:2]
    finally:
        connection.close()


def longest_stall(daemon):
    _, text = ask_metrics(daemon, "/metrics")
    return float(re.search("^cpexd_loop_longest_stall_seconds (.+)", text, re.MULTILINE)[1])


# Of the most values that a message may have, what takes longest to look through.
N = 240_000
KEYS = {f"k{i}": "v" for i in range(N)}
MESSAGES = {
    "floats": {"payload": {"args": {"x": [i / 7 for i in range(2 * N)]}}},
    "keys": {"payload": {"args": KEYS}},
    "a user": {"context": {"user": KEYS}},
    "state": {"context": {"state": KEYS}},
    "headers": {"extensions": {"http": {"headers": KEYS}}},
    "no extensions": {"extensions": [None] * 2 * N},
    "too many": {"context": {"state": KEYS | dict.fromkeys(range(2 * N))}},
}


@pytest.fixture
def daemon(cpexd):
    daemon = cpexd([], settings={"metrics": {"path": "metrics.sock"}, "log": {"level": "notice"}, "limits": {"connections": 5000}})
    daemon.expect("plugins.yaml|refused|cannot start")
    return daemon


def test_no_file_holds_up_calls(daemon):
    path = daemon.folder / "plugins.yaml"
    with calls(daemon):
        for name, text in (REFUSED | TAKEN).items():
            path.write_text(text)
            if name in REFUSED:
                with pytest.raises(CallError):
                    admin(daemon, "reload")
            else:
                for method in ("reload", "status", "plugins", "hooks"):
                    admin(daemon, method)
            assert longest_stall(daemon) < STALL_SECONDS, name
        generation = admin(daemon, "status")["generation"]
        daemon.wait_log(f"generation {generation} serves")
        eventually(lambda: len(daemon.descriptors()) <= len(daemon.at_start[0]) + 1)  # the caller's
    assert longest_stall(daemon) < STALL_SECONDS


@pytest.mark.parametrize("name", MESSAGES)
def test_no_message_holds_up_calls(cpexd, name):
    daemon = cpexd([QUIET], settings={"metrics": {"path": "metrics.sock"}})
    payload = {"name": "t", "args": {}} | MESSAGES[name].get("payload", {})
    others = {key: value for key, value in MESSAGES[name].items() if key != "payload"}
    with daemon.host() as host, contextlib.suppress(CallError):
        host.invoke("tool_pre_invoke", payload, **others)
    assert longest_stall(daemon) < STALL_SECONDS


def test_thousands_of_plugins(cpexd):
    """They start though their servers are not there, are looked at, and go."""
    daemon = cpexd([], settings={"metrics": {"path": "metrics.sock"}, "log": {"level": "warning"}}, ready=False)
    daemon.stop()
    daemon.expect("cannot start")
    (daemon.folder / "plugins.yaml").write_text(REFUSED["no servers"])
    daemon.start(ready=False)
    eventually(lambda: daemon.control.exists())
    eventually(lambda: ask_metrics(daemon, "/healthz")[0] == 200, 30)
    with calls(daemon):
        assert len(admin(daemon, "status")["plugins"]) == 5000
        longest_stall(daemon)
        (daemon.folder / "plugins.yaml").write_text(NO_PLUGINS)
        assert len(admin(daemon, "reload")["changed"]["removed"]) == 5000
        assert admin(daemon, "status")["plugins"] == []
        time.sleep(1)
    assert longest_stall(daemon) < 2 * STALL_SECONDS  # with caches that others have emptied


def test_no_crowd_of_a_worker_holds_up_calls(cpexd):
    """It is one group, and most of it is dead when the guard looks, and then the daemon: to kill it again for each would take seconds."""
    daemon = cpexd([plugin("p", """
        async def tool_pre_invoke(self, payload, context):
            if os.fork() == 0:
                os.setsid()
                for _ in range(2000):
                    if os.fork() == 0:
                        time.sleep(600)
                        os._exit(0)
                os._exit(0)
            os.wait()
            os._exit(7)
    """, isolation={"workers": {"max": 1}})], settings={"metrics": {"path": "metrics.sock"}})
    daemon.expect("it was killed|it exited with status 7")
    with pytest.raises(CallError):
        daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})
    eventually(lambda: len(daemon.processes_left()) == 3 and daemon.workers("p"), 30)
    assert longest_stall(daemon) < 10 * STALL_SECONDS  # the kernel takes 20 to 60 us for each that is reaped, by how busy it is


def test_a_stop_does_not_wait_for_a_file(daemon):
    (daemon.folder / "plugins.yaml").write_text(REFUSED["one key"])
    with daemon.host() as host:
        host.call("ping")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reloading")
        begun = time.monotonic()
        assert daemon.stop() == 0
    assert time.monotonic() - begun < 5
