# SPDX-License-Identifier: Apache-2.0
"""A host of the real cpex whose plugins run in a real cpexd sees what it sees with its plugins inside.

The hosts (test_remote_host.py, test_remote_life_host.py) run in the Pythons that CPEXD_TEST_CPEX_PYTHON and
CPEXD_TEST_OLD_CPEX_PYTHON name, which have msgpack, and cpex 0.1.4 and 0.1.3.
"""

import copy
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import CLIENT_PATHS, TOP

CPEXD = pathlib.Path(os.environ.get("CPEXD_BUILD", "build"), "cpexd").absolute()
PYTHONS = {"0.1.4": "CPEXD_TEST_CPEX_PYTHON", "0.1.3": "CPEXD_TEST_OLD_CPEX_PYTHON"}
HOST = pathlib.Path(__file__).with_name("test_remote_host.py")
LIFE = pathlib.Path(__file__).with_name("test_remote_life_host.py")
CLIENT = TOP / "client" / "python"
PII_SCANNER = TOP / "conf" / "plugins" / "pii_scanner"

with_daemon = pytest.mark.skipif(not CPEXD.exists(), reason=f"{CPEXD} is not built")


@pytest.fixture(scope="module", params=PYTHONS)
def python(request):
    """A Python with cpex."""
    path = os.environ.get(PYTHONS[request.param])
    if not path:
        pytest.skip(f"{PYTHONS[request.param]} does not name a Python with cpex=={request.param}")
    return path


GUARD = '''
import asyncio

from cpex.framework import (
    Plugin, PluginError, PluginViolation, PluginViolationError, ToolPostInvokeResult as Post, ToolPreInvokeResult as Pre)
from cpex.framework.models import PluginErrorModel

DENIAL = dict(reason="No", description="not this one", code="DENIED", details={"n": [1, None]}, http_status_code=403)


class Guard(Plugin):
    async def tool_pre_invoke(self, payload, context, extensions):
        context.state["calls"] = context.state.get("calls", 0) + 1
        context.metadata["name"] = payload.name
        context.global_context.state["guard"] = payload.name
        context.global_context.metadata["seen"] = True
        if "one" in context.global_context.state:
            context.global_context.state["one"] = True
        match payload.name:
            case "denied":
                denial = PluginViolation(**DENIAL)
                return Pre(continue_processing=False, violation=denial, metadata={"m": 1}, denial_metadata={"n": 2})
            case "broken":
                raise ValueError("broken")
            case "own-error":
                error = PluginErrorModel(message="mine", plugin_name="other", code="C", details={"a": 1}, mcp_error_code=-5)
                raise PluginError(error)
            case "raised-denial":
                raise PluginViolationError("mine", PluginViolation(**DENIAL))
            case "extended":
                return Pre(modified_extensions=extensions.model_copy(update={"custom": {"n": 2}}), retry_delay_ms=7)
            case "not-a-payload":
                return Pre.model_construct(continue_processing=True, modified_payload={"any": "thing"}, metadata={})
            case "unvalidated":
                return Pre(modified_payload=payload.model_copy(update={"name": 5}))
            case "slow":
                await asyncio.sleep(60)
            case "late":
                raise TimeoutError("late")
            case "taken-out":
                context.state.pop("calls")
                context.global_context.state.pop("one", None)
                return Pre(http_headers={"h": "v"}, retry_delay_ms=3, metadata={"_decision_plugin": "x"})
            case "blocks-and-changes":
                changed = payload.model_copy(update={"args": {"changed": True}})
                return Pre(continue_processing=False, modified_payload=changed, metadata={"m": 1})
            case "renamed":
                return Pre(modified_payload=payload.model_copy(update={"name": "other"}))
        return Pre(metadata={"calls": context.state["calls"]})

    async def tool_post_invoke(self, payload, context):
        return Post(metadata={"calls": context.state.get("calls"), "pre": context.metadata.get("name")})
'''


