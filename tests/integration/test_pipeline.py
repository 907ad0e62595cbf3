# SPDX-License-Identifier: Apache-2.0
"""The rules of one hook call, as CPEX has them: phases, order, chaining, blocking, merging, contexts, errors."""

import textwrap

import pytest
from daemon import CallError, eventually, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {"trail": []}}


def step(name, extra="", **entry):
    """A plugin that adds its name to the argument `trail`; `extra` are keywords of its result."""
    return plugin(name, f"""
        async def tool_pre_invoke(self, payload, context):
            args = dict(payload.args, trail=payload.args["trail"] + ["{name}"])
            return Result(modified_payload=payload.model_copy(update={{"args": args}}), metadata={{"last": "{name}", "{name}": len(args["trail"])}}, {extra})
    """, **entry)


def does(name, body, **entry):
    """A plugin whose hook is the body."""
    indented = "\n".join("    " + line for line in textwrap.dedent(body).strip().splitlines())
    return plugin(name, f"async def tool_pre_invoke(self, payload, context):\n{indented}", **entry)


BLOCK = 'continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C")'


def trail(answer):
    return answer["modified_payload"]["args"]["trail"]


def records(answer):
    return {each["plugin_name"]: each for each in answer["executions"]}


# ---- Order and chaining ----


def test_priority_orders_and_ties_run_in_file_order(cpexd):
    daemon = cpexd([step("d", priority=20), step("b", priority=10), step("c", priority=10), step("a", priority=-5), step("e")])
    answer = daemon.invoke(HOOK, CALL)
    assert trail(answer) == ["a", "b", "c", "d", "e"]
    assert [each["plugin_name"] for each in answer["executions"]] == ["a", "b", "c", "d", "e"]
    assert answer["metadata"] == {"last": "e", "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


def test_phases_come_before_priority(cpexd):
    daemon = cpexd([step("audit", mode="audit", priority=1), step("transform", mode="transform", priority=2),
                    step("concurrent", mode="concurrent", priority=3), step("sequential", mode="sequential", priority=4)])
    answer = daemon.invoke(HOOK, CALL)
    # Audit and concurrent see the payload but cannot change it.
    assert trail(answer) == ["sequential", "transform"]
    assert [each["plugin_name"] for each in answer["executions"]] == ["sequential", "transform", "audit", "concurrent"]
    assert answer["metadata"] == {"last": "concurrent", "sequential": 1, "transform": 2, "audit": 3, "concurrent": 3}


def test_legacy_modes(cpexd):
    daemon = cpexd([step("permissive", mode="permissive", priority=1), step("enforce", mode="enforce", priority=2)])
    assert trail(daemon.invoke(HOOK, CALL)) == ["enforce", "permissive"]


def test_disabled_is_not_run(cpexd):
    daemon = cpexd([does("off", "raise ValueError('never')", mode="disabled"), step("on")])
    assert trail(daemon.invoke(HOOK, CALL)) == ["on"]


# ---- Blocking ----


def test_what_a_denial_says_of_itself(cpexd):
    daemon = cpexd([step("guard", BLOCK + ", denial_metadata={'score': 0.5, 'text': 'no'}")])
    assert daemon.invoke(HOOK, CALL)["denial_metadata"] == {"score": 0.5, "text": "no"}, "a host's own manager decides what of it counts"
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL, violations_as_exceptions=True)
    assert caught.value.denial_outcome["metadata"] == {"score": 0.5} and caught.value.denial_metadata is None
    assert "contexts" not in caught.value.error, "CPEX returns no table from a call that raises"
    assert daemon.invoke("tool_post_invoke", {"name": "t", "result": 1})["denial_metadata"] is None



def test_sequential_block_stops_the_rest(cpexd):
    daemon = cpexd([step("first"), step("guard", BLOCK), step("never")])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is False
    assert answer["violation"]["plugin_name"] == "guard"
    assert (answer["violation"]["reason"], answer["violation"]["description"], answer["violation"]["code"]) == ("r", "d", "C")
    assert trail(answer) == ["first"], "the blocker's own payload is dropped"
    assert answer["metadata"] == {"last": "guard", "first": 1, "guard": 2}
    assert [each["plugin_name"] for each in answer["executions"]] == ["first", "guard"]


def test_block_drops_the_retry_delay(cpexd):
    daemon = cpexd([step("first", "retry_delay_ms=50"), step("guard", BLOCK)])
    assert daemon.invoke(HOOK, CALL)["retry_delay_ms"] == 0


