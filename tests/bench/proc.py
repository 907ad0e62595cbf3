# SPDX-License-Identifier: Apache-2.0
"""What Linux tells about processes: CPU time, memory, system calls."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time


def threads(pid):
    with contextlib.suppress(FileNotFoundError):
        return [int(each) for each in os.listdir(f"/proc/{pid}/task")]
    return []


def children(pid):
    """All processes below this one."""
    found = []
    for thread in threads(pid):
        with contextlib.suppress(FileNotFoundError):
            for child in pathlib.Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                found += [int(child), *children(int(child))]
    return found


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_seconds(pids):
    """On the CPU so far, to the nanosecond: /proc/PID/stat counts in hundredths of a second."""
    total = 0
    for pid in pids:
        for thread in threads(pid):
            with contextlib.suppress(FileNotFoundError):
                total += int(pathlib.Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def memory_mib(pid):
    """Resident (rss), shared memory in parts (pss), and what nobody else has (uss)."""
    rows = re.findall(r"^(\w+): +(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    kib = {name: int(value) for name, value in rows}
    return {
        "rss": kib["Rss"] / 1024,
        "pss": kib["Pss"] / 1024,
        "uss": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024,
    }


@contextlib.contextmanager
def on_one_core(pids):
    """Holds processes on the first core that we may use."""
    all_cores = os.sched_getaffinity(0)
    try:
        for pid in pids:
            for thread in threads(pid):
                os.sched_setaffinity(thread, {min(all_cores)})
        yield
    finally:
        for pid in pids:
            for thread in threads(pid):
                os.sched_setaffinity(thread, all_cores)


def system_calls(roles, n, work):
    """{role: {system call: how many of it for one call}} while `work()` makes n calls; None where strace is missing or not allowed."""
    if not shutil.which("strace"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        tracers = {}
        for role, pids in roles.items():
            options = [option for pid in pids for option in ("-p", str(pid))]
            log = open(f"{folder}/{role}.log", "wb")
            tracers[role] = subprocess.Popen(["strace", "-c", "-f", "-o", f"{folder}/{role}", *options], stdout=log, stderr=log)
        try:
            attached = {role: _attached(f"{folder}/{role}.log", tracer) for role, tracer in tracers.items()}
            if not all(attached.values()):
                return None
            work()
        finally:
            for tracer in tracers.values():
                tracer.send_signal(signal.SIGINT)
            for tracer in tracers.values():
                tracer.wait()
        return {role: _counts(pathlib.Path(f"{folder}/{role}").read_text(), n) for role in roles}


def _attached(log, tracer):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and tracer.poll() is None:
        if b"attached" in pathlib.Path(log).read_bytes():
            return True
        time.sleep(0.01)
    return False


def _counts(table, n):
    # % time, seconds, usecs/call, calls, errors (mostly empty), system call
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z]\w*)$", table, re.MULTILINE)
    counts = {name: round(int(calls) / n, 2) for calls, name in rows if name != "total"}
    return {name: count for name, count in counts.items() if count >= 0.05}
