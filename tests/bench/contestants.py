# SPDX-License-Identifier: Apache-2.0
"""Those that are compared. Each has a process that calls (caller.py) and knows the processes that serve it, by role."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import proc

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "client/python"))

from cpexd_client import Client, CpexdError  # noqa: E402

PII = "pii_scanner.plugin.PIIScannerPlugin"
WAITER = "waiter.plugin.WaiterPlugin"
CHAIN = 10


def eventually(condition, seconds=60, pause=0.001):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(pause)
    return value


def plugin_files(folder, requirements=""):
    """The plugins in the layout that all kinds understand: plugins/PACKAGE/plugin.py and requirements.txt."""
    for source in (ROOT / "conf/plugins/pii_scanner/pii_scanner", HERE / "plugins/waiter"):
        target = folder / "plugins" / source.name
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.py"):
            shutil.copyfile(file, target / file.name)
        (target / "requirements.txt").write_text(requirements)


def entry(name, hook, class_name, kind=None, priority=1, **rest):
    """kind None: isolated_venv."""
    config = {"class_name": class_name, "requirements_file": "requirements.txt"}
    each = {"name": name, "kind": kind or "isolated_venv", "hooks": [hook], "mode": "sequential", "version": "1.0.0", "priority": priority}
    return each | {"config": {} if kind else config} | rest


def all_entries(native, group=None):
    """One plugin on one hook, a chain of ten on the next, one that waits on the third, none on the fourth."""
    isolation = {"workers": {"idle": 600}}  # those that were started under load are there in the next round
    chained = [entry(f"chain_{i}", "tool_post_invoke", PII, PII if native else None, priority=i, isolation={"group": group})
               for i in range(CHAIN)]
    waits = entry("waiter", "prompt_pre_fetch", WAITER, WAITER if native else None, isolation={"max_concurrent": 256} | isolation)
    return [entry("pii", "tool_pre_invoke", PII, PII if native else None, isolation=isolation), *chained, waits]


def write_yaml(path, plugins):
    """JSON is YAML."""
    path.write_text(json.dumps({"plugin_dirs": ["plugins"], "plugins": plugins}, indent=1))


class Daemon:
    """A cpexd of its own folder."""

    def __init__(self, build, folder, cache, plugins, settings=None, requirements=""):
        self.build, self.folder = build, folder
        self.socket, self.control = str(folder / "cpexd.sock"), str(folder / "control.sock")
        folder.mkdir(parents=True)
        plugin_files(folder, requirements)
        write_yaml(folder / "plugins.yaml", plugins)
        settings = {"plugins": "plugins.yaml", "cache_dir": str(cache), "log": {"level": "info"},
                    "socket": {"path": self.socket}, "control": {"path": self.control}} | (settings or {})
        (folder / "cpexd.yaml").write_text(json.dumps(settings))
        self.process = None

    def __enter__(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([self.build / "cpexd", "-c", self.folder / "cpexd.yaml"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        return self

    def __exit__(self, *exc_info):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"cpexd ended with status {self.process.returncode}:\n{self.log()}")
        return "ready: " in self.log()

    def admin(self, method, **params):
        with Client(self.control) as client:
            return client.call(method, params)

    def workers(self, name):
        """The ids of the plugin's workers that are ready."""
        plugin = next(each for each in self.admin("status")["plugins"] if each["name"] == name)
        return [worker["pid"] for worker in plugin["workers"] if worker["state"] == "ready"]

    def first_answer(self):
        """Waits until a call is answered."""

        def answered():
            with contextlib.suppress(OSError, CpexdError), Client(self.socket) as client:
                return client.invoke("tool_pre_invoke", {"name": "t", "args": {"a": "1"}})
            if self.process.poll() is not None:
                raise RuntimeError(f"cpexd ended with status {self.process.returncode}:\n{self.log()}")

        eventually(answered)