def test_block_without_violation(cpexd):
    daemon = cpexd([does("guard", "return Result(continue_processing=False)")])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is False and answer["violation"] is None


@pytest.mark.parametrize("where", ["context.state", "context.global_context.state"])
@pytest.mark.parametrize("verdict", [
    f"return Result({BLOCK})",
    'raise PluginViolationError("no", PluginViolation(reason="r", description="d", code="C"))',
    'return Result(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C", details={"x": sys}))',
])
def test_a_denial_is_one_whatever_else_cannot_be_sent(cpexd, where, verdict):
    daemon = cpexd([does("guard", f'{where}["x"] = sys; {verdict}', on_error="ignore")])
    if verdict.startswith("raise"):
        with pytest.raises(CallError) as caught:
            daemon.invoke(HOOK, CALL)
        assert caught.value.error["type"] == "PluginViolationError"
        violation = caught.value.error["violation"]
    else:
        answer = daemon.invoke(HOOK, CALL)
        assert answer["continue_processing"] is False
        violation = answer["violation"]
    assert (violation["reason"], violation["code"]) == ("r", "C")


def test_violation_that_continues_is_dropped(cpexd):
    daemon = cpexd([does("guard", 'return Result(violation=PluginViolation(reason="r", description="d", code="C"))')])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is True and answer["violation"] is None


@pytest.mark.parametrize("mode", ["transform", "audit"])
def test_transform_and_audit_cannot_block(cpexd, mode):
    daemon = cpexd([step("guard", BLOCK + ", retry_delay_ms=5", mode=mode), step("after", mode=mode)])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is True and answer["violation"] is None
    assert answer["metadata"]["last"] == "after" and "guard" in answer["metadata"]
    assert answer["retry_delay_ms"] == 0
    if mode == "transform":
        assert trail(answer) == ["guard", "after"]
    else:
        assert answer["modified_payload"] is None


def test_concurrent_block_cancels_the_others(cpexd):
    daemon = cpexd([does("slow", "await asyncio.sleep(20)\nreturn Result(metadata={'slow': 1})", mode="concurrent"),
                    does("guard", f"await asyncio.sleep(0.2)\nreturn Result(metadata={{'guard': 1}}, {BLOCK})", mode="concurrent"),
                    does("quick", "return Result(metadata={'quick': 1})", mode="concurrent")])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is False and answer["violation"]["plugin_name"] == "guard"
    assert answer["metadata"] == {"quick": 1, "guard": 1}


def test_concurrent_plugins_run_side_by_side(cpexd):
    daemon = cpexd([does(name, "began = time.time()\nawait asyncio.sleep(0.5)\nreturn Result(metadata={self.config.name: [began, time.time()]})",
                         mode="concurrent") for name in ("a", "b")])
    metadata = daemon.invoke(HOOK, CALL)["metadata"]
    assert metadata["a"][0] < metadata["b"][1] and metadata["b"][0] < metadata["a"][1]


def test_violations_as_exceptions(cpexd):
    daemon = cpexd([step("first"), does("guard", f"context.global_context.state['seen'] = 1\nreturn Result({BLOCK})")])
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL, violations_as_exceptions=True)
    error = caught.value
    assert error.type == "PluginViolationError"
    assert error.message == "tool_pre_invoke blocked by plugin guard: C - r (d)"
    assert error.violation["plugin_name"] == "guard" and error.violation["code"] == "C"
    assert error.error["state"] == {"seen": 1}


# ---- What is merged ----


def test_metadata_is_merged_flat_and_later_wins(cpexd):
    daemon = cpexd([does("a", "return Result(metadata={'k': {'a': 1}, 'a': 1, '_decision_plugin': 'x'})"),
                    does("b", "return Result(metadata={'k': {'b': 1}})")])
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"k": {"b": 1}, "a": 1}


def test_largest_retry_delay_wins(cpexd):
    daemon = cpexd([does(name, f"return Result(retry_delay_ms={delay})", mode=mode)
                    for name, delay, mode in (("a", 20, "sequential"), ("b", 70, "transform"), ("c", 50, "concurrent"), ("d", -9, "audit"))])
    assert daemon.invoke(HOOK, CALL)["retry_delay_ms"] == 70


