# SPDX-License-Identifier: Apache-2.0
"""Who may call, look and administer: `access` of cpexd.yaml, by what the kernel says of who has connected."""

import json
import os
import signal
import time

import pytest
from daemon import CallError, Host, plugin
from strangers import NOBODY, as_nobody, let_in, root_only

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}
PLUGIN = plugin("p", """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={"ok": 1})

    async def prompt_pre_fetch(self, payload, context):
        return PromptPrehookResult()
""")
GROUP = 54321


@pytest.fixture
def open_daemon(cpexd, tmp_path):
    """A daemon to whose sockets everybody may connect."""
    def start(access=None, metrics=False):
        folder = tmp_path / "d0"
        settings = {each: {"path": str(folder / f"{name}.sock"), "mode": "0666"} for each, name in (("socket", "cpexd"), ("control", "control"))}
        if metrics:
            settings["metrics"] = {"path": str(folder / "metrics.sock")}
        daemon = cpexd([PLUGIN], settings=settings | ({"access": access} if access is not None else {}))
        let_in(folder)
        return daemon
    return start


def allow(daemon, **access):
    """Another `access`, by a reload."""
    daemon.settings["access"] = access
    (daemon.folder / "cpexd.yaml").write_text(json.dumps(daemon.settings))
    daemon.admin("reload")


def outcome(call):
    """None, or the code of the error."""
    try:
        call()
    except CallError as exc:
        return exc.error["code"]
    return None


def on_host(daemon):
    """What comes of each method of the host socket."""
    with daemon.host() as host:
        return [outcome(lambda: host.call("hello")), outcome(lambda: host.call("hooks")), outcome(lambda: host.call("plugins")),
                outcome(lambda: host.invoke(HOOK, CALL)), outcome(lambda: host.invoke("prompt_pre_fetch", {"prompt_id": "x"}))]


def on_control(daemon):
    return [outcome(lambda: daemon.admin(method, **params)) for method, params in
            (("ping", {}), ("status", {}), ("plugins", {}), ("explain", {"plugin": "p"}), ("venv.build", {"plugin": "p"}), ("logs", {}), ("reload", {}))]


NO = "forbidden"


@root_only
def test_by_default_the_sockets_mode_decides_who_calls_and_only_root_and_the_daemons_user_administer(open_daemon):
    daemon = open_daemon()
    daemon.expect("control socket pid .* may not call")
    assert as_nobody(lambda: on_host(daemon)) == [None] * 5
    assert as_nobody(lambda: on_control(daemon)) == [None, NO, NO, NO, NO, NO, NO]
    assert on_control(daemon) == [None] * 7


@root_only
@pytest.mark.parametrize("caller", [NOBODY, "nobody", {"user": "nobody"}, {"group": GROUP}, {"group": NOBODY}],
                         ids=["number", "name", "user", "supplementary-group", "group"])
def test_who_is_named_may(open_daemon, caller):
    daemon = open_daemon({"invoke": [1, {"group": "daemon"}], "status": [], "admin": []})
    daemon.expect("refused: it may not call")
    assert as_nobody(lambda: on_host(daemon), [GROUP]) == [None, NO, NO, NO, NO]
    assert on_host(daemon) == [None] * 5, "root always may"
    allow(daemon, invoke=[caller], status=[caller])
    assert as_nobody(lambda: on_host(daemon), [GROUP]) == [None] * 5
    assert as_nobody(lambda: on_control(daemon), [GROUP]) == [None, None, None, None, NO, NO, NO]
    allow(daemon, invoke=[], admin=[caller])
    assert as_nobody(lambda: on_host(daemon), [GROUP]) == [None, NO, NO, NO, NO]
    assert as_nobody(lambda: on_control(daemon), [GROUP]) == [None] * 7, "who administers may look"


