# SPDX-License-Identifier: Apache-2.0
"""Plugins whose kind is a class: found where a host that was started in the project root would find it."""

import pytest
from daemon import plugin
from test_conflicts import build_wheel

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}


def native(name, kind, body, files=None, **entry):
    """Its class is `kind`, its files are those of plugin()."""
    made = plugin(name, body, **entry)
    made["entry"]["kind"] = kind
    made["entry"]["config"] = None
    made["files"] = files or {}
    return made


def says(expression, before=""):
    return f"""
        async def tool_pre_invoke(self, payload, context):
            {before or "pass"}
            return Result(metadata={{self.config.name: {expression}}})
    """


def test_a_class_from_the_project_root_or_from_plugin_dirs(cpexd):
    """With its package, its siblings and relative imports; a class of the same name is another one."""
    siblings = {
        "common/words.py": "WORD = 'root'\n",
        "plugins/shared.py": "WORD = 'plugins'\n",
        "plugins/one_plugin/one_plugin/other.py": "WORD = 'relative'\n",
        "plugins/one_plugin/one_plugin/up.py": "from ..beside import WORD\n",
        "plugins/one_plugin/beside.py": "WORD = 'up'\n",
    }
    before = "import shared; from common.words import WORD as root; from .other import WORD; from . import up"
    daemon = cpexd([
        native("one", "plugins.one_plugin.one_plugin.plugin.P", says("[self.config.kind, WORD, up.WORD, root, shared.WORD]", before),
               files=siblings),
        native("two", "two_plugin.two_plugin.plugin.P", says("[self.config.kind, __name__, os.getcwd()]")),
    ])
    assert daemon.invoke(HOOK, CALL)["metadata"] == {
        "one": ["plugins.one_plugin.one_plugin.plugin.P", "relative", "up", "root", "plugins"],
        "two": ["two_plugin.two_plugin.plugin.P", "two_plugin.two_plugin.plugin", str(daemon.folder)],
    }
    with daemon.host() as host:
        assert {each["name"]: each["kind"] for each in host.call("plugins")["plugins"]} == {
            "one": "plugins.one_plugin.one_plugin.plugin.P", "two": "two_plugin.two_plugin.plugin.P"}
    records = daemon.invoke(HOOK, CALL)["executions"]
    assert [record["plugin_kind"] for record in records] == ["plugins.one_plugin.one_plugin.plugin.P", "two_plugin.two_plugin.plugin.P"]


def test_what_is_installed_goes_before_plugin_dirs_and_the_root_before_it(cpexd, tmp_path):
    build_wheel(tmp_path / "wheels", "colours", "1.0", "WHERE = 'installed'\n")
    files = {"shared.txt": f"--no-index\n--find-links {tmp_path / 'wheels'}\ncolours\n", "plugins/colours.py": "WHERE = 'plugin_dirs'\n",
             "plugins/json.py": "WHERE = 'plugin_dirs'\n", "cpex/__init__.py": "raise ImportError('not this one')\n"}
    shared = {"requirements": "shared.txt"}
    one, two = (native(name, f"plugins.{name}_plugin.{name}_plugin.plugin.P",
                       says("[colours.WHERE, hasattr(json, 'WHERE')]", "import colours, json"), files=files, isolation=shared)
                for name in ("one", "two"))
    daemon = cpexd([one, two], settings={"isolation": {"requirements": "none.txt"}}, cache=tmp_path / "cache")
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"one": ["installed", False], "two": ["installed", False]}
    assert daemon.status("one")["fingerprint"] == daemon.status("two")["fingerprint"]
    files |= {"colours.py": "WHERE = 'root'\n", "plugins/new.py": ""}  # the second makes a reload see a change
    daemon.write([one])
    assert daemon.ctl("reload").returncode == 0
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"one": ["root", False]}


def test_a_reload_sees_changes_in_the_package_that_the_class_is_in(cpexd):
    body = says("other.N", "from . import other")
    one = native("one", "plugins.one_plugin.one_plugin.plugin.P", body, files={"plugins/one_plugin/one_plugin/other.py": "N = 1\n"})
    daemon = cpexd([one])
    before = daemon.workers("one")
    assert daemon.ctl("reload").returncode == 0
    assert daemon.workers("one") == before and daemon.invoke(HOOK, CALL)["metadata"] == {"one": 1}
    one["files"]["plugins/one_plugin/one_plugin/other.py"] = "N = 22\n"
    daemon.write([one])
    assert daemon.ctl("reload").returncode == 0
    assert daemon.workers("one") != before and daemon.invoke(HOOK, CALL)["metadata"] == {"one": 22}


def test_requirements_for_all_native_plugins(cpexd, tmp_path):
    build_wheel(tmp_path / "wheels", "colours", "1.0", "WHERE = 'installed'\n")
    (tmp_path / "all.txt").write_text(f"--no-index\n--find-links {tmp_path / 'wheels'}\ncolours\n")
    body = says("bool(find_spec('colours'))", "from importlib.util import find_spec")
    daemon = cpexd([native("native", "native_plugin.native_plugin.plugin.P", body),
                    native("without", "without_plugin.without_plugin.plugin.P", body, isolation={"requirements": None}), plugin("isolated", body)],
                   settings={"isolation": {"requirements": str(tmp_path / "all.txt")}}, cache=tmp_path / "cache")
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"native": True, "without": False, "isolated": False}


@pytest.mark.parametrize("kind, reason", [
    ("plugins.one_plugin.one_plugin.plugin.Q", "has no attribute 'Q'"),
    ("nowhere.plugin.P", "No module named 'nowhere'"),
    ("os.path.P", "Plugin module 'os.path' is blocked"),
])
def test_a_class_that_is_not_there(cpexd, kind, reason):
    daemon = cpexd([native("one", kind, says("1"), on_error="ignore")])
    daemon.expect("cannot start|there is no module")
    assert reason in daemon.status("one")["error"]
    assert ("plugins[0] \"one\": kind: there is no module" in daemon.log()) == (not kind.startswith("plugins."))


@pytest.mark.pypi
def test_a_class_from_pypi(cpexd, pypi, kept_cache):
    """Two entries as they stand in a gateway's file, and the one line of ours that says where their class comes from."""
    entries = [native(name, "cpex_pii_filter.pii_filter.PIIFilterPlugin", "", hooks=[hook]) for name, hook in
               (("before", HOOK), ("after", "tool_post_invoke"))]
    for entry in entries:
        entry |= {"code": "", "files": {"plugins.txt": "cpex-pii-filter==0.3.9\n"}}
        entry["entry"] |= {"config": {"detect_ssn": True}}
    daemon = cpexd(entries, settings={"isolation": {"requirements": "plugins.txt"}}, ready=False, cache=kept_cache)
    daemon.wait_ready(seconds=400)
    assert daemon.status("before")["fingerprint"] == daemon.status("after")["fingerprint"]
    with daemon.host() as host:
        answer = host.invoke(HOOK, {"name": "mail", "args": {"body": "My SSN is 123-45-6789"}})
        assert answer["modified_payload"]["args"] == {"body": "My SSN is [REDACTED]"}
        answer = host.invoke("tool_post_invoke", {"name": "mail", "result": {"body": "My SSN is 123-45-6789"}})
        assert answer["modified_payload"]["result"] == {"body": "My SSN is [REDACTED]"}
