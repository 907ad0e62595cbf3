# SPDX-License-Identifier: Apache-2.0
"""What all storms have in common: hosts whose every call carries a nonce, a tally of what became of the calls, and the daemon, which is
measured when the storm is over. It is the daemon, and the leak gate, of the integration tests."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from daemon import PREAMBLE, ROOT, SANITIZED, SEARCH, CallError, Daemon, Host, children_of, eventually, has_faults, plugin, stat_of  # noqa: E402

FAULTS_BUILD = pathlib.Path(os.environ.get("CPEXD_FAULTS_BUILD", ROOT / "build-asan")).resolve()
HOOK = "tool_pre_invoke"
OTHER_HOOK = "tool_post_invoke"
KEYS = {HOOK: "args", OTHER_HOOK: "result"}  # where in the payload of a hook the call's own data is
RESULTS = {HOOK: "Result", OTHER_HOOK: "ToolPostInvokeResult"}
TIMEOUT_MS = 10_000
LATE_SECONDS = 0.020  # beyond the call's deadline, as the host sees it
LOST_SECONDS = 5  # beyond the deadline: nobody waits any longer
EXAMPLES = 5

BODY = """
async def {hook}(self, payload, context):
    data = payload.{key}
    if self.name in data:
        await self.do(data[self.name], data)
    mine = {{"nonce": data["nonce"], "version": self.config.config.get("version")}}
    return {result}(metadata={{self.name: mine}}, modified_payload=payload.model_copy(update={{"{key}": data | {{"echo": data["nonce"]}}}}))

async def do(self, what, data):
    {deeds}
"""


def echo(name, deeds="pass", hook=HOOK, more="", **options):
    """A plugin that hands the nonce of a call back, in the metadata and in the payload, after it has done what the call wants of it: the
    key with the plugin's name says what, `deeds` does it. `more`: further methods."""
    deeds = textwrap.indent(textwrap.dedent(deeds).strip(), "    ").strip()
    body = BODY.format(hook=hook, key=KEYS[hook], result=RESULTS[hook], deeds=deeds)
    return plugin(name, body + textwrap.dedent(more), hooks=[hook], **options)


class Call:
    """One call: which plugins have to answer it (None: those that do) and which may, and what else may become of it: causes of a
    plugin's error, codes of a refusal; None: anything."""

    def __init__(self, names, optional=(), may_be=(), hook=HOOK, timeout_ms=TIMEOUT_MS, **data):
        self.names, self.optional, self.may_be = names, set(optional), may_be
        self.hook, self.timeout_ms, self.data = hook, timeout_ms, data

    def payload(self, nonce):
        return {"name": "t", KEYS[self.hook]: self.data | {"nonce": nonce}}

    def is_answer(self, nonce, answer):
        """Whether the answer is that of this call and of no other."""
        answered = answer["metadata"]
        if self.names is not None and (not set(self.names) <= answered.keys() or not answered.keys() <= set(self.names) | self.optional):
            return False
        if any(each["nonce"] != nonce for each in answered.values()):
            return False
        return not answered or (answer["modified_payload"] or {}).get(KEYS[self.hook], {}).get("echo") == nonce


class Skipped(Exception):
    """The storm cannot rage here."""


