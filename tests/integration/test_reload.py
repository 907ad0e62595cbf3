# SPDX-License-Identifier: Apache-2.0
"""A reload changes what has changed, and nothing else: who was not touched keeps its workers, its state and its calls."""

import json
import re
import signal
import threading
import time

import pytest
from daemon import SANITIZED, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
COUNTING = """
    n = 0

    async def tool_pre_invoke(self, payload, context):
        self.n += 1
        if payload.name == "fail":
            raise ValueError("asked to")
        if payload.name == "sleep":
            await asyncio.sleep(payload.args["seconds"])
        return Result(metadata={self.name: {"pid": os.getpid(), "n": self.n}})
"""
STAMPING = """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={self.name: self.config.config["version"]})
"""
TOOL = {"name": "t", "args": {}}


def counting(name, body=COUNTING, **entry):
    return plugin(name, body, **entry)


def reload(daemon):
    """What changed, by `cpexctl reload`."""
    answer = daemon.admin("reload")
    return {key: sorted(answer["changed"][key]) for key in ("added", "removed", "restarted", "kept")}


def of(daemon, name):
    return daemon.invoke(HOOK, TOOL)["metadata"][name]


def test_who_did_not_change_is_kept(cpexd):
    daemon = cpexd([counting("same"), counting("config"), counting("settings"), counting("gone"), counting("code")])
    before = daemon.invoke(HOOK, TOOL)
    assert before["generation"] == 1
    daemon.write([counting("same"), counting("config", config={"x": 1}), counting("settings", isolation={"timeout": 7}),
                  counting("new"), counting("code", body=COUNTING + "\n    # another line\n")])
    assert reload(daemon) == {"added": ["new"], "removed": ["gone"], "restarted": ["code", "config", "settings"], "kept": ["same"]}
    after = daemon.invoke(HOOK, TOOL)
    assert after["generation"] == 2
    assert after["metadata"]["same"] == {"pid": before["metadata"]["same"]["pid"], "n": 2}
    for name in ("config", "settings", "code"):
        assert after["metadata"][name]["n"] == 1
        assert after["metadata"][name]["pid"] != before["metadata"][name]["pid"]
    assert "gone" not in after["metadata"] and after["metadata"]["new"]["n"] == 1
    eventually(lambda: len(daemon.worker_pids()) == 5)


@pytest.mark.parametrize("change", ["requirements", "module", "touched"])
def test_what_counts_as_a_change(cpexd, change):
    daemon = cpexd([counting("p")])
    of(daemon, "p")
    folder = daemon.folder / "plugins" / "p_plugin"
    if change == "requirements":
        (folder / "requirements.txt").write_text("# nothing\n--no-binary :none:\n")
    elif change == "module":
        (folder / "p_plugin" / "helper.py").write_text("x = 1\n")
    else:
        (folder / "p_plugin" / "plugin.py").touch()
        (folder / "p_plugin" / "__pycache__").mkdir(exist_ok=True)
        (folder / "p_plugin" / "__pycache__" / "x.pyc").write_text("left over")
    assert reload(daemon)["kept" if change == "touched" else "restarted"] == ["p"]


def test_a_call_under_way_is_not_disturbed(cpexd):
    """Of a plugin that is kept and of one that is not: each call ends in the generation it began in."""
    daemon = cpexd([counting("kept"), counting("other")])
    with daemon.host() as host:
        call = host.begin(HOOK, {"name": "sleep", "args": {"seconds": 0.7}})
        time.sleep(0.2)
        daemon.write([counting("kept"), counting("other", config={"x": 1})])
        assert reload(daemon)["kept"] == ["kept"]
        new = daemon.invoke(HOOK, TOOL)
        old = host.end(call)
    assert (old["generation"], new["generation"]) == (1, 2)
    assert old["metadata"]["kept"]["pid"] == new["metadata"]["kept"]["pid"]
    assert old["metadata"]["other"]["pid"] != new["metadata"]["other"]["pid"]
    daemon.wait_log("generation 1 has ended")
    assert of(daemon, "kept")["n"] == 3


def test_a_plugin_that_is_no_longer_called_ends_after_its_last_call(cpexd):
    """It was shared by two generations; the last call of the older one has it to the end."""
    daemon = cpexd([counting("shared"), counting("x")])
    with daemon.host() as host:
        call = host.begin(HOOK, {"name": "sleep", "args": {"seconds": 1}})
        time.sleep(0.2)
        assert reload(daemon)["kept"] == ["shared", "x"]
        daemon.write([counting("x")])
        assert reload(daemon) == {"added": [], "removed": ["shared"], "restarted": [], "kept": ["x"]}
        assert set(host.end(call)["metadata"]) == {"shared", "x"}
    eventually(lambda: len(daemon.worker_pids()) == 1)


def test_a_refused_reload_touches_nothing(cpexd):
    daemon = cpexd([counting("p")])
    before = of(daemon, "p")
    daemon.write([counting("p"), counting("broken", body="async def initialize(self):\n    raise ValueError('no')\n" + COUNTING)])
    daemon.expect("cannot start|refused")
    with pytest.raises(CallError):
        daemon.admin("reload")
    assert of(daemon, "p") == {"pid": before["pid"], "n": 2}
    daemon.write([counting("p")])
    assert reload(daemon)["kept"] == ["p"]
    assert of(daemon, "p") == {"pid": before["pid"], "n": 3}


