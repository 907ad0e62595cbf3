# SPDX-License-Identifier: Apache-2.0
"""What hardly ever fails, fails on purpose (daemon/base/fault.h): calls are answered all the same, and cpexd is well afterwards."""

import contextlib
import os
import re
import signal
import time

import pytest
from daemon import BUILD, CallError, Host, eventually, has_faults, plugin

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not has_faults(BUILD), reason="this cpexd cannot fail on purpose")]

HOOK = "tool_pre_invoke"
ECHO = """
    async def tool_pre_invoke(self, payload, context):
        await asyncio.sleep(payload.args.get("sleep", 0))
        return Result(metadata={"n": payload.args["n"]}, modified_payload=payload)
"""


# Each of these changes nothing, so the three take one hop.
GROUP = [plugin(name, ECHO.replace(", modified_payload=payload", ""), isolation={"group": "g"}) for name in "abc"]


def call(n, **args):
    return {"name": "t", "args": {"n": n} | args}


def is_well(daemon):
    with contextlib.suppress(CallError, OSError, EOFError):
        return daemon.invoke(HOOK, call(1))["metadata"] == {"n": 1}


def test_reads_and_writes_of_one_byte(cpexd):
    daemon = cpexd([plugin("p", ECHO)])
    daemon.faults("read=1+,write=1+")
    with daemon.host() as one, daemon.host() as other:
        ids = [(host, host.begin(HOOK, call(n, text="x" * 2000))) for n, host in enumerate([one, other] * 3)]
        for n, (host, msgid) in enumerate(ids):
            answer = host.end(msgid)
            assert answer["metadata"] == {"n": n}
            assert answer["modified_payload"]["args"]["text"] == "x" * 2000


def test_no_process_can_be_started(cpexd):
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("killed by signal|cannot start|cannot be run|refused|on_error: fail")
    daemon.faults("spawn=1+")
    with pytest.raises(CallError) as caught:
        daemon.admin("reload")
    assert "cpexd-venv cannot be run" in caught.value.message
    assert is_well(daemon), "a reload was refused, but did harm"
    os.kill(daemon.workers("p")[0], signal.SIGKILL)
    daemon.wait_log("no process can be started: Resource temporarily unavailable")
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, call(1))
    assert caught.value.cause == "start_failed" and "no process can be started" in caught.value.message
    daemon.faults("")
    eventually(lambda: is_well(daemon))


def test_no_connection_can_be_accepted(cpexd):
    """The host that is there is served; the one that comes waits, and the log says so no more than once a second."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("cannot accept a connection: Too many open files")
    with daemon.host() as early:
        early.call("ping")
        daemon.faults("accept=1+")
        with daemon.host() as late:
            msgid = late.begin(HOOK, call(1))
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert early.invoke(HOOK, call(2))["metadata"] == {"n": 2}
            assert len(re.findall("cannot accept", daemon.log())) in (1, 2)
            daemon.faults("")
            assert late.end(msgid)["metadata"] == {"n": 1}


def test_the_wall_clock_goes_back(cpexd):
    daemon = cpexd([plugin("p", ECHO)])
    daemon.faults("clock-back=1")
    assert daemon.invoke(HOOK, call(1, sleep=0.1))["metadata"] == {"n": 1}


def test_all_clocks_leap_ahead(cpexd):
    """As after a machine has slept: what was to end in that hour is over, the worker and later calls are not."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("on_error: fail")
    worker = daemon.workers("p")
    with daemon.host() as host:
        msgid = host.begin(HOOK, call(1, sleep=20))
        eventually(lambda: daemon.admin("status")["calls"]["active"] == 1)
        daemon.faults("clock-ahead=1")
        with pytest.raises(CallError) as caught:
            host.end(msgid)
        assert caught.value.cause == "timeout"
    assert is_well(daemon) and daemon.workers("p") == worker


