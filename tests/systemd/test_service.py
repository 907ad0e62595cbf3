# SPDX-License-Identifier: Apache-2.0
"""cpexd as a service: what systemd, an administrator and a host see of it."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest
import wheels

from conftest import run
from daemon import CallError, eventually, plugin, stat_of

HOOK = "tool_pre_invoke"
CALL = {"name": "ls", "args": {}}
UNITS = [f"cpexd{at}.service" for at in ("", "@x")] + [f"cpexd{kind}{at}.socket" for kind in ("", "-control") for at in ("", "@x")]


def says(text, name="says", **entry):
    return plugin(name, f"""
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"said": {text!r}}})
    """, **entry)


def said(service, **options):
    return service.invoke(HOOK, CALL, **options)["metadata"]["said"]


def slow_to_start(seconds, name="slow"):
    return plugin(name, f"""
        async def initialize(self):
            await asyncio.sleep({seconds})

        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"said": "slow"}})
    """)


# ---- The units ----


def test_the_units_are_right(installed):
    done = run("systemd-analyze", "verify", "--man=no", *UNITS)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "cpexd" in line] == []


@pytest.mark.parametrize("unit", ["cpexd.service", "cpexd@x.service"])
def test_exposure(installed, unit):
    done = run("systemd-analyze", "security", "--no-pager", "--threshold=20", unit)
    assert float(done.stdout.splitlines()[-1].split(": ")[1].split()[0]) <= 2.0


def test_a_service_of_its_own_user(service):
    service.start([says("x")])
    assert said(service) == "x"
    assert service.show("StatusText") == "serving 1 plugin, generation 1"
    for pid in service.pids():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {pathlib.Path(f"/proc/{pid}").stat().st_uid} == {pathlib.Path("/var/lib/cpexd").stat().st_uid} != {0}
        assert int(values["CapEff"], 16) == int(values["CapBnd"], 16) == 0
        assert values["NoNewPrivs"] == "1" and values["Seccomp"] == "2"
    assert len(service.pids()) == 3, "cpexd, the guard, and the worker"


# ---- Who may what ----


def test_who_may_call_and_who_may_administer(service):
    service.start([says("x")])
    call = ["invoke", HOOK, "--payload", json.dumps(CALL), "--json"]
    member, stranger = {"user": "nobody", "groups": ["cpexd"]}, {"user": "nobody"}
    done = service.ctl(*call, **member)
    assert done.returncode == 0 and json.loads(done.stdout)["metadata"] == {"said": "x"}
    done = service.ctl(*call, **stranger)
    assert done.returncode == 2 and f"you may not use {service.socket}" in done.stdout
    done = service.ctl("reload", **member)
    assert done.returncode == 2 and f"you may not use {service.control}" in done.stderr
    assert service.ctl("reload", user="cpexd").returncode == 0
    done = run("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=cpexd", "env", "XDG_RUNTIME_DIR=/run/user/7", "cpexctl", "plugins")
    assert "says" in done.stdout, "found without being told where"
    assert service.ctl("reload").returncode == 0
    assert service.admin("status")["generation"] == 3


def test_decisions_and_lines_for_who_looks(service):
    path = pathlib.Path("/var/log/cpexd/decisions.jsonl")
    service.start([says("x")], settings={"decisions": {"path": str(path)}})
    assert said(service) == "x"
    line = json.loads(eventually(lambda: path.exists() and path.read_text()))
    assert line["outcome"] == "allowed" and line["plugins"][0]["name"] == "says"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o640, 0o750)
    assert path.stat().st_uid == path.parent.stat().st_uid == pathlib.Path("/var/lib/cpexd").stat().st_uid
    assert "ready after" in service.ctl("logs", "says").stdout, "beside the journal"


# ---- Reload ----


def test_reload(service):
    service.start([says("old")])
    pid = service.pid
    service.write([says("new")])
    service.systemctl("reload")
    assert said(service) == "new"
    assert service.show("StatusText") == "serving 1 plugin, generation 2"
    (service.config / "plugins.yaml").write_text("plugins: 7\n")
    assert service.systemctl("reload", check=False).returncode != 0
    assert said(service) == "new" and service.show("ActiveState") == "active" and service.pid == pid
    assert any("plugins.yaml:1:10" in each for each in service.messages())


def test_a_signal_reloads_as_well(service):
    service.start([says("old")])
    service.write([slow_to_start(1.5)])
    run("systemctl", "kill", "--kill-who=main", "-s", "HUP", service.unit)
    eventually(lambda: service.show("ActiveState") == "reloading")
    assert said(service) == "old"
    eventually(lambda: service.show("StatusText") == "reloading: starting workers of slow (1 of 1)")
    eventually(lambda: service.show("ActiveState") == "active")
    assert said(service) == "slow"
    (service.config / "plugins.yaml").write_text("plugins: 7\n")
    run("systemctl", "kill", "--kill-who=main", "-s", "HUP", service.unit)
    service.wait_message("generation 2 keeps serving")
    eventually(lambda: service.show("ActiveState") == "active")
    assert said(service) == "slow"


# ---- Upgrade ----


def test_upgrade(service):
    """A program of another inode is executed in the same process, which stays the service, and keeps telling the watchdog that it lives."""
    service.set(WatchdogSec="1s")
    service.start([says("x")])
    pids, pid = service.pids(), service.pid
    with service.host() as host:
        for _ in range(2):
            program = shutil.which("cpexd")
            shutil.copy2(program, program + ".new")
            os.rename(program + ".new", program)
            done = service.ctl("upgrade")
            assert done.returncode == 0 and "1 worker, 1 host, 0 calls carried" in done.stdout, done
            assert host.invoke(HOOK, CALL)["metadata"]["said"] == "x"
        run("systemctl", "kill", "--kill-who=main", "-s", "USR2", service.unit)
        eventually(lambda: sum("upgraded: " in each for each in service.messages()) == 3)
        time.sleep(1.5)
        assert host.invoke(HOOK, CALL)["metadata"]["said"] == "x"
    assert service.pid == pid and service.pids() == pids
    assert service.show("ActiveState") == "active" and service.show("NRestarts") == "0"
    assert service.show("StatusText") == "serving 1 plugin, generation 1"
    assert service.journal("GENERATION=1")[-1]["MESSAGE"].startswith("upgraded: ")
    service.systemctl("reload")
    assert service.show("StatusText") == "serving 1 plugin, generation 2" and said(service) == "x"


# ---- What takes its time ----


def write_late(service, does, settings=None):
    """A plugin with a package whose build `does` something before it is done."""
    service.write([says("x"), plugin("late", """
        async def tool_pre_invoke(self, payload, context):
            import late_package
            return Result(metadata={"late": late_package.x})
    """, requirements="./package\n")], settings)
    package = service.config / "plugins/late_plugin/package"
    package.mkdir()
    (package / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    shutil.copy(wheels.__file__, package)
    (package / "backend.py").write_text(f"""\
