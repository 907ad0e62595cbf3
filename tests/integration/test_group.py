# SPDX-License-Identifier: Apache-2.0
"""Plugins of a group (isolation.group) share their workers, and nothing else: each has its errors, its figures and its time."""

import json
import os
import re
import signal

import pytest
from daemon import PREAMBLE, SPOIL, CallError, eventually, plugin

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


def test_people_see_the_group(cpexd):
    daemon = cpexd([plugin("alone", TELLS), *group("ab"), *[plugin(name, TELLS, isolation={"group": "h"}) for name in "cd"]])
    daemon.wait_log('info: group "g" worker [0-9]+: ready after')
    assert "\ngroup g: a, b\ngroup h: c, d\n" in daemon.ctl("status").stdout
    top = daemon.ctl("top", "--interval", "0.1", "--count", "1").stdout
    assert "\ngroup g: a, b\ngroup h: c, d\n" in top
    lines = {line.split()[0]: line for line in top.splitlines() if line[:1].isalpha()}
    assert [name for name in lines if "MiB" in lines[name]] == ["alone", "a", "c"]
    assert "with a" in lines["b"] and "with c" in lines["d"]
    assert daemon.ctl("explain", "g").stdout == "plugin    a, the first of the group\n" + daemon.ctl("explain", "a").stdout
    assert daemon.ctl("explain", "none").returncode == 2


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


def test_others_are_replaced_while_one_cannot_start(cpexd, tmp_path):
    a, b = group("a", on_error="ignore") + [plugin("b", fails_until(tmp_path / "mended"), isolation={"group": "g"}, on_error="ignore")]
    daemon = cpexd([a, b])
    daemon.expect("cannot start|start_failed|signal 9")
    daemon.wait_log(r"the next attempt is in 6\.4 s", 30)
    old = daemon.workers("a")
    os.kill(old[0], signal.SIGKILL)
    eventually(lambda: daemon.workers("a") not in ([], old), 3)
    assert pids(daemon).keys() == {"a"}


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
    daemon.expect('(plugin "[ab]"|group "g").*exited with status 3')
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


def test_what_it_prints_is_its_own(cpexd):
    body = """
    async def initialize(self):
        print("initialize", self.name)

    async def tool_pre_invoke(self, payload, context):
        print("begun", end=" ")
        print("in", "pieces")
        sys.stderr.writelines(["one\\n", "two\\n", "x" * 9000])
        asyncio.get_running_loop().call_soon(print, "later")
        await asyncio.sleep(0)
        await asyncio.to_thread(print, "in a thread of asyncio's")
        os.write(1, b"by number\\n")
        os.write(1, b"\\x1e7 of nobody\\n")
        print("no end", end="", flush=True)
        return Result()
    """
    daemon = cpexd(group("ab", body))
    daemon.invoke(HOOK, payload(), plugin="b")
    assert "initialize a" in daemon.ctl("logs", "a").stdout and "begun" not in daemon.ctl("logs", "a").stdout
    mine, groups = daemon.ctl("logs", "b").stdout, daemon.ctl("logs", "g").stdout
    for line in ("initialize b", ": begun in pieces", ": one", ": two", ": xxxx", ": later", ": in a thread of asyncio's"):
        assert line in mine and line not in groups, line
    assert ": by number" in groups and "7 of nobody" in groups
    daemon.stop()
    assert 'plugin "b"' in next(line for line in daemon.log().splitlines() if line.endswith("no end"))


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


