# SPDX-License-Identifier: Apache-2.0
"""Workers that die, hang, print or leave harm only their own calls, and are replaced."""

import contextlib
import fcntl
import os
import pathlib
import re
import signal
import time

import pytest
from daemon import SANITIZED, CallError, eventually, plugin, stat_of

HOOK = "tool_pre_invoke"

# What the tests have a plugin do, by the name of the tool.
ANYTHING = """
    async def tool_pre_invoke(self, payload, context):
        what = payload.name
        if what == "sleep":
            await asyncio.sleep(payload.args["seconds"])
        elif what == "hang":
            while True:
                pass
        elif what == "exit":
            sys.exit(payload.args["status"])
        elif what == "os-exit":
            os._exit(payload.args["status"])
        elif what == "kill":
            os.kill(os.getpid(), payload.args["signal"])
        elif what == "print":
            print(payload.args["text"], flush=True)
        elif what == "write":
            os.write(payload.args["fd"], payload.args["data"])
        elif what == "stderr":
            print(payload.args["text"], file=sys.stderr, flush=True)
        elif what == "close":
            os.closerange(0, 3)
        return Result(metadata={"pid": os.getpid(), "n": (payload.args or {}).get("n")})
"""


def anything(**isolation):
    return plugin("p", ANYTHING, isolation=isolation)


def do(name, **args):
    return {"name": name, "args": args}


def pid_of(daemon):
    return daemon.invoke(HOOK, do("nothing"))["metadata"]["pid"]


def error_of(daemon, payload, **rest):
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, payload, **rest)
    return caught.value


def replaced(daemon, old):
    """Waits for one ready worker that is not the old one, and asks it."""
    new = eventually(lambda: [pid for pid in daemon.workers("p") if pid != old], 10)[0]
    assert pid_of(daemon) == new
    assert stat_of(old) is None, "the old worker is still there"
    return new


def test_a_worker_is_killed_during_a_call(cpexd):
    daemon = cpexd([anything(timeout=30)])
    daemon.expect('plugin "p"')
    old = pid_of(daemon)
    with daemon.host() as host:
        msgid = host.begin(HOOK, do("sleep", seconds=20))
        time.sleep(0.2)
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        with pytest.raises(CallError) as caught:
            host.end(msgid)
        assert time.monotonic() - began < 0.5
    error = caught.value
    assert (error.type, error.cause, error.plugin_name) == ("PluginError", "crash", "p")
    assert "signal 9" in error.message
    replaced(daemon, old)


@pytest.mark.parametrize("payload, word", [
    (do("exit", status=3), "status 3"),
    (do("os-exit", status=0), "status 0"),
    (do("os-exit", status=77), "status 77"),
    (do("kill", signal=int(signal.SIGSEGV)), "signal 11"),
    (do("kill", signal=int(signal.SIGTERM)), "signal 15"),
])
def test_a_hook_that_ends_its_process(cpexd, payload, word):
    daemon = cpexd([anything()])
    daemon.expect('plugin "p"')
    old = pid_of(daemon)
    error = error_of(daemon, payload)
    assert error.type == "PluginError" and error.plugin_name == "p"
    if error.cause == "exception":
        # sys.exit() is an exception; a worker may also live through it.
        assert payload["name"] == "exit" and error.message == "SystemExit(3)"
        assert pid_of(daemon)
    else:
        assert error.cause == "crash" and word in error.message
        replaced(daemon, old)


def test_a_worker_that_dies_while_idle_is_replaced(cpexd):
    daemon = cpexd([anything()])
    daemon.expect('plugin "p".*signal 9')
    old = pid_of(daemon)
    os.kill(old, signal.SIGKILL)
    replaced(daemon, old)


def test_all_calls_of_a_dead_worker_are_answered_and_no_others(cpexd):
    daemon = cpexd([anything(max_concurrent=8, workers={"min": 2, "max": 2}, timeout=30)])
    daemon.expect('plugin "p"')
    with daemon.host() as host:
        ids = [host.begin(HOOK, do("sleep", seconds=2, n=n)) for n in range(8)]
        time.sleep(0.3)
        victim = daemon.workers("p")[0]
        os.kill(victim, signal.SIGKILL)
        outcomes = []
        for n, msgid in enumerate(ids):
            try:
                metadata = host.end(msgid)["metadata"]
                assert metadata["n"] == n and metadata["pid"] != victim
                outcomes.append("answered")
            except CallError as error:
                outcomes.append(error.cause)
    assert sorted(outcomes) == ["answered"] * 4 + ["crash"] * 4
    eventually(lambda: len(daemon.workers("p")) == 2)