import pathlib, subprocess, time, wheels
def build_wheel(folder, settings=None, metadata=None):
    {does}
    return wheels.wheel(pathlib.Path(folder), "late_package", "1.0", {{"late_package.py": "x = 5"}}).name
""")


def test_venvs_that_take_longer_to_build_than_a_start_may(service):
    """The package's build waits; a unit that may start for a second and a half says meanwhile what it is doing."""
    service.set(TimeoutStartSec="1500ms")
    write_late(service, "time.sleep(3)")
    run("systemctl", "start", "--no-block", service.unit)
    eventually(lambda: service.show("StatusText") == "building venv of late (2 of 2)")
    assert service.show("ActiveState") == "activating"
    eventually(lambda: service.show("ActiveState") == "active", 30)
    assert service.invoke(HOOK, CALL)["metadata"] == {"said": "x", "late": 5}


def test_a_stop_that_takes_longer_than_a_stop_may(service):
    service.set(TimeoutStopSec="1s")
    service.start([plugin("slow", """
        async def tool_pre_invoke(self, payload, context):
            await asyncio.sleep(2.5)
            return Result(metadata={"done": True})
    """)])
    with service.host() as host:
        waiting = host.begin(HOOK, CALL)
        eventually(lambda: service.admin("status")["calls"]["active"] == 1)
        run("systemctl", "stop", "--no-block", service.unit)
        assert host.end(waiting)["metadata"] == {"done": True}
    eventually(lambda: service.show("ActiveState") == "inactive")
    assert service.show("Result") == "success"


# ---- It comes back ----


