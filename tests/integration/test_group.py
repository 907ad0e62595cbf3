# SPDX-License-Identifier: Apache-2.0
"""Plugins of a group (isolation.group) share their workers, and nothing else: each has its errors, its figures and its time."""

import os
import signal

import pytest
from daemon import CallError, eventually, plugin

HOOK = "tool_pre_invoke"

TELLS = """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={self.name: os.getpid()})
"""

# What the tests have one plugin of several do, by the arguments of the tool.
ANYTHING = """
    async def tool_pre_invoke(self, payload, context):
        what = payload.args.get(self.name)
        if what == "exit":
            os._exit(3)
        elif what == "raise":
            raise ValueError(self.name)
        elif what == "hang":
            while True:
                pass
        elif what == "sleep":
            await asyncio.sleep(60)
        elif what == "print":
            print("this is", self.name, flush=True)
        elif what == "deny":
            return Result(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C"))
        elif what == "change":
            return Result(modified_payload=ToolPreInvokePayload(name=payload.name, args=payload.args | {"changed": self.name}))
        return Result(metadata={self.name: os.getpid()})
"""


def group(names, body=TELLS, isolation=None, **entry):
    return [plugin(name, body, isolation={"group": "g"} | (isolation or {}), **entry) for name in names]


def payload(**args):
    return {"name": "t", "args": args}


def pids(daemon):
    return daemon.invoke(HOOK, payload())["metadata"]


def error_of(daemon, **args):
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, payload(**args))
    return caught.value


def test_one_process_has_all_plugins(cpexd):
    daemon = cpexd([*group("abc"), plugin("alone", TELLS)])
    met = pids(daemon)
    assert met["a"] == met["b"] == met["c"] != met["alone"]
    assert daemon.workers("a") == daemon.workers("b") == [met["a"]]
    assert [daemon.status(name)["group"] for name in ("a", "b", "c", "alone")] == ["g", "g", "g", None]
    assert [daemon.status(name)["calls_total"] for name in "abc"] == [1, 1, 1]


def test_they_are_initialized_in_the_order_of_the_file_with_those_between(cpexd, tmp_path):
    log = tmp_path / "order"
    log.touch()
    body = f"""
    async def initialize(self):
        with open({str(log)!r}, "a") as file:
            file.write(self.name)

    async def tool_pre_invoke(self, payload, context):
        return Result()
"""
    write = {"sandbox": {"write": [str(log)]}}
    a, b = group("ab", body, write)
    daemon = cpexd([a, plugin("x", body, isolation=write), b])
    daemon.invoke(HOOK, payload())
    assert log.read_text() == "axb"


def test_they_are_shut_down_in_reverse(cpexd):
    body = TELLS + """
    async def shutdown(self):
        print("bye", self.name)
"""
    daemon = cpexd(group("abc", body))
    daemon.invoke(HOOK, payload())
    daemon.stop()
    assert [line[-1] for line in daemon.log().splitlines() if "bye" in line] == ["c", "b", "a"]




def fails_until(path):
    return f"""
    async def initialize(self):
        if not os.path.exists({str(path)!r}):
            raise ValueError("not today")
""" + TELLS


def test_one_that_cannot_start_is_an_error_of_its_own(cpexd, tmp_path):
    """It is tried again in another process, and the others stay in theirs until that is of use."""
    mended = tmp_path / "mended"
    a, _, c = group("abc", on_error="ignore")
    b = plugin("b", fails_until(mended), isolation={"group": "g"}, on_error="ignore")
    daemon = cpexd([a, b, c])
    daemon.expect('plugin "b": cannot start: the plugin failed to initialize: not today')
    daemon.expect("start_failed")
    met = pids(daemon)
    assert met.keys() == {"a", "c"}
    assert [daemon.status(name)["status"] for name in "abc"] == ["ready", "failed", "ready"]
    assert "not today" in daemon.status("b")["error"] and not daemon.status("a")["error"]
    eventually(lambda: daemon.log().count("cannot start") >= 3)
    assert pids(daemon) == met
    mended.touch()
    eventually(lambda: daemon.status("b")["status"] == "ready", 30)
    met = pids(daemon)
    assert met["a"] == met["b"] == met["c"]
    assert not daemon.status("b")["error"]


