# SPDX-License-Identifier: Apache-2.0
"""Workers that are forked off a process with the plugin imported (isolation.zygote)."""

import contextlib
import errno
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest
from daemon import BUILD, PREAMBLE, SANITIZED, CallError, children_of, eventually, has_faults, plugin, stat_of

HOOK = "tool_pre_invoke"
FORKED = {"zygote": True, "workers": {"min": 2, "max": 2}, "max_concurrent": 1}

# What the tests have a plugin do, as code in the call.
ANYTHING = """
    async def tool_pre_invoke(self, payload, context):
        scope = globals() | {"self": self, "did": None}
        exec(payload.args["code"], scope)
        if payload.args.get("seconds"):
            await asyncio.sleep(payload.args["seconds"])
        return Result(metadata={"pid": os.getpid(), "did": scope["did"]})
"""


def anything(name="p", preamble=None, **isolation):
    more = {} if preamble is None else {"preamble": preamble}
    return plugin(name, ANYTHING, isolation=FORKED | isolation, **more)


def do(code, **args):
    return {"name": "t", "args": {"code": code} | args}


def of_each(daemon, code):
    """What `code` makes of `did` in each of the two workers."""
    with daemon.host() as host:
        calls = [host.begin(HOOK, do(code, seconds=0.3)) for _ in range(2)]
        answers = [host.end(each)["metadata"] for each in calls]
    assert len({each["pid"] for each in answers}) == 2
    return {each["pid"]: each["did"] for each in answers}


def zygote_of(pid):
    """The process that the worker's guard was forked by."""
    return stat_of(stat_of(pid)[1])[1]


def dead(daemon, pids):
    """Waits for the end of these workers, and for two others."""
    eventually(lambda: not [pid for pid in pids if stat_of(pid)] and len(daemon.workers("p")) == 2, 10)
    assert not set(daemon.workers("p")) & set(pids)


def kill(daemon, pids):
    daemon.expect("killed by signal 9|it closed its connection")  # the latter where its guard is slow to say how it has ended
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    dead(daemon, pids)


