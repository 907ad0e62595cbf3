# SPDX-License-Identifier: Apache-2.0
"""plugins.yaml as a template: what is expanded here, what Jinja2 renders in a process of its own, and what is never told."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
import yaml
from daemon import BUILD, ROOT, SANITIZED, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}
SYSTEM_PYTHON = "/usr/bin/python3"
FOR_EVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

ECHO = plugin("echo", """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={self.config.name: {key: repr(value) for key, value in self.config.config.items()}})
""")


def entry(name="echo", **config):
    """The lines of an entry for ECHO's code; the values of `config` are YAML."""
    own = {key: json.dumps(value) for key, value in ECHO["entry"]["config"].items()} | config
    return f"  - name: {name}\n    kind: isolated_venv\n    hooks: [{HOOK}]\n    config:\n" + "".join(f"      {key}: {value}\n" for key, value in own.items())


def renderers(daemon):
    """The processes that render something for it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"cpexd-render.py" in text and parent == daemon.pid:
            found.append(int(pid))
    return found


def reload(daemon, text):
    (daemon.folder / "plugins.yaml").write_text(text)
    return daemon.admin("reload")


def refused(daemon, text):
    with pytest.raises(CallError) as caught:
        reload(daemon, text)
    daemon.expect(r"plugins\.yaml")
    daemon.expect("the new configuration is refused")
    return caught.value.details["diagnostics"]


def check(folder, text, env=None, settings=""):
    (folder / "plugins.yaml").write_text(text)
    (folder / "cpexd.yaml").write_text(f"plugins: plugins.yaml\nsocket: {{path: s}}\n{settings}")
    return subprocess.run([BUILD / "cpexd", "-c", "cpexd.yaml", "--check"], capture_output=True, text=True, timeout=60, cwd=folder, env=os.environ | (env or {}))


# ---- It serves ----

CONTROL_FLOW = "{% set names = env.NAMES.split(',') %}plugins:\n{% for name in names %}" + entry("{{ name }}", n="{{ loop.index }}") + "{% endfor %}"


def test_control_flow_serves_and_reloads(cpexd):
    daemon = cpexd([ECHO], env={"NAMES": "a,b"})
    reload(daemon, CONTROL_FLOW)
    said = daemon.invoke(HOOK, CALL)["metadata"]
    assert {name: config["n"] for name, config in said.items()} == {"a": "1", "b": "2"}
    reload(daemon, CONTROL_FLOW.replace("in names", "in names | reverse"))
    said = daemon.invoke(HOOK, CALL)["metadata"]
    assert {name: config["n"] for name, config in said.items()} == {"b": "1", "a": "2"}


def test_control_flow_at_the_start(cpexd):
    daemon = cpexd([ECHO], top={"x": "{% if env.STAGE == 'prod' %}y{% endif %}"}, env={"STAGE": "prod"})
    daemon.expect('unknown key "x"')
    daemon.expect("unknown key that may come from")
    assert "echo" in daemon.invoke(HOOK, CALL)["metadata"]


def test_what_is_expanded_here_is_what_jinja_makes_of_it(cpexd, tmp_path):
    names = {"PLAIN": "plain", "EMPTY": "", "HTML": "<a href=\"x\">&'", "NUMBER": "010", "LIST": "[1, {a: b}]", "SPACE": " x ", "COMMENT": "x # y",
             "lower_case": "l", "X1": "ü€😀", "LINES": "|\n        one\n        two"}
    primaries = [f"env.{name}" for name in [*names, "MISSING"]] + ["env['PLAIN']", 'env [ "MISSING" ]', "env . PLAIN", "'text'", '"<b>"', "'it\\'s'", "'\\\\ \\t|'", "''"]
    filters = ["", "|safe", " | d", " | default ( )", " | default('<d>')", "|default(\"d\")|safe", " | default(0)", " | default(17, true)", " | default('d', True)",
               "\n| default('d', false)", " | default('it\\'s',true)  |  safe"]
    values = [f"{{{{ {primary}{each} }}}}" for primary in primaries for each in filters]
    quotings = ["{}", "'{}'", '"{}"', "[a{}b, {}]", "{{# c #}}{}{{%raw%}}'{{{{'{{%  endraw  %}}"]
    texts = [quoting.replace("{}", value) if quoting in ("{}", "'{}'") else quoting.format(value, value) for value in values for quoting in quotings]
    env = names | {"LC_ALL": "C.UTF-8"}
    source = tmp_path / "values.yaml"

    def render(text):
        source.write_text(text)
        command = [SYSTEM_PYTHON, "-I", ROOT / "daemon" / "config" / "render.py", source]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | env)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def is_yaml(text):
        try:
            return bool(yaml.safe_load(f"k: {text}\n"))
        except yaml.YAMLError:
            return False

    rendered = render("\x1f".join(texts)).split("\x1f")
    assert len(rendered) == len(texts) > 900
    good = [text for text, result in zip(texts, rendered) if is_yaml(result)]
    text = "plugins:\n" + entry(**{f"k{i}": each for i, each in enumerate(good)})
    daemon = cpexd([ECHO], env=env, settings={"template_python": "/nonexistent"})
    daemon.expect("env.MISSING }}: this variable is not set")
    assert len(reload(daemon, text)["warnings"]) == 1
    said = daemon.invoke(HOOK, CALL)["metadata"]["echo"]
    wanted = yaml.safe_load(render(text))["plugins"][0]["config"]
    assert said == {key: repr(value) for key, value in wanted.items()}


# ---- It does not ----

BROKEN = {
    "{% if x %}\nplugins: []\n": r"plugins\.yaml:\d+: Jinja2: Unexpected end of template",
    "plugins: []\n\n{{ nope.x }}\n": r"plugins\.yaml:3: Jinja2: 'nope' is undefined",
    "plugins: []\n{{ ''.__class__.mro() }}\n": r"plugins\.yaml:2: Jinja2: access to attribute '__class__' of 'str' object is unsafe",
    "plugins: []\nx: {{ 'x' * 10 ** 9 }}\n": r"plugins\.yaml:2: rendering takes too much memory",
    "plugins: []\n{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}\n": r"plugins\.yaml:2:1: the rendered file is longer than 1 MiB",
    "plugins: []\n\n" + FOR_EVER + "\n": r"plugins\.yaml:3: rendering takes too long",
    "{% set m = 'transfrom' %}\nplugins:\n  - name: {{ 'pii' | upper }}\n    mode: {{ m }}\n": r'plugins\.yaml: line 4 of the rendered file: plugins\[0\]\.mode: unknown value "transfrom"; did you mean "transform"',
    "plugins: []\nx: '{{ env.X'\ny: '{{ env.HOME }}'\n": r"plugins\.yaml:2:5: this {{ is not closed with }} \(Jinja2: ",
    "plugins: []\n\nx: '{{ env.X }'\n": r"plugins\.yaml:3:5: this {{ is not closed with }} \(Jinja2: unexpected '}'\)",
    "{% set m = 1 %}a: [\n": r"plugins\.yaml: line \d of the rendered file: not YAML",
}


@pytest.mark.parametrize("text, message", BROKEN.items(), ids=range(len(BROKEN)))
def test_check_says_what_is_wrong(tmp_path, text, message):
    done = check(tmp_path, text)
    assert done.returncode == 1 and re.search(message, done.stderr), done.stderr


def test_check_of_a_good_template(tmp_path):
    done = check(tmp_path, "{% for i in [] %}{% endfor %}plugins: []\n")
    assert done.returncode == 0 and "no mistakes" in done.stdout, done.stderr


def test_a_broken_template_changes_nothing(cpexd):
    daemon = cpexd([ECHO])
    for text, message in list(BROKEN.items())[:3]:
        assert any(re.search(message, line) for line in refused(daemon, text))
    assert "echo" in daemon.invoke(HOOK, CALL)["metadata"]
    assert daemon.admin("status")["generation"] == 1


def test_a_broken_template_at_the_start(cpexd):
    daemon = cpexd([], ready=False, top={"x": "{% frob %}"})
    assert daemon.process.wait(20) == 1
    daemon.process.returncode = 0
    daemon.expect(r"plugins\.yaml:\d+: Jinja2: Encountered unknown tag 'frob'")


def test_without_jinja(tmp_path, cpexd):
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nexec {SYSTEM_PYTHON} -S "$@"\n')  # without its packages
    without.chmod(0o755)
    for python in (without, tmp_path / "nothing"):
        done = check(tmp_path, "plugins: []\nx: {% if 1 %}\n", settings=f"template_python: {python}\n")
        assert done.returncode == 1 and re.search(r"plugins\.yaml:2:4: this needs Jinja2, .*; install python3-jinja2", done.stderr), done.stderr
        assert check(tmp_path, "plugins: []\nx: {{ env.X }}\n", settings=f"template_python: {python}\n").returncode == 0
    daemon = cpexd([ECHO], settings={"template_python": str(without)})
    assert any("install python3-jinja2" in line for line in refused(daemon, "{% if 1 %}plugins: []{% endif %}"))


def test_cpexd_yaml_does_without_jinja(tmp_path):
    done = check(tmp_path, "plugins: []\n", settings="log: {level: {{ 'info' | upper }}}\n")
    assert done.returncode == 1 and re.search(r"cpexd\.yaml:3:14: this file may have \{\{ env\.NAME \}\}", done.stderr), done.stderr


# ---- Beside the loop ----


def test_calls_go_on_while_a_template_is_rendered(cpexd):
    daemon = cpexd([ECHO])
    (daemon.folder / "plugins.yaml").write_text(FOR_EVER)
    daemon.expect("rendering takes too long")
    daemon.expect("the new configuration is refused")
    with daemon.host() as host:
        daemon.signal(signal.SIGHUP)
        eventually(lambda: renderers(daemon))
        assert daemon.admin("status")["state"] == "reloading"
        slowest = 0
        while renderers(daemon):
            began = time.monotonic()
            host.invoke(HOOK, CALL)
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < (1 if SANITIZED else 0.5)
    daemon.wait_log("the new configuration is refused: it has mistakes; generation 1 keeps serving")
    assert daemon.admin("status")["state"] == "running"


def test_signals_while_a_template_is_rendered_are_one_more_reload(cpexd):
    daemon = cpexd([ECHO])
    (daemon.folder / "plugins.yaml").write_text(FOR_EVER)
    daemon.expect("rendering takes too long")
    daemon.expect("the new configuration is refused")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: renderers(daemon))
    (daemon.folder / "plugins.yaml").write_text("{% if 1 %}plugins:\n" + entry("late") + "{% endif %}")
    for _ in range(20):
        daemon.signal(signal.SIGHUP)
        time.sleep(0.01)
    assert len(renderers(daemon)) == 1
    daemon.wait_ready(2)
    assert len(re.findall("notice: reloading", daemon.log())) == 2
    assert "late" in daemon.invoke(HOOK, CALL)["metadata"]


def test_a_stop_does_not_wait_for_a_template(cpexd):
    daemon = cpexd([ECHO])
    (daemon.folder / "plugins.yaml").write_text(FOR_EVER)
    daemon.signal(signal.SIGHUP)
    pid = eventually(lambda: renderers(daemon))[0]
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 4
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_a_signal_while_the_first_configuration_is_rendered(cpexd):
    slow = "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}"
    daemon = cpexd([ECHO], ready=False, top={"x": slow})
    daemon.expect('unknown key "x"')
    eventually(lambda: renderers(daemon))
    daemon.signal(signal.SIGHUP)
    daemon.wait_ready(2)
    assert "echo" in daemon.invoke(HOOK, CALL)["metadata"]


# ---- Secrets ----

TOKENS = ["sk-hunter2-9f8e7d", "tool_pre_invok"]
TOLD_BY_NOBODY = """\
plugins:
  - name: {{ T }}
    kind: {{ T }}
    mode: "{{ T }}"
    on_error: {{ T }}
    priority: {{ T }}
    hooks: [{{ T }}]
    {{ T }}: 1
    capabilities: [{{ T }}]
    config: {class_name: "{{ T }}", script_path: "{{ T }}"}
plugin_dirs: {{ T }}
x: !{{ T }} y
"""


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("prefix, value", [("", "env.TOKEN"), ("{% set t = env.TOKEN %}", "t")])
def test_a_value_from_the_environment_is_never_told(cpexd, tmp_path, token, prefix, value):
    text = prefix + TOLD_BY_NOBODY.replace("T }}", f"{value} }}}}")
    done = check(tmp_path, text, env={"TOKEN": token})
    daemon = cpexd([ECHO], env={"TOKEN": token})
    diagnostics = refused(daemon, text)
    assert len(diagnostics) > 5 and len(done.stderr.splitlines()) > 5
    ctl = daemon.ctl("reload")
    assert ctl.returncode != 0
    for said in (done.stdout, done.stderr, *diagnostics, ctl.stdout, ctl.stderr, daemon.log()):
        assert token not in said and "did you mean" not in said
    for broken in ("{{ env[env.TOKEN].x }}", "{{ [1] | map(env.TOKEN) | list }}", "{{ env.pop(env.TOKEN) }}", "a: {{ env.TOKEN }} {{ nope.x }}"):
        assert token not in "".join(refused(daemon, broken))
    assert token not in daemon.log()
