# SPDX-License-Identifier: Apache-2.0
"""Starting, dying, growing: what is measured once a round, or once."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time

import proc
from contestants import PII, Client, Daemon, entry, eventually, peer, write_yaml

ONE = [entry("pii", "tool_pre_invoke", PII)]


def milliseconds(since):
    return (time.perf_counter() - since) * 1e3


def warm_start(build, folder, cache):
    """From exec of the daemon to the first answer, its venv being there."""
    daemon = Daemon(build, folder, cache, ONE)
    begun = time.perf_counter()
    with daemon:
        daemon.first_answer()
        return milliseconds(begun)


def peer_start(name, python, folder):
    """From the construction of upstream's manager, the package being imported, to the first answer."""
    with peer(name, python, folder) as contestant:
        return contestant.wait_ready().start["start_ms"]


def respawn(daemon):
    """From kill -9 of a plugin's only worker to the next one ready."""
    (old,) = eventually(lambda: daemon.workers("pii"))
    begun = time.perf_counter()
    os.kill(old, signal.SIGKILL)

    def again():
        workers = daemon.workers("pii")
        return workers and workers != [old]

    eventually(again, pause=0.0005)
    return milliseconds(begun)


def respawns(build, folder, cache, n):
    one = [entry("pii", "tool_pre_invoke", PII, isolation={"zygote": True, "workers": {"min": 1, "max": 1}})]
    with Daemon(build, folder, cache, one) as daemon:
        daemon.first_answer()
        took = []
        for _ in range(n):
            time.sleep(1.2)  # the next of one that dies within a second is started after a pause
            took.append(respawn(daemon))
        return took


def with_guard(pid):
    """Memory of a worker and of the process that stands between it and cpexd, MiB."""
    worker, guard = proc.memory_mib(pid), proc.memory_mib(proc.parent(pid))
    return {kind: worker[kind] + guard[kind] for kind in worker}


def worker_memory(build, folder, cache):
    """Memory of a worker, of the zygote of others of the same plugin, and of each of these, MiB."""
    two = [entry(name, "tool_pre_invoke", PII, isolation=isolation) for name, isolation in (
        ("started", {"workers": {"min": 1, "max": 1}}), ("forked", {"zygote": True, "workers": {"min": 3, "max": 3}}))]
    with Daemon(build, folder, cache, two) as daemon:
        daemon.first_answer()
        first, further = eventually(lambda: len(daemon.workers("forked")) == 3 and (daemon.workers("started")[0], daemon.workers("forked")[1]))
        for _ in range(300):
            daemon_call(daemon)
        return {"first": with_guard(first), "further": with_guard(further), "zygote": with_guard(proc.parent(proc.parent(further))),
                "daemon": proc.memory_mib(daemon.process.pid)}


def daemon_call(daemon):
    """One call from a thread of its own connection: the pool hands it to any worker."""
    with Client(daemon.socket) as client:
        client.invoke("tool_pre_invoke", {"name": "t", "args": {"a": "123-45-6789"}})


def crowd(build, folder, cache, workers, connections, busy=100, seconds=1.0):
    """A daemon with many workers and connections: the time to have all workers ready, its memory, and how `busy` more callers fare."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = [entry("pii", "tool_pre_invoke", PII, isolation={"zygote": True, "workers": {"min": workers, "max": workers}})]
    settings = {"limits": {"connections": 4 * (connections + busy), "connection_rate": 100_000}}  # a user gets half of them
    daemon = Daemon(build, folder, cache, many, settings)
    begun = time.perf_counter()
    with daemon, contextlib.ExitStack() as idle:
        eventually(lambda: daemon.ready() and len(daemon.workers("pii")) == workers, seconds=300, pause=0.01)
        up = milliseconds(begun) / 1e3
        for _ in range(connections):
            idle.enter_context(socket.socket(socket.AF_UNIX)).connect(daemon.socket)
        daemon_call(daemon)
        rss = proc.memory_mib(daemon.process.pid)["rss"]
        return {"workers": workers, "connections": connections, "up_s": up, "daemon_rss_mib": rss} | busy_callers(daemon, busy, seconds)


def busy_callers(daemon, n, seconds):
    done, end = [], time.perf_counter() + seconds

    def call():
        with Client(daemon.socket) as client:
            while time.perf_counter() < end:
                client.invoke("tool_pre_invoke", {"name": "t", "args": {"a": "123-45-6789"}})
                done.append(1)

    threads = [threading.Thread(target=call) for _ in range(n)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"busy": n, "busy_calls_per_s": len(done) / (time.perf_counter() - begun)}


def cold_start(build, folder, requirements=""):
    """As warm_start() with an empty cache."""
    daemon = Daemon(build, folder, folder / "cache", ONE, requirements=requirements)
    begun = time.perf_counter()
    with daemon:
        daemon.first_answer()
        return milliseconds(begun)


def reload(build, folder, cache, plugins=50):
    """From asking for it to the new generation serving, one plugin of many being changed."""
    entries = [entry(f"p{i}", "tool_pre_invoke", PII, isolation={"workers": {"min": 1, "max": 1}}) for i in range(plugins)]
    daemon = Daemon(build, folder, cache, entries)
    with daemon:
        eventually(daemon.ready, seconds=300)
        entries[7]["config"]["changed"] = 1
        write_yaml(folder / "plugins.yaml", entries)
        begun = time.perf_counter()
        changed = daemon.admin("reload")["changed"]
        assert changed["restarted"] == ["p7"], changed
        return milliseconds(begun)