def private_kib(pid):
    return sum(int(line.split()[1]) for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Private"))


def test_workers_are_forked(cpexd):
    daemon = cpexd([anything()])
    one, other = daemon.workers("p")
    (zygote,) = daemon.zygotes()
    assert zygote_of(one) == zygote_of(other) == zygote
    assert children_of(stat_of(one)[1]) == [one]
    assert f"forked by a zygote: p ({zygote})\n" in daemon.ctl("status").stdout
    of_each(daemon, "did = 1")
    assert private_kib(one) + private_kib(stat_of(one)[1]) < 3000


def test_each_has_its_own(cpexd):
    """Session, temporary folder, output, random numbers; and what was found at import all have."""
    preamble = PREAMBLE + "import random, tempfile, uuid\ntempfile.gettempdir()\nAT_IMPORT = uuid.uuid4().hex\n"
    daemon = cpexd([anything(preamble=preamble, sandbox={"write": [], "network": "none"})])
    folders = of_each(daemon, "open(tempfile.gettempdir() + '/x', 'x').close(); did = [tempfile.gettempdir(), os.environ['TMPDIR']]")
    assert all(a == b for a, b in folders.values()) and len({a for a, _ in folders.values()}) == 2
    assert all((session, group) == (pid, pid) for pid, (session, group) in of_each(daemon, "did = [os.getsid(0), os.getpgrp()]").items())
    assert len(set(of_each(daemon, "did = random.random()").values())) == 2
    assert len(set(of_each(daemon, "did = AT_IMPORT").values())) == 1
    of_each(daemon, "print('I am', os.getpid(), flush=True)")
    for pid in daemon.workers("p"):
        daemon.wait_log(f'plugin "p" worker {pid}: I am {pid}\n')


def test_files_move_between_folders(cpexd):
    """The domain that holds signals back does not hold files back."""
    daemon = cpexd([anything(preamble=PREAMBLE + "import subprocess, tempfile")])
    of_each(daemon, """
a, b = tempfile.mkdtemp(), tempfile.mkdtemp()
open(a + '/x', 'w').close(); os.rename(a + '/x', b + '/y'); os.link(b + '/y', a + '/z')
did = subprocess.run(['echo', 'x'], capture_output=True).stdout == b'x\\n'
assert did
""")


def test_what_a_worker_leaves_in_its_folder(cpexd):
    """It goes with the worker; a link in its place leads nowhere."""
    daemon = cpexd([anything(preamble=PREAMBLE + "import tempfile", sandbox={"write": []})])
    daemon.expect("killed by signal 9|of a worker that has ended stays: Not a directory")
    outside = daemon.folder / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (zygote,) = {os.path.dirname(each) for each in of_each(daemon, "did = tempfile.gettempdir(); os.makedirs(did + '/a/b/c')").values()}
    of_each(daemon, f"tmp = tempfile.gettempdir(); os.rename(tmp, tmp + 'x'); os.symlink({str(outside)!r}, tmp)")
    kill(daemon, daemon.workers("p"))
    assert (outside / "file").exists()
    folders = of_each(daemon, "did = tempfile.gettempdir(); os.makedirs(did + '/a/b/c')").values()
    kill(daemon, daemon.workers("p"))
    eventually(lambda: not any(map(os.path.exists, folders)))
    assert os.path.exists(zygote)


def test_proc_is_told_of(cpexd):
    daemon = cpexd([anything()])
    daemon.expect("Permission denied|PermissionError")
    with pytest.raises(CallError):
        daemon.invoke(HOOK, do("open('/proc/self/status')"))
    daemon.wait_log("the sandbox may be the reason .*give the plugin in its entry isolation: {zygote: false}")


# ---- Where workers are not forked

AT_IMPORT = {
    "a thread": ("import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", "it has 2 threads"),
    "a process": ("import subprocess; child = subprocess.Popen(['sleep', '1000'])", "it has started a process"),
    "a file": ("f = open(__file__)", "it holds /.*/plugin.py open"),
    "a socket": ("import socket; pair = socket.socketpair()", "it holds socket:.* open"),
    "a task": ("import asyncio; task = asyncio.ensure_future(asyncio.sleep(1000))", "it has tasks on the event loop"),
    "a timer": ("import asyncio; asyncio.get_event_loop().call_later(1000, print)", "it has tasks on the event loop"),
    "the loop": ("import asyncio; loop = asyncio.get_event_loop()", "it holds on to the event loop"),
}


@pytest.mark.parametrize("what", AT_IMPORT)
def test_what_cannot_be_shared(cpexd, what):
    code, why = AT_IMPORT[what]
    daemon = cpexd([anything(preamble=PREAMBLE + code + "\n")])
    daemon.wait_log(f'info: plugin "p": its workers are started and not forked: {why}')
    assert daemon.zygotes() == [] and daemon.status("p")["restarts"] == 0
    of_each(daemon, "did = 1")
    assert daemon.log().count("not forked") == 1


@pytest.mark.parametrize(("setting", "why"), [
    ({"sandbox": {"profile": "off"}}, "without a sandbox"), ({"sandbox": {"profile": "strict"}}, "lets no process be started"), ({"group": "g"}, "it is in a group"),
])
def test_settings_that_allow_no_zygote(cpexd, setting, why):
    other = "\nasync def tool_post_invoke(self, payload, context):\n    return Result()\n"
    daemon = cpexd([anything(**setting), plugin("q", other, hooks=["tool_post_invoke"], isolation=FORKED | setting)])
    if "group" in setting:
        daemon.expect("warning: .*isolation.zygote has no effect on a group")
    daemon.wait_log(why)
    of_each(daemon, "did = 1")
    assert daemon.zygotes() == []


def test_a_thread_that_comes_later(cpexd):
    """One that starts before a fork does: workers that are there stay, further ones are started."""
    at_fork = "import os, threading, time\nn = 0\ndef before():\n    global n\n    n += 1\n    if n == 2: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nos.register_at_fork(after_in_parent=before)\n"
    daemon = cpexd([anything(preamble=PREAMBLE + at_fork)])
    daemon.expect("killed by signal 9")
    forked = daemon.workers("p")
    os.kill(forked[0], signal.SIGKILL)
    daemon.wait_log("not forked: its process has more than one thread")
    daemon.at_start = None  # who is started leads to other descriptors than who is forked
    eventually(lambda: len(daemon.workers("p")) == 2)
    assert forked[1] in daemon.workers("p") and daemon.status("p")["error"] is None
    of_each(daemon, "did = 1")


def test_a_fork_that_fails_for_now(cpexd):
    """The worker is started, and so are further ones for a while; then one is forked again."""
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9")
    (zygote,) = daemon.zygotes()
    limit = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (9, limit[1]))  # it has 5, and gets 4 with each request
    for pause in ("0.1", "0.2", "0.4"):
        kill(daemon, daemon.workers("p")[:1])
        daemon.wait_log(f'info: plugin "p": a worker was not forked and is started: Too many open files; for {pause} s none will be forked')
        time.sleep(float(pause))
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, limit)
    kill(daemon, daemon.workers("p"))
    assert daemon.zygotes() == [zygote] and all(zygote_of(pid) == zygote for pid in daemon.workers("p"))
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (9, limit[1]))
    kill(daemon, daemon.workers("p")[:1])
    eventually(lambda: daemon.log().count("for 0.1 s none will be forked") == 2)  # it begins anew
    assert daemon.status("p")["error"] is None and "its workers are started" not in daemon.log()
    daemon.at_start = None  # who is started leads to other descriptors than who is forked


# ---- Asyncio