def test_global_state_is_merged_key_by_key(cpexd):
    daemon = cpexd([
        does("a", """
            state = context.global_context.state
            state["added"] = 1
            state["changed"] = 2
            del state["deleted"]
            context.global_context.metadata["m"] = [1]
            context.global_context.user = "nobody"
            return Result()"""),
        does("b", "return Result(metadata={'state': dict(context.global_context.state), 'user': context.global_context.user})"),
    ])
    answer = daemon.invoke(HOOK, CALL, {"state": {"changed": 1, "deleted": 1}, "user": "ann"})
    assert answer["state"] == {"changed": 2, "deleted": 1, "added": 1}
    assert answer["global_metadata"] == {"m": [1]}
    assert answer["metadata"] == {"state": answer["state"], "user": "ann"}


def test_audit_does_not_merge_state(cpexd):
    daemon = cpexd([does("a", "context.global_context.state['x'] = 1\nreturn Result()", mode="audit")])
    assert daemon.invoke(HOOK, CALL)["state"] == {}


def test_the_blocker_still_merges_state(cpexd):
    daemon = cpexd([does("a", f"context.global_context.state['x'] = 1\nreturn Result({BLOCK})")])
    assert daemon.invoke(HOOK, CALL)["state"] == {"x": 1}


# ---- Contexts ----

COUNTER = plugin("counter", """
    async def tool_pre_invoke(self, payload, context):
        context.state["n"] = context.state.get("n", 0) + 1
        return Result(metadata={"n": context.state["n"]})

    async def tool_post_invoke(self, payload, context):
        context.state["n"] = context.state.get("n", 0) + 1
        return ToolPostInvokeResult(metadata={"n": context.state["n"]})
""")


def test_a_context_travels_from_pre_to_post(cpexd):
    daemon = cpexd([COUNTER])
    first = daemon.invoke(HOOK, CALL)
    assert first["metadata"] == {"n": 1} and isinstance(first["contexts"], bytes)
    second = daemon.invoke("tool_post_invoke", {"name": "t", "result": 1}, contexts=first["contexts"])
    assert second["metadata"] == {"n": 2}
    assert daemon.invoke("tool_post_invoke", {"name": "t", "result": 1})["metadata"] == {"n": 1}, "the daemon keeps nothing between calls"


def test_a_context_counts_only_for_its_request(cpexd):
    daemon = cpexd([COUNTER])
    first = daemon.invoke(HOOK, CALL, {"request_id": "one"})
    assert daemon.invoke(HOOK, CALL, {"request_id": "two"}, contexts=first["contexts"])["metadata"] == {"n": 1}
    assert daemon.invoke(HOOK, CALL, {"request_id": "one"}, contexts=first["contexts"])["metadata"] == {"n": 2}


def test_contexts_that_are_no_contexts(cpexd):
    daemon = cpexd([COUNTER])
    for junk in (b"", b"\xc1", b"\x91\x01", b"junk" * 1000):
        try:
            assert daemon.invoke(HOOK, CALL, contexts=junk)["metadata"] == {"n": 1}
        except CallError as error:
            assert error.type == "ProtocolError" and error.code == "bad_request"


# ---- Errors ----