def test_a_crash_costs_hosts_a_reconnect(service):
    service.start([says("x")])
    old, workers = service.pid, service.pids()
    with service.host() as before:
        assert before.invoke(HOOK, CALL)["metadata"]["said"] == "x"
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises((EOFError, ConnectionError)):
            before.invoke(HOOK, CALL)
    assert said(service) == "x", "one that connects in the meantime waits, and is not refused"
    assert time.monotonic() - began < 5
    assert service.pid != old and service.show("NRestarts") == "1"
    eventually(lambda: not any(stat_of(pid) for pid in workers))


def test_a_daemon_that_hangs_is_replaced(service):
    service.set(WatchdogSec="1s")
    service.start([says("x")])
    old = service.pid
    time.sleep(2.5)
    assert service.pid == old, "it says in time that it lives"
    os.kill(old, signal.SIGSTOP)
    assert said(service) == "x"
    assert service.pid != old and service.show("NRestarts") == "1"


def test_a_mistake_in_the_configuration_is_not_tried_again(service):
    service.write([])
    (service.config / "plugins.yaml").write_text("plugins: 7\n")
    assert service.systemctl("start", check=False).returncode != 0
    assert service.show("ExecMainStatus") == "1" and service.show("ActiveState") == "failed"
    time.sleep(1)
    assert service.show("NRestarts") == "0"


def test_a_plugin_that_cannot_start_is(service):
    flag = pathlib.Path("/var/lib/cpexd/flag")
    service.write([plugin("late", f"""
        async def initialize(self):
            open({str(flag)!r})

        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"said": "x"}})
    """, isolation={"sandbox": {"read": ["/var/lib/cpexd"]}})], plugin_settings={"fail_on_plugin_error": True})
    run("systemctl", "start", "--no-block", service.unit)
    eventually(lambda: service.show("ExecMainStatus") == "5")
    flag.touch()
    assert said(service) == "x"
    flag.unlink()


# ---- Sockets ----


def test_a_call_starts_the_service(service):
    service.write([says("x")])
    run("systemctl", "start", *service.sockets)
    assert service.show("ActiveState") == "inactive"
    assert said(service) == "x"
    assert service.admin("ping") == {}


def test_without_the_sockets_of_systemd(service):
    """The daemon makes its own, when somebody masks the units."""
    run("systemctl", "mask", *service.sockets)
    try:
        service.start([says("x")])
        assert said(service) == "x" and service.admin("ping") == {}
        assert service.socket.stat().st_mode & 0o777 == 0o660 and service.control.stat().st_mode & 0o777 == 0o600
    finally:
        service.systemctl("stop")
        run("systemctl", "unmask", *service.sockets)
    assert not service.socket.exists() and not service.control.exists()


def test_a_stop_leaves_nothing(service):
    service.start([says("x", f"p{n}") for n in range(3)])
    assert len(service.pids()) == 7, "cpexd, and three workers with their guards"
    group = pathlib.Path(f"/sys/fs/cgroup{service.show('ControlGroup')}")
    service.systemctl("stop")
    assert not group.exists()
    assert service.socket.exists(), "hosts can start it again"
    run("systemctl", "stop", *service.sockets)
    assert list(service.runtime.iterdir()) == []


def test_several_instances(instance):
    one, two = instance("one"), instance("two")
    one.start([says("1")])
    two.start([says("2")])
    assert (said(one), said(two)) == ("1", "2")
    two.write([says("3")])
    two.systemctl("reload")
    one.systemctl("stop")
    assert said(two) == "3"
    assert said(one) == "1", "its socket starts it again"
    assert len(list(pathlib.Path("/var/cache/cpexd/venvs").glob("*/pyvenv.cfg"))) >= 1


# ---- The journal ----