def test_asyncio_at_import(cpexd):
    """The loop of the import is gone, the one of the worker is there: it waits, it has tasks, it starts processes."""
    daemon = cpexd([anything(preamble=PREAMBLE + "lock = asyncio.Lock()\n", max_concurrent=4)])
    assert daemon.zygotes()
    with daemon.host() as host:
        calls = [host.begin(HOOK, do("did = asyncio.get_running_loop() is asyncio.get_event_loop()", seconds=0.3)) for _ in range(8)]
        assert all(host.end(each)["metadata"]["did"] for each in calls)


# ---- Ends

def test_a_worker_is_killed(cpexd):
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9")
    (zygote,) = daemon.zygotes()
    one, other = daemon.workers("p")
    guard = stat_of(one)[1]
    with daemon.host() as host:
        call = host.begin(HOOK, do("os.kill(os.getpid(), 9)"))
        with pytest.raises(CallError) as error:
            host.end(call)
        assert error.value.cause == "crash" and "killed by signal 9" in error.value.message
    eventually(lambda: len(daemon.workers("p")) == 2)
    assert daemon.zygotes() == [zygote] and {one, other} & set(daemon.workers("p"))
    eventually(lambda: stat_of(guard) is None or stat_of(one))
    assert all(zygote_of(pid) == zygote for pid in daemon.workers("p"))


@pytest.mark.parametrize("code", ["os._exit(7)", "sys.exit(7)"])
def test_its_status_is_told(cpexd, code):
    daemon = cpexd([anything()])
    daemon.expect("it exited with status 7|SystemExit")
    with pytest.raises(CallError) as error:
        daemon.invoke(HOOK, do(code))
    assert "status 7" in error.value.message or "SystemExit" in error.value.message


def test_a_guard_is_killed(cpexd):
    """By somebody outside, for a plugin cannot: the worker goes with it, and the zygote, since nobody else would find what is left."""
    daemon = cpexd([anything()])
    daemon.expect("its guard has ended|the zygote of its workers has ended")
    workers, zygotes = daemon.workers("p"), daemon.zygotes()
    of_each(daemon, "os.fork() or time.sleep(1000)")
    os.kill(stat_of(workers[0])[1], signal.SIGKILL)
    dead(daemon, workers)
    eventually(lambda: len(daemon.processes_left()) == 7)
    assert daemon.zygotes() != zygotes


def test_a_zygote_is_killed(cpexd):
    daemon = cpexd([anything()])
    daemon.expect("the zygote of its workers has ended, and they with it: it was killed by signal|killed by signal 9|its guard has ended")
    workers, (zygote,) = daemon.workers("p"), daemon.zygotes()
    with daemon.host() as host:
        call = host.begin(HOOK, do("did = 1", seconds=20))
        eventually(lambda: sum(each["calls_active"] for each in daemon.status("p")["workers"]))
        os.kill(zygote, signal.SIGKILL)
        with pytest.raises(CallError) as error:
            host.end(call)
        assert error.value.cause == "crash"
    dead(daemon, workers)
    assert daemon.zygotes() != [zygote]


def test_a_zygote_that_is_stopped(cpexd):
    """What it does not fork in time is given up, and it with that."""
    daemon = cpexd([anything(startup_timeout=2)])
    daemon.expect("killed by signal|did not initialize within 2 s|the zygote of its workers has ended|its guard has ended|SIGKILL")
    workers, (zygote,) = daemon.workers("p"), daemon.zygotes()
    os.kill(zygote, signal.SIGSTOP)
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: daemon.zygotes() not in ([], [zygote]) and len(daemon.workers("p")) == 2, 20)
    assert "not forked" not in daemon.log()


def test_a_guard_that_is_stopped(cpexd):
    """It does not end what it guards: then its zygote's guard does."""
    daemon = cpexd([anything(timeout=0.5)])
    daemon.expect("killed because a call did not end|the zygote of its workers has ended|its guard has ended|exceeded 0.5s|on_error|killed by signal")
    workers = daemon.workers("p")
    guards = [stat_of(pid)[1] for pid in workers]
    for guard in guards:
        os.kill(guard, signal.SIGSTOP)
    with pytest.raises(CallError):
        daemon.invoke(HOOK, do("while True: pass"))
    eventually(lambda: not [pid for pid in workers + guards if stat_of(pid)], 10)
    dead(daemon, workers)


def test_a_hang_and_its_stacks(cpexd):
    daemon = cpexd([anything(timeout=0.5)])
    daemon.expect("on_error: fail|did not end in time")
    zygotes = daemon.zygotes()
    for _ in range(5):  # the error does not wait for a worker that gets no processor to say where it is
        workers = daemon.workers("p")
        with pytest.raises(CallError) as error:
            daemon.invoke(HOOK, do("while True: pass"))
        assert error.value.cause == "timeout"
        eventually(lambda: len(daemon.workers("p")) == 2 and set(daemon.workers("p")) != set(workers))
        assert len(set(daemon.workers("p")) & set(workers)) == 1
        if "stacks" in error.value.details:
            break
    assert "in tool_pre_invoke" in error.value.details["stacks"]
    assert daemon.zygotes() == zygotes


