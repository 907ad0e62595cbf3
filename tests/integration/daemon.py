# SPDX-License-Identifier: Apache-2.0
"""Starts the real cpexd for a test, watches it, and holds it to its promises afterwards (the leak gate)."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid

from rpc import CallError, Host

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CPEXD_BUILD", ROOT / "build")).resolve()
SANITIZED = "asan" in BUILD.name

LOG_LINE = re.compile(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|notice|info|debug): \S')
STALL = "notice: the loop was busy for"
SANITIZER = re.compile(r"Sanitizer|runtime error:|Direct leak|SUMMARY:")

PREAMBLE = """\
import asyncio, os, signal, sys, time
from cpex.framework import (
    Plugin, PluginError, PluginViolation, PluginViolationError, PromptPrehookResult, ToolPostInvokePayload, ToolPostInvokeResult,
    ToolPreInvokePayload, ToolPreInvokeResult)
from cpex.framework.models import PluginErrorModel

Result = ToolPreInvokeResult
"""

# Finds the worker's connection: of its sockets the one whose other end the daemon has made.
SEARCH = """
def connection():
    import socket, struct
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as one:
                if struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] not in (0, os.getpid()):
                    return fd
        except OSError:
            pass
"""


def has_faults(build):
    """Whether its cpexd fails on purpose when it is told to (daemon/base/fault.h)."""
    return (build / "cpexd").exists() and b"CPEXD_FAULTS" in (build / "cpexd").read_bytes()


# Of a plugin's class: lets `change(encode, message)` make the bytes of the next answer, where the worker itself makes them.
SPOIL = """
    def spoil(self, change):
        worker = sys.modules["cpexd_worker._worker"]
        real = worker.encode_pieces

        def encode_pieces(message, limit):
            worker.encode_pieces = real
            return [change(worker.encode, message)]

        worker.encode_pieces = encode_pieces
"""


def eventually(condition, seconds=10, what=None):
    """Waits until the condition holds, returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(what or f"not within {seconds} s: {condition}")
        time.sleep(0.01)


# For code that attacks.
SYSTEM_CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

def call(*args):
    \"\"\"A system call by its number.\"\"\"
    result = libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each for each in args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


