# SPDX-License-Identifier: Apache-2.0
"""The storms. Each is a function that gets a Storm, rages until its time is over, and measures the daemon when it has settled."""

import contextlib
import os
import pathlib
import re
import resource
import signal
import textwrap
import time

from allocation import allocation
from quota import quota
from reload import reload
from storm import OTHER_HOOK, PREAMBLE, SANITIZED, SEARCH, Call, CallError, Host, echo, eventually

# A process in a session of its own, of which its plugin knows nothing any more.
GRANDCHILD = """
async def initialize(self):
    import subprocess
    subprocess.Popen(["sleep", "600"], start_new_session=True)
"""

TWO = {"min": 2, "max": 2}
DIED = "it was killed by signal|it exited with status|cannot start: |on_error: |PluginError"


def crash(storm):
    """Workers are killed at random, also while they start."""
    daemon = storm.daemon([
        echo("fails", isolation={"workers": TWO, "max_concurrent": 4}),
        echo("ignored", on_error="ignore", isolation={"workers": TWO}),
        echo("grown", hook=OTHER_HOOK, more=GRANDCHILD, isolation={"workers": {"min": 1, "max": 1}}),
    ])
    daemon.expect(DIED)
    causes = {"crash", "start_failed", "queue_timeout"}

    def make(rand):
        if rand.random() < 0.3:
            return Call(["grown"], may_be=causes, hook=OTHER_HOOK)
        return Call(["fails"], optional=["ignored"], may_be=causes)

    with storm.hosts(daemon, make, n=8, rate=400):
        while storm.rest():
            workers = [worker for each in daemon.admin("status")["plugins"] for worker in each["workers"] if worker["pid"]]
            ready = [worker for worker in workers if worker["state"] == "ready"]
            # Mostly ready ones: a plugin whose workers die before they are is given longer and longer pauses.
            victims = ready if storm.random.random() < 0.9 else workers
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(storm.random.choice(victims)["pid"], storm.random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
            time.sleep(storm.random.random() / 4)
    storm.settled(daemon)
    storm.measure(daemon)


HANGS = """
import ctypes
if what == "spin":
    while True:
        pass
elif what == "block":
    time.sleep(60)
elif what == "hold the interpreter":
    ctypes.PyDLL(None).sleep(60)
elif what == "stop":
    os.kill(os.getpid(), signal.SIGSTOP)
elif what == "await":
    await asyncio.sleep(60)
elif what == "answer late":
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
"""


def hang(storm):
    """Plugins hang in every way; those beside them do not notice."""
    daemon = storm.daemon([
        echo("hanging", HANGS, isolation={"workers": {"min": 3, "max": 3}, "max_concurrent": 1, "timeout": 0.3}),
        echo("beside", hook=OTHER_HOOK, isolation={"workers": {"min": 1, "max": 1}}),
    ])
    daemon.expect(DIED + "|did not yield to cancellation|asked to")

    def make(rand):
        if rand.random() < 0.05:
            how = rand.choice(["spin", "block", "hold the interpreter", "stop", "await", "answer late"])
            return Call([], may_be={"timeout", "queue_timeout"}, timeout_ms=500, hanging=how)
        # More than a pipe holds: a worker that is stopped does not read it all.
        blob = {"blob": "x" * 300_000} if rand.random() < 0.05 else {}
        return Call(["hanging"], may_be={"timeout", "queue_timeout"}, timeout_ms=500, **blob)

    with storm.hosts(daemon, make, n=8, rate=200), storm.hosts(daemon, lambda rand: Call(["beside"], hook=OTHER_HOOK), n=2, rate=200):
        while storm.rest():
            time.sleep(0.5)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(storm.random.choice(daemon.workers("hanging")), signal.SIGSTOP)
    storm.settled(daemon)
    storm.measure(daemon)


def upgrade(storm):
    """cpexd executes itself anew, again and again, with calls in flight that take a while or too long, while workers die and the
    configuration changes. No host has to connect again."""
    slow = "await asyncio.sleep(what)"

    def plugins(version):
        return [echo("first", slow, isolation={"workers": TWO, "timeout": 0.5}), echo("second", slow, config={"version": version}),
                echo("side", slow, mode="concurrent"), echo("behind", slow, mode="fire_and_forget")]

    daemon = storm.daemon(plugins(0))
    daemon.expect(DIED + "|did not yield to cancellation|the upgrade is refused: (a reload|the configuration before)")
    causes, upgrades, version = {"crash", "timeout", "queue_timeout", "start_failed"}, 0, 0

    def make(rand):
        takes = {name: rand.choice([0, 0.01, 0.1, 1]) for name in ("first", "second", "side") if rand.random() < 0.1}
        return Call(["first", "second", "side"], may_be=causes, **takes)

    with storm.hosts(daemon, make, n=8, rate=300):
        while storm.rest():
            with contextlib.suppress(CallError):
                daemon.admin("upgrade")
                upgrades += 1
            time.sleep(storm.random.random() / 5)
            if storm.random.random() < 0.2:
                version += 1
                daemon.write(plugins(version))
                daemon.signal(signal.SIGHUP)
            elif storm.random.random() < 0.3:
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(storm.random.choice(daemon.workers("first")), signal.SIGKILL)
    storm.notes.append(f"{upgrades} upgrades")
    storm.settled(daemon)
    storm.measure(daemon)


COMPLAINTS = "cannot accept a connection: Too many open files|too few descriptors are left"


def descriptors(storm):
    """Far more hosts come than cpexd has descriptors for; workers die and want to be replaced, reloads want pipes. There is not one more
    descriptor, and the next time a few, which are not for hosts."""
    daemon = storm.daemon([echo("dying", isolation={"workers": TWO}), echo("beside", hook=OTHER_HOOK, isolation={"workers": TWO})])
    daemon.expect(DIED + "|no process can be started|cannot be run|cannot be read|refused: |" + COMPLAINTS)
    beside = Call(["beside"], hook=OTHER_HOOK)
    calls = [Call(["dying"], may_be={"crash"}), beside]
    begun, rounds = time.monotonic(), 0
    with Host(daemon.control) as admin, storm.hosts(daemon, lambda rand: rand.choice(calls), n=4, rate=200):
        eventually(lambda: admin.call("status")["hosts"] == 4)
        while storm.rest() or rounds < 2:
            flood(storm, daemon, admin, rounds % 2 * 60)
            with daemon.host() as late:
                storm.ask(late, beside, storm.random)
            rounds += 1
    complaints, seconds = len(re.findall(COMPLAINTS, daemon.log())), time.monotonic() - begun
    if not 0 < complaints <= seconds + 1:
        storm.say(f"{complaints} complaints in {seconds:.1f} s")
    storm.notes.append(f"{rounds} floods of 200 hosts")
    storm.settled(daemon)
    storm.measure(daemon)


def flood(storm, daemon, admin, left):
    """200 hosts come when so many descriptors are left."""
    def workers():
        return [worker for each in admin.call("status")["plugins"] for worker in each["workers"] if each["name"] == "dying"]

    def is_replaced():
        return [worker["state"] for worker in workers()] == ["ready"] * 2

    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (len(daemon.descriptors()) + left, most))
    with contextlib.ExitStack() as hosts:
        for _ in range(200):
            hosts.enter_context(daemon.host())
        os.kill(workers()[0]["pid"], signal.SIGKILL)
        with contextlib.suppress(CallError):
            admin.call("reload")
        used = cpu_seconds(daemon)
        time.sleep(0.5)
        used = cpu_seconds(daemon) - used
        if used > 0.25 and not SANITIZED:
            storm.say(f"without descriptors cpexd used {used:.2f} s of processor time in half a second")
        if left:
            eventually(is_replaced, 10, "there was no descriptor for a new worker")
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (most, most))
    eventually(is_replaced, 10, "the worker that died was not replaced")