def test_the_daemon_is_killed(cpexd):
    daemon = cpexd([anything()])
    of_each(daemon, "os.fork() or time.sleep(1000)")
    daemon.process.kill()
    daemon.process.wait()
    eventually(lambda: not daemon.processes_left(), 5)
    daemon.start()


# ---- Out of the sandbox

ATTACKS = {
    "its guard": "os.kill(os.getppid(), 0)",
    "its zygote": "os.kill(int(open('/proc/%d/stat' % os.getppid()).read().split()[3]), 0)",
    "the zygote": "os.kill({zygote}, 0)",
    "the zygote's guard": "os.kill({outer}, 0)",
    "a sister": "[os.kill(pid, 0) for pid in {workers} if pid != os.getpid()]",
    "the guard of a sister": "[os.kill(pid, 0) for pid in {guards} if pid != os.getppid()]",
    "the daemon": "os.kill({daemon}, 0)",
    "the memory of a sister": "[open('/proc/%d/mem' % pid) for pid in {workers} if pid != os.getpid()]",
    "the environment of the zygote": "open('/proc/{zygote}/environ')",
}


def test_signals_reach_nobody_else(cpexd):
    daemon = cpexd([anything()])
    daemon.expect("ermission|permitted")
    workers, (zygote,) = daemon.workers("p"), daemon.zygotes()
    know = {"zygote": zygote, "workers": workers, "guards": [stat_of(pid)[1] for pid in workers], "outer": stat_of(zygote)[1], "daemon": daemon.pid}
    for code in ATTACKS.values():
        code = f"""
try:
    {code.format(**know) if "{" in code else code}
    did = "possible"
except PermissionError:
    did = "denied"
"""
        assert set(of_each(daemon, code).values()) == {"denied"}, code
    # All that it may reach, which is but itself.
    assert set(of_each(daemon, "pid = os.fork()\nif pid == 0: time.sleep(1000)\nos.kill(-1, 9); did = os.waitpid(pid, 0)[1]").values()) == {9}
    assert daemon.workers("p") == workers and daemon.zygotes() == [zygote]


# Whatever is cleared, left, ignored and forked away.
OUTLIVE = """
import ctypes, signal
prctl = ctypes.CDLL(None).prctl
prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
for n in range(6):
    if os.fork() == 0:
        os.setsid()
        prctl(36, n % 2, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, 1000)
        if os.fork():
            os._exit(0)
        while n == 0:  # on the run: it has always a new number
            if os.fork():
                os._exit(0)
        time.sleep(600)
        os._exit(0)
time.sleep(0.1)
"""
DEEDS = {"the worker ends": "os._exit(7)", "the worker is killed": "os.kill(os.getpid(), 9)"}


@pytest.mark.parametrize("deed", DEEDS)
def test_nothing_outlives_the_worker(cpexd, deed):
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9|exited with status 7")
    (zygote,) = daemon.zygotes()
    with pytest.raises(CallError) as error:
        daemon.invoke(HOOK, do(OUTLIVE + DEEDS[deed]))
    assert error.value.cause == "crash"
    eventually(lambda: len(daemon.workers("p")) == 2 and len(daemon.processes_left()) == 7)
    assert daemon.zygotes() == [zygote]


# What a plugin can say in the name of its guards: each time that a worker is forked, it has the socket for a moment.
LYING = """
import socket
def lie():
    for fd in range(5, 64):
        try:
            guard = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if guard.type == socket.SOCK_SEQPACKET:
            with open(__file__) as lie:
                for message in LIES:
                    socket.send_fds(guard, [message], [lie.fileno()] * 2)
os.register_at_fork(before=lie)
"""


@pytest.mark.parametrize("lies", [[b"x", b"s", b"s\xff\xff\xff\xff", b"e\xff\xfe\x1b[2J", b"p", b"p" * 1000, b"e\xff"], [b"e\xff\xfe"], [b"s\0\0\0\0"], [b""]])
def test_what_a_lying_guard_says_harms_nobody_else(cpexd, lies):
    other = plugin("other", "async def tool_post_invoke(self, payload, context):\n    return ToolPostInvokeResult(metadata={'other': 1})")
    daemon = cpexd([other, anything(preamble=PREAMBLE + f"LIES = {lies}\n" + LYING)])
    daemon.expect('plugin "p"')
    daemon.wait_log('plugin "p".*(ready after|cannot start)')
    try:
        daemon.invoke(HOOK, do("os._exit(7)"))
    except CallError as error:
        assert error.cause in ("crash", "start_failed")
    assert daemon.invoke("tool_post_invoke", {"name": "x", "result": 1})["metadata"] == {"other": 1}
    assert "plugin.py" not in str(daemon.descriptors()) and "PermissionError" not in daemon.log()
    daemon.at_start = None