def test_a_reload_while_a_worker_loads_its_plugins(cpexd, tmp_path):
    """One between them takes its time to go, and the last of the group, which the worker is still to load, is gone by then."""
    loads, goes = tmp_path / "loads", tmp_path / "goes"
    slow = PREAMBLE + f"if os.path.exists({str(loads)!r}): print('loads', flush=True)\nwhile os.path.exists({str(loads)!r}): time.sleep(0.01)\n"
    body = TELLS + f"""
    async def shutdown(self):
        print("goes", flush=True)
        while os.path.exists({str(goes)!r}):
            time.sleep(0.01)
"""

    def plugins(more="", **entry):
        a, b = group("ab", TELLS + more, **entry)
        return [a, plugin("x", body + more), b]

    daemon = cpexd(plugins(preamble=slow))
    daemon.expect("signal 9")
    loads.touch()
    goes.touch()
    os.kill(daemon.workers("a")[0], signal.SIGKILL)
    daemon.wait_log('plugin "a" worker .*: loads')
    daemon.write(plugins("    # other code\n"))
    daemon.admin("reload")
    daemon.wait_log('plugin "x" worker .*: goes')
    loads.unlink()
    daemon.wait_log('group "g" worker .*: it was no longer needed')
    goes.unlink()
    assert pids(daemon).keys() == {"a", "x", "b"}


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
    settings = daemon.folder / "cpexd.yaml"
    settings.write_text(settings.read_text().replace("{", '{"one_coer": true,', 1))
    daemon.expect("isolation.memory is null here|the new configuration is refused|unknown key")
    with pytest.raises(CallError) as caught:
        daemon.admin("reload")
    warning, mistake = sorted(caught.value.details["diagnostics"], key=lambda text: not text.startswith("warning: "))
    assert 'did you mean "one_core"' in warning
    assert not mistake.startswith("warning: ") and "isolation.memory is null here and 1G for the plugin in line" in mistake


# ---- One hop ----

# Counts the messages that its worker gets.
SPY = """
    async def initialize(self):
        worker = sys.modules["cpexd_worker._worker"]._Worker
        if hasattr(worker, "n"):
            return
        take, worker.n = worker._take, 0

        def counting(self, message):
            worker.n += 1
            take(self, message)

        worker._take = counting

    def messages(self):
        return sys.modules["cpexd_worker._worker"]._Worker.n
"""

# Leaves a trace of what it gets in a file, and does what the tool's argument of its name says.
TRACES = """
    async def tool_pre_invoke(self, payload, context, extensions):
        what = (payload.args or {}).get(self.name)
        shared = context.global_context
        with open(self.config.config["trace"], "a") as file:
            print(self.name, payload.name, payload.args, shared.state, shared.metadata, shared.user, context.state, context.metadata,
                  extensions.model_dump(exclude_none=True) if extensions else None, file=file)
        if what == "exit":
            os._exit(3)
        elif what == "raise":
            raise ValueError(self.name)
        elif what == "timeout-error":
            raise TimeoutError
        elif what == "violation":
            raise PluginViolationError("no", violation=PluginViolation(reason="r", description="d", code="C"))
        elif what == "hang":
            time.sleep(60)
        elif what == "await":
            await asyncio.sleep(60)
        elif what == "pause":
            await asyncio.sleep(0.01)
        elif what == "deny":
            return Result(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C"))
        elif what == "change":
            return Result(modified_payload=ToolPreInvokePayload(name=payload.name, args=payload.args | {"changed": self.name}))
        elif what == "same":
            return Result(modified_payload=payload)
        elif what == "in-place":
            payload.args["in-place"] = self.name
        elif what == "state":
            shared.state[self.name] = 1
        elif what == "global-metadata":
            shared.metadata[self.name] = 1
        elif what == "user":
            shared.user["name"] = self.name
        elif what == "own":
            context.state["n"] = context.state.get("n", 0) + 1
        elif what == "metadata":
            return Result(metadata={"by": self.name, self.name: 1}, retry_delay_ms=len(self.name))
        elif what == "extensions":
            return Result(modified_extensions=extensions.model_copy(update={"custom": {"by": self.name}}))
        elif what == "objects":
            return Result(continue_processing=False)
        elif what == "junk":
            return None
        elif what == "unsendable":
            return Result(metadata={"x": object()})
        elif what == "many":
            return Result(metadata={"x": [None] * 3000})
        elif what == "long":
            return Result(metadata={"x": "x" * 3000})
        elif what == "deep" or what == "less-deep":
            deep = 1
            for _ in range(110 if what == "deep" else 98):
                deep = [deep]
            return Result(metadata={"x": deep})
        elif what == "delay":
            return Result(retry_delay_ms=1 << 70)
        elif what == "message":
            return Result(metadata={self.name: self.messages()})
        return Result()
""" + SPY


def traced(folder, names, grouped, timeout="300ms", **each):
    return [plugin(name, TRACES, isolation={"timeout": timeout} | ({"group": "g"} if grouped else {}),
                   config={"trace": str(folder / f"trace-{grouped}")}, **each.get(name, {"on_error": "ignore"})) for name in names]