def test_fields(service):
    service.start([plugin("talks", """
        async def tool_pre_invoke(self, payload, context):
            print("one line\\nPLUGIN=forged\\n\\x1b[31mtwo \\xc3\\xa9 \\udcff".encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            raise ValueError("no")
    """, on_error="ignore")])
    service.invoke(HOOK, CALL, {"request_id": "r-1\nPLUGIN=forged"})
    worker = service.admin("status")["plugins"][0]["workers"][0]["pid"]
    printed = service.wait_message("one line")
    assert printed["PLUGIN"] == "talks" and printed["WORKER_PID"] == str(worker) and printed["PRIORITY"] == "6"
    assert printed["GENERATION"] == "1" and printed["SYSLOG_IDENTIFIER"] == "cpexd"
    assert printed["MESSAGE"] == f'plugin "talks" worker {worker}: one line'
    failed = service.wait_message("on_error: ignore")
    assert failed["REQUEST_ID"] == "r-1\nPLUGIN=forged" and failed["PLUGIN"] == "talks" and failed["PRIORITY"] == "4"
    service.systemctl("reload")
    assert service.wait_message("generation 2 serves")["GENERATION"] == "2"
    assert {entry.get("PLUGIN") for entry in service.journal()} == {None, "talks"}
    assert all(isinstance(entry["MESSAGE"], str) for entry in service.journal()), "one that journalctl shows"
    assert len(service.journal(f"WORKER_PID={worker}")) >= 4


def test_a_burst_loses_no_line(service):
    """The journal's socket has room for few entries; the rest waits in the daemon."""
    service.start([plugin("talks", """
        async def tool_pre_invoke(self, payload, context):
            print("\\n".join(f"line {n}" for n in range(150)), flush=True)
            return Result()
    """)])
    service.invoke(HOOK, CALL)
    eventually(lambda: [entry["MESSAGE"].split(": ")[1] for entry in service.journal("PLUGIN=talks") if ": line " in entry["MESSAGE"]]
               == [f"line {n}" for n in range(150)])


def test_the_journal_may_go(service):
    service.start([says("x")])
    run("systemctl", "restart", "systemd-journald")
    service.systemctl("reload")
    assert said(service) == "x"
    assert service.wait_message("generation 2 serves")["GENERATION"] == "2"


# ---- What the daemon, and what plugins can and cannot do in the unit ----


def test_the_daemon_sees_and_ends_what_its_workers_do(service):
    """Under ProtectProc=, and though workers hide what they have in memory."""
    service.start([plugin("starts", """
        async def tool_pre_invoke(self, payload, context):
            import subprocess
            return Result(metadata={"pid": subprocess.Popen(["sleep", "1000"], start_new_session=True).pid})
    """)])
    child = service.invoke(HOOK, CALL)["metadata"]["pid"]
    worker = service.admin("status")["plugins"][0]["workers"][0]
    assert worker["memory_bytes"] > 1 << 20
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: not stat_of(child))


def test_workers_that_are_forked(service):
    """The hardening of the unit lets them be, each in its control group, and cpexd sees their memory."""
    service.start([plugin("p", """
        async def tool_pre_invoke(self, payload, context):
            import subprocess
            return Result(metadata={"pid": subprocess.Popen(["sleep", "1000"], start_new_session=True).pid})
    """, isolation={"zygote": True, "workers": {"min": 2, "max": 2}})])
    child = service.invoke(HOOK, CALL)["metadata"]["pid"]
    status = service.admin("status")["plugins"][0]
    workers, zygote = [each["pid"] for each in status["workers"]], status["zygote"]["pid"]
    assert all(each["memory_bytes"] > 1 << 20 for each in [*status["workers"], status["zygote"]])
    assert all(stat_of(stat_of(pid)[1])[1] == zygote for pid in workers)
    groups = {pid: name for name, pids in groups_of(service).items() for pid in pids}
    assert len({groups[pid] for pid in [*workers, zygote, service.pid]}) == 4 and groups[child] in {groups[pid] for pid in workers}
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not stat_of(child) and len(groups_of(service)) == 4)
    assert service.admin("status")["plugins"][0]["zygote"]["pid"] == zygote


# ---- Control groups ----


def groups_of(service):
    """What processes are in which."""
    return {each.name: [int(pid) for pid in (each / "cgroup.procs").read_text().split()] for each in service.cgroup.iterdir() if each.is_dir()}