def test_one_that_cannot_be_imported_is_an_error_of_its_own(cpexd):
    a, b = group("ab", on_error="ignore")
    b["code"] = "raise ValueError('not today')"
    daemon = cpexd([b, a])
    daemon.expect('plugin "b": cannot start: the plugin failed to initialize: not today')
    daemon.expect("start_failed")
    assert pids(daemon).keys() == {"a"}


def test_none_of_them_can_start(cpexd):
    daemon = cpexd(group("ab", "async def initialize(self):\n    raise ValueError(self.name)\n", hooks=[HOOK]))
    daemon.expect("cannot start")
    daemon.expect("start_failed")
    assert "initialize: a" in error_of(daemon).message
    eventually(lambda: "initialize: b" in daemon.status("b")["error"])


def test_another_plugin_has_a_module_of_that_name(cpexd):
    a, b = group("ab", on_error="ignore")
    for each in (a, b):
        each["files"] = {f"plugins/{each['package']}/same.py": each["code"]}
        each["entry"]["config"]["class_name"] = "same.P"
    daemon = cpexd([a, b])
    daemon.expect("a_plugin/same.py; plugins of a group need different names")
    daemon.expect("start_failed")
    assert pids(daemon).keys() == {"a"}


def test_a_worker_that_dies_takes_the_calls_of_all_its_plugins(cpexd):
    daemon = cpexd(group("ab", ANYTHING, {"max_concurrent": 4}))
    daemon.expect('plugin "[abg]".*exited with status 3')
    with daemon.host() as host:
        sleeping = [host.begin(HOOK, payload(**{name: "sleep"}), plugin=name) for name in "ab"]
        eventually(lambda: daemon.status("a")["workers"][0]["calls_active"] == 2)
        dying = host.begin(HOOK, payload(a="exit"), plugin="a")
        errors = []
        for msgid in (*sleeping, dying):
            with pytest.raises(CallError) as caught:
                host.end(msgid)
            errors.append((caught.value.cause, caught.value.plugin_name))
    assert errors == [("crash", "a"), ("crash", "b"), ("crash", "a")]
    assert [daemon.status(name)["errors_total"] for name in "ab"] == [2, 1]
    eventually(lambda: daemon.workers("a"))
    assert pids(daemon).keys() == {"a", "b"}


def test_the_time_is_each_plugins_own(cpexd):
    daemon = cpexd([plugin("a", ANYTHING, isolation={"group": "g", "timeout": "20s"}),
                    plugin("b", ANYTHING, isolation={"group": "g", "timeout": "200ms"})])
    daemon.expect("timeout|killed because a call did not end in time")
    error = error_of(daemon, b="hang")
    assert (error.cause, error.plugin_name, error.message) == ("timeout", "b", "Plugin b exceeded 0.2s timeout")
    assert "tool_pre_invoke" in error.details["stacks"]


def test_disabled_after_an_error_is_only_the_one(cpexd):
    daemon = cpexd(group("ab", ANYTHING, on_error="disable"))
    daemon.expect("exception|disabled until")
    daemon.invoke(HOOK, payload(a="raise"))
    assert pids(daemon).keys() == {"b"}
    assert [daemon.status(name)["status"] for name in "ab"] == ["disabled", "ready"]


