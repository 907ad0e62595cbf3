# SPDX-License-Identifier: Apache-2.0
"""A plugin that wants out: each attack succeeds without the sandbox, and fails in the one that every worker gets."""

import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import sys

import pytest

from daemon import LISTENER, PREAMBLE, SYSTEM_CALL, CallError, Daemon, eventually, plugin, stat_of

if platform.machine() != "x86_64":
    pytest.skip("the attacks name system calls by the numbers of x86-64", allow_module_level=True)

EVIL = '''
    async def tool_pre_invoke(self, payload, context):
        import resource, shutil, socket, stat, subprocess, tempfile, threading
        tmp = tempfile.mkdtemp()
        scope = globals() | locals() | payload.args["know"]
        try:
            exec(payload.args["code"], scope)
            return Result(metadata={"did": bool(scope["did"])})
        except BaseException as exc:
            return Result(metadata={"did": False, "error": repr(exc), "errno": getattr(exc, "errno", None)})
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
'''


def evil(name, isolation):
    return plugin(name, EVIL, preamble=PREAMBLE + SYSTEM_CALL, isolation=isolation)


# `did` is whether it worked.
ATTACKS = {
    # ---- Files
    "read a file of the user": "did = open(secret).read()",
    "read the machine's passwords": "did = open('/etc/shadow').read()",
    "list a folder of the user": "did = os.listdir(folder)",
    "overwrite a file": "did = open(secret, 'w').write('x')",
    "append to a file": "did = open(secret, 'a').write('x')",
    "make a file": "did = open(folder + '/new', 'w').write('x')",
    "make a folder": "os.mkdir(folder + '/sub'); did = True",
    "truncate a file by its name": "os.truncate(secret, 1); did = True",
    "delete a file": "os.unlink(secret); did = True",
    "rename a file": "os.rename(secret, folder + '/other'); did = True",
    "replace a file": "open(tmp + '/mine', 'w').close(); os.rename(tmp + '/mine', secret); did = True",
    "link to a file": "os.link(secret, tmp + '/link'); did = open(tmp + '/link').read()",
    "follow a symbolic link": "os.symlink(secret, tmp + '/link'); did = open(tmp + '/link').read()",
    "follow dots": "did = open(tmp + '/..' * 20 + secret).read()",
    "go by the folder of a process": "did = open('/proc/self/root' + secret).read()",
    "open up a file's mode": "os.chmod(secret, 0o777); did = os.stat(secret).st_mode & 0o777 == 0o777",
    "open up the mode of an open file": "fd = os.open(sys.modules[type(self).__module__].__file__, 0); os.fchmod(fd, 0o777); "
                                        "did = os.fstat(fd).st_mode & 0o777 == 0o777",
    "give a file away": "os.chown(secret, 1, 1); did = True",
    "date a file back": "os.utime(secret, (1, 1)); did = os.stat(secret).st_mtime == 1",
    "mark a file": "os.setxattr(secret, 'trusted.evil', b'x'); did = True",
    "by a child process": "did = subprocess.run(['cat', secret], capture_output=True).stdout",
    "by a shell": "subprocess.run(f'echo x >{folder}/new', shell=True, stderr=subprocess.DEVNULL); did = os.path.exists(folder + '/new')",
    "by another thread": "found = []; t = threading.Thread(target=lambda: found.append(open(secret).read())); t.start(); t.join(); did = found",
    "by libc": "did = libc.open(secret.encode(), 0) >= 0",
    "by a file handle": "handle = ctypes.create_string_buffer((128).to_bytes(4, 'little') + bytes(132)); mount = ctypes.c_int(); "
                        "call(303, -100, ctypes.c_char_p(secret.encode()), handle, ctypes.byref(mount), 0); did = True",
    "change the plugin's own code": "did = open(sys.modules[type(self).__module__].__file__, 'a').write('# x')",
    "add to the plugin's venv": "did = open(sys.prefix + '/evil', 'w').write('x'); os.unlink(sys.prefix + '/evil')",
    "read another plugin's code": "did = open(neighbour).read()",
    "read the configuration": "did = open(plugins).read()",
    "leave a file for others": "did = open(public, 'w').write('x')",
    "leave shared memory for others": "did = open('/dev/shm/' + unique, 'w').write('x'); os.unlink('/dev/shm/' + unique)",
    "make a device": "os.mknod(tmp + '/dev', stat.S_IFCHR | 0o600, os.makedev(1, 1)); did = True",
    "open a disk or memory": "os.close(os.open('/dev/kmsg', os.O_RDONLY)); did = True",
    # ---- What is run
    "run a program that it brought": "shutil.copy('/usr/bin/env', tmp + '/own'); os.chmod(tmp + '/own', 0o755); "
                                     "did = subprocess.run([tmp + '/own', 'true']).returncode == 0",
    "run a program in memory": "fd = os.memfd_create('x'); os.write(fd, open('/usr/bin/true', 'rb').read()); "
                               "did = subprocess.run([f'/proc/self/fd/{fd}'], pass_fds=[fd]).returncode == 0",
    "have a program by its descriptor": "fd = os.open('/usr/bin/true', os.O_RDONLY | os.O_CLOEXEC); pid = os.fork()\n"
                                        "if pid == 0:\n"
                                        "    libc.syscall(322, fd, b'', (ctypes.c_char_p * 2)(b'true', None), None, 0x1000); os._exit(9)\n"
                                        "did = os.waitpid(pid, 0)[1] == 0",
    "have capabilities": "did = any(line.startswith('CapEff') and int(line.split()[1], 16) for line in open('/proc/self/status'))",
    "get privileges by a program": "did = any(line.startswith('NoNewPrivs') and line.split()[1] == '0' for line in open('/proc/self/status'))",
    # ---- Other processes
    "see what runs": "did = open(f'/proc/{victim}/cmdline').read()",
    "see the environment of a process": "did = open(f'/proc/{victim}/environ').read()",
    "see the memory of a process": "did = open(f'/proc/{victim}/maps').read()",
    "see the daemon": "did = open(f'/proc/{daemon}/status').read()",
    "trace a process": "call(101, 0x4206, victim, 0, 0); did = True",
    "copy from a process": "b = ctypes.create_string_buffer(8); v = (ctypes.c_size_t * 2)(ctypes.addressof(b), 8); "
                           "r = (ctypes.c_size_t * 2)(int(open(f'/proc/{victim}/maps').read().split('-')[0], 16), 8); "
                           "did = call(310, victim, v, 1, r, 1, 0) == 8",
    "take a process's descriptor": "fd = os.pidfd_open(victim); call(438, fd, 0, 0); did = True",
    "signal a process": "os.kill(victim, 18); did = True",
    "signal a process by its descriptor": "fd = os.pidfd_open(victim); signal.pidfd_send_signal(fd, 18); did = True",
    "signal the daemon": "os.kill(daemon, 18); did = True",
    "slow a process down": "os.setpriority(os.PRIO_PROCESS, victim, 5); did = True",
    "move a process": "os.sched_setaffinity(victim, os.sched_getaffinity(victim)); did = True",
    "schedule a process": "os.sched_setscheduler(victim, os.SCHED_BATCH, os.sched_param(0)); did = True",
    "signal the guard": "os.kill(os.getppid(), 18); did = True",
    "see the environment of the guard": "did = open(f'/proc/{os.getppid()}/environ').read()",
    "limit a process": "resource.prlimit(victim, resource.RLIMIT_NOFILE, (64, 64)); did = True",
    # ---- Talking to others
    "connect by TCP": "socket.create_connection(('127.0.0.1', tcp)).close(); did = True",
    "serve by TCP": "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); did = True",
    "send by UDP": "did = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', udp))",
    "look up a name": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.53', 53)); did = True",
    "connect to a Unix socket": "socket.socket(socket.AF_UNIX).connect(unix); did = True",
    "administer cpexd": "socket.socket(socket.AF_UNIX).connect(control); did = True",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + unique); did = True",
    "send from one of a pair": "did = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', datagram)",
    "ask the kernel by netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); did = True",
    "make packets": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); did = True",
    "listen to all packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); did = True",
    "use the kernel's cryptography": "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET); did = True",
    "talk to the virtual machine's host": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); did = True",
    "share System V memory": "did = call(29, 0, 4096, 0o1600) >= 0",
    "share a System V semaphore": "did = call(64, 0, 1, 0o1600) >= 0",
    "share a System V queue": "did = call(68, 0, 0o1600) >= 0",
    # ---- The kernel
    "keep a key": "did = call(248, ctypes.c_char_p(b'user'), ctypes.c_char_p(unique.encode()), ctypes.c_char_p(b'x'), 1, -2)",
    "read the keyrings": "did = call(250, 0, -4, 1)",
    "load a filter": "call(321, 0, ctypes.create_string_buffer(b'\\2\\0\\0\\0\\4\\0\\0\\0\\4\\0\\0\\0\\1' + bytes(120)), 128); did = True",
    "handle page faults": "os.close(call(323, 1)); did = True",
    "submit by io_uring": "os.close(call(425, 1, ctypes.create_string_buffer(256))); did = True",
    "make a user namespace": "did = subprocess.run(['unshare', '--user', 'true'], stderr=subprocess.DEVNULL).returncode == 0",
    "make a mount namespace": "did = subprocess.run(['unshare', '--mount', 'true'], stderr=subprocess.DEVNULL).returncode == 0",
    "mount by a new way": "os.close(call(430, ctypes.c_char_p(b'tmpfs'), 0)); did = True",
    "change the root": "pid = os.fork()\nif pid == 0:\n    try: os.chroot(folder); os._exit(0)\n    except OSError: os._exit(1)\n"
                       "did = os.waitpid(pid, 0)[1] == 0",
    "read the kernel's log": "did = call(103, 10, 0, 0) >= 0",
    "name the machine": "socket.sethostname(socket.gethostname()); did = True",
    "let denied calls go on": "pid = os.fork()\nif pid == 0:\n    program = ctypes.create_string_buffer(b'\\6\\0\\0\\0\\0\\0\\xff\\x7f')\n"
                              "    libc.prctl(38, 1, 0, 0, 0); os._exit(libc.syscall(317, 1, 8, (ctypes.c_void_p * 2)(1, ctypes.addressof(program))) < 0)\n"
                              "did = os.waitpid(pid, 0)[1] == 0",
    "switch address randomization off": "call(135, 0x40000); did = True; call(135, 0)",
    "become somebody else": "pid = os.fork()\nif pid == 0:\n    try: os.setuid(1); os._exit(0)\n    except OSError: os._exit(1)\n"
                            "did = os.waitpid(pid, 0)[1] == 0",
}

