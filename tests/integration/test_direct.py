# SPDX-License-Identifier: Apache-2.0
"""invoke with `direct`: one plugin, its answer as it gave it, and none of the pipeline's rules."""

import msgpack
import pytest
from daemon import CallError, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {"a": 1}}

BODY = """
    async def tool_pre_invoke(self, payload, context):
        context.state["calls"] = context.state.get("calls", 0) + 1
        shared = context.global_context.state
        shared.pop("gone", None)
        context.global_context.metadata["was"] = payload.name
        if payload.name == "raise":
            raise ValueError("broken")
        if payload.name == "slow":
            await asyncio.sleep(60)
        if payload.name == "quiet":
            return Result()
        shared["new"] = 1
        return Result(
            continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C"),
            modified_payload=payload.model_copy(update={"name": "x"}), metadata={"m": 1}, retry_delay_ms=5,
            http_headers={"h": "v"}, denial_metadata={"n": 1})

    async def prompt_pre_fetch(self, payload, context):
        return PromptPrehookResult()
"""


@pytest.mark.parametrize("mode", ["sequential", "transform", "audit", "concurrent", "fire_and_forget"])
def test_the_answer_is_the_plugins_own_in_every_mode(cpexd, mode):
    daemon = cpexd([plugin("other", BODY), plugin("p", BODY, mode=mode, conditions=[{"tools": ["another"]}])],
                   settings={"plugin_settings": {"default_hook_policy": "deny"}})
    answer = daemon.invoke(HOOK, CALL, {"state": {"gone": 1, "kept": 2}}, plugin="p", direct=True, violations_as_exceptions=True)
    assert answer["continue_processing"] is False
    assert answer["violation"]["code"] == "C" and "plugin_name" not in answer["violation"]
    assert answer["modified_payload"]["name"] == "x"
    assert (answer["metadata"], answer["retry_delay_ms"]) == ({"m": 1}, 5)
    assert (answer["http_headers"], answer["denial_metadata"]) == ({"h": "v"}, {"n": 1})
    assert answer["state"] == {"kept": 2, "new": 1}, "what the plugin took out is gone"
    assert answer["generation"] == 1
    with daemon.host() as host:  # what is as it was is not told
        quiet = host.begin(HOOK, dict(CALL, name="quiet"), {"state": {"kept": 2}}, contexts=answer["contexts"], plugin="p", direct=True)
        answer = host.response(quiet)
    assert answer.keys() == {"contexts", "global_metadata", "generation"}
    assert msgpack.unpackb(answer["contexts"]) == [1, "r1", {"p": {"state": {"calls": 2}, "metadata": {}}}]


def test_a_large_payload_is_not_measured(cpexd):
    daemon = cpexd([plugin("p", BODY)])
    large = {"name": "quiet", "args": {"a": "x" * 1_000_001}}
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, large)
    assert caught.value.type == "PayloadSizeError"
    daemon.invoke(HOOK, large, plugin="p", direct=True)


@pytest.mark.parametrize("on_error", ["ignore", "disable"])
def test_every_failure_is_an_error(cpexd, on_error):
    daemon = cpexd([plugin("p", BODY, on_error=on_error, isolation={"timeout": 0.3})])
    daemon.expect('plugin "p".*(broken|timeout)')
    with pytest.raises(CallError) as raised:
        daemon.invoke(HOOK, dict(CALL, name="raise"), {"state": {"gone": 1, "kept": 2}}, plugin="p", direct=True)
    assert (raised.value.type, raised.value.cause, raised.value.plugin_name) == ("PluginError", "exception", "p")
    assert raised.value.executions == []
    assert msgpack.unpackb(raised.value.contexts)[2]["p"]["state"] == {"calls": 1}, "what it remembered before it raised"
    assert (raised.value.state, raised.value.global_metadata) == ({"kept": 2}, {"was": "raise"})
    with pytest.raises(CallError) as late:
        daemon.invoke(HOOK, dict(CALL, name="slow"), plugin="p", direct=True)
    assert late.value.cause == "timeout"
    assert daemon.invoke(HOOK, CALL)["continue_processing"] is False, "and disables nothing"


def test_one_that_an_error_disabled_still_answers(cpexd):
    daemon = cpexd([plugin("p", BODY, on_error="disable")])
    daemon.expect('plugin "p".*(broken|disabled)')
    daemon.invoke(HOOK, dict(CALL, name="raise"))
    assert daemon.invoke(HOOK, CALL)["continue_processing"] is True, "it is out of rotation"
    assert daemon.invoke(HOOK, CALL, plugin="p", direct=True)["continue_processing"] is False


def test_refusals(cpexd):
    daemon = cpexd([plugin("p", BODY, hooks=[HOOK, HOOK]), plugin("off", BODY, mode="disabled")])
    for code, more in [("bad_request", {}), ("unknown_plugin", {"plugin": "nobody"}), ("unknown_plugin", {"plugin": "off"})]:
        with pytest.raises(CallError) as caught:
            daemon.invoke(HOOK, CALL, direct=True, **more)
        assert caught.value.code == code
    with pytest.raises(CallError) as caught:
        daemon.invoke("prompt_pre_fetch", {"prompt_id": "1"}, plugin="p", direct=True)
    assert caught.value.code == "unknown_plugin" and "hook" in caught.value.message
    assert daemon.invoke(HOOK, CALL, plugin="p", direct=True)["metadata"] == {"m": 1}, "an entry that names the hook twice"