def outcome(daemon, trace, **call):
    """All that comes of a call, but for what differs from one time to another."""
    trace.write_text("")
    try:
        answer = daemon.invoke(HOOK, timing=True, **call)
    except CallError as error:
        answer = {"error": error.error}
        for key in ("stacks", "timing", "traceback", "value"):  # value: of too many, as two more may be
            (error.details or {}).pop(key, None)
        answer["executions"] = answer["error"].pop("executions", [])
        answer["timing"] = answer["error"].pop("timing")
    for record in answer["executions"]:
        del record["duration_ns"], record["plugin_id"]
    answer["timing"] = [each["name"] for each in answer["timing"]["plugins"]]
    return json.loads(re.sub(r"\(\d+, at most", "(N, at most", json.dumps(answer | {"trace": trace.read_text()}, default=repr)))


WHAT = ["", "raise", "timeout-error", "violation", "deny", "change", "same", "in-place", "state", "global-metadata", "user", "own",
        "metadata", "extensions", "objects", "junk", "unsendable", "pause", "await", "many", "long", "deep", "less-deep", "delay"]
MODES = [{}, {"b": {"mode": "transform", "on_error": "ignore"}, "c": {"mode": "audit", "on_error": "ignore"}}, {"b": {"on_error": "fail"}}]


@pytest.mark.parametrize("modes", MODES, ids=["sequential", "phases", "fail"])
@pytest.mark.parametrize("whats, timeout", [(WHAT, "300ms"), (["hang", "exit"], "3s")], ids=["lives", "dies"])
def test_one_hop_is_as_good_as_several(cpexd, tmp_path, modes, whats, timeout):
    """Whatever one of them does: results, errors, records, contexts and what the others see are the same. The others of one that ends the
    process, or has it killed, wait for the next one."""
    both = []
    for grouped in (True, False):
        daemon = cpexd(traced(tmp_path, "abcd", grouped, timeout, **modes), settings={"limits": {"values": 2000}})
        daemon.expect("a|b")
        both.append((daemon, tmp_path / f"trace-{grouped}"))
    for what in whats:
        for call in ({"payload": payload(b=what)}, {"payload": payload(a="own", b=what, c="metadata")}):
            call |= {"context": {"user": {"name": "u"}, "state": {"s": 1}, "metadata": {"m": 1}},
                     "extensions": {"custom": {"x": 1}}}
            outcomes = []
            for daemon, trace in both:
                for name in "abcd":
                    eventually(lambda: daemon.workers(name))
                outcomes.append(outcome(daemon, trace, **call))
            assert outcomes[0] == outcomes[1], call
    assert "answered what it was not asked" not in both[0][0].log()


def test_a_chain_is_one_message(cpexd, tmp_path):
    daemon = cpexd(traced(tmp_path, "abcd", True))
    daemon.invoke(HOOK, payload())
    first, second = (daemon.invoke(HOOK, payload(a="message", d="message"))["metadata"] for _ in range(2))
    assert first["a"] == first["d"] == second["a"] - 1
    # A change ends it, and the rest is another.
    met = daemon.invoke(HOOK, payload(a="message", b="state", d="message"))["metadata"]
    assert met["d"] == met["a"] + 1


def test_a_chain_that_waits_is_one_message(cpexd, tmp_path):
    plugins = traced(tmp_path, "abc", True)
    for each in plugins:
        each["entry"]["isolation"] |= {"max_concurrent": 1, "workers": {"max": 1}, "timeout": "10s"}
    daemon = cpexd(plugins)
    with daemon.host() as host:
        first, second = (host.begin(HOOK, payload(a="pause", b="message", c="message")) for _ in range(2))
        assert host.end(first)["metadata"].keys() == {"b", "c"}
        met = host.end(second)["metadata"]
        assert met["b"] == met["c"]


def test_a_chain_that_waits_for_one_that_cannot_start_any_more(cpexd, tmp_path):
    one = {"group": "g", "max_concurrent": 1, "workers": {"max": 1}, "timeout": "20s"}
    a = plugin("a", ANYTHING, isolation=one)
    b = plugin("b", """
    async def initialize(self):
        open(self.config.config["once"], "x")

""" + TELLS, isolation=one, on_error="ignore", config={"once": str(tmp_path / "once")})
    daemon = cpexd([a, b])
    daemon.expect("cannot start|start_failed|signal 9|crash")
    with daemon.host() as host:
        dies, waits = host.begin(HOOK, payload(a="sleep")), host.begin(HOOK, payload())
        eventually(lambda: daemon.status("a")["queue"] == 1)
        os.kill(daemon.workers("a")[0], signal.SIGKILL)
        with pytest.raises(CallError):
            host.end(dies)
        answer = host.end(waits)
    assert answer["metadata"].keys() == {"a"}
    assert [each["error_code"] for each in answer["executions"]] == [None, "plugin_start_failed"]
    assert daemon.status("a")["calls_total"] == 2