class Storm:
    def __init__(self, name, seconds, seed, cache):
        self.name, self.seed, self.cache = name, seed, cache
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"cpexd-{name}-"))
        self.random = random.Random(f"{seed} {name}")
        self.seconds, self.until = seconds, None  # the time begins when a daemon is ready
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(("calls", "lost", "wrong", "late", "zombies", "leaked fds"), 0)
        self.rss_growth = 0
        self.slowest = 0
        self.outcomes = {}  # how often a call ended how: for people
        self.said = []  # what is wrong, in words
        self.notes = []
        self.daemons = []

    # ---- Daemons ----

    def faulty(self, plugins, **options):
        """A daemon that fails on purpose."""
        if not has_faults(FAULTS_BUILD):
            raise Skipped(f"{FAULTS_BUILD} has no cpexd with faults: meson setup build-asan -Dsanitize=true -Dfaults=true && ninja -C build-asan")
        # What is freed is to be free, as far as memory counts.
        env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
        return self.daemon(plugins, build=FAULTS_BUILD, env=env, **options)

    def daemon(self, plugins, **options):
        folder = self.folder / f"d{len(self.daemons)}"
        folder.mkdir()
        daemon = Daemon(folder, self.cache, plugins, **{"settings": {"log": {"level": "info"}}, **options})
        self.daemons.append(daemon.start(ready=False))
        daemon.wait_ready()
        daemon.rss_at_start = daemon.rss_kib()
        self.until = self.until or time.monotonic() + self.seconds
        return daemon

    def rest(self):
        """How many seconds of the storm are left."""
        return max(self.until - time.monotonic(), 0)

    def settled(self, daemon, seconds=20):
        """Waits until there are as many workers as at the start, and all are ready: the storm is over for this daemon."""
        def ready():
            workers = [worker["state"] for each in daemon.admin("status")["plugins"] for worker in each["workers"]]
            return workers == ["ready"] * len(daemon.at_start[1])

        eventually(ready, seconds, f"not all workers were ready {seconds} s after the storm: {daemon.admin('status')['plugins']}")

    def measure(self, daemon):
        """What the storm has left behind in a daemon that has settled."""
        descriptors, _ = daemon.footprint()
        self.counts["leaked fds"] += max(len(descriptors) - len(daemon.at_start[0]), 0)
        self.counts["zombies"] += sum((stat_of(pid) or "?")[0] == "Z" for pid in children_of(daemon.pid))
        self.rss_growth = max(self.rss_growth, daemon.rss_kib() - daemon.rss_at_start)

    # ---- Calls ----

    def say(self, text):
        with self.lock:
            self.said.append(str(text))

    def count(self, what, example=None):
        with self.lock:
            self.counts[what] += 1
        if example:
            self.say(f"{what}: {example}")

    def outcome(self, what):
        with self.lock:
            self.outcomes[what] = self.outcomes.get(what, 0) + 1

    def ask(self, host, call, rand):
        """Makes the call, waits for its answer and counts what it was. Returns the answer, None for an error. Raises OSError or EOFError when
        the connection is gone."""
        nonce, begun = rand.getrandbits(60), time.monotonic()
        host.socket.settimeout(call.timeout_ms / 1000 + LOST_SECONDS)
        try:
            msgid = host.begin(call.hook, call.payload(nonce), {"request_id": f"r{nonce}"}, timeout_ms=call.timeout_ms)
            try:
                answer = host.end(msgid)
            finally:
                took = time.monotonic() - begun
        except CallError as error:
            answer, outcome = None, error.cause or error.code
            if call.may_be is not None and outcome not in call.may_be:
                self.count("wrong", f"{error} ({outcome})")
        except (OSError, EOFError) as error:
            self.count("calls")
            if isinstance(error, TimeoutError):
                self.count("lost", f"no answer to {call.payload(nonce)}")
            raise
        else:
            outcome = "answered"
            self.slowest = max(self.slowest, took)
            if not call.is_answer(nonce, answer):
                self.count("wrong", f"the answer to {call.payload(nonce)} is {answer}")
        self.count("calls")
        self.outcome(outcome)
        if took > call.timeout_ms / 1000 + LATE_SECONDS:
            self.count("late")
        return answer

    @contextlib.contextmanager
    def hosts(self, daemon, make, n=4, rate=None, on_answer=None, reconnect=False):
        """While the block runs, `n` hosts call without pause, or with so many calls a second all together; make(random) says what. With
        `reconnect` a connection may be closed."""
        stop = threading.Event()

        def talk(rand):
            due = time.monotonic()
            with daemon.host() as connection:
                while not stop.is_set():
                    answer = self.ask(connection, make(rand), rand)
                    if answer and on_answer:
                        on_answer(answer)
                    if rate:
                        due += n / rate
                        stop.wait(max(due - time.monotonic(), 0))

        def host(number):
            rand = random.Random(f"{self.seed} {self.name} {number}")
            while not stop.is_set():
                try:
                    talk(rand)
                except TimeoutError:
                    pass
                except (FileNotFoundError, ConnectionRefusedError):
                    if not reconnect:
                        raise
                    stop.wait(0.01)
                except (OSError, EOFError) as error:
                    if not reconnect:
                        self.count("lost", f"the connection was closed: {error!r}")
                        return
                    self.outcome("disconnected")

        with self.threads(host, range(n)):
            try:
                yield
            finally:
                stop.set()

    @contextlib.contextmanager
    def threads(self, function, arguments):
        """Calls the function with each of the arguments, side by side with the block, and waits for all."""
        def guarded(argument):
            try:
                function(argument)
            except Exception:
                self.say(traceback.format_exc())

        threads = [threading.Thread(target=guarded, args=(argument,)) for argument in arguments]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()

    # ---- The end ----

    def run(self, storm):
        """Returns whether nothing is wrong; None where it could not rage."""
        try:
            storm(self)
            for daemon in self.daemons:
                daemon.gate()
        except Skipped as reason:
            print(f"{self.name}: skipped: {reason}")
            shutil.rmtree(self.folder)
            return None
        except Exception:
            self.say(traceback.format_exc())
        finally:
            for daemon in self.daemons:
                daemon.kill()
                for pid in daemon.processes_left():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        if not self.outcomes.get("answered"):
            self.say("not one call was answered")
        bad = self.said or any(self.counts[key] for key in ("lost", "wrong", "zombies", "leaked fds"))
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items())
        print(f"{self.name}: {counts}, rss growth {self.rss_growth} KiB", flush=True)
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.outcomes.items()))
        for text in [*self.notes, f"{outcomes}; the slowest answer took {self.slowest * 1000:.0f} ms"]:
            print(f"    {text}")
        for text in self.said[:EXAMPLES]:
            print(textwrap.indent(text, "    "))
        if len(self.said) > EXAMPLES:
            print(f"    … and {len(self.said) - EXAMPLES} more")
        if bad:
            print(f"    what is left of it is in {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder)
        return not bad


__all__ = ["HOOK", "OTHER_HOOK", "PREAMBLE", "SANITIZED", "SEARCH", "Call", "CallError", "Host", "Storm", "echo", "eventually"]