# What only root gets without the sandbox.
OF_ROOT = {
    "read the machine's passwords", "give a file away", "mark a file", "make a device", "open a disk or memory", "have capabilities",
    "make packets", "listen to all packets", "load a filter", "make a mount namespace", "mount by a new way",
    "change the root", "read the kernel's log", "name the machine", "become somebody else"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, venv_cache):
    """A daemon with the same plugin in two boxes, and what there is to be attacked."""
    top = tmp_path_factory.mktemp("escape")
    (folder := top / "user").mkdir()
    unique = f"cpexd-escape-{os.getpid()}"
    victim = subprocess.Popen(["sleep", "1000"])
    sockets = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
    sockets[1].bind(("127.0.0.1", 0))
    for kind, name in ((socket.SOCK_STREAM, str(top / "s")), (socket.SOCK_STREAM, "\0" + unique), (socket.SOCK_DGRAM, str(top / "d"))):
        sockets.append(socket.socket(socket.AF_UNIX, kind))
        sockets[-1].bind(name)
        if kind == socket.SOCK_STREAM:
            sockets[-1].listen(1000)
    (top / "d0").mkdir()
    boxed = {"sandbox": {"network": "none", "write": []}}
    daemon = Daemon(top / "d0", venv_cache, [
        evil("boxed", boxed), evil("free", {"sandbox": {"profile": "off"}}),
        evil("strict", {"sandbox": {"profile": "strict", "network": "none", "write": []}})])
    daemon.expect("")
    try:
        daemon.start()
        know = {"secret": str(folder / "secret"), "folder": str(folder), "victim": victim.pid, "daemon": daemon.pid, "unique": unique,
                "tcp": sockets[0].getsockname()[1], "udp": sockets[1].getsockname()[1], "unix": str(top / "s"), "datagram": str(top / "d"),
                "control": str(daemon.control), "public": str(top / "public"), "plugins": str(daemon.folder / "plugins.yaml"),
                "neighbour": str(daemon.folder / "plugins/strict_plugin/strict_plugin/plugin.py")}

        def attack(name, code):
            for entry in folder.iterdir():
                entry.rmdir() if entry.is_dir() else entry.unlink()
            (folder / "secret").write_text("secret")
            (folder / "secret").chmod(0o600)
            (top / "public").unlink(missing_ok=True)
            return daemon.invoke("tool_pre_invoke", {"name": "t", "args": {"code": code, "know": know}}, plugin=name)["metadata"]

        attack.daemon = daemon
        attack.folder = folder
        yield attack
        daemon.gate()
    finally:
        daemon.kill()
        victim.kill()
        victim.wait()
        for each in sockets:
            each.close()


