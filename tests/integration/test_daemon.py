# SPDX-License-Identifier: Apache-2.0
"""The daemon itself: its command line, start, reload and stop, and what it tells systemd."""

import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
from daemon import BUILD, CallError, Daemon, eventually, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}


def says(name, text, **entry):
    return plugin(name, f"""
        async def tool_pre_invoke(self, payload, context):
            await asyncio.sleep((payload.args or {{}}).get("sleep", 0))
            return Result(metadata={{"{name}": {text!r}}})
    """, **entry)


def run(*args, **options):
    return subprocess.run([BUILD / "cpexd", *args], capture_output=True, text=True, timeout=30, **options)


def ended(daemon, seconds=20):
    """The status of a daemon that is expected to end by itself; the gate then has nothing to say about that."""
    status = daemon.process.wait(seconds)
    daemon.process.returncode = 0
    return status


# ---- Command line ----


def test_version():
    done = run("--version")
    assert done.returncode == 0 and re.fullmatch(r"cpexd \d+\.\d+\.\d+\n", done.stdout)


def test_help():
    done = run("--help")
    assert done.returncode == 0
    for option in ("-c", "--plugins", "--socket", "--control", "--check", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize("args", [["--nonsense"], ["-c"], ["surplus"]])
def test_usage_errors(args):
    done = run(*args)
    assert done.returncode == 2 and done.stderr and not done.stdout


def check(folder, text, name="plugins.yaml", *more):
    (folder / name).write_text(text)
    (folder / "cpexd.yaml").write_text("plugins: plugins.yaml\nsocket: {path: s}\n")
    return run("-c", folder / "cpexd.yaml", "--check", *more)


def test_check_good(tmp_path):
    done = check(tmp_path, "plugins: []\n")
    assert done.returncode == 0, done.stderr


def test_check_reports_every_mistake_with_its_place(tmp_path):
    done = check(tmp_path, """\
plugins:
  - name: pii
    kind: isolated_venv
    hooks: [tool_pre_invoke]
    mode: transfrom
    priority: high
    config:
      class_name: a.B
  - kind: isolated_venv
    config:
      class_name: a.B
""")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert re.search(r'plugins\.yaml:5:11: .*plugins\[[01]\] "pii".*mode.*transfrom.*transform', said)
    assert re.search(r'plugins\.yaml:6:15: .*priority', said)
    assert re.search(r'plugins\.yaml:9:\d+: .*plugins\[[12]\].*name', said)


def test_check_names_unknown_keys_without_refusing(tmp_path):
    (tmp_path / "plugins" / "a").mkdir(parents=True)
    done = check(tmp_path, "plugins:\n  - name: a\n    kind: isolated_venv\n    prioritty: 3\n    config: {class_name: a.B, script_path: plugins/a}\n")
    said = done.stdout + done.stderr
    assert done.returncode == 0
    assert re.search(r"plugins\.yaml:4:5: .*prioritty.*priority", said)


@pytest.mark.parametrize("text", ["plugins: [", "plugins: {\n", "a: &a [*a, *a]\nb: &b [*a,*a]\n" , "\tplugins: []", "plugins: [" * 5000, "\x00", "- 1\n- 2\n",
                                  "!!python/object/apply:os.system ['true']"])
def test_check_refuses_what_is_no_configuration(tmp_path, text):
    began = time.monotonic()
    done = check(tmp_path, text)
    assert done.returncode == 1 and "plugins.yaml" in done.stdout + done.stderr
    assert time.monotonic() - began < 5


ENTRY = "  - {name: a, kind: isolated_venv, hooks: [h], config: {class_name: a.B, script_path: plugins/a}%s}\n"


@pytest.mark.parametrize("entries, status, last", [
    ([""], 0, "plugins.yaml: 1 plugin, no mistakes"),
    ([", hoks: [h]"], 0, "plugins.yaml: 1 plugin, 1 warning"),
    ([", hoks: [h], prio: 1"], 0, "plugins.yaml: 1 plugin, 2 warnings"),
    ([", mode: x, hoks: [h]"], 1, "refused: 1 mistake, 1 warning"),
    ([", mode: x, on_error: x"], 1, "refused: 2 mistakes"),
    (["", ", hoks: [h]"], 1, "plugins.yaml: 1 plugin, 1 mistake, 1 warning"),  # two of one name
])
def test_the_last_line_of_check_counts(tmp_path, entries, status, last):
    (tmp_path / "plugins" / "a").mkdir(parents=True)
    done = check(tmp_path, "plugins:\n" + "".join(ENTRY % entry for entry in entries))
    assert (done.returncode, done.stdout.splitlines()) == (status, [last]), done.stderr


@pytest.mark.parametrize("change", [("plugins/a", "plugins"), ("script_path: plugins/a", "script_path: plugins/a, requirements_file: none.txt"),
                                    ("isolated_venv", "no.Class"), ("hooks: [h]", "hooks: [h], isolation: {python: /no/python}")])
def test_what_is_not_there_is_a_mistake_to_check_alone(tmp_path, change):
    (tmp_path / "plugins" / "a").mkdir(parents=True)
    done = check(tmp_path, "plugins:\n" + (ENTRY % "").replace("a.B", "a.b.B" if "plugins" in change else "a.B").replace(*change))
    assert done.returncode == 1 and done.stdout.endswith("1 plugin, 1 mistake\n")
    assert re.search(r"^\S*plugins\.yaml:2:\d+: .*(there is no (file|module)|expected a program that is there)", done.stderr)


def test_a_daemon_starts_with_what_check_calls_a_mistake(cpexd):
    daemon = cpexd([says("a", "x"), says("a", "x")])
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"a": "x"}
    daemon.expect("warning: .*a plugin of this name stands in line")