def cpu_seconds(daemon):
    fields = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def supervisor(storm):
    """cpexd is killed at any moment of its life: its workers end with it, the next one takes the socket over, the hosts reconnect."""
    daemon = storm.daemon([
        echo("first", isolation={"workers": TWO}, more=GRANDCHILD),
        echo("second", isolation={"workers": {"min": 1, "max": 1}}),
    ])
    at_start, kills = daemon.at_start, 0
    with storm.hosts(daemon, lambda rand: Call(["first", "second"]), n=3, reconnect=True):
        while storm.rest() or kills == 0:
            time.sleep(storm.random.random())
            daemon.process.kill()
            daemon.process.wait()
            eventually(lambda: not daemon.processes_left(), 2, f"cpexd was killed; 2 s later there is {daemon.processes_left()}")
            daemon.start(ready=False)
            kills += 1
        daemon.wait_ready()
        answered = storm.outcomes.get("answered", 0)
        eventually(lambda: storm.outcomes.get("answered", 0) > answered + 3, 10, "no host has reconnected")
    daemon.at_start = at_start
    storm.notes.append(f"killed {kills} times")
    storm.settled(daemon)
    storm.measure(daemon)


BOMBS = {
    "forks": "for _ in range(30):\n    if os.fork() == 0:\n        time.sleep(600)\nos._exit(9)",
    "memory": "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 24))",
    "files": "hoard = []\nwhile True:\n    hoard.append(open('/dev/null'))",
    "lines": "for n in range(300_000):\n    os.write(2, b'a line of a flood\\n')",
    "one line": "os.write(1, b'x' * 10_000_000)",
    "long answer": "data['blob'] = 'x' * 2_000_000",
    "deep answer": "for _ in range(300):\n    data['deep'] = [data.get('deep')]",
    "wide answer": "data['wide'] = [{}] * 900_000",
    "garbage": "os.write(connection(), os.urandom(100_000))",
    "notifications": "fd = connection()\nfor _ in range(20_000):\n    os.write(fd, bytes.fromhex('9302a36c6f679181a76d657373616765a16d'))",
}