def test_each_worker_has_a_control_group(service):
    service.start([plugin("two.words", """
        async def tool_pre_invoke(self, payload, context):
            import subprocess
            try:
                os.listdir("/sys/fs/cgroup")
            except OSError as error:
                return Result(metadata={"errno": error.errno, "pid": subprocess.Popen(["sleep", "1000"], start_new_session=True).pid})
    """)])
    answer = service.invoke(HOOK, CALL)["metadata"]
    assert answer["errno"] == 13
    worker = service.admin("status")["plugins"][0]["workers"][0]["pid"]
    groups = groups_of(service)
    (name,) = set(groups) - {"supervisor"}
    assert name.startswith("two_words.") and sorted(groups[name]) == sorted([worker, answer["pid"]])
    assert sorted(groups["supervisor"]) == sorted([service.pid, stat_of(worker)[1]])
    oom = [int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (service.pid, worker)]
    assert oom in ([-500, 300], [0, 300]), "there are kernels that let nobody go below 0"
    os.kill(worker, signal.SIGKILL)
    service.wait_message("it will be replaced")
    eventually(lambda: len(left := groups_of(service)) == 2 and name not in left)
    assert not stat_of(answer["pid"])


def test_a_build_has_a_control_group(service):
    write_late(service, "subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3, stderr=-3); time.sleep(1)", {"venv": {"memory": "300M"}})
    run("systemctl", "start", "--no-block", service.unit)

    def building():
        return next((each for each in service.cgroup.glob("late.*") if len((each / "cgroup.procs").read_text().split()) >= 3), None)

    group = eventually(building)
    if (group / "memory.max").exists():
        assert (group / "memory.max").read_text().strip() == str(300 << 20)
    eventually(lambda: service.show("ActiveState") == "active", 30)
    assert not group.exists() and len(service.pids()) == 5, "cpexd, and two workers with their guards"
    assert service.invoke(HOOK, CALL)["metadata"] == {"said": "x", "late": 5}


def test_a_build_may_set_modes(service):
    """The guard does it, which the unit keeps from some ways to do that."""
    write_late(service, "mine = pathlib.Path(folder, 'mine'); mine.touch(); mine.chmod(0o711); assert mine.stat().st_mode & 0o777 == 0o711; mine.unlink()")
    service.start()
    assert service.invoke(HOOK, CALL)["metadata"] == {"said": "x", "late": 5}


def test_a_control_group_limits_a_build(service):
    if "memory" not in (pathlib.Path("/sys/fs/cgroup") / "cgroup.controllers").read_text().split():
        pytest.skip("version 2 of control groups has no memory here")
    write_late(service, "bytearray(500 << 20)", {"venv": {"memory": "100M"}})
    service.start()
    service.wait_message("what was run to build the venv used more than venv.memory, 100 MiB")


def test_a_control_group_that_could_not_be_removed_is_later(service):
    """The kernel ends a worker without its guard a moment after that, and then the daemon what the worker has started."""
    service.start([says("x")])

    def replaced(victim):
        old = service.admin("status")["plugins"][0]["workers"][0]["pid"]
        os.kill(victim(old), signal.SIGKILL)
        eventually(lambda: any(each["state"] == "ready" and each["pid"] != old for each in service.admin("status")["plugins"][0]["workers"]))

    for _ in range(5):
        replaced(lambda worker: stat_of(worker)[1])
    replaced(lambda worker: worker)
    assert len(groups_of(service)) == 2


def test_control_groups_limit(service):
    have = (pathlib.Path("/sys/fs/cgroup") / "cgroup.controllers").read_text().split()
    if missing := {"memory", "pids", "cpu"} - set(have):
        pytest.skip(f"version 2 of control groups has no {', '.join(sorted(missing))} here")
    service.start([plugin("hungry", """
        async def tool_pre_invoke(self, payload, context):
            import subprocess
            if payload.name == "fork":
                for _ in range(20):
                    subprocess.Popen(["sleep", "1000"])
            elif payload.name == "eat":
                subprocess.run([sys.executable, "-c", "x = bytearray(500 << 20)"])
            return Result()
    """, isolation={"memory": "100M", "cpu": 50, "sandbox": {"tasks": 10}})])
    (group,) = [service.cgroup / name for name in groups_of(service) if name != "supervisor"]
    limits = [(group / name).read_text().strip() for name in ("memory.max", "memory.oom.group", "pids.max", "cpu.max")]
    assert limits == [str(100 << 20), "1", "10", "50000 100000"]
    for what, told in (("fork", "BlockingIOError"), ("eat", "it used more than isolation.memory, 100 MiB")):
        try:
            service.invoke(HOOK, {"name": what, "args": {}})
        except CallError as error:
            assert told in str(error)
        else:
            pytest.fail(f"{what} went well")