@pytest.mark.xdist_group("escape")
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(world, name):
    code = ATTACKS[name]
    boxed = world("boxed", code)
    assert not boxed["did"], boxed
    if name in OF_ROOT and os.getuid() != 0:
        pytest.skip("without the sandbox only root gets that far")
    free = world("free", code)
    if not free["did"] and free.get("errno") in (1, 13, 38, 22, 93, 94, 95, 97):
        pytest.skip(f"not possible here without the sandbox, either: {free['error']}")
    assert free["did"], free


# What the log has of attacks, of which the plugin itself says nothing: the call, and the least that allows it.
LOGGED = {
    "share System V memory": ("shmget", "profile: off"),
    "trace a process": ("ptrace", "profile: off"),
    "keep a key": ("add_key", "profile: off"),
    "load a filter": ("bpf", "profile: off"),
    "switch address randomization off": ("personality", "profile: off"),
    "run a program in memory": ("memfd_create", "profile: off"),
    "by a file handle": ("name_to_handle_at", "profile: off"),
    "slow a process down": ("setpriority", "profile: off"),
    "make a user namespace": ("unshare", "profile: off"),
    "mount by a new way": ("fsopen", "profile: off"),
    "change the root": ("chroot", "profile: off"),
    "become somebody else": ("setuid", "profile: off"),
    "connect by TCP": ("socket(AF_INET)", "network: [HOST:PORT] or all"),
    "make packets": ("socket(AF_INET)", "profile: off"),
    "administer cpexd": ("socket(AF_UNIX)", "add to isolation.sandbox in the plugin's entry: network: unix"),
    "send from one of a pair": ("socketpair", "profile: off"),
    "use the kernel's cryptography": ("socket(AF_ALG)", "profile: off"),
    "make a socket of a kind without a name": ("socket() of family 60", "profile: off"),
    "make a call without a name": ("a system call without a name", "profile: off"),
}
OF_ALL = ATTACKS | {"make a socket of a kind without a name": "socket.socket(60); did = True", "make a call without a name": "call(4711); did = True"}