# As a container's supervisor that has calls explained to it; the kernel lets there be one.
LISTENER = """
import ctypes, os, sys
libc, program = ctypes.CDLL(None), ctypes.create_string_buffer(b"\\6\\0\\0\\0\\0\\0\\xff\\x7f")
libc.prctl(38, 1, 0, 0, 0)
os.set_inheritable(libc.syscall(317, 1, 8, (ctypes.c_void_p * 2)(1, ctypes.addressof(program))), True)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextlib.contextmanager
def meanwhile(function, pause=0):
    """Calls the function again and again in a thread, as long as the block lasts; what it raises is raised at the end of that."""
    over = threading.Event()

    def run():
        while not over.wait(pause):
            function()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            over.set()
        running.result()


def plugin(name, body, hooks=None, requirements="", preamble=PREAMBLE, config=None, **entry):
    """A plugin as a test describes it: its entry in plugins.yaml, and the body of its class. Without `hooks` it listens to all
    that it has a method for."""
    body = textwrap.dedent(body)
    methods = re.findall(r"^async def (\w+)\(self, payload", body, re.MULTILINE)
    package = re.sub(r"\W", "_", name) + "_plugin"  # never a name of the standard library
    settings = {"class_name": f"{package}.plugin.P", "script_path": f"plugins/{package}", "requirements_file": "requirements.txt"}
    return {
        "entry": {"name": name, "kind": "isolated_venv", "hooks": methods if hooks is None else hooks,
                  "config": settings | (config or {})} | entry,
        "package": package,
        "code": f"{preamble}\n\nclass P(Plugin):\n{textwrap.indent(body, '    ')}",
        "requirements": requirements,
    }


def write_plugins(folder, plugins, **top):
    """Writes plugins.yaml (as JSON, which is YAML) and the plugins' files."""
    for each in plugins:
        root = folder / "plugins" / each["package"]
        (root / each["package"]).mkdir(parents=True, exist_ok=True)
        (root / each["package"] / "__init__.py").touch()
        (root / each["package"] / "plugin.py").write_text(each["code"])
        (root / "requirements.txt").write_text(each["requirements"])
        for path, content in each.get("files", {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
    text = json.dumps({"plugins": [each["entry"] for each in plugins], "plugin_dirs": ["plugins"]} | top, indent=1)
    # Replaced in one step: a daemon may be reading it.
    (folder / "plugins.yaml.new").write_text(text)
    (folder / "plugins.yaml.new").rename(folder / "plugins.yaml")


def stat_of(pid):
    """(state, parent, start time) of a process, None if there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2:].split()
    return fields[0], int(fields[1]), int(fields[19])


def all_pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def children_of(pid):
    return [each for each in all_pids() if (stat := stat_of(each)) and stat[1] == pid]


def ancestors_of(pid):
    while stat := stat_of(pid):
        pid = stat[1]
        yield pid


def program_of(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None


def descendants_of(pid):
    parents = {each: stat[1] for each in all_pids() if (stat := stat_of(each))}
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        below = [each for each, its_parent in parents.items() if its_parent == parent]
        found += below
        queue += below
    return found


# Runs a program with sockets as its descriptors from 3 on, the way a service manager passes them.
PASS_SOCKETS = """\
import fcntl, os, sys
fds, names, *command = sys.argv[1:]
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds.split(",")]
os.closerange(3, 100)
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


class Daemon:
    def __init__(self, folder, cache, plugins, settings=None, env=None, args=(), top=None, wrapper=(), build=BUILD):
        self.folder = folder
        self.build = build
        self.log_path = folder / "log"
        self.temp = folder / "temp"
        self.temp.mkdir(exist_ok=True)
        self.expected = []
        self.args = list(args)
        self.wrapper = list(wrapper)  # a command that runs cpexd in its own place
        self.settings = {
            "plugins": "plugins.yaml",
            "cache_dir": str(cache),
            "socket": {"path": str(folder / "cpexd.sock")},
            "control": {"path": str(folder / "control.sock")},
            "log": {"level": "debug"},
        } | (settings or {})
        self.settings.setdefault("venv", {"read": [str(folder.parent)]})  # wheels of tests lie there
        self.socket, self.control = (folder / self.settings[each]["path"] for each in ("socket", "control"))
        isolation = self.settings.get("isolation", {})
        # The gate knows workers by CPEXD_TEST; plugins tell tests through files in the test's folder.
        self.settings["isolation"] = {"env": ["CPEXD_TEST"]} | isolation | {
            "sandbox": {"write": [str(folder.parent)], "network": ["all", "unix"]} | isolation.get("sandbox", {})}
        self.top = top or {}
        self.env = os.environ | {"TMPDIR": str(self.temp), "CPEXD_TEST": uuid.uuid4().hex} | (env or {})
        if has_faults(build):
            self.faults_path = folder / "faults"
            self.faults_path.touch()
            self.env["CPEXD_FAULTS"] = f"@{self.faults_path}"
        self.env.pop("NOTIFY_SOCKET", None) if not env or "NOTIFY_SOCKET" not in env else None
        self.write(plugins)
        (folder / "cpexd.yaml").write_text(json.dumps(self.settings, indent=1))
        self.process = None
        self.at_start = None  # the footprint when it was ready

    def write(self, plugins, **top):
        write_plugins(self.folder, plugins, **(self.top | top))

    # ---- Life ----

    def start(self, ready=True, sockets=None):
        """`sockets`: those that the service manager has opened, by their names."""
        command, fds = [*self.wrapper, self.build / "cpexd", "-c", self.folder / "cpexd.yaml", *self.args], []
        if sockets:
            fds = [each.fileno() for each in sockets.values()]
            command = [sys.executable, "-c", PASS_SOCKETS, ",".join(map(str, fds)), ":".join(sockets), *command]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.folder,
                                            pass_fds=fds)
        if ready:
            self.at_start = None
            self.wait_ready()
        return self

    def wait_ready(self, generation=1, seconds=60):
        def ready():
            assert self.process.poll() is None, f"cpexd ended with status {self.process.returncode}:\n{self.log()}"
            text = self.log()
            return f"ready: " in text if generation == 1 else f"generation {generation} serves" in text

        eventually(ready, seconds, f"generation {generation} was not ready in {seconds} s")
        self.at_start = self.at_start or self.footprint()

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def faults(self, rules):
        """What fails from now on. Returns how often each point was passed since the last time."""
        told = self.log().count("passed:")
        self.faults_path.write_text(rules)
        # Again and again: a signal that comes just before the daemon goes to sleep does not wake it.
        eventually(lambda: self.log().count("passed:") > told or self.signal(signal.SIGRTMIN))
        return {point: int(n) for point, n in re.findall(r"([a-z-]+) (\d+)", self.log().rpartition("passed:")[2].partition("\n")[0])}

    def stop(self, seconds=20):
        """Returns the exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    # ---- Talking to it ----

    def host(self, **options):
        return Host(self.socket, **options)

    def invoke(self, hook, payload, context=None, **rest):
        with self.host() as host:
            return host.invoke(hook, payload, context, **rest)

    def admin(self, method, **params):
        with Host(self.control) as host:
            return host.call(method, **params)

    def ctl(self, *args, **options):
        command = [self.build / "cpexctl", "--socket", self.socket, "--control", self.control, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.env, **options)

    # ---- Watching it ----

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, seconds=10):
        return eventually(lambda: re.search(pattern, self.log()), seconds, f"no log line {pattern!r}")

    def expect(self, pattern):
        """Log lines of level warning or error that match are all right in this test."""
        self.expected.append(pattern)

    def status(self, name):
        return next(each for each in self.admin("status")["plugins"] if each["name"] == name)

    def workers(self, name):
        """The pids of the plugin's workers that are ready."""
        return [worker["pid"] for worker in self.status(name)["workers"] if worker["state"] == "ready"]

    def worker_pids(self):
        """Of all workers, those of a group once; 0 for a connection to a plugin server."""
        pids = [worker["pid"] or 0 for each in self.admin("status")["plugins"] for worker in each["workers"]]
        return sorted([pid for pid in pids if pid == 0] + list({*pids} - {0}))

    def zygotes(self):
        return [zygote["pid"] for each in self.admin("status")["plugins"] if (zygote := each["zygote"])]

    def descriptors(self):
        found = {}
        for entry in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = re.sub(r"(?<=cpexd-tmp-)\w+|\d+", "N", os.readlink(entry))
        return sorted(found.values())

    def footprint(self):
        """Descriptors and number of workers once both have settled: nothing under way but the question itself."""
        seen, since, deadline = None, time.monotonic(), time.monotonic() + 10
        while time.monotonic() < deadline:
            now = (self.descriptors(), self.worker_pids() + self.zygotes())
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > 0.2:
                break
            time.sleep(0.05)
        return seen

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1])

    # ---- The gate ----

    def kill(self):
        """For a test that has failed already: nothing is left, nothing is checked."""
        family = descendants_of(self.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def gate(self):
        faults = []
        family = {}
        if self.process.poll() is None:
            faults += self.living_faults()
            family = {pid: stat_of(pid) for pid in descendants_of(self.pid)}
        try:
            status = self.stop()
        except subprocess.TimeoutExpired:
            faults.append("did not stop within 20 s of SIGTERM")
            self.kill()
            status = None
        if status not in (0, None):
            faults.append(f"ended with status {status}")
        faults += self.faults_left(family)
        assert not faults, "leak gate: " + "; ".join(faults) + "\nlog:\n" + "\n".join(self.log().splitlines()[-40:])

    def stray_children(self):
        """What there is that is no worker and no guard of one. A plugin that cannot be installed is tried again and again."""
        children = [pid for pid in children_of(self.pid) if program_of(pid) != "cpexd-venv"]
        children = sorted(below for pid in children for below in (children_of(pid) if program_of(pid) == "cpexd-launch" else [pid]))
        zygotes = self.zygotes()  # whose workers are further below
        workers = sorted([pid for pid in self.worker_pids() if pid and not set(ancestors_of(pid)) & set(zygotes)] + zygotes)
        return "" if children == workers else f"children are {children}, workers {workers}"

    def living_faults(self):
        if self.at_start:
            want, workers_then = self.at_start
            have, workers_now = self.footprint()
            if len(workers_now) == len(workers_then) and have != want:
                yield f"descriptors were {len(want)} and are {len(have)}: {want} … {have}"
            # A worker may be starting or ending at the moment.
            deadline = time.monotonic() + 5
            while (differ := self.stray_children()) and time.monotonic() < deadline:
                time.sleep(0.05)
            if differ:
                yield differ
        zombies = [pid for pid in children_of(self.pid) if (stat := stat_of(pid)) and stat[0] == "Z"]
        if zombies:
            yield f"zombies: {zombies}"

    def processes_left(self, family=()):
        """Those of the family that live, and whoever else has inherited the daemon's environment."""
        marker = f"CPEXD_TEST={self.env['CPEXD_TEST']}".encode()
        left = [pid for pid in family if (stat := family[pid]) and (now := stat_of(pid)) and now[2] == stat[2] and now[0] != "Z"]
        for pid in all_pids():
            with contextlib.suppress(OSError):
                if marker in pathlib.Path(f"/proc/{pid}/environ").read_bytes():
                    left.append(pid)
        return left

    def made_sockets(self):
        metrics = self.settings.get("metrics", {}).get("path")
        return [self.socket, self.control, *([self.folder / metrics] if metrics else [])]

    def faults_left(self, family):
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.processes_left(family), 2)
        if left := self.processes_left(family):
            yield f"processes are left: {[(pid, pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()) for pid in left]}"
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        for path in self.made_sockets():
            for each in (path, path.with_name(f"{path.name}.lock")):
                if each.exists():
                    yield f"{each.name} is left"
        if names := [entry.name for entry in self.temp.iterdir()]:
            yield f"temporary files are left: {names}"
        yield from self.log_faults()

    def log_faults(self):
        slow = SANITIZED or has_faults(self.build)
        for line in self.log().splitlines():
            if SANITIZER.search(line):
                yield f"sanitizer: {line}"
                return
            match = LOG_LINE.match(line)
            if not match:
                yield f"not a log line: {line!r}"
            elif (match[1] in ("warning", "error") or (STALL in line and not slow)) and not any(re.search(pattern, line) for pattern in self.expected):
                yield f"unexpected: {line}"


__all__ = ["BUILD", "ROOT", "SANITIZED", "SPOIL", "CallError", "Daemon", "Host", "eventually", "has_faults", "plugin", "stat_of", "write_plugins"]