def test_a_stopped_worker_times_out_and_is_replaced(cpexd):
    daemon = cpexd([anything(timeout=1)])
    daemon.expect('plugin "p"')
    old = pid_of(daemon)
    os.kill(old, signal.SIGSTOP)
    assert error_of(daemon, do("nothing")).cause == "timeout"
    replaced(daemon, old)


def test_a_hang_is_answered_in_time_and_the_worker_replaced(cpexd):
    daemon = cpexd([anything(timeout=1)])
    daemon.expect('plugin "p"')
    old = pid_of(daemon)
    began = time.monotonic()
    error = error_of(daemon, do("hang"))
    took = time.monotonic() - began
    assert error.cause == "timeout" and error.message == "Plugin p exceeded 1s timeout"
    assert 0.95 < took < 1.5
    replaced(daemon, old)


SPIN = """
    def spin(self):
        while True:
            pass

    async def tool_pre_invoke(self, payload, context):
        print("about to \\udcff spin")
        if payload.name == "crash":
            import ctypes
            ctypes.string_at(0)
        self.spin()
"""


@pytest.mark.parametrize(("name", "cause", "function"), [("spin", "timeout", "in spin"), ("crash", "crash", "in string_at")])
def test_where_a_plugin_was_is_told(cpexd, name, cause, function):
    """In the error and in the log: the Python stacks, also of a loop that never lets go, and the last lines printed."""
    daemon = cpexd([plugin("p", SPIN, isolation={"timeout": 0.3})])
    daemon.expect("on_error: fail|it was killed|it will be replaced")
    for _ in range(5):  # the error does not wait for a worker that gets no processor to say where it is
        old = daemon.workers("p")
        error = error_of(daemon, do(name))
        assert error.cause == cause
        if "stacks" in error.details:
            break
        eventually(lambda: set(daemon.workers("p")) - set(old))
    assert function in error.details["stacks"] and "in tool_pre_invoke" in error.details["stacks"]
    assert error.details["output"][-1] == "about to \\udcff spin"
    daemon.wait_log(f'plugin "p".*{function}')


def test_an_answer_that_comes_too_late_is_counted(cpexd):
    """It is not the answer, however good: the caller has another by then."""
    daemon = cpexd([plugin("p", """
    async def tool_pre_invoke(self, payload, context):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return Result(metadata={"late": True})
    """, isolation={"timeout": 0.2})])
    daemon.expect("on_error: fail")
    assert error_of(daemon, do("t")).cause == "timeout"
    assert daemon.status("p")["late_total"] == 1


def test_a_timeout_that_yields_keeps_the_worker(cpexd):
    daemon = cpexd([anything(timeout=1, max_concurrent=4)])
    daemon.expect('plugin "p"')
    old = pid_of(daemon)
    with daemon.host() as host:
        late = host.begin(HOOK, do("sleep", seconds=20))
        time.sleep(0.6)
        fine = host.begin(HOOK, do("sleep", seconds=0.8, n=7))
        with pytest.raises(CallError) as caught:
            host.end(late)
        assert caught.value.cause == "timeout"
        assert host.end(fine)["metadata"] == {"pid": old, "n": 7}
    assert pid_of(daemon) == old


def test_other_plugins_do_not_notice(cpexd):
    other = plugin("other", """
        async def tool_post_invoke(self, payload, context):
            return ToolPostInvokeResult(metadata={"other": 1})
    """)
    daemon = cpexd([anything(timeout=1), other])
    daemon.expect('plugin "p"')
    with daemon.host() as host:
        hung = host.begin(HOOK, do("hang"))
        slowest = 0
        for _ in range(50):
            began = time.monotonic()
            assert host.invoke("tool_post_invoke", {"name": "x", "result": 1})["metadata"] == {"other": 1}
            slowest = max(slowest, time.monotonic() - began)
        with pytest.raises(CallError):
            host.end(hung)
    assert slowest < 0.3