def test_an_exception_fails_the_call_by_default(cpexd):
    daemon = cpexd([step("first"), does("bad", "raise ValueError('so bad')"), step("never")])
    daemon.expect('plugin "bad"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    error = caught.value
    assert (error.type, error.plugin_name, error.message, error.code) == ("PluginError", "bad", "ValueError('so bad')", "")
    assert error.cause == "exception" and error.mcp_error_code == -32603 and error.details == {}


@pytest.mark.parametrize("mode", ["sequential", "transform", "audit", "concurrent"])
def test_on_error_fail_counts_in_every_phase(cpexd, mode):
    daemon = cpexd([does("bad", "raise KeyError('k')", mode=mode)])
    daemon.expect('plugin "bad"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    assert caught.value.message == "KeyError('k')"


def test_on_error_ignore_goes_on(cpexd):
    daemon = cpexd([does("bad", "context.state['kept'] = 1\nraise ValueError('x')", on_error="ignore"), step("after")])
    daemon.expect('plugin "bad"')
    for _ in range(2):
        answer = daemon.invoke(HOOK, CALL)
        assert trail(answer) == ["after"] and set(records(answer)) == {"bad", "after"}
        assert records(answer)["bad"]["status"] == "completed"


def test_on_error_disable_is_for_good(cpexd):
    daemon = cpexd([does("bad", "if payload.name == 'bad':\n    raise ValueError('x')\nreturn Result(metadata={'bad': 1})", on_error="disable"),
                    step("after")])
    daemon.expect('plugin "bad"')
    assert daemon.invoke(HOOK, CALL)["metadata"]["bad"] == 1
    assert trail(daemon.invoke(HOOK, CALL | {"name": "bad"})) == ["after"]
    answer = daemon.invoke(HOOK, CALL)
    assert "bad" not in answer["metadata"] and "bad" not in records(answer)
    with daemon.host() as host:
        status = {each["name"]: each["status"] for each in host.call("plugins")["plugins"]}
    assert status == {"bad": "disabled", "after": "ready"}


def test_a_plugin_error_travels_verbatim(cpexd):
    daemon = cpexd([does("bad", """
        raise PluginError(error=PluginErrorModel(message="told so", code="E7", details={"k": [1]}, plugin_name="else", mcp_error_code=-32000))""")])
    daemon.expect('plugin "bad"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    error = caught.value
    assert (error.message, error.code, error.plugin_name, error.mcp_error_code) == ("told so", "E7", "else", -32000)
    assert error.details == {"k": [1]}


def test_a_violation_error_from_a_plugin(cpexd):
    daemon = cpexd([does("bad", 'raise PluginViolationError("stop", PluginViolation(reason="r", description="d", code="C"))', on_error="ignore")])
    daemon.expect('plugin "bad"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    assert caught.value.type == "PluginViolationError" and caught.value.message == "stop"
    assert caught.value.violation["code"] == "C"


@pytest.mark.parametrize("junk", ["None", "7", "'text'", "{}", "object()"])
def test_a_result_that_is_none(cpexd, junk):
    daemon = cpexd([does("bad", f"return {junk}")])
    daemon.expect('plugin "bad"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    assert caught.value.message.startswith("AttributeError(") and "has no attribute 'metadata'" in caught.value.message


# ---- Timeouts ----


def slow(name, **entry):
    return does(name, "await asyncio.sleep(20)\nreturn Result()", isolation={"timeout": 1}, **entry)


def test_timeout_fails(cpexd):
    daemon = cpexd([slow("slow")])
    daemon.expect('plugin "slow"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL)
    assert (caught.value.type, caught.value.message, caught.value.cause) == ("PluginError", "Plugin slow exceeded 1s timeout", "timeout")
    assert caught.value.plugin_name == "slow"


def test_timeout_ignored_and_each_plugin_has_its_own(cpexd):
    daemon = cpexd([slow("slow", on_error="ignore"),
                    does("nearly", "await asyncio.sleep(0.6)\nreturn Result(metadata={'nearly': 1})", isolation={"timeout": 1}),
                    does("again", "await asyncio.sleep(0.6)\nreturn Result(metadata={'again': 1})", isolation={"timeout": 1})])
    daemon.expect('plugin "slow"')
    answer = daemon.invoke(HOOK, CALL)
    assert answer["metadata"] == {"nearly": 1, "again": 1}
    assert records(answer)["slow"]["status"] == "timeout"


def test_the_whole_call_has_a_budget(cpexd):
    daemon = cpexd([does("a", "await asyncio.sleep(0.3)\nreturn Result()"), does("b", "await asyncio.sleep(20)\nreturn Result()")])
    daemon.expect('plugin "b"')
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, CALL, timeout_ms=800)
    assert caught.value.cause == "timeout"


# ---- Conditions ----


def test_conditions_are_ored_and_their_fields_anded(cpexd):
    daemon = cpexd([step("a", conditions=[{"tools": ["t1"], "tenant_ids": ["x"]}, {"server_ids": ["s"]}]), step("always", conditions=[{}])])

    def ran(name, **context):
        return trail(daemon.invoke(HOOK, CALL | {"name": name}, context)) == ["a", "always"]

    assert ran("t1", tenant_id="x")
    assert not ran("t1") and not ran("t1", tenant_id="y") and not ran("t2", tenant_id="x")
    assert ran("t2", server_id="s")


def test_conditions_on_users_and_content_types(cpexd):
    daemon = cpexd([step("u", conditions=[{"user_patterns": ["admin"]}]), step("c", conditions=[{"content_types": ["text/html"]}]), step("z")])
    assert trail(daemon.invoke(HOOK, CALL, {"user": "an-admin-too"})) == ["u", "z"]
    assert trail(daemon.invoke(HOOK, CALL, {"user": {"admin": 1}})) == ["u", "z"]
    assert trail(daemon.invoke(HOOK, CALL, {"user": "ann"})) == ["z"]
    assert trail(daemon.invoke(HOOK, CALL, {"content_type": "Text/HTML; charset=utf-8"})) == ["c", "z"]


def test_conditions_are_decided_once(cpexd):
    daemon = cpexd([does("rename", "return Result(modified_payload=payload.model_copy(update={'name': 'other'}))"),
                    does("tools", "return Result(metadata={'saw': payload.name})", conditions=[{"tools": ["t"]}])])
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"saw": "other"}


# ---- In the background ----


def background(path, name="bg", before="", **entry):
    return does(name, f"""
        {before or 'pass'}
        with open({str(path)!r}, "a") as out:
            out.write(repr((payload.args["trail"], dict(context.global_context.state))) + "\\n")
        return Result(continue_processing=False, metadata={{"never": 1}})""", mode="fire_and_forget", **entry)


def test_fire_and_forget_sees_the_callers_payload(cpexd, tmp_path):
    out = tmp_path / "out"
    daemon = cpexd([step("a", priority=1), does("s", "context.global_context.state['s'] = 1\nreturn Result()"), background(out)])
    answer = daemon.invoke(HOOK, CALL)
    assert answer["continue_processing"] is True and "never" not in answer["metadata"] and trail(answer) == ["a"]
    eventually(lambda: out.exists() and out.read_text())
    assert out.read_text() == "([], {'s': 1})\n"


def test_fire_and_forget_does_not_hold_the_answer(cpexd, tmp_path):
    out = tmp_path / "out"
    daemon = cpexd([background(out, before="await asyncio.sleep(1)")])
    daemon.invoke(HOOK, CALL)
    assert not out.exists()
    eventually(lambda: out.exists() and out.read_text())


def test_fire_and_forget_runs_after_a_block_and_not_after_an_error(cpexd, tmp_path):
    out = tmp_path / "out"
    daemon = cpexd([does("a", f"if payload.name == 'raise':\n    raise ValueError('x')\nreturn Result({BLOCK})"), background(out)])
    daemon.expect('plugin "a"')
    daemon.invoke(HOOK, CALL)
    eventually(lambda: out.exists() and out.read_text())
    with pytest.raises(CallError):
        daemon.invoke(HOOK, CALL | {"name": "raise"})
    daemon.invoke(HOOK, CALL)
    eventually(lambda: len(out.read_text().splitlines()) == 2)


def test_errors_in_the_background_never_surface(cpexd):
    daemon = cpexd([does("bg", "raise ValueError('in the dark')", mode="fire_and_forget"), step("a")])
    daemon.expect('plugin "bg".*in the dark')
    assert trail(daemon.invoke(HOOK, CALL)) == ["a"]
    daemon.wait_log('warning: plugin "bg"')


# ---- Records and limits ----


def test_execution_records(cpexd):
    daemon = cpexd([step("a", config={"x": 1}), does("watch", "return Result()", mode="audit"), does("guard", f"return Result({BLOCK})", mode="concurrent")])
    answer = daemon.invoke(HOOK, CALL)
    seen = records(answer)
    assert {key: seen["a"][key] for key in ("hook_name", "mode", "status", "requested_allow", "effective_allow", "matched", "applied",
                                            "payload_modified", "extensions_modified", "reason", "error_code")} == {
        "hook_name": HOOK, "mode": "sequential", "status": "completed", "requested_allow": True, "effective_allow": True, "matched": True,
        "applied": True, "payload_modified": True, "extensions_modified": False, "reason": None, "error_code": None}
    assert "x" in seen["a"]["config_keys"]
    assert seen["watch"]["mode"] == "audit" and seen["watch"]["matched"] is False
    assert seen["guard"]["requested_allow"] is False and seen["guard"]["effective_allow"] is False
    assert seen["a"]["duration_ns"] > 0


def test_payload_size_limit(cpexd):
    daemon = cpexd([step("a")])
    big = {"name": "t", "args": {"trail": [], "x": "y" * 999_998}}
    assert trail(daemon.invoke(HOOK, big)) == ["a"]
    big["args"]["x"] += "y"
    with pytest.raises(CallError) as caught:
        daemon.invoke(HOOK, big)
    assert caught.value.type == "PayloadSizeError"
    assert caught.value.message == "Payload size 1000001 exceeds limit of 1000000 bytes"