def test_a_fork_is_what_it_dies_of(cpexd):
    """The next attempt comes after a pause that grows, as after any that fails."""
    daemon = cpexd([anything(preamble=PREAMBLE + "os.register_at_fork(before=lambda: os._exit(9))\n")])
    daemon.expect("cannot start|status 9")
    daemon.wait_log(r"the next attempt is in 1\.6 s")
    seen = daemon.log().count("the zygote of its workers has ended")
    with pytest.raises(AssertionError):
        eventually(lambda: daemon.log().count("the zygote of its workers has ended") > seen + 1, 1)
    daemon.at_start = None


# In the place of forking it is the worker itself, and does not say which process that is.
FORGING = """
import socket

def forge(fd):
    from _cpexd import Connection, encode
    _, (one, _, _, control), *_ = socket.recv_fds(socket.socket(fileno=os.dup(fd)), 1, 4)
    connection, guard = Connection(one, 1 << 20), socket.socket(fileno=control)
    connection.send([encode([1, 0, None, {}])])
    connection.send([encode([1, connection.recv(True)[1], None, {}])])
    connection.recv(True)
    guard.send(b"e\\xff\\xfe")
    guard.close()
    os._exit(0)

sys.modules["cpexd_worker._worker"].fork = forge
"""


def test_a_zygote_that_answers_for_its_worker(cpexd):
    """Before the worker has said which process it is it is asked nothing; what the guard says until then gets into no call's error."""
    daemon = cpexd([anything(preamble=PREAMBLE + FORGING)])
    daemon.expect('plugin "p"')
    with pytest.raises(CallError) as error:
        daemon.invoke(HOOK, do("did = 1"))
    assert error.value.cause == "start_failed" and "answered what it was not asked" in error.value.message
    daemon.at_start = None


# ---- Control groups