def test_min_workers_are_there_at_once(cpexd):
    daemon = cpexd([anything(workers={"min": 3, "max": 3})])
    assert len(daemon.workers("p")) == 3


def test_calls_that_wait_start_workers_up_to_max(cpexd):
    daemon = cpexd([anything(workers={"min": 1, "max": 3}, max_concurrent=1, timeout=30)])
    with daemon.host() as host:
        ids = [host.begin(HOOK, do("sleep", seconds=1.5)) for _ in range(9)]
        pids = {host.end(msgid)["metadata"]["pid"] for msgid in ids}
    assert len(pids) == 3
    assert len(daemon.worker_pids()) <= 3


def test_queue_full(cpexd):
    daemon = cpexd([anything(workers={"min": 1, "max": 1}, max_concurrent=1, queue=2, timeout=30)])
    daemon.expect('plugin "p".*queue')
    with daemon.host() as host:
        ids = [host.begin(HOOK, do("sleep", seconds=1, n=n)) for n in range(3)]
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(CallError) as caught:
            host.invoke(HOOK, do("nothing"))
        assert time.monotonic() - began < 0.5
        error = caught.value
        assert (error.type, error.cause, error.plugin_name) == ("PluginError", "queue_full", "p")
        assert error.details["maximum"] == 2 and error.details["value"] >= 2
        assert error.details["limit"] and error.details["setting"] == "isolation.queue"
        assert "isolation.queue" in error.message and "2" in error.message
        assert [host.end(msgid)["metadata"]["n"] for msgid in ids] == [0, 1, 2]


@pytest.mark.parametrize("on_error", ["fail", "ignore"])
def test_a_plugin_that_cannot_start(cpexd, on_error):
    broken = plugin("broken", """
        async def initialize(self):
            raise RuntimeError("the model is missing:" + 200 * "ä")  # cut between two characters

        async def tool_pre_invoke(self, payload, context):
            return Result()
    """, on_error=on_error)
    daemon = cpexd([broken, anything()])
    daemon.expect('plugin "broken"')
    with daemon.host() as host:
        status = {each["name"]: each["status"] for each in host.call("plugins")["plugins"]}
    assert status == {"broken": "failed", "p": "ready"}
    if on_error == "fail":
        error = error_of(daemon, do("nothing"))
        assert (error.type, error.cause, error.plugin_name) == ("PluginError", "start_failed", "broken")
        assert "the model is missing" in error.message
    else:
        assert daemon.invoke(HOOK, do("nothing"))["metadata"]["pid"]
    done = daemon.ctl("plugins")
    assert "failed" in done.stdout


@pytest.mark.parametrize("code, word", [
    ("import nowhere_to_be_found", "nowhere_to_be_found"),
    ("this is no python", "SyntaxError|invalid syntax"),
    ("class Q: pass", "'?P'?"),
    ("import os; os._exit(5)", "status 5"),
    ("import time; time.sleep(100)", "startup_timeout"),
])
def test_a_module_that_cannot_be_loaded(cpexd, code, word):
    broken = plugin("broken", "async def tool_pre_invoke(self, payload, context):\n    return None", isolation={"startup_timeout": 3})
    broken["code"] = code + "\n"
    daemon = cpexd([broken])
    daemon.expect('plugin "broken"')
    error = error_of(daemon, do("nothing"))
    assert error.cause == "start_failed"
    assert re.search(word, error.message), error.message


def test_a_plugin_that_recovers(cpexd, tmp_path):
    flag = tmp_path / "flag"
    healing = plugin("p", f"""
        async def initialize(self):
            if not os.path.exists({str(flag)!r}):
                raise RuntimeError("not yet")

        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"up": 1}})
    """)
    daemon = cpexd([healing])
    daemon.expect('plugin "p"')
    assert error_of(daemon, do("nothing")).cause == "start_failed"
    flag.touch()
    eventually(lambda: daemon.workers("p"), 20)
    assert daemon.invoke(HOOK, do("nothing"))["metadata"] == {"up": 1}


def test_what_a_plugin_prints_is_its_log(cpexd):
    daemon = cpexd([anything()])
    pid = pid_of(daemon)
    daemon.invoke(HOOK, do("print", text="hello from print"))
    daemon.invoke(HOOK, do("stderr", text="hello from stderr"))
    daemon.invoke(HOOK, do("write", fd=1, data=b"hello from fd 1\n"))
    for text in ("print", "stderr", "fd 1"):
        daemon.wait_log(rf'\d\dZ (info|debug|warning): plugin "p" worker {pid}: hello from {text}')
    assert pid_of(daemon) == pid


