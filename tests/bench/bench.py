# SPDX-License-Identifier: Apache-2.0
"""One run: who is measured, with what, in what order."""

import contextlib
import datetime
import os
import platform
import sys
import time

import contestants
import life
import proc
import ratios

BIG = "1000000"

class Run:
    def __init__(self, given, settings, scratch):
        self.given, self.settings, self.scratch = given, settings, scratch
        self.venvs = scratch / "venvs"
        self.samples = {}  # {workload: {contestant: [figures of each round]}}
        self.begun = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    # ---- In rounds ----

    def open(self, stack):
        make = {"cpexd": lambda: self.cpexd("cpexd"), "no_sandbox": lambda: self.cpexd("no_sandbox", isolation={"sandbox": {"profile": "off"}})}
        make["group"] = lambda: self.cpexd("group", group="chain")
        for name in ("one_hop", "two_hops"):
            make[name] = lambda name=name: contestants.floor(name, self.given.build, sys.executable, self.scratch / name)
        for name in self.given.peers:
            make[name] = lambda name=name: contestants.peer(name, sys.executable, self.given.cache / f"peer-{name}")
        found = {name: stack.enter_context(each()) for name, each in make.items()}
        for each in found.values():
            each.wait_ready()
        return found

    def cpexd(self, name, **settings):
        return contestants.cpexd(name, self.given.build, sys.executable, self.scratch / name, self.venvs, **settings)

    def piece(self, workload, contestant, op, work, **more):
        """One measurement, with the CPU time of a call by role."""
        before = cpu_of(contestant)
        figures = contestant.ask(op, work=work, seconds=self.settings["seconds"], **more)
        figures["cpu_us"] = {role: (now - before[role]) / figures["n"] * 1e6 for role, now in cpu_of(contestant).items()}
        self.samples.setdefault(workload, {}).setdefault(contestant.name, []).append(figures)

    def pinned(self, contestant):
        with proc.on_one_core([pid for pids in contestant.roles().values() for pid in pids]):
            self.piece("small_pinned", contestant, "sequential", "small")

    def one_round(self, found):
        cpexd = found["cpexd"]
        everybody = [each for name, each in found.items() if name not in ("one_hop", "no_sandbox", "group")]
        with_plugins = [each for each in everybody if each.name != "two_hops"]
        both = [found[name] for name in ("cpexd", "native") if name in found]
        for each in everybody:
            self.piece("small", each, "sequential", "small")
        for each in (cpexd, found["two_hops"], found["no_sandbox"]):
            self.pinned(each)
        for each in with_plugins:
            self.piece("c32", each, "concurrent", "small", callers=32)
        for each in everybody:
            self.piece("big", each, "sequential", BIG)
        own = cpexd.ask("own_time", work=BIG, seconds=self.settings["seconds"])
        self.samples.setdefault("big", {}).setdefault("plugin", []).append(own)
        for each in (*both, found["group"]):
            self.piece("chain10", each, "sequential", "chain")
        for each in both:
            self.piece("await50", each, "concurrent", "wait", callers=32)
        for each in (cpexd, found["one_hop"]):
            self.piece("empty", each, "sequential", "empty")

    def sweeps(self, found):
        """Payload sizes and numbers of callers, for the plots: one round."""
        chosen = [found[name] for name in ("cpexd", "native", "isolated", "two_hops") if name in found]
        for size in self.settings["sizes"]:
            for each in chosen:
                self.piece(f"bytes_{size}", each, "sequential", str(size))
        for callers in self.settings["callers"]:
            for each in chosen:
                if each.name in ("cpexd", "native"):
                    self.piece(f"await50_{callers}", each, "concurrent", "wait", callers=callers)

    def rounds(self):
        with contextlib.ExitStack() as stack:
            self.say("starting everybody")
            found = self.open(stack)
            for each in found.values():
                each.ask("calls", work="small", n=50)
            for number in range(self.settings["rounds"]):
                self.say(f"round {number + 1} of {self.settings['rounds']}")
                self.one_round(found)
            self.sweeps(found)
            return {
                "system_calls": {name: self.traced(each) for name, each in found.items()},
                "memory_mib": {name: memory_of(each.roles()) for name, each in found.items()},
            }

    def traced(self, contestant):
        n = self.settings["traced"]
        if not n:
            return None
        return proc.system_calls(contestant.roles(), n, lambda: contestant.ask("calls", work="small", n=n))

    # ---- Once ----

    def folder(self, name):
        return self.scratch / f"{name}-{len(list(self.scratch.iterdir()))}"

    def life(self):
        build, venvs, settings = self.given.build, self.venvs, self.settings
        starts = {"cpexd": [], "isolated": []}
        self.say("starts, deaths, memory")
        for _ in range(settings["starts"]):
            starts["cpexd"].append(life.warm_start(build, self.folder("warm"), venvs))
            if "isolated" in self.given.peers:
                starts["isolated"].append(life.peer_start("isolated", sys.executable, self.given.cache / "peer-isolated"))
        return {
            "warm_start_ms": starts,
            "cold_start_ms": [life.cold_start(build, self.folder("cold")) for _ in range(settings["starts"])],
            "respawn_ms": life.respawns(build, self.folder("respawn"), venvs, settings["respawns"]),
            "worker_memory": life.worker_memory(build, self.folder("memory"), venvs),
            "crowd": life.crowd(build, self.folder("crowd"), venvs, settings["workers"], settings["connections"], seconds=settings["seconds"]),
            "reload_1_of_50_ms": life.reload(build, self.folder("reload"), venvs, settings["plugins"]) if settings["plugins"] else None,
        }


def cpu_of(contestant):
    return {role: proc.cpu_seconds(pids) for role, pids in contestant.roles().items()}


def memory_of(roles):
    """Of all processes of a role together."""
    return {role: {kind: sum(proc.memory_mib(pid)[kind] for pid in pids) for kind in ("pss", "uss")} for role, pids in roles.items()}


def load():
    """What else this machine does; 1.0: as many runnable as there are cores."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


def machine():
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def rounded(value):
    """Five digits say all."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def measure(given, settings, scratch):
    result = machine() | {"command": " ".join(["tests/bench/run", *sys.argv[1:]]), "load_before": load()}
    run = Run(given, settings, scratch)
    measured = run.rounds() | run.life()
    result |= {"load_after": load(), "rounds": settings["rounds"], "samples": run.samples} | measured
    return result | {"ratios": ratios.all_of(result)}