def test_a_chain_that_no_worker_can_be_given(cpexd, tmp_path):
    """Each of the two has but one of the plugins: they are called one after the other."""
    settings = {"sandbox": {"write": [str(tmp_path)]}, "workers": {"min": 2, "max": 2}}
    once = """
    async def initialize(self):
        if os.environ.setdefault("FIRST", self.name) != self.name:
            raise ValueError("not both")
        try:
            open(self.config.config["once"], "x")
        except FileExistsError:
            if os.environ["FIRST"] == "a":
                del os.environ["FIRST"]
            raise
""" + TELLS
    daemon = cpexd([each for name in "ab" for each in group(name, once, settings, config={"once": str(tmp_path / name)})])
    daemon.expect("cannot start")
    met = pids(daemon)
    assert met.keys() == {"a", "b"} and met["a"] != met["b"]
    assert [daemon.status(name)["calls_total"] for name in "ab"] == [1, 1]


def test_each_step_has_its_own_time(cpexd, tmp_path):
    """Four times 200 ms are no reason to end the last of them, whose time is 300 ms."""
    body = """
    async def tool_pre_invoke(self, payload, context):
        time.sleep(payload.args.get(self.name, 0.2))
        return Result(metadata={self.name: 1})
"""
    daemon = cpexd(group("abcd", body, {"timeout": "300ms"}))
    answer = daemon.invoke(HOOK, payload(), timing=True)
    assert answer["metadata"].keys() == {*"abcd"}
    assert all(150_000 < each["run_usec"] < 290_000 for each in answer["timing"]["plugins"]), answer["timing"]
    daemon.expect("timeout|did not yield")
    error = error_of(daemon, c=60)
    assert (error.cause, error.plugin_name) == ("timeout", "c")
    assert "tool_pre_invoke" in error.details["stacks"]
    assert [each["plugin_name"] for each in error.error["executions"]] == ["a", "b", "c"]


def test_the_callers_time_counts_in_a_chain(cpexd, tmp_path):
    daemon = cpexd(traced(tmp_path, "abc", True, a={}, b={}, c={}))
    daemon.expect("timeout")
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, payload(b="await"), timeout_ms=100)
    assert caught.value.plugin_name == "b"
    assert [each["name"] for each in caught.value.details["timing"]["plugins"]] == ["a", "b"]


def test_a_chain_is_cancelled(cpexd, tmp_path):
    trace = tmp_path / "trace-True"
    daemon = cpexd(traced(tmp_path, "abc", True))
    with daemon.host() as host:
        msgid = host.begin(HOOK, payload(b="await"))
        eventually(lambda: trace.exists() and "\nb " in trace.read_text())
        host.notify("cancel", msgid=msgid)
        with pytest.raises(CallError):
            host.end(msgid)
    assert daemon.invoke(HOOK, payload(c="metadata"))["metadata"]["by"] == "c"
    assert [line[0] for line in trace.read_text().splitlines()] == [*"ab", *"abc"]


def test_an_upgrade_in_the_middle_of_a_chain(cpexd, tmp_path):
    plugins = traced(tmp_path, "abcd", True)
    for each in plugins:
        each["entry"]["isolation"] |= {"max_concurrent": 1, "workers": {"max": 1}, "timeout": "10s"}
    plugins[1]["code"] += """
    async def tool_pre_invoke(self, payload, context):
        while not os.path.exists(self.config.config["trace"] + ".go"):
            await asyncio.sleep(0.01)
        return Result(metadata={"b": 1})
"""
    daemon = cpexd(plugins)
    with daemon.host() as host:
        runs, waits = (host.begin(HOOK, payload(c="message", d="message")) for _ in range(2))
        eventually(lambda: (tmp_path / "trace-True").exists())
        assert "2 calls carried" in daemon.ctl("upgrade").stdout
        (tmp_path / "trace-True.go").touch()
        first, second = host.end(runs), host.end(waits)
    assert first["metadata"].keys() == second["metadata"].keys() == {*"bcd"}
    assert second["metadata"]["c"] == second["metadata"]["d"] == first["metadata"]["d"] + 1
    assert [each["plugin_name"] for each in first["executions"]] == [*"abcd"]
    assert [daemon.status(name)["calls_total"] for name in "abcd"] == [2, 2, 2, 2]