def test_no_memory_at_all(cpexd):
    """Hosts and administrators are refused or disconnected, and nobody waits for long."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("")
    with daemon.host(timeout=10) as early:
        early.call("ping")
        daemon.faults("alloc=1+")
        for ask in (lambda: early.invoke(HOOK, call(1)), lambda: daemon.invoke(HOOK, call(1)), lambda: daemon.admin("status")):
            with pytest.raises((CallError, OSError, EOFError)) as caught:
                ask()
            assert caught.type is not TimeoutError
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("the new configuration is refused: Cannot allocate memory")
        daemon.faults("")
    assert is_well(daemon)


def test_no_memory_for_the_first_steps_of_a_start(cpexd):
    """cpexd ends and says why, or goes on as it should; never with something else than was asked for."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("")
    ended = 0
    for n in range(1, 12):
        daemon.stop()
        daemon.faults_path.write_text(f"alloc={n}")
        daemon.start(ready=False)
        eventually(lambda: daemon.process.poll() is not None or "ready: " in daemon.log())
        if daemon.process.poll() is None:
            assert is_well(daemon)
        else:
            assert daemon.process.returncode == 4
            assert re.search("error: cannot start: .*memory", daemon.log()), daemon.log()
            ended += 1
    assert ended
    daemon.stop()
    daemon.faults_path.write_text("")
    daemon.start()


def test_no_memory_for_the_last_steps_of_a_start(cpexd):
    """Those around `ready`: hosts are accepted all the same, if a little later."""
    daemon = cpexd([plugin("p", ECHO)], ready=False)
    daemon.expect("")
    daemon.wait_ready()
    allocations = daemon.faults("")["alloc"]
    for n in range(allocations - 6, allocations + 4):
        assert daemon.stop() == 0
        daemon.faults_path.write_text(f"alloc={n}")
        daemon.start(ready=False)
        daemon.wait_ready()
        eventually(lambda: is_well(daemon), 5)
    daemon.faults("")


@pytest.mark.parametrize("plugins", [[plugin("p", ECHO)], GROUP], ids=["alone", "group"])
def test_a_call_and_no_memory(cpexd, plugins):
    """Whichever allocation fails: its error says that it was memory."""
    daemon = cpexd(plugins)
    daemon.expect("")
    seen = set()
    with daemon.host() as host:
        daemon.faults("")
        host.invoke(HOOK, call(1))
        for n in range(1, daemon.faults("")["alloc"] + 1):
            daemon.faults(f"alloc={n}")
            try:
                host.invoke(HOOK, call(1))
            except CallError as error:
                assert "memory" in error.message
                seen.add(error.cause or error.code)
            except (OSError, EOFError):
                host.__init__(daemon.socket)
    assert ("no_memory" in seen or len(plugins) > 1) and "oversize" not in seen  # a chain that cannot be is none
    daemon.faults("")
    assert is_well(daemon)


def test_a_group_and_no_memory(cpexd):
    """Whichever allocation of a reload fails: the group serves, as it was or as it is."""
    daemon = cpexd(GROUP)
    daemon.expect("")
    for changed in range(0, 90, 3):
        daemon.write([each | {"entry": each["entry"] | {"priority": changed}} for each in GROUP])
        daemon.faults("" if changed == 0 else f"alloc={allocations - changed}")
        with contextlib.suppress(CallError, OSError, EOFError):
            daemon.admin("reload")
        if changed == 0:
            allocations = daemon.faults("")["alloc"]
    daemon.faults("")
    eventually(lambda: is_well(daemon))


def test_a_host_and_no_memory(cpexd):
    """One that is refused for want of memory stands in the log."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("refused: out of memory")
    for n in (1, 2, 3, 1):
        daemon.faults(f"alloc={n}")
        with contextlib.suppress(OSError, EOFError), daemon.host() as host:
            host.call("ping")
        if n == 3:
            time.sleep(1)  # one line a second
    refused = re.findall(r"host pid .* refused: out of memory .*; (\d+) refused since", daemon.log())
    assert len(refused) >= 2 and sum(map(int, refused)) == 4


@pytest.mark.parametrize("method", ["status", "venv.list", "venv.build", "reload"])
def test_an_administrator_and_no_memory(cpexd, method):
    """Whichever allocation fails there is one answer, or the connection is closed; never half of an answer."""
    daemon = cpexd([plugin("p", ECHO)])
    daemon.expect("")
    daemon.faults("")
    daemon.admin(method)
    allocations = daemon.faults("")["alloc"]
    for n in range(max(allocations - 60, 1), allocations + 1):  # those before, of a reload, are those of reading the files
        daemon.faults(f"alloc={n}")
        with contextlib.suppress(CallError, OSError, EOFError), Host(daemon.control) as admin:
            assert isinstance(admin.call(method), dict)
    daemon.faults("")
    assert is_well(daemon)