@pytest.mark.parametrize("data", [b"\x94\x01\x02\xc0\x80", b"\xc1" * 50, b"\xdd\xff\xff\xff\xff", b"x" * 300_000, b"\n" * 1000, b"\x1b[31m\x00\r\x07"])
def test_what_a_plugin_writes_cannot_break_the_protocol(cpexd, data):
    daemon = cpexd([anything()])
    daemon.expect('plugin "p".*(dropped|suppressed|left out|too many|rate)')
    pid = pid_of(daemon)
    for fd in (1, 2):
        assert daemon.invoke(HOOK, do("write", fd=fd, data=data, n=fd))["metadata"] == {"pid": pid, "n": fd}


def test_no_line_can_be_forged(cpexd):
    daemon = cpexd([anything()])
    daemon.invoke(HOOK, do("print", text="a\r2026-01-01T00:00:00.000Z error: forged\x1b[2J"))
    daemon.wait_log(r"a\\x0d2026")
    assert not [line for line in daemon.log().splitlines() if line.startswith("2026-01-01")]


def test_standard_streams_that_are_closed(cpexd):
    daemon = cpexd([anything()])
    pid = pid_of(daemon)
    assert daemon.invoke(HOOK, do("close"))["metadata"]["pid"] == pid
    assert pid_of(daemon) == pid


def test_workers_do_not_inherit_descriptors(cpexd):
    look = plugin("p", """
        async def tool_pre_invoke(self, payload, context):
            found = {}
            for name in os.listdir("/proc/self/fd"):
                try:
                    found[name] = os.readlink("/proc/self/fd/" + name)
                except FileNotFoundError:
                    pass
            return Result(metadata=found)
    """)
    daemon = cpexd([look, plugin("q", "async def tool_post_invoke(self, payload, context):\n    return None")])
    with daemon.host() as host:
        has = host.invoke(HOOK, do("nothing"))["metadata"]
        of_daemon = {os.readlink(entry) for entry in pathlib.Path(f"/proc/{daemon.pid}/fd").iterdir()}
    assert has.pop("0") == "/dev/null"
    output = {has.pop("1"), has.pop("2")}
    assert all(what.startswith("pipe:") for what in output)
    assert has.pop("4") == "/memfd:stacks (deleted)"
    # Of the rest, one is the daemon's line and the others are asyncio's own.
    assert len(has) <= 4 and all(re.match(r"socket:|anon_inode:\[eventpoll", what) for what in has.values()), has
    assert not of_daemon & {what for what in has.values() if what.startswith("socket:")}