@pytest.mark.xdist_group("escape")
@pytest.mark.parametrize("name", LOGGED)
def test_what_is_denied_is_logged(world, name):
    call, setting = LOGGED[name]
    assert not world("boxed", OF_ALL[name])["did"]
    line = rf'"boxed" worker \d+: the sandbox has denied {re.escape(call)}; .*{re.escape(setting)}'
    world.daemon.wait_log(line)
    assert not world("boxed", OF_ALL[name])["did"]
    assert len(re.findall(line, world.daemon.log())) == 1


@pytest.mark.xdist_group("escape")
def test_a_worker_slows_down_only_itself(world):
    """10000 denied calls a second are answered; the log has one line of them."""
    many = "begin = time.monotonic()\nfor _ in range(2500): assert libc.syscall(169) == -1 and ctypes.get_errno() == 1\ndid = time.monotonic() - begin > 0.1"
    assert world("boxed", many)["did"]
    world.daemon.wait_log("the sandbox has denied reboot")
    assert world.daemon.log().count("has denied reboot") == 1


DENIED = """
    async def tool_pre_invoke(self, payload, context):
        result = libc.syscall(169)
        return Result(metadata={"result": result, "errno": ctypes.get_errno()})
"""


def test_a_stopped_guard_holds_nobody_for_ever(cpexd):
    daemon = cpexd([plugin("p", DENIED, preamble=PREAMBLE + SYSTEM_CALL, isolation={"timeout": 1, "workers": {"max": 1}})])
    daemon.expect('plugin "p"')
    [worker] = daemon.workers("p")
    os.kill(stat_of(worker)[1], signal.SIGSTOP)
    with pytest.raises(CallError) as caught:
        daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})
    assert caught.value.cause == "timeout"
    eventually(lambda: daemon.workers("p") not in ([], [worker]))
    assert daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})["metadata"] == {"result": -1, "errno": 1}