@pytest.fixture
def delegated():
    """A control group that is the daemon's, and a command that runs it there."""
    mounts = [line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "cgroup2"]
    if not mounts or os.getuid() != 0:
        pytest.skip("no control group can be made here")
    group = pathlib.Path(mounts[0]) / f"cpexd-test-{os.getpid()}"
    try:
        group.mkdir()
        os.setxattr(group, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group, ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    for folder in [*(each for each in group.iterdir() if each.is_dir()), group]:
        eventually(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


def groups_of(group):
    """The name of its group, by process."""
    return {int(pid): each.name for each in group.iterdir() if each.is_dir() for pid in (each / "cgroup.procs").read_text().split()}


def test_each_is_in_its_control_group(delegated, cpexd):
    group, wrapper = delegated
    daemon = cpexd([anything(preamble=PREAMBLE + "import subprocess\n")], wrapper=wrapper)
    daemon.expect("killed by signal 9")

    def check():
        groups, workers, (zygote,) = groups_of(group), daemon.workers("p"), daemon.zygotes()
        assert len({groups[pid] for pid in [*workers, zygote, daemon.pid]}) == 4
        assert {groups[stat_of(pid)[1]] for pid in workers} == {groups[zygote]}
        assert all(zygote_of(pid) == zygote for pid in workers)
        for pid, child in of_each(daemon, "did = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid").items():
            assert groups_of(group)[child] == groups[pid]

    check()
    gone = daemon.workers("p")
    kill(daemon, gone)
    check()
    assert len(set(groups_of(group).values())) == 4
    assert "upgraded" in daemon.ctl("upgrade").stdout
    check()



@pytest.fixture
def slow(tmp_path):
    """A build folder with which no worker enters a control group as long as the file `slow` is there."""
    build = tmp_path / ("build-asan" if SANITIZED else "build")
    build.mkdir()
    shutil.copy(BUILD / "cpexd", build)  # no link: it looks for the rest beside itself
    for name in ("cpexctl", "cpexd-render.py", "cpexd-venv", "worker-shim"):
        (build / name).symlink_to(BUILD / name)
    (build / "cpexd-launch").write_text(f'#!/bin/sh\ncase $1 in --enter-cgroup) while [ -e {tmp_path}/slow ]; do sleep 0.1; done;; esac\nexec {BUILD}/cpexd-launch "$@"\n')
    (build / "cpexd-launch").chmod(0o755)
    return build


def starting(daemon):
    return [each["pid"] for each in daemon.status("p")["workers"] if each["state"] == "starting" and each["pid"]]


def test_a_worker_that_dies_while_it_enters_its_control_group(delegated, slow, cpexd, tmp_path):
    """That is an end like any other: the next one is forked."""
    _, wrapper = delegated
    daemon = cpexd([anything()], wrapper=wrapper, build=slow)
    daemon.expect("killed by signal 9|cannot start: it was killed because it closed its connection")
    (tmp_path / "slow").touch()
    workers, (zygote,) = daemon.workers("p"), daemon.zygotes()
    os.kill(workers[0], signal.SIGKILL)
    (worker,) = eventually(lambda: starting(daemon))
    guard = stat_of(worker)[1]
    os.kill(guard, signal.SIGSTOP)  # so that who enters is the first who notices
    os.kill(worker, signal.SIGKILL)
    (tmp_path / "slow").unlink()
    eventually(lambda: not [each for each in children_of(daemon.pid) if b"--enter-cgroup" in pathlib.Path(f"/proc/{each}/cmdline").read_bytes()])
    os.kill(guard, signal.SIGCONT)
    eventually(lambda: len(daemon.workers("p")) == 2)
    assert all(zygote_of(pid) == zygote for pid in daemon.workers("p"))
    assert "not forked" not in daemon.log()


def test_an_upgrade_while_a_control_group_is_entered(delegated, slow, cpexd, tmp_path):
    """It is entered all the same."""
    group, wrapper = delegated
    daemon = cpexd([anything()], wrapper=wrapper, build=slow)
    daemon.expect("killed by signal 9")
    (tmp_path / "slow").touch()
    workers, (zygote,) = daemon.workers("p"), daemon.zygotes()
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: starting(daemon))
    assert "upgraded" in daemon.ctl("upgrade").stdout
    assert daemon.workers("p") == workers[1:]
    (tmp_path / "slow").unlink()
    eventually(lambda: len(daemon.workers("p")) == 2)
    assert "not forked" not in daemon.log() and len({groups_of(group)[pid] for pid in [*daemon.workers("p"), zygote]}) == 3


def test_a_control_group_that_has_been_entered(tmp_path):
    """As by the process that an upgrade has cut short: that is as good. One that is in neither group is left alone, one that has ended is told
    apart from that, whether somebody has waited for it or not."""
    for name, pids in {"from": "", "to": f"{os.getpid()}\n", "other": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text(pids)
    enter = [BUILD / "cpexd-launch", "--enter-cgroup", str(os.getpid()), tmp_path / "from"]
    assert subprocess.run([*enter, tmp_path / "to"]).returncode == 0
    assert subprocess.run([*enter, tmp_path / "other"]).returncode == errno.EPERM
    assert subprocess.run([*enter, tmp_path / "nowhere"]).returncode == errno.ENOENT
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    enter[2] = str(ended.pid)
    for _ in range(2):
        assert subprocess.run([*enter, tmp_path / "to"]).returncode == errno.ESRCH
        ended.wait()


# ---- Reload and upgrade

def test_a_reload_with_other_code(cpexd):
    daemon = cpexd([anything(preamble=PREAMBLE + "VALUE = 1\n")])
    zygotes, workers = daemon.zygotes(), daemon.workers("p")
    assert daemon.admin("reload")["changed"]["kept"] == ["p"] and daemon.zygotes() == zygotes
    daemon.write([anything(preamble=PREAMBLE + "VALUE = 2\n")])
    assert daemon.admin("reload")["changed"]["restarted"] == ["p"]
    assert set(of_each(daemon, "did = VALUE").values()) == {2}
    eventually(lambda: not [pid for pid in zygotes + workers if stat_of(pid)])


def test_an_upgrade(cpexd):
    """Calls in forked workers go on, workers are killed and forked as before."""
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9|status 7")
    workers, zygotes = daemon.workers("p"), daemon.zygotes()
    with daemon.host() as host:
        call = host.begin(HOOK, do("did = 5", seconds=1))
        eventually(lambda: sum(each["calls_active"] for each in daemon.status("p")["workers"]))
        assert "1 call carried" in daemon.ctl("upgrade").stdout
        assert host.end(call)["metadata"]["did"] == 5
        assert (daemon.workers("p"), daemon.zygotes()) == (workers, zygotes)
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: len(daemon.workers("p")) == 2 and workers[0] not in daemon.workers("p"))
        assert all(zygote_of(pid) == zygotes[0] for pid in daemon.workers("p"))
        with pytest.raises(CallError) as error:
            host.invoke(HOOK, do("os._exit(7)"))
        assert "status 7" in error.value.message


WAITING = """
def wait(*args):
    while not os.path.exists(GO):
        time.sleep(0.01)
"""
WHERE = {"loads its class": "wait()", "gets ready to fork": "import gc\nreal = gc.freeze\ngc.freeze = lambda: wait() or real()"}


def upgrade(daemon):
    assert "upgraded" in daemon.ctl("upgrade").stdout


def of_one_zygote(daemon):
    """Waits for two workers. Returns their zygote."""
    eventually(lambda: len(daemon.workers("p")) == 2)
    (zygote,) = daemon.zygotes()
    assert all(zygote_of(pid) == zygote for pid in daemon.workers("p"))
    of_each(daemon, "did = 1")
    return zygote


@pytest.mark.parametrize("where", WHERE)
def test_an_upgrade_while_a_zygote_starts(cpexd, tmp_path, where):
    preamble = PREAMBLE + f"GO = {str(tmp_path / 'go')!r}\n" + WAITING + WHERE[where] + "\n"
    (tmp_path / "go").touch()
    daemon = cpexd([anything(preamble=preamble)])
    daemon.expect("the zygote of its workers has ended|closed its connection|killed by signal|its guard has ended")
    (first,) = daemon.zygotes()
    (tmp_path / "go").unlink()
    os.kill(first, signal.SIGKILL)
    (zygote,) = eventually(lambda: [pid for pid in daemon.zygotes() if pid != first and stat_of(pid)[1] != daemon.pid])
    time.sleep(0.3)  # until it waits; should it not yet, all is the same
    upgrade(daemon)
    assert daemon.workers("p") == [] and daemon.zygotes() == [zygote]
    (tmp_path / "go").touch()
    assert of_one_zygote(daemon) == zygote


def test_an_upgrade_while_a_zygote_is_asked_to_fork(cpexd):
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9")
    (zygote,), workers = daemon.zygotes(), daemon.workers("p")
    os.kill(zygote, signal.SIGSTOP)
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: [each for each in daemon.status("p")["workers"] if each["state"] == "starting"])
    upgrade(daemon)
    os.kill(zygote, signal.SIGCONT)
    assert of_one_zygote(daemon) == zygote and workers[1] in daemon.workers("p")