@contextlib.contextmanager
def open_folder(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def test_kill_minus_nine_of_the_daemon_takes_its_workers_along(cpexd):
    daemon = cpexd([anything(workers={"min": 2, "max": 2})])
    workers = daemon.workers("p")
    assert len(workers) == 2
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.process.wait()
    eventually(lambda: not any((stat := stat_of(pid)) and stat[0] != "Z" for pid in workers), 3)
    daemon.socket.unlink(missing_ok=True)
    daemon.control.unlink(missing_ok=True)
    (left,) = daemon.temp.glob("cpexd-tmp-*")
    assert len(list(left.iterdir())) == 2  # nobody could remove the workers' folders
    (left / "deep" / "er").mkdir(parents=True)
    other = daemon.temp / "cpexd-tmp-locked"
    other.mkdir()
    with open_folder(other) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        daemon.start()
        eventually(lambda: not left.exists(), 5)
    assert other.exists()  # another daemon's
    other.rmdir()


# How a plugin starts what is to outlive it: in its group, in a session of its own, and as a daemon does, twice forked away.
ESCAPES = {
    "child": 'subprocess.Popen(["sleep", "1000"])',
    "session": 'subprocess.Popen(["sleep", "1000"], start_new_session=True)',
    "daemon": 'subprocess.Popen(["setsid", "-f", "sh", "-c", "echo $$ >{out}; exec sleep 1000"])',
    "tree": 'subprocess.Popen(["setsid", "-f", "sh", "-c", "setsid -f sh -c \'echo $$ >{out}; exec sleep 1000\'; exec sleep 1000"])',
}


@pytest.mark.parametrize("end", ["worker", "daemon", "nine"])
@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outlives_its_worker(cpexd, tmp_path, escape, end):
    """Whether the worker is killed, or the daemon stops, or that is killed."""
    out = tmp_path / "pid"
    daemon = cpexd([plugin("p", f"""
        async def tool_pre_invoke(self, payload, context):
            import subprocess
            child = {ESCAPES[escape].format(out=out)}
            if not {escape in ("daemon", "tree")}:
                open({str(out)!r}, "w").write(str(child.pid))
            return Result()
    """)])
    daemon.expect("it will be replaced")
    daemon.invoke(HOOK, do("nothing"))
    pid = int(eventually(lambda: out.exists() and out.read_text()))
    assert stat_of(pid)
    if end == "daemon":
        assert daemon.stop() == 0
    elif end == "nine":
        daemon.process.kill()
        daemon.process.wait()
    else:
        old = daemon.workers("p")[0]
        os.kill(old, signal.SIGKILL)
        eventually(lambda: daemon.workers("p") not in ([], [old]))
    eventually(lambda: not stat_of(pid), 3, "it lives, or is a zombie")
    if end == "nine":
        daemon.start()  # and stops in order, as the gate wants it


@pytest.mark.skipif(SANITIZED, reason="measures time")
def test_threads_of_a_plugin_do_not_hold_up_a_stop(cpexd):
    daemon = cpexd([plugin("busy", """\
        async def tool_pre_invoke(self, payload, context):
            import threading
            threading.Thread(target=time.sleep, args=(600,)).start()
            return Result()
        """)])
    daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 2.5


def test_a_task_that_ends_the_loop_does_not_end_the_worker(cpexd):
    daemon = cpexd([plugin("odd", """\
        async def tool_pre_invoke(self, payload, context):
            async def leave():
                sys.exit(3)
            self.task = asyncio.create_task(leave())
            return Result(metadata={"pid": os.getpid()})
        """)])
    first = daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})["metadata"]["pid"]
    time.sleep(0.2)
    assert daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})["metadata"]["pid"] == first


def test_a_storm_of_deaths(cpexd):
    daemon = cpexd([anything(workers={"min": 4, "max": 4}, max_concurrent=4, timeout=10)])
    daemon.expect('plugin "p"')
    seen = {"answered": 0, "crash": 0}
    deadline = time.monotonic() + 8
    with daemon.host() as host:
        n = 0
        while time.monotonic() < deadline:
            ids = {host.begin(HOOK, do("sleep", seconds=0.02, n=n + i)): n + i for i in range(12)}
            n += 12
            for pid in daemon.workers("p")[:1]:
                os.kill(pid, signal.SIGKILL)
            for msgid, nonce in ids.items():
                try:
                    assert host.end(msgid)["metadata"]["n"] == nonce
                    seen["answered"] += 1
                except CallError as error:
                    assert error.cause in ("crash", "start_failed", "queue_full"), error
                    seen["crash"] += 1
    assert seen["answered"] + seen["crash"] == n and seen["answered"] > 0
    eventually(lambda: len(daemon.workers("p")) == 4, 40)


def test_a_call_waits_no_longer_than_it_may(cpexd):
    daemon = cpexd([anything(workers={"min": 1, "max": 1}, max_concurrent=1, queue_timeout=0.2, timeout=30)])
    daemon.expect("on_error: fail")
    with daemon.host() as host:
        first = host.begin(HOOK, do("sleep", seconds=1))
        begun = time.monotonic()
        with pytest.raises(CallError) as caught:
            host.end(host.begin(HOOK, do("nothing")))
        assert caught.value.cause == "queue_timeout"
        assert 0.15 < time.monotonic() - begun < 0.9
        assert host.end(first)["metadata"]


def calls_until_replaced(daemon, old, limit=2000):
    """Calls the plugin until another worker answers. Returns how many the old one had."""
    for n in range(limit):
        pid = pid_of(daemon)
        if pid != old:
            return n
        time.sleep(0.01)
    raise AssertionError("the worker was not replaced")


