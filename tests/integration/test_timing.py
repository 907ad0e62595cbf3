# SPDX-License-Identifier: Apache-2.0
"""The answer says where the time went: how long each plugin waited for a worker, and ran."""

import json
import time

import pytest
from daemon import CallError, plugin

HOOK = "tool_pre_invoke"

# The name of the tool says how long which plugin takes: "slow=0.2".
SLEEPER = """
    async def tool_pre_invoke(self, payload, context):
        which, _, seconds = payload.name.partition("=")
        if which == self.config.name:
            await asyncio.sleep(float(seconds))
        if payload.name == "deny":
            return Result(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C", details={}))
        return Result()
"""


def call(name):
    return {"name": name, "args": {}}


@pytest.fixture
def daemon(cpexd):
    one = {"workers": {"min": 1, "max": 1}, "max_concurrent": 1}
    return cpexd([plugin("first", SLEEPER, priority=1), plugin("slow", SLEEPER, priority=2, isolation=one),
                  plugin("behind", SLEEPER, mode="fire_and_forget", priority=3)])


def check(timing, seconds):
    """What must hold of any. Returns {plugin: (waited, ran)} in order."""
    assert set(timing) == {"total_usec", "wait_usec", "run_usec", "plugins"}
    assert all(set(each) == {"name", "wait_usec", "run_usec"} for each in timing["plugins"])
    assert timing["wait_usec"] == sum(each["wait_usec"] for each in timing["plugins"])
    assert timing["run_usec"] == sum(each["run_usec"] for each in timing["plugins"])
    assert timing["wait_usec"] + timing["run_usec"] <= timing["total_usec"] <= seconds * 1e6
    return {each["name"]: (each["wait_usec"], each["run_usec"]) for each in timing["plugins"]}


def test_only_for_who_asks(daemon):
    assert "timing" not in daemon.invoke(HOOK, call("t"))
    began = time.monotonic()
    timing = daemon.invoke(HOOK, call("slow=0.2"), timing=True)["timing"]
    times = check(timing, time.monotonic() - began)
    assert list(times) == ["first", "slow"]
    assert times["slow"][1] >= 200_000 and times["first"][1] > 0


def test_waiting_is_told_from_running(daemon):
    with daemon.host() as host:
        before = host.begin(HOOK, call("slow=0.3"))
        began = time.monotonic()
        timing = host.invoke(HOOK, call("t"), timing=True)["timing"]
        times = check(timing, time.monotonic() - began + 0.001)
        host.end(before)
    assert times["slow"][0] > 100_000 and times["slow"][1] > 0


def test_direct_and_denied_calls_and_errors_have_it(daemon):
    assert list(check(daemon.invoke(HOOK, call("t"), plugin="slow", direct=True, timing=True)["timing"], 10)) == ["slow"]
    assert list(check(daemon.invoke(HOOK, call("deny"), timing=True)["timing"], 10)) == ["first"]
    with pytest.raises(CallError) as error:
        daemon.invoke(HOOK, call("deny"), timing=True, violations_as_exceptions=True)
    assert list(check(error.value.timing, 10)) == ["first"]


def test_a_used_up_budget_tells_where_it_went_unasked(daemon):
    daemon.expect("timeout: Plugin slow was running when the call's timeout of 300 ms was over")
    with daemon.host() as host, pytest.raises(CallError) as error:
        host.invoke(HOOK, call("slow=5"), timeout_ms=300)
    times = check(error.value.details["timing"], 10)
    assert list(times) == ["first", "slow"] and error.value.details["timing"]["total_usec"] >= 280_000
    assert error.value.timing is None


def test_one_that_was_spent_on_waiting(daemon):
    daemon.expect("queue_timeout: Plugin slow was running when the call's timeout of 200 ms was over")
    with daemon.host() as host:
        before = host.begin(HOOK, call("slow=0.6"))
        with pytest.raises(CallError) as error:
            host.invoke(HOOK, call("t"), timeout_ms=200)
        host.end(before)
    waited, ran = check(error.value.details["timing"], 10)["slow"]
    assert waited > 0 == ran and error.value.details["timing"]["total_usec"] >= 180_000


def test_cpexctl(daemon):
    daemon.expect("call's timeout of 100 ms")
    done = daemon.ctl("invoke", HOOK, "--payload", json.dumps(call("t")), "--timing")
    assert done.returncode == 0 and "time\n  " in done.stdout and "first  waited 0.0" in done.stdout, done
    done = daemon.ctl("invoke", HOOK, "--payload", json.dumps(call("slow=3")), "--timeout-ms", "100")
    assert done.returncode == 2 and "\n  slow   waited " in done.stderr, done
    assert check(json.loads(daemon.ctl("invoke", HOOK, "--payload", json.dumps(call("t")), "--timing", "--json").stdout)["timing"], 10)