def test_an_upgrade_while_a_zygote_ends(cpexd):
    """Its guard is the last to go."""
    daemon = cpexd([anything()])
    daemon.expect("the zygote of its workers has ended|closed its connection|killed by signal|its guard has ended")
    (zygote,), workers = daemon.zygotes(), daemon.workers("p")
    guard = stat_of(zygote)[1]
    os.kill(guard, signal.SIGSTOP)
    os.kill(zygote, signal.SIGKILL)
    upgrade(daemon)
    with contextlib.suppress(ProcessLookupError):
        os.kill(guard, signal.SIGCONT)
    dead(daemon, workers)
    assert of_one_zygote(daemon) != zygote


def test_an_upgrade_while_none_are_forked(cpexd):
    """What has been refused is not asked for again; the pauses grow on."""
    daemon = cpexd([anything()])
    daemon.expect("killed by signal 9")
    (zygote,) = daemon.zygotes()
    limit = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (9, limit[1]))
    for pause in ("0.1", "0.2", "0.4"):
        kill(daemon, daemon.workers("p")[:1])
        daemon.wait_log(f"Too many open files; for {pause} s none will be forked")
        upgrade(daemon)
        time.sleep(float(pause))
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, limit)
    kill(daemon, daemon.workers("p"))
    assert of_one_zygote(daemon) == zygote
    upgrade(daemon)
    daemon.at_start = None


def test_an_upgrade_after_a_refusal(cpexd):
    daemon = cpexd([anything(preamble=PREAMBLE + "f = open(__file__)\n")])
    daemon.expect("killed by signal 9")
    upgrade(daemon)
    kill(daemon, daemon.workers("p"))
    assert daemon.zygotes() == [] and daemon.log().count("its workers are started and not forked") == 1


# The sockets to the guards go to somebody outside, so that the end of a worker is not told before that one lets go of them.
HOLDING = """
import socket
def pass_on():
    for fd in range(5, 64):
        try:
            guard = socket.socket(fileno=os.dup(fd))
            if guard.type == socket.SOCK_SEQPACKET:
                with socket.socket(socket.AF_UNIX) as holder:
                    holder.connect(HOLDER)
                    socket.send_fds(holder, [b"x"], [guard.fileno()])
        except OSError:
            pass
os.register_at_fork(before=pass_on)
"""


def test_an_upgrade_between_the_ends_of_a_zygote_and_its_workers(cpexd, tmp_path):
    """They are not the next zygote's: that is not killed because they do not end."""
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        daemon = cpexd([anything(preamble=PREAMBLE + f"HOLDER = {str(tmp_path / 'holder')!r}\n" + HOLDING)])
        daemon.expect("closed its connection|the zygote of its workers has ended|did not say how|killed by signal")
        (tmp_path / "holder").unlink()
        (zygote,) = daemon.zygotes()
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: len(daemon.workers("p")) == 1)  # and two that are about to end
        zygotes, workers = daemon.zygotes(), daemon.workers("p")
        assert zygotes not in ([], [zygote]) and len(daemon.status("p")["workers"]) == 3
        assert "upgraded" in daemon.ctl("upgrade").stdout
        with pytest.raises(AssertionError):
            eventually(lambda: daemon.zygotes() != zygotes, 3)
        assert "upgraded" in daemon.ctl("upgrade").stdout
    eventually(lambda: len(daemon.workers("p")) == 2)
    assert daemon.zygotes() == zygotes and workers[0] in daemon.workers("p")
    assert all(zygote_of(pid) == zygotes[0] for pid in daemon.workers("p"))


