# SPDX-License-Identifier: Apache-2.0
"""A worker's life, cell by cell: what may happen in each of its states, done by a real plugin in a real process."""

import re
import time

import pytest
from daemon import PREAMBLE, SEARCH, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
PAYLOAD = {"name": "t", "args": {}}
PASS = "\nasync def tool_pre_invoke(self, payload, context):\n    return Result()\n"

# What a plugin does to its own worker.
DEEDS = {
    "dies": "os._exit(7)",
    "is killed": "os.kill(os.getpid(), 9)",
    "closes the connection": "os.close(connection()); time.sleep(60)",
    "breaks the protocol": "os.write(connection(), b'\\xc1'); time.sleep(60)",
    "sends a request": "os.write(connection(), b'\\x94\\x00\\x05\\xa4ping\\x91\\x80'); time.sleep(60)",
    "answers a call of another": "os.write(connection(), b'\\x94\\x01\\xcd\\x10\\x00\\xc0\\x80'); time.sleep(60)",
    "answers again": "os.write(connection(), b'\\x94\\x01\\x00\\xc0\\x80' * 2); time.sleep(60)",
    "raises": "raise ValueError('no')",
    "hangs": "time.sleep(60)",
}
# Why the worker ended, as the log says it.
WORDS = {
    "dies": "exited with status 7",
    "is killed": r"killed by signal 9 \(Killed\)",
    "closes the connection": "closed its connection",
    "breaks the protocol": "it was killed: ",
    "sends a request": "it sent a request",
    "answers a call of another": r"it answered what it was not asked, or had answered before \(id 4096\)",
    "answers again": r"it answered what it was not asked, or had answered before \(id 0\)",
}
NOT_READY = WORDS | {
    "raises": r"failed to initialize: .*no",
    "hangs": r"did not initialize within 1 s \(isolation.startup_timeout\)",
}
READY = WORDS | {"hangs": "did not yield to cancellation"}
ENDS = {(state, deed): words for state, each in (("starting", NOT_READY), ("initializing", NOT_READY), ("ready", READY))
        for deed, words in each.items()}


def doing(state, deed, once=None, startup=1):
    """A plugin that does it in that state; with `once`, a file, only the first time."""
    guard = f"if not os.path.exists({str(once)!r}):\n    open({str(once)!r}, 'w').close()\n    " if once else ""
    act = guard + DEEDS[deed]
    preamble, body = PREAMBLE + SEARCH, PASS
    if state == "starting":
        preamble += act + "\n"
    elif state == "initializing":
        body += "async def initialize(self):\n    " + act.replace("\n", "\n    ")
    elif state == "ready":
        body = "\nasync def tool_pre_invoke(self, payload, context):\n    " + act.replace("\n", "\n    ") + "\n    return Result()\n"
    elif state == "stopping":
        body += "async def shutdown(self):\n    " + act.replace("\n", "\n    ")
    return plugin("p", body, preamble=preamble, isolation={"startup_timeout": startup, "timeout": 0.5, "workers": {"min": 1, "max": 1}})


@pytest.mark.parametrize(("state", "deed"), ENDS, ids=lambda value: value.replace(" ", "-"))
def test_a_worker_that_ends_is_replaced(cpexd, tmp_path, state, deed):
    """Each way to end has its words in the log; the next worker, which behaves, serves."""
    daemon = cpexd([doing(state, deed, once=tmp_path / "done")])
    daemon.expect(ENDS[state, deed])
    daemon.expect("on_error: fail")
    if state == "ready":
        with pytest.raises(CallError):
            daemon.invoke(HOOK, PAYLOAD)
    daemon.wait_log(ENDS[state, deed])
    eventually(lambda: daemon.workers("p"))
    assert daemon.invoke(HOOK, PAYLOAD)["continue_processing"]


@pytest.mark.parametrize("state", ["starting", "initializing"])
def test_a_worker_that_is_not_ready_is_stopped_at_once(cpexd, state):
    daemon = cpexd([doing(state, "hangs", startup=30)], ready=False)
    eventually(daemon.control.exists)
    eventually(lambda: [worker["state"] for worker in daemon.status("p")["workers"]] == [state])
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("deed", ["dies", "is killed", "closes the connection", "breaks the protocol", "sends a request", "raises", "hangs"])
def test_a_worker_that_misbehaves_while_it_stops(cpexd, deed):
    """The daemon stops all the same, within the grace."""
    daemon = cpexd([doing("stopping", deed)])
    assert daemon.invoke(HOOK, PAYLOAD)["continue_processing"]
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 5


def test_plugins_initialize_in_file_order_and_stop_in_reverse(cpexd, tmp_path):
    """However long they take, and though one of them fails."""
    trace = tmp_path / "trace"

    def tracing(name, seconds, fails=False):
        return plugin(name, PASS + f"""
async def initialize(self):
    await asyncio.sleep({seconds})
    open({str(trace)!r}, "a").write("+{name} ")
    assert not {fails}
async def shutdown(self):
    open({str(trace)!r}, "a").write("-{name} ")
""")

    daemon = cpexd([tracing("a", 0.3), tracing("b", 0.1, fails=True), tracing("c", 0), tracing("d", 0.1)])
    daemon.expect("cannot start: the plugin failed to initialize")
    assert daemon.stop() == 0
    assert re.fullmatch(r"\+a \+b \+c \+d (\+b )*-d (\+b )*-c (\+b )*-a ", trace.read_text())