def test_a_full_queue_is_one_plugins(cpexd):
    slow, other = (plugin(name, ANYTHING, isolation={"group": "g", "max_concurrent": 1, "workers": {"max": 1}, "queue": queue})
                   for name, queue in (("a", 0), ("b", 9)))
    daemon = cpexd([slow, other])
    daemon.expect("queue_full|cancelled")
    with daemon.host() as host:
        sleeping = host.begin(HOOK, payload(a="sleep"), plugin="a")
        eventually(lambda: daemon.status("a")["workers"][0]["calls_active"] == 1)
        waits = host.begin(HOOK, payload(), plugin="b")
        with pytest.raises(CallError) as caught:
            host.invoke(HOOK, payload(), plugin="a")
        assert caught.value.cause == "queue_full"
        host.notify("cancel", msgid=sleeping)
        assert host.end(waits)["metadata"].keys() == {"b"}


def test_what_it_prints_is_the_groups(cpexd):
    daemon = cpexd(group("ab", ANYTHING))
    daemon.invoke(HOOK, payload(b="print"))
    daemon.wait_log('plugin "g" worker \\d+: this is b')
    assert "this is b" in daemon.ctl("logs", "g").stdout


def test_a_reload_keeps_a_group_that_is_the_same(cpexd):
    plugins = group("abc")
    daemon = cpexd(plugins)
    met = pids(daemon)
    answer = daemon.admin("reload")
    assert sorted(answer["changed"]["kept"]) == ["a", "b", "c"]
    assert pids(daemon) == met


@pytest.mark.parametrize("change", [
    lambda a, b, c: [a, b | {"entry": b["entry"] | {"priority": 7}}, c],
    lambda a, b, c: [a, b | {"code": b["code"] + "\nchanged = 1\n"}, c],
    lambda a, b, c: [a, b],
    lambda a, b, c: [a, b, c, *group("d")],
    lambda a, b, c: [b, a, c],
    lambda a, b, c: [a, b | {"entry": b["entry"] | {"mode": "disabled"}}, c],
], ids=["entry", "code", "fewer", "more", "order", "disabled"])
def test_a_change_of_one_is_a_change_of_the_group(cpexd, change):
    plugins = group("abc")
    daemon = cpexd(plugins)
    met = pids(daemon)
    daemon.write(change(*plugins))
    answer = daemon.admin("reload")
    assert answer["changed"]["kept"] == []
    assert met["a"] not in pids(daemon).values()


def test_an_upgrade_carries_a_group(cpexd):
    daemon = cpexd(group("ab", ANYTHING))
    met = pids(daemon)
    with daemon.host() as host:
        msgid = host.begin(HOOK, payload(b="sleep"), plugin="b", timeout_ms=3000)
        eventually(lambda: daemon.status("b")["workers"][0]["calls_active"] == 1)
        assert "1 worker, 1 host, 1 call carried" in daemon.ctl("upgrade").stdout
        daemon.expect("timeout")
        assert pids(daemon) == met
        with pytest.raises(CallError) as caught:
            host.end(msgid)
        assert caught.value.plugin_name == "b"
    os.kill(met["a"], signal.SIGKILL)
    daemon.expect("signal 9")
    eventually(lambda: daemon.workers("a") not in ([], [met["a"]]))
    assert pids(daemon).keys() == {"a", "b"}


def test_one_box_for_all(cpexd):
    """Each of them reads the code of the others: a group is one boundary."""
    daemon = cpexd(group("ab"))
    shown = daemon.admin("explain", plugin="a")
    assert {path.rsplit("/", 1)[1] for path in shown["read"]} >= {"a_plugin", "b_plugin"}
    assert {"name": "isolation.group", "value": "g"}.items() <= next(
        each for each in shown["settings"] if each["name"] == "isolation.group").items()


def test_members_must_agree(cpexd):
    first, second = plugin("a", TELLS, isolation={"group": "g", "memory": "1G"}), plugin("b", TELLS, isolation={"group": "g"})
    daemon = cpexd([first])
    daemon.write([first, second])
    daemon.expect("isolation.memory is null here|the new configuration is refused")
    with pytest.raises(CallError) as caught:
        daemon.admin("reload")
    text = str(caught.value.details["diagnostics"])
    assert "isolation.memory is null here and 1G for the plugin in line" in text, text