@root_only
def test_a_caller_has_some_hooks(open_daemon):
    daemon = open_daemon({"invoke": [{"user": "nobody", "allow": ["tool_*"]}]})
    daemon.expect('host pid .* it may not call "prompt_pre_fetch" .access.invoke')
    assert as_nobody(lambda: on_host(daemon)) == [None, None, None, None, NO]

    def tricks():
        with daemon.host() as host:
            return [outcome(lambda: host.call("invoke", hook=hook, payload=b"\xc0", context={"request_id": "r"}))
                    for hook in ("tool_x\0", "", 7, None, "x" * 1000, "Tool_pre_invoke")]

    daemon.expect('host pid .* it may not call "')
    assert as_nobody(tricks) == [NO] * 6


@root_only
def test_what_a_reload_takes_away_is_gone_for_who_is_connected(open_daemon):
    daemon = open_daemon({"invoke": [{"user": "nobody"}]})
    daemon.expect("refused: it may not call")
    ask, asked = os.pipe(), os.pipe()

    def call_twice():
        with daemon.host() as host:
            first = outcome(lambda: host.invoke(HOOK, CALL))
            os.write(ask[1], b"x")
            os.read(asked[0], 1)
            return [first, outcome(lambda: host.invoke(HOOK, CALL)), outcome(lambda: host.call("ping"))]

    pid = os.fork()
    if pid == 0:  # the reload happens while the other one is connected
        os.read(ask[0], 1)
        allow(daemon, invoke=[])
        os.write(asked[1], b"x")
        os._exit(0)
    assert as_nobody(call_twice) == [None, NO, None]
    os.waitpid(pid, 0)
    for fd in ask + asked:
        os.close(fd)


@root_only
def test_who_follows_the_log_is_not_told_what_came_after_the_right_was_gone(open_daemon):
    daemon = open_daemon({"admin": [{"user": "nobody"}]})
    daemon.expect("refused: it may not call")

    def follow():
        with Host(daemon.control) as admin:
            after = admin.call("logs", plugin="p")["next"]
            os.write(ready[1], b"x")
            return outcome(lambda: admin.call("logs", plugin="p", after=after, follow=True))

    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ready[0], 1)
        time.sleep(0.1)
        allow(daemon)
        os.kill(daemon.workers("p")[0], signal.SIGKILL)
        os._exit(0)
    daemon.expect("killed by signal 9")
    assert as_nobody(follow) == NO
    os.waitpid(pid, 0)
    for fd in ready:
        os.close(fd)


@root_only
def test_refusals_say_who_and_what_and_are_counted(open_daemon):
    daemon = open_daemon({"invoke": []}, metrics=True)
    daemon.expect("refused")

    def refused():
        with daemon.host() as host:
            for _ in range(100):
                try:
                    host.invoke(HOOK, CALL)
                except CallError as exc:
                    error = exc.error
            return error

    error = as_nobody(refused)
    assert error["code"] == "forbidden" and error["type"] == "ProtocolError"
    assert error["message"] == f'user {NOBODY}: it may not call "{HOOK}"; access.invoke in cpexd.yaml says who may'
    daemon.wait_log(rf'warning: host pid \d+ uid {NOBODY}: refused: it may not call "{HOOK}" .access.invoke.; 1 refused')
    assert daemon.log().count("refused: it may not") <= 5, "one line a second"
    from test_metrics import Connection, get, parse
    samples = parse(get(Connection(daemon.folder / "metrics.sock"))[1])
    assert samples["cpexd_forbidden_requests_total", None] == 100
    assert samples["cpexd_calls_failed_total", None] == 100


@root_only
def test_strangers_do_not_lock_administrators_out(open_daemon):
    daemon = open_daemon()
    daemon.expect("control socket: a connection was refused: 32 are open|may not call")
    from daemon import Host

    def crowd():
        crowd = []
        for _ in range(40):
            host = Host(daemon.control)
            try:
                host.call("ping")
                crowd.append(host)
            except (EOFError, ConnectionError):
                pass
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        return len(crowd)

    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(as_nobody(crowd))
    os.read(ready[0], 1)
    assert daemon.admin("status")["state"] == "running"
    os.write(done[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 32
    for fd in ready + done:
        os.close(fd)