class Contestant:
    """A caller, and what it calls."""

    def __init__(self, name, python, kind, place, folder, log, build=None):
        self.name = name
        env = dict(os.environ)
        if kind == "cpexd":  # the client, and what own_time() needs of the plugin
            paths = ROOT / "client/python", build / "client", build / "worker-shim", ROOT / "conf/plugins/pii_scanner"
            env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        self.process = subprocess.Popen([python, HERE / "caller.py", kind, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(log, "wb"), text=True, cwd=folder, env=env)
        self.log = log

    def wait_ready(self):
        self.start = self._answer()
        return self

    def ask(self, op, **command):
        self.process.stdin.write(json.dumps({"op": op} | command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended:\n{pathlib.Path(self.log).read_text()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def roles(self):
        """{role: process ids}."""
        return {"client": [self.process.pid], "worker": proc.children(self.process.pid)}

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        below = proc.children(self.process.pid)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in below:  # upstream's workers outlive their host
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


class Cpexd(Contestant):
    def __init__(self, name, python, daemon, log):
        super().__init__(name, python, "cpexd", daemon.socket, daemon.folder, log, daemon.build)
        self.daemon = daemon

    def roles(self):
        return {"client": [self.process.pid], "daemon": [self.daemon.process.pid], "worker": proc.children(self.daemon.process.pid)}


class Floor(Contestant):
    def __init__(self, name, python, socket, server, worker, folder, log):
        super().__init__(name, python, "floor", socket, folder, log)
        self.server, self.worker = server, worker

    def roles(self):
        roles = {"client": [self.process.pid], "daemon": [self.server.pid]}
        return roles | ({"worker": [self.worker.pid]} if self.worker else {})


class Peer(Contestant):
    """One of upstream's kinds: native, isolated, unix, mcp."""

    def __init__(self, name, python, folder, log):
        self.server = None
        folder.mkdir(parents=True, exist_ok=True)
        plugin_files(folder, "cpex==0.1.4\n")
        self._link_package(python, folder)
        write_yaml(folder / "plugins.yaml", self._entries(name, python, folder))
        if name == "unix":
            self._start_server(python, folder, log)
        super().__init__(name, python, "upstream", "plugins.yaml", folder, log)

    @staticmethod
    def _link_package(python, folder):
        """isolated_venv starts its worker by a path relative to the working directory."""
        package = next(pathlib.Path(python).parents[1].glob("lib/python3*/site-packages/cpex"))
        with contextlib.suppress(FileExistsError):
            (folder / "cpex").symlink_to(package)

    @staticmethod
    def _entries(name, python, folder):
        if name == "native":
            return all_entries(native=True)
        if name == "isolated":
            return [entry("pii", "tool_pre_invoke", PII)]
        write_yaml(folder / "server.yaml", [entry("pii", "tool_pre_invoke", PII, PII)])
        where = {"unix_socket": {"path": str(folder / "peer.sock")}}
        if name == "mcp":
            command = [str(python), "-m", "cpex.framework.external.mcp.server.runtime"]
            env = {"PLUGINS_CONFIG_PATH": "server.yaml", "PLUGINS_TRANSPORT": "stdio"}
            where = {"mcp": {"proto": "STDIO", "cmd": command, "env": env, "cwd": str(folder)}}
        return [{"name": "pii", "kind": "external", "hooks": ["tool_pre_invoke"], "mode": "sequential", "version": "1.0.0"} | where]

    def _start_server(self, python, folder, log):
        path = folder / "peer.sock"
        path.unlink(missing_ok=True)
        env = os.environ | {"PLUGINS_CONFIG_PATH": "server.yaml", "PLUGINS_UNIX_SOCKET_PATH": str(path)}
        command = [python, "-m", "cpex.framework.external.unix.server.runtime"]
        self.server = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=open(f"{log}.server", "wb"))
        eventually(path.exists)

    def roles(self):
        roles = super().roles()
        return {"client": roles["client"], "worker": [self.server.pid]} if self.server else roles

    def close(self):
        super().close()
        if self.server:
            self.server.terminate()
            self.server.wait()


@contextlib.contextmanager
def floor(name, build, python, folder):
    """`one_hop` or `two_hops`."""
    folder.mkdir(parents=True)
    socket, worker_socket, worker = folder / "s", folder / "w", None
    command = [build / "tests/bench/bench-floor", socket]
    if name == "two_hops":
        worker = subprocess.Popen([python, HERE / "floor_worker.py", worker_socket])
        eventually(worker_socket.exists)
        time.sleep(0.1)  # from bind() to listen()
        command.append(worker_socket)
    server = subprocess.Popen(command)
    eventually(socket.exists)
    time.sleep(0.1)
    contestant = Floor(name, python, str(socket), server, worker, folder, folder / "caller.log")
    try:
        yield contestant
    finally:
        contestant.close()
        for process in filter(None, (server, worker)):
            process.kill()
            process.wait()


@contextlib.contextmanager
def peer(name, python, folder):
    contestant = Peer(name, python, folder, folder.parent / f"{name}.log")
    try:
        yield contestant
    finally:
        contestant.close()


@contextlib.contextmanager
def cpexd(name, build, python, folder, cache, group=None, **settings):
    with Daemon(build, folder, cache, all_entries(native=False, group=group), settings) as daemon:
        eventually(daemon.ready)
        contestant = Cpexd(name, python, daemon, folder / "caller.log")
        try:
            yield contestant
        finally:
            contestant.close()