def test_check_of_missing_files(tmp_path):
    done = run("-c", tmp_path / "none.yaml", "--check")
    assert done.returncode == 1 and "none.yaml" in done.stdout + done.stderr


def test_check_starts_nothing(tmp_path):
    done = check(tmp_path, "plugins: []\n")
    assert done.returncode == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cpexd.yaml", "plugins.yaml"]


# ---- Start ----


def test_a_plugin_that_must_start_and_cannot(cpexd):
    daemon = cpexd([plugin("fails", """
        async def initialize(self):
            raise ValueError("not today")

        async def tool_pre_invoke(self, payload, context):
            return Result()
    """)], ready=False, settings={"plugin_settings": {"fail_on_plugin_error": True}})
    assert ended(daemon) == 5
    daemon.expect("not today")


def test_the_folder_of_the_configuration(tmp_path):
    (tmp_path / "plugins.yaml").write_text("plugins: []\n")
    (tmp_path / "cpexd.yaml").write_text("socket: {path: s}\n")
    env = os.environ | {"CONFIGURATION_DIRECTORY": str(tmp_path)}
    done = subprocess.run([BUILD / "cpexd", "--check"], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path}/plugins.yaml: 0 plugins"), done.stderr
    (tmp_path / "cpexd.yaml").write_text("socket: 7\n")
    done = subprocess.run([BUILD / "cpexd", "--check"], capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.startswith(f"{tmp_path}/cpexd.yaml:1:9: "), done.stderr


def test_a_bad_configuration_does_not_start(cpexd):
    daemon = cpexd([says("a", "x", mode="nonsense")], ready=False)
    assert ended(daemon) == 1
    daemon.expect("nonsense")
    assert not daemon.socket.exists()


def test_two_daemons_on_one_socket(cpexd):
    first = cpexd([says("a", "first")])
    second = cpexd([says("a", "second")], args=("--socket", str(first.socket)), ready=False)
    second.expect("error: .*" + re.escape(str(first.socket)))
    assert ended(second) == 3
    assert first.invoke(HOOK, CALL)["metadata"] == {"a": "first"}
    assert not second.control.exists()


def test_a_stale_socket_file_is_replaced(cpexd, tmp_path):
    path = tmp_path / "stale.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    daemon = cpexd([says("a", "x")], args=("--socket", str(path)))
    daemon.socket = path
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"a": "x"}


