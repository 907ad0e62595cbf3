# SPDX-License-Identifier: Apache-2.0
"""`cpexctl explain`: the settings that count for a plugin, and the file and line that each comes from."""

import json
import re

import pytest
from daemon import ROOT, plugin

BODY = """
    async def tool_pre_invoke(self, payload, context):
        return Result()
"""


def settings(daemon, name):
    return {each["name"]: (each["value"], each["from"]) for each in daemon.admin("explain", plugin=name)["settings"]}


def line_of(path, text, after=""):
    lines = path.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if after in line)
    return next(f"{path}:{i + 1}" for i, line in enumerate(lines[start:], start) if text in line)


def test_each_setting_with_the_line_it_comes_from(cpexd):
    daemon = cpexd([
        plugin("tuned", BODY, mode="sequential", priority=5, on_error="ignore", isolation={
            "timeout": "2.5s", "workers": {"min": 6}, "queue": 7, "memory": "2G", "sandbox": {"network": ["all"], "require": False}}),
        plugin("plain", BODY),
    ], settings={"isolation": {"max_concurrent": 3, "queue": 9, "recycle": {"calls": 100}}})
    ours, cpex = daemon.folder / "cpexd.yaml", daemon.folder / "plugins.yaml"
    have = settings(daemon, "tuned")
    assert have["isolation.timeout"] == ("2500ms", line_of(cpex, '"timeout"'))
    assert have["isolation.workers.min"] == ("6", line_of(cpex, '"min"'))
    assert have["isolation.workers.max"] == ("6", line_of(cpex, '"min"')), "it gives way, and says to whom"
    assert have["isolation.queue"] == ("7", line_of(cpex, '"queue"'))
    assert have["isolation.memory"] == ("2G", line_of(cpex, '"memory"'))
    assert have["isolation.sandbox.network"][0] == "[all]" and have["isolation.sandbox.require"][0] == "false"
    assert have["isolation.max_concurrent"] == ("3", line_of(ours, '"max_concurrent"'))
    assert have["isolation.recycle.calls"] == ("100", line_of(ours, '"calls"'))
    assert have["isolation.recycle.age"] == ("null", "default") and have["isolation.startup_timeout"] == ("30s", "default")
    assert have["isolation.env"][0] == "[CPEXD_TEST]" and have["isolation.env"][1].startswith(f"{ours}:")
    assert have["mode"] == ("sequential", line_of(cpex, '"mode"')) and have["priority"] == ("5", line_of(cpex, '"priority"'))
    assert have["on_error"] == ("ignore", line_of(cpex, '"on_error"'))
    plain = settings(daemon, "plain")
    assert plain["isolation.queue"] == ("9", line_of(ours, '"queue"')) and plain["isolation.workers.min"] == ("1", "default")
    assert plain["mode"] == ("sequential", "default") and plain["priority"] == ("100", "default")
    assert plain.keys() == have.keys()
    # All that an entry may have; the sample file has all but those that only an entry has.
    sample = (ROOT / "conf" / "cpexd.yaml").read_text()
    part = re.search(r"^#isolation:\n((?:#  .*\n)+)", sample, re.MULTILINE)[1]
    keys = {each for each in re.findall(r"^# +([a-z_]+): \S", part, re.MULTILINE)}
    assert {name.rpartition(".")[2] for name in have if name.startswith("isolation.")} == keys | {"socket", "group"}
    out = daemon.ctl("explain", "tuned").stdout
    assert re.search(rf"^isolation.queue +7 +{re.escape(str(cpex))}:\d+$", out, re.MULTILINE) and "SETTING" in out
    assert json.loads(daemon.ctl("explain", "plain", "--json").stdout)["settings"]


def test_old_modes_and_plugin_timeout(cpexd):
    daemon = cpexd([plugin("old", BODY, mode="enforce_ignore_error")], top={"plugin_settings": {"plugin_timeout": 12}})
    have = settings(daemon, "old")
    mode = line_of(daemon.folder / "plugins.yaml", '"mode"')
    assert have["mode"] == ("sequential", mode) and have["on_error"] == ("ignore", mode)
    assert have["isolation.timeout"] == ("12s", "plugin_timeout of plugin_settings, or PLUGINS_PLUGIN_TIMEOUT")


@pytest.mark.parametrize("rendered", [False, True])
def test_a_value_of_the_environment_is_not_told(cpexd, rendered):
    entry = plugin("secretive", BODY, isolation={"python": "{{ env.EXPLAIN_PYTHON }}", "queue": 77})
    if rendered:
        entry["entry"]["description"] = "{% if true %}rendered{% endif %}"
    daemon = cpexd([entry], env={"EXPLAIN_PYTHON": "/usr/bin/../bin/python3"})
    have = settings(daemon, "secretive")
    assert have["isolation.python"][0] == "…" and "../bin" not in daemon.ctl("explain", "secretive").stdout.partition("SETTING")[2]
    assert have["isolation.queue"][0] in ("77", "…")
    assert have["isolation.queue"][1].endswith("of the rendered file" if rendered else line_of(daemon.folder / "plugins.yaml", '"queue"'))