def entries(folder, kind=None, config=None):
    """The plugins, as the daemon gets them; as a host does, with kind(class) and config(name, config)."""
    plugins = [
        ("pii_scanner", PII_SCANNER, "pii_scanner.plugin.PIIScannerPlugin"),
        ("guard", folder / "guard", "guard.plugin.Guard"),
    ]
    return [
        {
            "name": name,
            "kind": kind(cls) if kind else "isolated_venv",
            "description": f"the {name}",
            "version": "1",
            "author": "us",
            "tags": ["t"],
            "hooks": ["tool_pre_invoke", "tool_post_invoke"],
            "priority": priority,
            "config": (config or (lambda _, settings: settings))(
                name, {"class_name": cls, "script_path": str(path), "requirements_file": "requirements.txt"}
            ),
            "capabilities": ["read_headers"],
        }
        for priority, (name, path, cls) in enumerate(plugins, 1)
    ]


MODES = [
    {"mode": mode, "on_error": on_error}
    for mode in ("sequential", "transform", "audit", "concurrent", "fire_and_forget")
    for on_error in ("fail", "ignore")
]


def in_every_mode(folder, kind=None):
    """The guard in each mode and with each on_error, as a host calls it by its name; it runs on no tool."""
    guard = entries(folder, kind)[1]
    conditions = [{"tools": ["no such tool"]}]
    return [guard | how | {"name": "-".join(how.values()), "conditions": conditions} for how in MODES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The plugins and the files of the hosts, and a daemon that serves: folder/cpexd.sock."""
    folder = tmp_path_factory.mktemp("remote")
    package = folder / "guard" / "guard"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(GUARD)
    (folder / "guard" / "requirements.txt").touch()
    socket = str(folder / "cpexd.sock")

    def write(name, plugins):
        (folder / name).write_text(json.dumps({"plugins": plugins}))

    write("plugins.yaml", entries(folder) + in_every_mode(folder))
    write("inside.yaml", entries(folder, lambda cls: cls) + in_every_mode(folder, lambda cls: cls))
    proxy = "cpexd_client.cpex.CpexdPlugin"
    write("one-by-one.yaml", entries(folder, lambda _: proxy, lambda name, _: {"socket": socket, "plugin": name}))
    write("all-in-one.yaml", entries(folder, lambda _: proxy, lambda *_: {"socket": socket})[1:])
    write("nobody.yaml", entries(folder, lambda _: proxy, lambda *_: {"socket": "/nonexistent/cpexd.sock"})[1:])
    write("mistake.yaml", entries(folder, lambda _: proxy, lambda *_: {"sock": socket})[1:])
    settings = {"plugins": "plugins.yaml", "cache_dir": str(folder / "cache"), "socket": {"path": socket}, 
                "isolation": {"workers": {"max": 1}, "sandbox": {"write": ["."], "network": ["all", "unix"]}}}
    (folder / "cpexd.yaml").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        command = [CPEXD, "-c", folder / "cpexd.yaml"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    deadline = time.monotonic() + 50
    while " notice: ready: " not in (folder / "log").read_text():
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)
    yield folder
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


class Host:
    """A process that does one job after the other."""

    def __init__(self, python, folder, program):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PLUGINS_", "CPEXD_"))}
        env["PYTHONPATH"] = os.pathsep.join(map(str, [*CLIENT_PATHS, folder / "guard", PII_SCANNER, folder]))
        pipe = subprocess.PIPE
        self.log = folder / f"{program.stem}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([python, program], stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=folder, env=env)

    def do(self, *job):
        self.process.stdin.write(json.dumps([str(each) for each in job]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.log.read_text()
        good, result = json.loads(answer)
        assert good, result + self.log.read_text()[-3000:]
        return result

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def run(python, folder):
    """run(scenario, manager, where): what a host saw, as objects that are the caller's own; it does it once."""
    host, seen = Host(python, folder, HOST), {}

    def once(scenario, manager, where):
        key = (scenario, manager, where)
        if key not in seen:
            seen[key] = host.do(scenario, manager, folder / where)
        return copy.deepcopy(seen[key])

    yield once
    host.end()


@pytest.fixture(scope="module")
def life(folder):
    python = os.environ.get(PYTHONS["0.1.4"])
    if not python:
        pytest.skip(f"{PYTHONS['0.1.4']} does not name a Python with cpex==0.1.4")
    host = Host(python, folder, LIFE)
    yield host
    host.end()


def same(got, wanted):
    """With the first difference named, as the whole is long."""
    for n, (mine, theirs) in enumerate(zip(got, wanted)):
        assert mine == theirs, f"call {n}"
    assert len(got) == len(wanted)


@with_daemon
@pytest.mark.parametrize("scenario", ["calls", "direct", "surface", "policies", "spans"])
def test_a_remote_manager_is_as_the_one_inside(run, scenario):
    inside = run(scenario, "PluginManager", "inside.yaml")
    remote = run(scenario, "RemotePluginManager", "cpexd.sock")
    assert len(inside) >= 3
    same(remote, inside)


@with_daemon
def test_entries_that_hand_over_to_a_plugin_each(run):
    inside = run("calls", "PluginManager", "inside.yaml")
    handed = run("calls", "PluginManager", "one-by-one.yaml")
    for entry in inside + handed:
        for record in entry.get("executions", []):
            del record["config_keys"]  # socket and plugin
    same(handed, inside)


@with_daemon
def test_one_entry_for_all_plugins(run):
    redacted, pre, _, post, *_ = run("calls", "PluginManager", "all-in-one.yaml")
    assert redacted["payload"]["args"]["query"] == "SSN [REDACTED]"
    assert redacted["metadata"] == {"ssn_redacted": 1, "calls": 1}
    assert [record["plugin_name"] for record in redacted["executions"]] == ["guard"]
    assert pre["contexts"] == [[{"pii_scanner": {}, "guard": {"calls": 1}}, {"pii_scanner": {}, "guard": {"name": "search"}}]]
    assert post["metadata"] == {"ssn_redacted": 1, "calls": 1, "pre": "search"}


@with_daemon
def test_a_daemon_that_is_not_there_fails_the_calls(run):
    first, *_ = run("calls", "PluginManager", "nobody.yaml")
    assert first["error"] == "cpex.framework.errors.PluginError"
    assert first["text"].startswith("cpexd does not answer at /nonexistent/cpexd.sock")


@with_daemon
def test_a_mistake_in_the_entry(run):
    assert run("calls", "PluginManager", "mistake.yaml")[0]["contexts"] is None  # CPEX leaves the plugin out
    # and a remote manager that was not set up lets nothing pass
    call, start = run("misuse", "RemotePluginManager", "cpexd.sock")
    assert call["error"] == "cpex.framework.errors.PluginError" and "initialize()" in call["text"]
    assert start["error"] == "builtins.RuntimeError"
    assert "/nonexistent/cpexd.sock" in start["text"] and "CPEXD_SOCKET" in start["text"]


def readme(language):
    """The last such block, which is for hosts."""
    return re.findall(rf"^```{language}\n(.*?)^```", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL)[-1]


@with_daemon
def test_what_the_readme_tells_hosts(run, folder):
    inside = run("calls", "PluginManager", "inside.yaml")
    same(run("calls", readme("python"), "cpexd.sock"), inside)
    entry = readme("yaml").replace("/run/cpexd/cpexd.sock", f"{folder}/cpexd.sock")
    (folder / "readme.yaml").write_text(f"plugins:\n{entry}")
    redacted, *_ = run("calls", "PluginManager", "readme.yaml")
    assert redacted["payload"] == inside[0]["payload"]


def test_the_gateway_is_started_as_the_client_says():
    """tests/gateway/run starts what client/python/README.md gives."""
    launcher = (TOP / "tests" / "gateway" / "remote.py").read_text()
    assert launcher[launcher.index("import ") :] in (CLIENT / "README.md").read_text()


@with_daemon
@pytest.mark.parametrize("scenario", ["restart", "reload", "crowd", "loops", "cancel", "budget", "replaced", "one_of_all"])
def test_the_life_of_a_manager(life, tmp_path, scenario):
    life.do(scenario, CPEXD, tmp_path)


def test_without_cpex():
    code = """
import sys
sys.modules["cpex"] = None  # not installed
import cpexd_client
assert not any(name.startswith(("cpex.", "pydantic")) for name in sys.modules)
import cpexd_client.cpex
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(CLIENT_PATHS)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'cpexd-client[cpex]'" in done.stderr.splitlines()[-1]