def test_a_file_that_is_no_socket_is_left_alone(cpexd, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    daemon = cpexd([says("a", "x")], args=("--socket", str(path)), ready=False)
    daemon.expect("error: .*precious")
    assert ended(daemon) == 4
    assert path.read_text() == "data"


def test_a_socket_path_that_is_too_long(cpexd, tmp_path):
    daemon = cpexd([says("a", "x")], args=("--socket", str(tmp_path / ("x" * 120))), ready=False)
    daemon.expect("error: ")
    assert ended(daemon) in (1, 4)


def test_the_control_socket_is_private(cpexd):
    daemon = cpexd([says("a", "x")])
    assert stat.S_IMODE(daemon.control.stat().st_mode) & 0o007 == 0


def test_options_win_over_the_file(cpexd, tmp_path):
    daemon = cpexd([says("a", "x")], args=("--socket", str(tmp_path / "s.sock"), "--control", str(tmp_path / "c.sock")), ready=False)
    (socket, control), daemon.socket, daemon.control = (daemon.socket, daemon.control), tmp_path / "s.sock", tmp_path / "c.sock"
    daemon.wait_ready()
    assert not socket.exists() and not control.exists()
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"a": "x"}
    assert daemon.admin("ping") == {}


# ---- Stop ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_in_flight_are_answered_before_the_end(cpexd, number):
    daemon = cpexd([says("a", "x", isolation={"max_concurrent": 8})])
    with daemon.host() as host, daemon.host() as other:
        other.call("ping")
        ids = [host.begin(HOOK, {"name": "t", "args": {"sleep": 1}}) for _ in range(8)]
        time.sleep(0.2)
        daemon.signal(number)
        time.sleep(0.2)
        with pytest.raises((CallError, EOFError, OSError)) as caught:
            other.invoke(HOOK, CALL)
        if isinstance(caught.value, CallError):
            assert caught.value.code == "stopping"
        for msgid in ids:
            assert host.end(msgid)["metadata"] == {"a": "x"}
    assert daemon.process.wait(5) == 0


def test_a_hung_plugin_does_not_hold_the_end_for_ever(cpexd):
    hung = plugin("h", """
        async def shutdown(self):
            while True:
                pass

        async def tool_pre_invoke(self, payload, context):
            while True:
                pass
    """, isolation={"timeout": 60})
    daemon = cpexd([hung], settings={"drain_timeout": 1})
    daemon.expect('plugin "h"|warning: stopping took too long')
    with daemon.host() as host:
        host.begin(HOOK, CALL)
        time.sleep(0.2)
        assert daemon.stop(10) == 0


def test_stop_while_starting(cpexd):
    daemon = cpexd([plugin("s", "async def initialize(self):\n    await asyncio.sleep(30)\n", hooks=[])], ready=False)
    daemon.expect('plugin "s"')
    time.sleep(0.5)
    assert daemon.stop(10) == 0


# ---- Reload ----


def test_reload_takes_the_new_configuration(cpexd):
    daemon = cpexd([says("a", "old")])
    daemon.write([says("a", "old"), says("b", "new")])
    daemon.signal(signal.SIGHUP)
    daemon.wait_ready(2)
    answer = daemon.invoke(HOOK, CALL)
    assert answer["generation"] == 2 and answer["metadata"] == {"a": "old", "b": "new"}
    daemon.at_start = daemon.footprint()


def test_reload_of_a_bad_file_changes_nothing(cpexd):
    daemon = cpexd([says("a", "old")])
    daemon.expect("nonsense|error: the new configuration is refused; generation 1 keeps serving|refused")
    for broken in ('{"plugins": [', '{"plugins": [{"name": "a", "kind": "isolated_venv", "mode": "nonsense"}]}'):
        (daemon.folder / "plugins.yaml").write_text(broken)
        refused = len(re.findall("keeps serving", daemon.log()))
        daemon.signal(signal.SIGHUP)
        eventually(lambda: len(re.findall("error: .*refused.*generation 1 keeps serving", daemon.log())) > refused)  # noqa: B023
        answer = daemon.invoke(HOOK, CALL)
        assert answer["generation"] == 1 and answer["metadata"] == {"a": "old"}
    daemon.expect("plugins.yaml:")