def test_with_another_listener_above_it_is_denied_all_the_same(cpexd):
    daemon = cpexd([plugin("p", DENIED, preamble=PREAMBLE + SYSTEM_CALL)], wrapper=[sys.executable, "-c", LISTENER])
    assert daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})["metadata"] == {"result": -1, "errno": 1}
    assert "has denied" not in daemon.log()


def test_the_list_is_long_enough():
    """So that attacks that are not possible somewhere do not make the test an empty one."""
    assert len(ATTACKS) >= 60


# ---- What is to work all the same

WORKS = {
    "threads": "t = threading.Thread(target=lambda: None); t.start(); t.join(); did = True",
    "a child process": "did = subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout == 'x\\n'",
    "a shell and a pipe": "did = subprocess.run('echo x | tr x y', shell=True, capture_output=True, text=True).stdout == 'y\\n'",
    "another Python": "did = subprocess.run([sys.executable, '-c', 'import ssl, json'], stderr=subprocess.PIPE).returncode == 0",
    "signals to a child": "p = subprocess.Popen(['sleep', '9']); p.terminate(); did = p.wait() == -15",
    "temporary files": "did = tempfile.TemporaryFile().write(b'x')",
    "copies with their mode": "open(tmp + '/a', 'w').write('x'); shutil.copy2(tmp + '/a', tmp + '/b'); did = open(tmp + '/b').read() == 'x'",
    "files that move": "os.mkdir(tmp + '/a'); open(tmp + '/b', 'w').close(); os.rename(tmp + '/b', tmp + '/a/c'); did = os.listdir(tmp + '/a') == ['c']",
    "a database": "import sqlite3; c = sqlite3.connect(tmp + '/x.db'); c.execute('create table t (x)'); c.commit(); did = True",
    "a process pool": "from concurrent.futures import ThreadPoolExecutor; did = list(ThreadPoolExecutor(3).map(abs, [-1])) == [1]",
    "certificates": "import ssl; ssl.create_default_context(); did = True",
    "the time zone": "import zoneinfo; did = zoneinfo.ZoneInfo('UTC') and time.localtime()",
    "the user's name": "import pwd; did = pwd.getpwuid(os.getuid()).pw_name",
    "its own process": "did = 'VmRSS' in open('/proc/self/status').read()",
    "randomness": "did = open('/dev/urandom', 'rb').read(8) and os.urandom(8)",
    "mapped memory": "import mmap; did = mmap.mmap(-1, 4096)",
}


@pytest.mark.xdist_group("escape")
@pytest.mark.parametrize("name", WORKS)
def test_what_is_allowed(world, name):
    answer = world("boxed", WORKS[name])
    assert answer["did"], answer


@pytest.mark.xdist_group("escape")
def test_strict_starts_no_processes(world):
    assert not world("strict", WORKS["a child process"])["did"]
    assert not world("strict", "os.fork() or os._exit(0); did = True")["did"]
    assert world("strict", WORKS["threads"])["did"]


@pytest.mark.xdist_group("escape")
def test_status_and_explain_tell(world):
    daemon = world.daemon
    assert {each["name"]: each["sandbox"] for each in daemon.admin("status")["plugins"]} == {
        "boxed": "default", "free": "off", "strict": "strict"}
    assert "without a sandbox: free\n" in daemon.ctl("status").stdout
    answer = daemon.admin("explain", plugin="boxed")
    assert (answer["profile"], answer["network"], answer["write"]) == ("default", [], [])
    assert answer["read"] == [str(daemon.folder / "plugins/boxed_plugin")]
    text = daemon.ctl("explain", "boxed").stdout
    assert "sandbox   default\nnetwork   none\n" in text and str(daemon.folder / "plugins/boxed_plugin") in text
    assert "all that cpexd's user may" in daemon.ctl("explain", "free").stdout
    assert daemon.ctl("explain", "nobody").returncode == 2


FETCH = """
    async def tool_pre_invoke(self, payload, context):
        import socket
        what, to = payload.args["what"], payload.args["to"]
        if what == "tcp":
            socket.create_connection(("127.0.0.1", to)).close()
        elif what == "unix":
            socket.socket(socket.AF_UNIX).connect(to)
        elif what == "write":
            open(to, "w").close()
        else:
            open(to).close()
        return Result()
"""