def test_a_disabled_plugin_is_enabled_again(cpexd):
    """As in a host that is started anew; its worker had done nothing wrong."""
    daemon = cpexd([counting("p", on_error="disable")])
    daemon.expect("asked to|disabled until")
    pid = of(daemon, "p")["pid"]
    daemon.invoke(HOOK, {"name": "fail", "args": {}})
    assert daemon.invoke(HOOK, TOOL)["metadata"] == {}
    assert reload(daemon)["kept"] == ["p"]
    assert of(daemon, "p")["pid"] == pid


def test_many_reloads_under_load(cpexd):
    """Under 500 calls a second: good ones, each with another configuration for a chain of three, and every truncated file in between. No call
    fails, and all three run with the configuration of the generation that the answer names."""
    def chain(version):
        return [counting(name, body=STAMPING, config={"version": version}) for name in "abc"]

    daemon = cpexd(chain(0), settings={"log": {"level": "warning"}}, ready=False)
    eventually(lambda: daemon.control.exists() and daemon.admin("status")["state"] == "running")
    daemon.expect("plugins.yaml|refused")
    stop, faults, answered, versions, calls, reloads = threading.Event(), [], set(), {1: 0}, 0, 0

    def caller():
        nonlocal calls
        with daemon.host() as host:
            due = time.monotonic()
            while not stop.wait(max(due - time.monotonic(), 0)):
                due += 5 / 500
                try:
                    answer = host.invoke(HOOK, TOOL)
                except (CallError, OSError, EOFError) as exc:
                    faults.append(repr(exc))
                    return
                calls += 1
                answered.add((answer["generation"], *(answer["metadata"].get(name) for name in "abc")))

    threads = [threading.Thread(target=caller) for _ in range(5)]
    for thread in threads:
        thread.start()
    path = daemon.folder / "plugins.yaml"
    for version in range(1, 3 if SANITIZED else 8):
        daemon.write(chain(version))
        text = path.read_text()
        for length in range(version - 1, len(text), 7):
            path.write_text(text[:length])
            with pytest.raises(CallError):
                daemon.admin("reload")
            reloads += 1
        path.write_text(text)
        versions[daemon.admin("reload")["generation"]] = version
    eventually(lambda: faults or max(answered)[0] == max(versions))
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults and calls > 500
    assert SANITIZED or reloads > 200
    assert answered == {(generation, *[version] * 3) for generation, version in versions.items()}
    assert all(daemon.status(name)["restarts"] == 0 for name in "abc")


def test_limits_count_at_once(cpexd):
    """Also for hosts that are connected already."""
    daemon = cpexd([counting("p")])
    with daemon.host() as host:
        sleeping = [host.begin(HOOK, {"name": "sleep", "args": {"seconds": 20}}) for _ in range(2)]
        eventually(lambda: daemon.admin("status")["calls"]["active"] == 2)
        daemon.settings["limits"] = {"calls": 2}
        (daemon.folder / "cpexd.yaml").write_text(json.dumps(daemon.settings))
        assert reload(daemon)["kept"] == ["p"]
        with pytest.raises(CallError) as caught:
            host.invoke(HOOK, TOOL)
        assert (caught.value.code, caught.value.details["setting"]) == ("limit", "limits.calls")
        for msgid in sleeping:
            host.notify("cancel", msgid=msgid)
            with pytest.raises(CallError):
                host.end(msgid)
        host.invoke(HOOK, TOOL)


def test_hosts_are_told(cpexd):
    """Those who asked for it, of what serves and not of what was refused."""
    daemon = cpexd([counting("a")])
    daemon.expect("plugins.yaml|refused")
    with daemon.host() as asked, daemon.host() as silent, daemon.host() as regrets:
        assert "generation" in asked.call("hello", notifications=["later", "generation"])["features"]
        regrets.call("hello", notifications=["generation"])
        regrets.call("hello")
        path = daemon.folder / "plugins.yaml"
        text = path.read_text()
        path.write_text(text[:-1])
        with pytest.raises(CallError):
            daemon.admin("reload")
        path.write_text(text)
        reload(daemon)
        assert asked.message() == [2, "generation", [{"generation": 2}]]
        for host in (silent, regrets):
            host.request("ping")
            assert host.message()[0] == 1


def test_bursts_of_signals_coalesce(cpexd):
    daemon = cpexd([counting("p")])
    for _ in range(100):
        daemon.signal(signal.SIGHUP)
    daemon.wait_log("generation 2 serves")
    time.sleep(0.5)
    assert daemon.invoke(HOOK, TOOL)["generation"] < 20


def test_a_missing_method_is_said(cpexd):
    """Each time: it is a mistake of the file, also where the plugin did not change."""
    daemon = cpexd([counting("a", hooks=[HOOK, "tool_post_invoke"])])
    daemon.expect("tool_post_invoke")
    for _ in range(2):
        out = daemon.ctl("reload").stdout
        assert re.search(r'plugins\.yaml:\d+:\d+: plugin "a": .*tool_post_invoke', out), out


def test_cpexctl_says_what_changed(cpexd):
    daemon = cpexd([counting("a"), counting("b")])
    daemon.write([counting("a"), counting("c")])
    done = daemon.ctl("reload")
    assert done.returncode == 0
    for words in ("added", "c", "removed", "b", "kept", "a"):
        assert words in done.stdout
    assert json.loads(daemon.ctl("--json", "reload").stdout)["changed"]["kept"] == ["a", "c"]