def test_reload_through_cpexctl(cpexd):
    daemon = cpexd([says("a", "old")])
    daemon.write([says("a", "new")])
    done = daemon.ctl("reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert daemon.invoke(HOOK, CALL)["generation"] == 2
    (daemon.folder / "plugins.yaml").write_text("plugins: 7\n")
    daemon.expect("refused|plugins.yaml:")
    done = daemon.ctl("reload")
    assert done.returncode == 1 and "plugins.yaml:1" in done.stdout + done.stderr


def test_no_call_fails_because_of_a_reload(cpexd):
    daemon = cpexd([says("a", "x", isolation={"max_concurrent": 8})])
    with daemon.host() as host:
        for generation in range(2, 6):
            daemon.signal(signal.SIGHUP)
            while f"generation {generation} serves" not in daemon.log():
                ids = [host.begin(HOOK, {"name": "t", "args": {"sleep": 0.01}}) for _ in range(8)]
                seen = [host.end(msgid) for msgid in ids]
                assert all(answer["metadata"] == {"a": "x"} for answer in seen)
                assert {answer["generation"] for answer in seen} <= {generation - 1, generation}


def test_a_call_in_flight_ends_in_its_generation(cpexd):
    daemon = cpexd([says("a", "old")])
    with daemon.host() as host:
        msgid = host.begin(HOOK, {"name": "t", "args": {"sleep": 2}})
        time.sleep(0.1)
        daemon.write([says("b", "new")])
        daemon.signal(signal.SIGHUP)
        daemon.wait_ready(2)
        answer = host.end(msgid)
        assert answer["generation"] == 1 and answer["metadata"] == {"a": "old"}
        assert host.invoke(HOOK, CALL)["metadata"] == {"b": "new"}
    eventually(lambda: len(daemon.worker_pids()) == 1)


def test_a_burst_of_reloads(cpexd):
    daemon = cpexd([says("a", "x")])
    for _ in range(10):
        daemon.signal(signal.SIGHUP)
    daemon.wait_ready(2)
    eventually(lambda: daemon.admin("ping") == {})
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"a": "x"}
    time.sleep(1)
    daemon.wait_log("generation 2 serves")


def test_a_second_signal_while_stopping(cpexd):
    daemon = cpexd([says("a", "x")])
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGHUP)
    assert daemon.process.wait(10) == 0


# ---- What systemd is told ----


class Notified:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)
        self.got = []

    def until(self, word):
        while not any(line.startswith(word) for line in self.got):
            self.got += self.socket.recv(4096).decode().splitlines()
        return self.got

    def clear(self):
        self.got = []


def test_notify(cpexd, tmp_path):
    notified = Notified(tmp_path / "notify")
    daemon = cpexd([says("a", "x")], env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notified.until("READY=1")
    notified.until("STATUS=")
    notified.clear()
    daemon.signal(signal.SIGHUP)
    said = notified.until("READY=1")
    assert said[0] == "RELOADING=1" and said[1].startswith("MONOTONIC_USEC=")
    assert abs(int(said[1].split("=")[1]) / 1e6 - time.monotonic()) < 30
    daemon.wait_ready(2)
    daemon.expect("refused|plugins.yaml:")
    for text in ("plugins: 7\n", "{% frob %}\n", "{% if 1 %}{% endif %}\n"):  # refused at once, by Jinja2, after Jinja2
        notified.clear()
        (daemon.folder / "plugins.yaml").write_text(text)
        daemon.signal(signal.SIGHUP)
        said = notified.until("READY=1")
        assert said[0] == "RELOADING=1"
    notified.clear()
    daemon.signal(signal.SIGTERM)
    notified.until("STOPPING=1")
    assert daemon.process.wait(10) == 0


def test_workers_cannot_speak_for_the_daemon(cpexd, tmp_path):
    notified = Notified(tmp_path / "notify")
    daemon = cpexd([plugin("a", """
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={"env": sorted(os.environ)})
    """)], env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notified.until("READY=1")
    assert "NOTIFY_SOCKET" not in daemon.invoke(HOOK, CALL)["metadata"]["env"]


def test_ready_comes_only_when_the_workers_are_up(cpexd):
    daemon = cpexd([plugin("slow", """
        async def initialize(self):
            await asyncio.sleep(1)

        async def tool_pre_invoke(self, payload, context):
            return Result()
    """)], ready=False)
    began = time.monotonic()
    daemon.wait_ready()
    assert time.monotonic() - began > 0.9
    assert daemon.workers("slow")
    assert re.search(r"notice: ready: 1 plugin, generation 1\n", daemon.log())


def test_journal_form(cpexd):
    with open(os.devnull, "rb") as probe:
        del probe
    daemon = cpexd([], ready=False, env={"JOURNAL_STREAM": "1:1"})
    daemon.wait_ready()
    assert re.match(r"^\d{4}-", daemon.log()), "another stream is the journal's, not ours"


def test_the_empty_configuration_serves(cpexd):
    daemon = cpexd([])
    assert daemon.invoke(HOOK, CALL)["modified_payload"] is None
    assert isinstance(daemon, Daemon)