def denied(daemon, what, to):
    with daemon.host() as host:
        try:
            host.invoke("tool_pre_invoke", {"name": "t", "args": {"what": what, "to": to}})
        except Exception as exc:
            assert "denied" in str(exc) or "not permitted" in str(exc), exc
            return True
    return False


def test_what_is_given_is_there_and_no_more(cpexd, tmp_path):
    for name in ("readable", "writable", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        box = {"network": f"localhost:{one.getsockname()[1]}", "read": ["../readable"], "write": [str(tmp_path / "writable")]}
        daemon = cpexd([plugin("p", FETCH, isolation={"sandbox": box})])
        daemon.expect("Permission denied|not permitted")
        assert not denied(daemon, "tcp", one.getsockname()[1])
        assert denied(daemon, "tcp", other.getsockname()[1])
    assert denied(daemon, "unix", str(daemon.control))
    assert not denied(daemon, "read", str(tmp_path / "readable/file"))
    assert denied(daemon, "write", str(tmp_path / "readable/file"))
    assert not denied(daemon, "write", str(tmp_path / "writable/new"))
    assert denied(daemon, "read", str(tmp_path / "secret/file"))


def test_a_file_that_was_replaced_comes_with_a_reload(cpexd, tmp_path):
    lists = tmp_path / "list"
    lists.write_text("x")
    daemon = cpexd([plugin("p", FETCH, isolation={"sandbox": {"network": "none", "write": [], "read": [str(lists), str(tmp_path / "later")]}})])
    daemon.expect("Permission denied|PermissionError")
    daemon.expect("plugins.yaml:.*there is no .*/later, so the plugin will not have it; create it, or name the folder")
    assert not denied(daemon, "read", str(lists))
    assert daemon.admin("reload")["changed"]["kept"] == ["p"]
    (tmp_path / "new").write_text("y")
    (tmp_path / "new").rename(lists)
    assert denied(daemon, "read", str(lists))
    daemon.wait_log("the file was replaced after this worker had started")
    assert daemon.admin("reload")["changed"]["restarted"] == ["p"]
    assert not denied(daemon, "read", str(lists))
    (tmp_path / "later").write_text("z")
    assert daemon.admin("reload")["changed"]["restarted"] == ["p"]
    assert not denied(daemon, "read", str(tmp_path / "later"))


def test_the_log_says_what_would_allow_it(cpexd, tmp_path):
    (tmp_path / "list").write_text("x")
    daemon = cpexd([plugin("p", FETCH, isolation={"sandbox": {"network": "none", "write": []}})])
    daemon.expect("Permission denied|PermissionError|not permitted")
    assert denied(daemon, "read", str(tmp_path / "list"))
    daemon.wait_log(f"the sandbox may be the reason .*add to isolation.sandbox in the plugin's entry: read: \\[{tmp_path}/list\\]")
    assert denied(daemon, "tcp", 9)
    daemon.wait_log("add to isolation.sandbox in the plugin's entry: network: \\[HOST:PORT\\] or all")


@pytest.mark.parametrize("what, network, setting", [
    ("read", "none", "read: [/nowhere/list], or write: instead"),
    ("tcp", "none", "network: [HOST:PORT] or all"),
    ("tcp", "unix", "network: [HOST:PORT] or [all]"),
    ("unix", "none", "network: unix"),
    ("unix", [8], "network: [unix]"),
    ("tcp", [8], "network: [127.0.0.1:9], beside what stands there, or [all]"),
])
def test_the_error_says_what_would_allow_it(cpexd, tmp_path, what, network, setting):
    to = 9 if what == "tcp" else str(tmp_path / "list")
    (tmp_path / "list").touch()
    daemon = cpexd([plugin("p", FETCH, isolation={"sandbox": {"network": network, "write": []}})])
    daemon.expect("Permission denied|not permitted|has denied")
    with pytest.raises(CallError) as caught:
        daemon.invoke("tool_pre_invoke", {"name": "t", "args": {"what": what, "to": to}})
    said = caught.value.error["details"]["sandbox"]
    assert f"to allow it, add to isolation.sandbox in the plugin's entry: {setting.replace('/nowhere', str(tmp_path))}" in said
    daemon.wait_log(re.escape(said))  # be it the guard's or the worker's
    assert daemon.log().count("; to allow it, ") == 1


def test_what_a_plugin_leaves_in_its_folder_goes_with_it(cpexd):
    daemon = cpexd([plugin("messy", """
        async def tool_pre_invoke(self, payload, context):
            import tempfile
            folder = tempfile.mkdtemp()
            for _ in range(30):
                folder += "/" + "d" * 100
                os.mkdir(folder)
            os.mkdir(tempfile.gettempdir() + "/closed", 0)
            os.symlink(payload.args["outside"], tempfile.gettempdir() + "/link")
            open(tempfile.gettempdir() + "/file", "w").close()
            return Result(metadata={"tmp": tempfile.gettempdir()})
    """)])
    outside = daemon.folder / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tmp = pathlib.Path(daemon.invoke("tool_pre_invoke", {"name": "t", "args": {"outside": str(outside)}})["metadata"]["tmp"])
    assert tmp.stat().st_mode & 0o777 == 0o700 and len(list(tmp.iterdir())) == 4
    os.kill(daemon.workers("messy")[0], 9)
    daemon.expect("killed by signal 9")
    eventually(lambda: not tmp.exists())
    assert (outside / "file").exists()


# Whatever is cleared, left, ignored and forked away.
OUTLIVE = """
    async def tool_pre_invoke(self, payload, context):
        import ctypes, signal
        prctl = ctypes.CDLL(None).prctl
        prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG: no signal when the parent ends
        for n in range(6):
            if os.fork() == 0:
                os.setsid()
                prctl(36, n % 2, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
                for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)
                os.closerange(0, 1000)
                if os.fork():
                    os._exit(0)
                while n < 3:  # on the run: it has always a new number
                    if os.fork():
                        os._exit(0)
                    if n == 1:  # and a new group
                        os.setsid()
                time.sleep(600)
                os._exit(0)
        deed = payload.args["deed"]
        await asyncio.sleep(0.1)
        exec(deed)
        return Result()
"""
DEEDS = {"the worker ends": "os._exit(7)", "the daemon is killed": "", "the guard is killed": "os.kill(os.getppid(), 9); time.sleep(600)",
         "the guard is stopped": "os.kill(os.getppid(), 19); os._exit(7)"}


@pytest.mark.parametrize("profile", ["default", "off"])
@pytest.mark.parametrize("deed", DEEDS)
def test_nothing_outlives_the_worker(cpexd, profile, deed):
    guarded = profile == "default" and "guard" in deed
    daemon = cpexd([plugin("p", OUTLIVE, isolation={"workers": {"max": 1}, "sandbox": {"profile": profile}})])
    daemon.expect("it was killed|it exited with status 7|not permitted")
    with daemon.host() as host:
        call = host.begin("tool_pre_invoke", {"name": "t", "args": {"deed": DEEDS[deed]}})
        told = ""
        try:
            host.end(call)
        except CallError as error:
            told = str(error)
        assert ("not permitted" if guarded else "the worker died" if DEEDS[deed] else "") in told
        if guarded or not DEEDS[deed]:
            assert len(daemon.processes_left()) >= 5
            daemon.process.kill()
            daemon.process.wait()
    if daemon.process.returncode is None:
        # Of the new worker there are two processes.
        eventually(lambda: len(daemon.processes_left()) == 3 and daemon.workers("p"))
    else:
        eventually(lambda: not daemon.processes_left(), 5)
        daemon.start()  # and stops in order, as the gate wants it


def test_a_limit_that_is_not_to_be_had(cpexd):
    """The daemon of this test has no control group of its own."""
    does = "\nasync def tool_pre_invoke(self, payload, context):\n    return Result()\n"
    daemon = cpexd([plugin("lax", does, isolation={"cpu": 50}),
                    plugin("firm", does, hooks=["tool_post_invoke"], isolation={"cpu": 50, "sandbox": {"require": True}})], ready=False)
    daemon.expect("cannot start: it exited with status 121")
    lacks = r"worker \d+: cpexd-launch: this system cannot limit processor time \(isolation.cpu\) without a control group"
    daemon.wait_log(f'"lax" {lacks}: the sandbox does without')
    daemon.wait_log(f'"firm" {lacks}, and sandbox.require is set')
    eventually(lambda: daemon.workers("lax") and daemon.status("firm")["error"] == "it exited with status 121")
    assert daemon.stop() == 0