def test_what_the_hardening_allows_and_refuses(service):
    service.start([plugin("probe", '''
        async def tool_pre_invoke(self, payload, context):
            import ctypes, mmap, multiprocessing, resource, socket, subprocess, tempfile, threading
            libc = ctypes.CDLL(None, use_errno=True)

            def errno_of(function):
                try:
                    function()
                except OSError as error:
                    return error.errno
                return 0

            def call(*args):
                return 0 if libc.syscall(*args) >= 0 else ctypes.get_errno()

            def in_child(function):
                pid = os.fork()
                if pid == 0:
                    os._exit(function())
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

            compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
            numbers = (ctypes.c_int * 3)(3, 1, 2)
            libc.qsort(numbers, 3, 4, compare)
            thread = threading.Thread(target=lambda: None)
            thread.start()
            found = {
                "callbacks": list(numbers),
                "compiles at run time": errno_of(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
                "writes to /tmp": errno_of(lambda: tempfile.TemporaryFile()),
                "writes to its home": errno_of(lambda: open(os.path.expanduser("~/probe"), "w")),
                "writes to /etc": errno_of(lambda: open("/etc/cpexd/probe", "w")),
                "reads /root": errno_of(lambda: os.listdir("/root")),
                "runs programs": subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True, text=True).stdout,
                "internet sockets": errno_of(lambda: socket.create_server(("127.0.0.1", 0))),
                "raw sockets": errno_of(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
                "memory": os.path.exists("/proc/meminfo"),
                "semaphores": multiprocessing.Semaphore().acquire(timeout=1),
                "limits": errno_of(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))),
                "processor": errno_of(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
                "mount": call(165, b"none", b"/tmp", b"tmpfs", 0, None),
                "landlock": call(444, None, ctypes.c_size_t(0), 1),
                "seccomp": call(317, 2, 0, ctypes.byref(ctypes.c_uint(0x7fff0000))),
                "namespaces of users": in_child(lambda: call(272, 0x10000000)),
                "modules": call(313, 0, b"", 0),
            }
            return Result(metadata=found)
    ''', isolation={"sandbox": {"profile": "off"}})])
    if os.uname().machine != "x86_64":
        pytest.skip("the probe knows the system calls of x86_64 only")
    found = service.invoke(HOOK, CALL)["metadata"]
    landlock = found.pop("landlock")
    assert landlock in (0, 38, 95), "allowed, if the kernel has it"
    assert found == {
        "callbacks": [1, 2, 3], "compiles at run time": 0, "writes to /tmp": 0, "writes to its home": 0,
        "writes to /etc": 13, "reads /root": 13, "runs programs": "5\n", "internet sockets": 0, "raw sockets": 97, "memory": True,
        "semaphores": True, "limits": 0, "processor": 0, "mount": 1, "seccomp": 0, "namespaces of users": 1, "modules": 1,
    }


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(run("/usr/bin/python3", "-c", "import jinja2", check=False).returncode != 0, reason="/usr/bin/python3 has no jinja2")
def test_a_template(service):
    service.start([plugin("counts", """
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={"said": self.config.config["answer"]})
    """, config={"answer": "{{ 40 + 2 }} {{ env.SECRET }}"})])
    assert said(service) == "42 "
    (service.config / "environment").write_text("SECRET=s3cret\n")
    service.systemctl("restart")
    assert said(service) == "42 s3cret"


def test_requirements_from_an_index(service, tmp_path):
    """pip reaches the network, and has its index from the unit's environment file."""
    (tmp_path / "hello").mkdir()
    wheels.wheel(tmp_path / "hello", "hello", "1.0", {"hello.py": "x = 'from the index'\n"})
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run("systemd-run", "--unit=index", f"--working-directory={tmp_path}", "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", port)
    try:
        eventually(lambda: reachable(port))
        service.write([plugin("reads", """
            async def tool_pre_invoke(self, payload, context):
                import hello
                return Result(metadata={"said": hello.x})
        """, requirements="hello\n")])
        (service.config / "environment").write_text(f"PIP_INDEX_URL=http://127.0.0.1:{port}/\n")
        service.start()
        assert said(service) == "from the index"
        assert pathlib.Path("/var/cache/cpexd").stat().st_mode & 0o777 == 0o700
    finally:
        run("systemctl", "stop", "index")
