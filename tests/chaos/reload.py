# SPDX-License-Identifier: Apache-2.0
"""Good and bad files mixed, every truncated one among them, and bursts of signals, under load: no call fails, and none mixes two generations."""

import contextlib
import signal
import socket

from storm import HOOK, Call, CallError, echo, eventually

# Most of its beginnings are wrong, in as many ways as there are lines.
PREFIXES = """\
plugin_dirs:
  - plugins
plugins:
  - name: "kept"
    kind: isolated_venv
    hooks:
      - tool_pre_invoke
    priority: 7
    config:
      script_path: "plugins/kept_plugin"
      requirements_file: "requirements.txt"
      class_name: "kept_plugin.plugin.P"
  - kind: isolated_venv # a comment
    hooks: [tool_pre_invoke]
    config: {version: 4711, script_path: plugins/one_plugin, requirements_file: requirements.txt, class_name: one_plugin.plugin.P}
    isolation: {workers: {min: 1, max: 2}, timeout: '5s'}
    name: 'one'
"""


class Generations:
    """Which plugins a generation says that it has, and which have answered in it, each with the version of its configuration."""

    def __init__(self):
        self.listed, self.answered = {}, {}

    def note_answer(self, answer):
        versions = tuple(sorted((name, each["version"]) for name, each in answer["metadata"].items()))
        self.answered.setdefault(answer["generation"], set()).add(versions)

    def note_hooks(self, daemon):
        answer = daemon.admin("hooks")
        self.listed[answer["generation"]] = set(answer["hooks"].get(HOOK, []))

    def mixed(self):
        for generation, answers in self.answered.items():
            names = {name for each in answers for name, _ in each}
            versions = {version for each in answers for _, version in each if version is not None}
            if len(answers) > 1 or len(versions) > 1 or names != self.listed.get(generation, names):
                yield f"generation {generation} has {self.listed.get(generation)}, and answered with {answers}"


class ServiceManager:
    """It counts what it is told (sd_notify(3))."""

    def __init__(self, path):
        self.path, self.told = str(path), {"READY=1": 0, "RELOADING=1": 0}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.5)

    def listen(self, is_over):
        while not is_over():
            with contextlib.suppress(TimeoutError):
                for state in self.socket.recv(4096).decode().splitlines():
                    self.told[state] = self.told.get(state, 0) + 1


def plugins(version):
    chain = ["one", "two", "three"] if version % 2 else ["one", "three"]
    return [echo("kept"), *(echo(name, config={"version": version}) for name in chain)]


def reload(storm):
    manager, generations, refused, over = ServiceManager(storm.folder / "notify"), Generations(), 0, False
    daemon = storm.daemon(plugins(0), env={"NOTIFY_SOCKET": manager.path})
    daemon.expect("plugins.yaml|refused|cannot start")
    path, version = daemon.folder / "plugins.yaml", 0
    lengths = storm.random.sample(range(len(PREFIXES)), len(PREFIXES))

    def reload_now():
        nonlocal refused
        try:
            daemon.admin("reload")
        except CallError:
            refused += 1
        generations.note_hooks(daemon)

    with storm.threads(manager.listen, [lambda: over]):
        with storm.hosts(daemon, lambda rand: Call(None), n=5, rate=500, on_answer=generations.note_answer):
            while lengths or storm.rest():
                version += 1
                daemon.write(plugins(version))
                reload_now()
                # So many that all have had their turn when the time is over, but not one after the other.
                share = max(int(len(lengths) / max(storm.rest() * 3, 1)), 1)
                for length in lengths[:share]:
                    path.write_text(PREFIXES[:length])
                    reload_now()
                del lengths[:share]
                for _ in range(storm.random.choice([0, 0, 10])):
                    daemon.signal(signal.SIGHUP)
            daemon.write(plugins(0))
            reload_now()
        eventually(lambda: daemon.admin("status")["state"] == "running" and manager.told["READY=1"] == manager.told["RELOADING=1"] + 1, 5,
                   f"the service manager was told {manager.told}")
        over = True
    for each in generations.mixed():
        storm.count("wrong", each)
    storm.notes.append(f"{manager.told['RELOADING=1']} reloads, {refused} of them refused, answers of {len(generations.answered)} generations")
    storm.settled(daemon)
    storm.measure(daemon)
