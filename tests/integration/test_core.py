# SPDX-License-Identifier: Apache-2.0
"""While calls come one after the other, the daemon and its workers stay on one processor (`one_core`)."""

import os
import time

import pytest
from daemon import PREAMBLE, eventually, plugin
from rpc import Host

HOOK = "tool_pre_invoke"
TOOL = {"name": "t", "args": {}}
ENOUGH = 100  # calls
ALL = os.sched_getaffinity(0)

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="there is but one processor")

SEER = """
async def tool_pre_invoke(self, payload, context):
    if payload.args:
        os.sched_setaffinity(0, payload.args["to"])
    return Result(metadata={"may": sorted(os.sched_getaffinity(0)), "pid": os.getpid()})
"""


def holds(pid):
    return os.sched_getaffinity(pid)


def call(host, **args):
    return host.invoke(HOOK, TOOL | {"args": args})["metadata"]


class Listener(Host):
    """Notes where it is told to wait."""

    def __init__(self, daemon):
        super().__init__(daemon.socket)
        self.told = []
        self.call("hello", notifications=["core"])

    def message(self):
        message = super().message()
        if message[:2] == [2, "core"]:
            self.told.append(message[2][0]["core"])
        return message

    def hears(self):
        """All that it was told, with what came behind the last answer."""
        self.call("ping")
        return self.told


def gather(daemon, host):
    """Return: the processor."""
    for _ in range(ENOUGH):
        call(host)
    assert len(holds(daemon.pid)) == 1
    return min(holds(daemon.pid))


def test_calls_in_a_row(cpexd):
    daemon = cpexd([plugin("seer", SEER)])
    with Listener(daemon) as host, daemon.host() as other:
        core = gather(daemon, host)
        assert host.hears() == [core]
        for _ in range(ENOUGH):
            assert set(call(host)["may"]) == ALL  # plugins do not notice
        call(other)
        assert holds(daemon.pid) == ALL
        call(host)
        assert host.hears() == [core, None]
        other.request("ping")
        assert other.message()[0] == 1  # it has not asked to be told


def test_large_answers(cpexd):
    """What the daemon sends from where it lies, and what it says beside it, keep their order."""
    echo = """
        async def tool_pre_invoke(self, payload, context):
            return Result(modified_payload=payload.model_copy(update={"args": payload.args | {"n": payload.args["n"] + 1}}))
    """
    daemon = cpexd([plugin("echo", echo)])
    with Listener(daemon) as host, daemon.host() as other:
        for n in range(3 * ENOUGH):
            args = {"text": "x" * 200_000, "n": n}
            assert host.invoke(HOOK, {"name": "t", "args": args})["modified_payload"]["args"] == args | {"n": n + 1}
            if n % ENOUGH == ENOUGH - 1:
                other.invoke(HOOK, {"name": "t", "args": {"n": 0}})
        assert len(host.hears()) == 5


def test_calls_at_once(cpexd):
    daemon = cpexd([plugin("seer", SEER.replace("return", "await asyncio.sleep(0.01)\n    return"))])
    with daemon.host() as host:
        for _ in range(3):
            gather(daemon, host)
            for ident in [host.begin(HOOK, TOOL) for _ in range(2)]:
                host.end(ident)
            assert holds(daemon.pid) == ALL


def test_plugins_at_once(cpexd):
    """In one call."""
    daemon = cpexd([plugin(name, SEER, mode="concurrent") for name in "ab"])
    with daemon.host() as host:
        for _ in range(3 * ENOUGH):
            call(host)
            assert holds(daemon.pid) == ALL


def test_what_is_started_may_run_anywhere(cpexd):
    daemon = cpexd([plugin("seer", SEER)])
    daemon.expect("worker")
    with daemon.host() as host:
        gather(daemon, host)
        old = call(host)["pid"]
        os.kill(old, 9)
        (new,) = eventually(lambda: [pid for pid in daemon.worker_pids() if pid != old])
        assert holds(new) == ALL
        assert set(eventually(lambda: call(host))["may"]) == ALL


def test_after_an_upgrade(cpexd):
    daemon = cpexd([plugin("seer", SEER)])
    with Listener(daemon) as host:
        core = gather(daemon, host)
        assert "upgraded" in daemon.ctl("upgrade").stdout
        assert holds(daemon.pid) == ALL
        call(host)
        assert host.hears() == [core, None]
        core = gather(daemon, host)
        assert host.hears()[2:] == [core]


def test_not_where_it_may_not(cpexd):
    daemon = cpexd([plugin("seer", SEER)], settings={"one_core": False})
    with Listener(daemon) as host:
        for _ in range(3 * ENOUGH):
            call(host)
        assert holds(daemon.pid) == ALL
        assert host.hears() == []
        settings = daemon.folder / "cpexd.yaml"
        text = settings.read_text()
        settings.write_text(text.replace('"one_core": false', '"one_core": true'))
        daemon.admin("reload")
        core = gather(daemon, host)
        settings.write_text(text)
        daemon.admin("reload")
        assert holds(daemon.pid) == ALL
        call(host)
        assert host.hears() == [core, None]


@pytest.mark.parametrize("preamble", [PREAMBLE, PREAMBLE.replace("asyncio, ", "")], ids=["asyncio", "plain"])
def test_a_worker_waits_there(cpexd, preamble):
    """Held only while it waits."""
    daemon = cpexd([plugin("seer", SEER, preamble=preamble)])
    with daemon.host() as host:
        core = gather(daemon, host)
        (worker,) = daemon.worker_pids()
        away, anywhere = sorted(ALL - {core}), sorted(ALL)

        def is_held():
            assert call(host, to=away)["may"] == away  # so that it is woken elsewhere; nor is it held where it may not be
            assert call(host, to=anywhere)["may"] == anywhere
            time.sleep(0.01)
            return holds(worker) == {core}

        eventually(is_held)
        assert call(host)["may"] == anywhere  # as before it waited
        eventually(is_held)
        os.sched_setaffinity(worker, away)  # as taskset does
        assert [call(host)["may"] for _ in range(3)] == [away] * 3