def test_a_hook_listed_twice_in_a_group(cpexd, tmp_path):
    a, b = traced(tmp_path, "ab", True)
    a["entry"]["hooks"] = [HOOK, HOOK]
    daemon = cpexd([a, b])
    first = daemon.invoke(HOOK, payload(a="own"))
    trace = tmp_path / "trace-True"
    trace.write_text("")
    daemon.invoke(HOOK, payload(a="own"), contexts=first["contexts"])
    assert ["{'n': 1}" in line for line in trace.read_text().splitlines()[:1]] == [True]
    assert "{'n': 2}" in trace.read_text().splitlines()[1]


# What a hostile worker sends in place of the answer to the first step of a chain, of which the second is another's.
LIES = """
    async def tool_pre_invoke(self, payload, context):
        if self.name == "a" and payload.args.get("lie"):
            worker = sys.modules["cpexd_worker._worker"]
            real = worker.encode_pieces
            worker._Worker._is_sure = lambda *_: True

            def encode_pieces(message, limit):
                worker.encode_pieces = real
                first = message[1]
                lies = {
                    "early": [[1, first + 1, None, {}], message],
                    "twice": [message, message],
                    "beyond": [message, [1, first + 1, None, {}], [1, first + 2, None, {}]],
                    "too-many": [[1, first, None, {"metadata": {"x": [None] * 600000}}], [1, first + 1, None, {}]],
                    "after-a-change": [[1, first, None, {"state": {"x": 1}}], [1, first + 1, None, {}]],
                }
                return [b"".join(worker.encode(each) for each in lies[payload.args["lie"]])]

            worker.encode_pieces = encode_pieces
        return Result(metadata={self.name: 1})
"""


@pytest.mark.parametrize("on_error", ["fail", "ignore"])
def test_an_answer_that_a_chain_goes_on_behind_is_malformed(cpexd, on_error):
    """Then it has failed before the next one runs: that is not called where its failure ends the call, and is withdrawn in the worker."""
    daemon = cpexd(group("ab", SPOIL + """
    async def tool_pre_invoke(self, payload, context):
        if self.name == "a" and payload.args.get("spoil"):
            self.spoil(lambda encode, message: encode([1, message[1], None, {"metadata": 5}]))
        elif payload.args.get("spoil"):
            await asyncio.sleep(0.1)
        return Result(metadata={self.name: 1})
""", on_error=on_error))
    daemon.expect("malformed")
    if on_error == "fail":
        error = error_of(daemon, spoil=True)
        assert error.cause == "malformed" and [each["plugin_name"] for each in error.error["executions"]] == ["a"]
    else:
        assert daemon.invoke(HOOK, payload(spoil=True))["metadata"] == {"b": 1}
    assert [daemon.status(name)["calls_total"] for name in "ab"] == [1, on_error == "ignore"]
    workers = daemon.workers("a")
    assert daemon.invoke(HOOK, payload())["metadata"].keys() == {"a", "b"}
    assert daemon.workers("b") == workers


@pytest.mark.parametrize("lie", ["early", "twice", "beyond", "after-a-change", "too-many"])
def test_a_worker_that_lies_about_a_chain_is_killed(cpexd, lie):
    daemon = cpexd(group("ab", LIES))
    daemon.expect("crash|answered what it was not asked|oversize")
    old = daemon.workers("a")
    with daemon.host() as host:
        host.end(host.begin(HOOK, payload()))
        try:
            host.invoke(HOOK, payload(lie=lie))
        except CallError as error:
            assert error.cause == ("oversize" if lie == "too-many" else "crash")
    daemon.wait_log("it was killed because it answered what it was not asked")
    eventually(lambda: daemon.workers("a") not in ([], old))
    assert daemon.invoke(HOOK, payload())["metadata"].keys() == {"a", "b"}