def bombs(storm):
    """Plugins fork, print, allocate and answer beyond measure: it is their own trouble."""
    # The launcher's sanitizer needs more address space than any limit leaves.
    kinds = [each for each in BOMBS if each != "memory" or not SANITIZED]
    deeds = "".join(f"if what == {name!r}:\n" + textwrap.indent(BOMBS[name], "    ") + "\n" for name in kinds)
    limits = {"workers": TWO, "max_concurrent": 1, "memory": None if SANITIZED else "600M", "files": 64, "timeout": 1}
    bomb = echo("bomb", deeds, more=GRANDCHILD, isolation=limits, preamble=PREAMBLE + SEARCH)
    settings = {"log": {"level": "info"}, "limits": {"frame_bytes": "1M", "output_bytes": "2M"}}
    daemon = storm.daemon([bomb, echo("beside", hook=OTHER_HOOK)], settings=settings)
    daemon.expect(DIED + "|more lines? of output|it was killed|it sent|asked to")
    causes = {"crash", "exception", "oversize", "malformed", "timeout", "queue_timeout", "start_failed"}
    turns = iter(())

    def make(rand):
        nonlocal turns
        what = next(turns, None)
        if not what:
            turns = iter(rand.sample(kinds, len(kinds)))
            return Call(["bomb"], may_be=causes)
        return Call(["bomb"], may_be=causes, bomb=what)

    with storm.hosts(daemon, make, n=3), storm.hosts(daemon, lambda rand: Call(["beside"], hook=OTHER_HOOK), n=2, rate=200):
        while storm.rest():
            time.sleep(0.1)
    # Of each worker 200 lines a second, of 2 KiB at most.
    if (size := daemon.log_path.stat().st_size) > (storm.seconds + 5) * 2 * 200 * 2100:
        storm.say(f"the log has {size} bytes")
    storm.settled(daemon, 40)
    storm.measure(daemon)


def faults(storm):
    """Everything that may fail does, by chance and all at once."""
    daemon = storm.faulty([echo("p", isolation={"workers": TWO}), echo("beside", hook=OTHER_HOOK)])
    daemon.expect("")  # it may complain about anything
    calls = [Call(["p"], may_be=None), Call(["beside"], may_be=None, hook=OTHER_HOOK)]
    with storm.hosts(daemon, lambda rand: rand.choice(calls), n=4, reconnect=True):
        while storm.rest():
            daemon.faults(f"read=/5,write=/5,spawn=/3,accept=/5,alloc=/500,clock-back=/20,seed={storm.random.randrange(1, 1000)}")
            for _ in range(5):
                with contextlib.suppress(CallError, OSError, EOFError, IndexError):
                    os.kill(storm.random.choice(daemon.workers("p")), signal.SIGKILL)
                    daemon.write([echo("p", config={"version": storm.random.random()}, isolation={"workers": TWO}), echo("beside", hook=OTHER_HOOK)])
                    daemon.admin("reload")
                time.sleep(0.1)
            daemon.faults("clock-ahead=1")
    daemon.faults("")
    storm.settled(daemon, 40)
    storm.measure(daemon)


ALL = {each.__name__: each for each in (crash, hang, reload, upgrade, descriptors, quota, supervisor, bombs, faults, allocation)}