def test_a_worker_whose_number_is_somebody_elses(cpexd, tmp_path):
    """It has ended before cpexd hears of it, and another process has its number: nobody counts the memory of that."""
    if not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
        pytest.skip("numbers of processes cannot be chosen here")
    daemon = cpexd([anything(preamble=PREAMBLE + f"HOLDER = {str(tmp_path / 'holder')!r}\n" + HOLDING, workers={"min": 1, "max": 1})])
    daemon.expect("killed by signal|closed its connection|did not say how|zygote of its workers has ended")
    (zygote,), (worker,) = daemon.zygotes(), daemon.workers("p")
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        os.kill(zygote, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: [each for each in daemon.status("p")["workers"] if each["state"] == "starting"])
        os.kill(daemon.pid, signal.SIGSTOP)
        os.kill(zygote, signal.SIGCONT)
        (guard,) = eventually(lambda: [each for each in children_of(zygote) if children_of(each)])
        (late,) = children_of(guard)
        eventually(lambda: os.readlink(f"/proc/{late}/fd/1") != os.readlink(f"/proc/{zygote}/fd/1"))  # it has said who it is
        os.kill(late, signal.SIGKILL)
        eventually(lambda: stat_of(guard) is None)
        for _ in range(100):
            pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(late - 1))
            other = subprocess.Popen(["sleep", "1000"])
            if other.pid == late:
                break
            other.kill()
            other.wait()
        os.kill(daemon.pid, signal.SIGCONT)
        try:
            known = [each for each in eventually(lambda: daemon.status("p"))["workers"] if each["pid"] == other.pid]
            assert other.pid == late and [each["memory_bytes"] for each in known] == [0]
        finally:
            other.kill()
            other.wait()
    eventually(lambda: len(daemon.workers("p")) == 1)


def test_a_class_that_cannot_be_loaded(cpexd):
    daemon = cpexd([anything(preamble=PREAMBLE + "import nowhere_to_be_found\n")])
    daemon.expect("nowhere_to_be_found")
    with pytest.raises(CallError) as error:
        daemon.invoke(HOOK, do("did = 1"))
    assert error.value.cause == "start_failed" and "nowhere_to_be_found" in error.value.message


def test_workers_come_and_go(cpexd):
    """As calls want them, and as recycle says."""
    daemon = cpexd([anything(workers={"min": 1, "max": 3, "idle": 0.5}, recycle={"calls": 5})])
    zygotes = daemon.zygotes()
    with daemon.host() as host:
        calls = [host.begin(HOOK, do("did = 1", seconds=0.2)) for _ in range(12)]
        assert len({host.end(each)["metadata"]["pid"] for each in calls}) >= 3
    eventually(lambda: len(daemon.workers("p")) == 1)
    assert daemon.zygotes() == zygotes


# ---- What fails on purpose

@pytest.mark.faults
@pytest.mark.skipif(not has_faults(BUILD), reason="this cpexd cannot fail on purpose")
class TestFaults:
    def test_a_zygote_that_takes_nothing(self, cpexd):
        """Then the worker is started, and the next one is forked again."""
        daemon = cpexd([anything()])
        daemon.expect("killed by signal 9")
        (zygote,) = daemon.zygotes()
        daemon.faults("write=1+")
        kill(daemon, daemon.workers("p")[:1])
        daemon.faults("")
        kill(daemon, daemon.workers("p"))
        assert daemon.zygotes() == [zygote] and all(zygote_of(pid) == zygote for pid in daemon.workers("p"))

    def test_a_control_group_that_cannot_be_entered(self, delegated, cpexd):
        """The worker is not used, and another is started; the next is forked."""
        group, wrapper = delegated
        daemon = cpexd([anything()], wrapper=wrapper)
        daemon.expect("killed by signal 9")
        daemon.faults("spawn=1")
        kill(daemon, daemon.workers("p")[:1])
        daemon.wait_log("not forked and is started: it does not get into its control group: Resource temporarily unavailable")
        assert len(set(groups_of(group).values())) == 4
        time.sleep(0.1)
        kill(daemon, daemon.workers("p"))
        assert all(zygote_of(pid) == daemon.zygotes()[0] for pid in daemon.workers("p"))

    def test_no_memory(self, cpexd):
        """Whichever allocation fails: there are workers in the end, and what they do is told as ever."""
        daemon = cpexd([anything()])
        daemon.expect("")
        for n in range(1, 60):
            pids = daemon.workers("p")
            seen = len(daemon.log())
            daemon.faults(f"alloc={n}")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: len(re.findall(r"ready after|cannot start", daemon.log()[seen:])) >= 1)
            daemon.faults("")
            eventually(lambda: len(daemon.workers("p")) == 2)
        of_each(daemon, "did = 1")