def test_recycling_by_calls(cpexd):
    """Under load no call fails or waits for a new worker, and each worker has at least the calls that it is given."""
    daemon = cpexd([anything(workers={"min": 1, "max": 1}, recycle={"calls": 20})])
    old = pid_of(daemon)
    served, slowest = {}, 0
    with daemon.host() as host:
        deadline = time.monotonic() + 30
        while len(served) < 4 and time.monotonic() < deadline:
            begun = time.monotonic()
            pid = host.invoke(HOOK, do("nothing"))["metadata"]["pid"]
            slowest = max(slowest, time.monotonic() - begun)
            served[pid] = served.get(pid, 0) + 1
    assert len(served) == 4 and min(list(served.values())[:-1]) >= 19
    status = daemon.status("p")
    assert status["recycled"] >= 3 and status["restarts"] == 0
    eventually(lambda: len(daemon.status("p")["workers"]) == 1)
    assert old not in daemon.workers("p")
    assert slowest < 5  # no call waits for a worker to be started


def test_recycling_waits_for_calls_under_way(cpexd):
    daemon = cpexd([anything(workers={"min": 1, "max": 1}, max_concurrent=8, recycle={"calls": 2}, timeout=30)])
    old = pid_of(daemon)
    with daemon.host() as host:
        call = host.begin(HOOK, do("sleep", seconds=1))
        calls_until_replaced(daemon, old)
        assert host.end(call)["metadata"]["pid"] == old
    eventually(lambda: old not in daemon.worker_pids())


def test_recycling_by_age_and_memory(cpexd):
    hoard = plugin("hoard", """
        async def tool_post_invoke(self, payload, context):
            self.hoard = getattr(self, "hoard", b"") + b"x" * (64 << 20)
            return None
    """, isolation={"recycle": {"memory": "100M"}, "workers": {"min": 1, "max": 1}})
    daemon = cpexd([anything(workers={"min": 1, "max": 1}, recycle={"age": 1}), hoard])
    daemon.expect("on_error: fail|AttributeError")
    old, greedy = pid_of(daemon), daemon.workers("hoard")[0]
    for _ in range(2):
        with pytest.raises(CallError):
            daemon.invoke("tool_post_invoke", {"name": "t", "result": 1})
    eventually(lambda: daemon.workers("hoard") and greedy not in daemon.worker_pids(), 15)
    calls_until_replaced(daemon, old)
    daemon.wait_log("isolation.recycle.memory")
    daemon.wait_log("isolation.recycle.age")


def test_a_replacement_that_cannot_start_does_not_cost_the_worker(cpexd, tmp_path):
    """The old one serves on until a new one is ready."""
    flag = tmp_path / "broken"
    daemon = cpexd([plugin("p", f"""
        async def initialize(self):
            assert not os.path.exists({str(flag)!r})

        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"pid": os.getpid()}})
    """, isolation={"workers": {"min": 1, "max": 1}, "recycle": {"calls": 3}})])
    daemon.expect("cannot start")
    flag.touch()
    old = pid_of(daemon)
    for _ in range(30):
        assert pid_of(daemon) == old
        time.sleep(0.01)
    flag.unlink()
    eventually(lambda: pid_of(daemon) != old)


def test_short_waits_start_no_workers(cpexd):
    """A burst that one worker works off in less time than a new one takes to start."""
    daemon = cpexd([anything(workers={"min": 1, "max": 4, "idle": 0.1}, max_concurrent=1)])
    for _ in range(10):  # a busy machine may make any burst a long one
        with daemon.host() as host:
            for call in [host.begin(HOOK, do("nothing")) for _ in range(3)]:
                host.end(call)
        if len(daemon.status("p")["workers"]) == 1:
            return
        eventually(lambda: len(daemon.status("p")["workers"]) == 1)
    raise AssertionError("every burst started a worker")


def test_idle_workers_are_stopped_after_their_time(cpexd):
    daemon = cpexd([anything(workers={"min": 1, "max": 3, "idle": 0.5}, max_concurrent=1, timeout=30)])
    with daemon.host() as host:
        for call in [host.begin(HOOK, do("sleep", seconds=1)) for _ in range(3)]:
            host.end(call)
    assert len(daemon.status("p")["workers"]) > 1
    eventually(lambda: len(daemon.status("p")["workers"]) == 1, 10)
