# SPDX-License-Identifier: Apache-2.0
"""Each allocation of a start, and of whatever else cpexd does, fails once: cpexd answers or exits and, if it goes on, is well afterwards.
The sanitizer says whether anything leaks."""

import contextlib
import random
import time

from storm import HOOK, Call, CallError, Host, echo, eventually

HEALED_SECONDS = 15
STATUS_SYSTEM = 4  # the system refused something that is needed
MORE_THAN_THERE_ARE = "alloc=1000000000"

DEEDS = """
if what == "die":
    os._exit(3)
else:
    await asyncio.sleep(60)
"""
WELL = Call(["p"], may_be=None)
DIES = Call([], may_be=None, p="die")
SLEEPS = Call([], may_be=None, p="sleep")


def plugins(version=0):
    return [echo("p", DEEDS, config={"version": version}, isolation={"timeout": 0.3, "workers": {"min": 1, "max": 1}})]


class Steps:
    """What cpexd can be asked to do, again and again."""

    def __init__(self, storm, daemon):
        self.storm, self.daemon, self.version = storm, daemon, 0

    def call(self, call=WELL):
        with self.daemon.host() as host:
            self.storm.ask(host, call, self.storm.random)

    def greeting(self):
        with self.daemon.host() as host:
            for method in ("hello", "hooks", "plugins", "nonsense"):
                with contextlib.suppress(CallError):
                    host.call(method)

    def cancel(self):
        with self.daemon.host() as host:
            msgid = host.begin(HOOK, SLEEPS.payload(1))
            host.notify("cancel", msgid=msgid)
            with contextlib.suppress(CallError):
                host.end(msgid)

    def disconnect(self):
        with self.daemon.host() as host:
            host.begin(HOOK, SLEEPS.payload(1))

    def timeout(self):
        self.call(SLEEPS)

    def death(self):
        self.call(DIES)
        time.sleep(0.3)

    def administration(self):
        with Host(self.daemon.control) as admin:
            for method in ("status", "venv.list", "venv.build", "nonsense"):
                with contextlib.suppress(CallError):
                    admin.call(method)

    def refused_reload(self):
        (self.daemon.folder / "plugins.yaml").write_text("plugins: [{name: p, kind: nonsense, mode: {}}]\n")
        with Host(self.daemon.control) as admin, contextlib.suppress(CallError):
            admin.call("reload")

    def reload(self):
        self.version += 1
        self.daemon.write(plugins(self.version))
        with Host(self.daemon.control) as admin, contextlib.suppress(CallError):
            admin.call("reload")


STEPS = ("call", "greeting", "cancel", "disconnect", "timeout", "administration", "death", "refused_reload", "reload")


def spread(storm, n, until):
    """1 … n in the seed's order, as long as there is time; at least one. The last quarter comes first: what is before it in a start and in a
    reload is the reading of the files, of which a unit test lets each allocation fail."""
    rand = random.Random(f"{storm.seed} {n}")
    first = n * 3 // 4 + 1
    for number in rand.sample(range(first, n + 1), n + 1 - first) + rand.sample(range(1, first), first - 1):
        yield number
        if time.monotonic() > until:
            return


def is_well(storm, daemon):
    """Whether a call is answered as if nothing had been."""
    def asks():
        with contextlib.suppress(OSError, EOFError), daemon.host() as host:
            return storm.ask(host, WELL, storm.random)

    eventually(asks, HEALED_SECONDS, f"cpexd is not well {HEALED_SECONDS} s after an allocation has failed:\n{daemon.log()[-2000:]}")


def sweep_steps(storm, daemon, until):
    """In one daemon, which has to be well after each of them."""
    steps = Steps(storm, daemon)
    for n, name in enumerate(STEPS):
        step, done = getattr(steps, name), 0
        daemon.faults(MORE_THAN_THERE_ARE)
        step()
        allocations = daemon.faults("")["alloc"]
        is_well(storm, daemon)
        for number in spread(storm, allocations, time.monotonic() + (until - time.monotonic()) / (len(STEPS) - n)):
            daemon.faults(f"alloc={number}")
            with contextlib.suppress(OSError, EOFError):  # it may have no memory for a connection
                step()
            daemon.faults("")
            is_well(storm, daemon)
            done += 1
        storm.notes.append(f"{name}: {done} of {allocations} allocations failed")
    daemon.write(plugins(steps.version))
    storm.settled(daemon)
    storm.measure(daemon)


def sweep_start(storm, daemon, until):
    """In as many daemons. Each ends for that reason, or goes on and is well."""
    allocations, done = daemon.faults("")["alloc"], 0
    daemon.stop()
    for number in spread(storm, allocations, until):
        daemon.faults_path.write_text(f"alloc={number}")
        daemon.start(ready=False)
        eventually(lambda: daemon.process.poll() is not None or "ready: " in daemon.log(), HEALED_SECONDS,
                   f"the start without allocation {number} hangs:\n{daemon.log()}")
        expected = STATUS_SYSTEM
        if daemon.process.poll() is None:
            is_well(storm, daemon)
            expected = 0
        status = daemon.stop()
        faults = list(daemon.faults_left({}))
        assert status == expected and not faults, f"the start without allocation {number} ended with {status}; {faults}:\n{daemon.log()}"
        done += 1
    daemon.faults_path.write_text("")
    daemon.start()
    storm.notes.append(f"start: {done} of {allocations} allocations failed")


def allocation(storm):
    daemons = [storm.faulty(plugins()) for _ in range(2)]
    for daemon in daemons:
        daemon.expect("")  # it may complain about anything
    # Both at once, for most of their time is that of Python's starts.
    with storm.threads(lambda daemon: sweep_start(storm, daemon, storm.until), daemons[1:]):
        sweep_steps(storm, daemons[0], storm.until)
