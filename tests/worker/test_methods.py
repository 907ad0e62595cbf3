# SPDX-License-Identifier: Apache-2.0
"""init, invoke and the others, in each Python with each SDK."""

import msgpack
import pytest
from worker import PLUGINS, SECRET, Failed, Worker, pack, unpack

HOOKS = ["tool_pre_invoke", "resource_pre_fetch", "http_pre_request", "sample.custom", "bad_await", "bare_yield"]


@pytest.fixture(scope="module")
def sample(variant):
    """A worker that the tests share: none of them may leave it other than it was."""
    with Worker(variant) as worker:
        worker.init("sample.Sample", HOOKS)
        yield worker


@pytest.fixture
def own(worker):
    worker.init("sample.Sample", HOOKS)
    return worker


# -- init ----------------------------------------------------------------------------------------------------------------


def test_init_tells_hooks_sdk_and_python(worker, variant, request):
    answer = worker.init("sample.Sample", HOOKS)
    assert answer["hooks"] == HOOKS and answer["missing"] == {}
    assert answer["sdk"] == "bundled" or request.node.callspec.id == "cpex" and answer["sdk"] == "cpex 0.1.4"
    assert answer["python"].startswith("3.")


def test_hooks_without_a_usable_method(worker):
    hooks = ["tool_pre_invoke", "tool_post_invoke", "not_async", "too_few", "name"]
    answer = worker.init("sample.Sample", hooks, name="p")
    assert answer["hooks"] == ["tool_pre_invoke"]
    assert answer["missing"] == {
        "tool_post_invoke": "Plugin 'p' has no hook: 'tool_post_invoke'. Method must either be named 'tool_post_invoke' or "
        "decorated with @hook('tool_post_invoke')",
        "not_async": "Plugin 'p' hook 'not_async' must be async. Method 'not_async' is not a coroutine function. "
        "Use 'async def not_async(...)' instead of 'def not_async(...)'.",
        "too_few": "Plugin 'p' hook 'too_few' has invalid signature. "
        "Expected 2 or 3 parameters (payload, context[, extensions]), got 1: ['payload']. "
        "Correct signature: async def too_few(self, payload: PayloadType, context: PluginContext[, "
        "extensions: Extensions]) -> ResultType",
        "name": "'p' is not a callable object",
    }
    assert "has no hook: 'tool_post_invoke'" in worker.fail("tool_post_invoke", {})["message"]


@pytest.mark.parametrize(
    ("class_name", "kind", "message"),
    [
        ("no_such_module.P", "ModuleNotFoundError", "No module named 'no_such_module'"),
        ("sample.NoSuchClass", "AttributeError", "module 'sample' has no attribute 'NoSuchClass'"),
        ("os.path", "ImportError", "Plugin module 'os' is blocked for security reasons."),
        ("..sample.P", "ImportError", "Plugin module name '..sample' contains invalid characters."),
        ("NoModule", "ValueError", "Empty module name"),
        ("sample.Exits", "SystemExit", "SystemExit('cannot start')"),
        ("sample.FailsToInitialize", "KeyError", "'token'"),
        ("sample.Opaque", "TypeError", "Opaque() takes no arguments"),
    ],
)
def test_a_plugin_that_does_not_start_is_an_error_answer(worker, class_name, kind, message):
    with pytest.raises(Failed) as caught:
        worker.init(class_name, ["tool_pre_invoke"])
    error = caught.value.error
    assert (error["type"], error["message"]) == (kind, message)
    assert error["details"]["traceback"].startswith("Traceback")
    assert worker.fail("tool_pre_invoke", {})["code"] == "not_ready"
    assert worker.call("shutdown") == {} and worker.wait() == 0


def test_a_wrong_configuration_names_the_field(worker):
    with pytest.raises(Failed) as caught:
        worker.init("sample.Sample", HOOKS, entry={"priority": "high"})
    assert caught.value.error["type"] == "ValidationError" and "priority" in caught.value.error["message"]


def test_the_plugin_sees_its_entry(worker):
    worker.init("sample.LooksAtConfig", ["tool_pre_invoke"], config={"a": [1]}, entry={"priority": 7, "isolation": {"x": 1}})
    assert worker.tool()["metadata"] == {"config": {"a": [1]}, "priority": 7, "mode": "sequential"}


def test_a_plugin_with_one_method_for_all_hooks(worker):
    answer = worker.init("sample.AnyHook", ["tool_pre_invoke", "unheard_of"])
    assert answer["hooks"] == ["tool_pre_invoke", "unheard_of"] and answer["missing"] == {} and "config" not in answer
    assert worker.tool()["metadata"] == {"hook": "tool_pre_invoke", "payload": "ToolPreInvokePayload"}


def test_an_external_plugin_says_what_its_entry_has_become(worker):
    entry = {"kind": "external", "unix_socket": {"path": "/s"}, "conditions": [{"tools": ["t"]}], "version": "1.2", "mode": "audit"}
    answer = worker.init("sample.AnyHook", [], entry=entry)
    assert answer["hooks"] == ["tool_pre_invoke", "tool_post_invoke"]
    config = answer["config"]
    assert [{key: value for key, value in each.items() if value is not None} for each in config.pop("conditions")] == [{"tools": ["t"]}]
    assert config == {
        "hooks": answer["hooks"], "tags": [], "capabilities": [], "mode": "audit", "on_error": "fail", "priority": 3, "version": "1.2",
        "description": None, "author": None, "config_keys": ["b", "a"],
    }  # fmt: skip


@pytest.mark.parametrize("wait", [None, 0.3])
def test_a_worker_that_retires_answers_what_is_under_way(worker, wait):
    worker.init("sample.Retires", ["tool_pre_invoke"])
    slow = wait and worker.send_invoke("tool_pre_invoke", {"name": "slow", "args": {"wait": wait}})
    with worker.together():
        last = worker.send_invoke("tool_pre_invoke", {"name": "last", "args": {}})
        worker.send_invoke("tool_pre_invoke", {"name": "unread", "args": {}})
    assert worker.answer(last)["metadata"] == {"name": "last"}
    assert not slow or worker.answer(slow)["metadata"] == {"name": "slow"}
    assert worker.wait() == 1
    assert worker.read_output().splitlines()[-1] == "of no use any more"


def test_invoke_before_init_and_init_twice(worker):
    assert worker.fail("tool_pre_invoke", {})["code"] == "not_ready"
    worker.init("sample.Sample", HOOKS)
    with pytest.raises(Failed) as caught:
        worker.init("sample.Sample", HOOKS)
    assert caught.value.error["code"] == "bad_request"
    assert worker.tool() == {}


# -- invoke --------------------------------------------------------------------------------------------------------------


def test_nothing_to_say_is_an_empty_answer(sample):
    assert sample.tool() == {}
    assert sample.invoke("tool_pre_invoke", {"name": "t"}) == {}


def test_a_changed_payload_keeps_its_types(sample):
    answer = sample.tool({"do": "change", "kept": "é"})
    assert answer.keys() == {"modified_payload"}
    payload = unpack(answer["modified_payload"])
    big = (2**100).to_bytes(13, "big", signed=True)
    added = [1, 2.5, None, True, b"\x00\xff", msgpack.ExtType(2, big)]
    assert payload == {"name": "t", "args": {"do": "change", "kept": "é", "added": added}, "headers": None}
    payload["args"]["do"] = "nothing"
    assert sample.invoke("tool_pre_invoke", payload) == {}


def test_values_without_a_msgpack_type_look_as_in_json(sample):
    payload = unpack(sample.tool({"do": "exotic"})["modified_payload"])
    assert payload["args"] == {
        "tuple": [1, [2]], "set": [1, 2, 3], "date": "2026-01-02", "enum": "red", "keys": {1: "a"}, "delta": "P1DT1H1M1.5S",
    }  # fmt: skip


def test_context_and_shared_state_reach_the_plugin(sample):
    context = {"user": {"email": "e"}, "tenant_id": "t", "state": {"s": b"1"}, "metadata": {"m": 2}}
    own = {"state": {"o": 1}, "metadata": {"p": 2}}
    answer = sample.tool({"do": "metadata"}, context=context, own=own)
    assert answer["metadata"] == {
        "request_id": "r", "user": {"email": "e"}, "tenant_id": "t", "state": {"s": b"1"}, "shared_metadata": {"m": 2},
        "own_state": {"o": 1}, "own_metadata": {"p": 2},
    }  # fmt: skip
    assert "state" not in answer and "global_metadata" not in answer
    assert unpack(answer["contexts"]) == own


def test_changed_state_comes_back(sample):
    answer = sample.tool({"do": "state"}, context={"state": {"n": 1, "k": "v"}}, own={"state": {"mine": 4}, "metadata": {}})
    assert answer["state"] == {"n": 2, "k": "v"} and answer["global_metadata"] == {"m": "m"}
    assert unpack(answer["contexts"]) == {"state": {"mine": 5}, "metadata": {"also": True}}


def test_no_result_is_an_error_that_keeps_the_state(sample):
    error = sample.fail("tool_pre_invoke", {"name": "t", "args": {"do": "state", "junk": True}})
    assert error["type"] == "AttributeError"
    assert error["message"] == "AttributeError(\"'NoneType' object has no attribute 'metadata'\")"
    assert error["state"] == {"n": 1} and error["global_metadata"] == {"m": "m"}
    assert unpack(error["contexts"])["state"] == {"mine": 1}


def test_text_as_result(sample):
    error = sample.fail("tool_pre_invoke", {"name": "t", "args": {"do": "text"}})
    assert error["message"] == "AttributeError(\"'str' object has no attribute 'metadata'\")"


def test_a_block_with_all_it_says(sample):
    answer = sample.tool({"do": "block"})
    assert answer == {
        "continue_processing": False,
        "violation": {"reason": "r", "description": "d", "code": "C", "details": {"a": 1}, "mcp_error_code": None,
                      "http_status_code": 429, "http_headers": None},
        "retry_delay_ms": 7, "http_headers": {"X": "y"}, "denial_metadata": {"k": 1},
    }  # fmt: skip


def test_payloads_of_other_classes(sample):
    answer = sample.tool({"do": "cross"})
    assert answer["payload_type"].endswith(":ResourcePreFetchPayload")
    # ... and such a payload as input
    assert sample.invoke("sample.custom", {"uri": "u"}, payload_type=answer["payload_type"])["metadata"] == {
        "type": "ResourcePreFetchPayload"
    }
    answer = sample.tool({"do": "dict"})
    assert answer["payload_type"] == "" and unpack(answer["modified_payload"]) == {"plain": True}
    answer = sample.tool({"do": "local_class"})
    assert answer["payload_type"] == "" and unpack(answer["modified_payload"]) == {"a": 1}
    assert sample.invoke("sample.custom", "text", payload_type="")["metadata"] == {"type": "str"}
    error = sample.fail("tool_pre_invoke", {}, payload_type="os:NoClass")
    assert error["code"] == "bad_request" and "os:NoClass" in error["message"]


def test_what_a_payload_is_to_the_one_that_was_given(sample):
    assert sample.tool({"do": "same", "itself": True})["payload_is"] == "given"
    assert "payload_is" not in sample.tool({"do": "same"})
    assert sample.tool({"do": "child"})["payload_is"] == "child"
    assert "payload_is" not in sample.tool({"do": "cross"})
    # A plain value, too; but CPEX hands out copies of a model with a root.
    assert sample.invoke("sample.custom", {"a": 1})["payload_is"] == "given"
    headers = sample.invoke("http_pre_request", {"A": "b"}, payload_type="cpex.framework.hooks.http:HttpHeaderPayload")
    assert unpack(headers["modified_payload"]) == {"A": "b"} and "payload_is" not in headers


def test_a_hook_without_a_payload_class_gets_plain_data(sample):
    answer = sample.invoke("sample.custom", {"a": 1})
    assert answer["metadata"] == {"type": "dict"} and "payload_type" not in answer
    assert unpack(answer["modified_payload"]) == {"a": 1}


def test_the_payload_class_of_the_decorator(worker):
    worker.init("sample.Billing", ["billing.before"])
    answer = worker.invoke("billing.before", {"cents": 1})
    assert unpack(answer["modified_payload"]) == {"cents": 2} and "payload_type" not in answer
    assert worker.fail("billing.before", {"cents": "x"})["stage"] == "request"


def test_a_root_model_and_an_empty_payload(sample):
    assert sample.invoke("http_pre_request", {"path": "/", "method": "GET", "headers": {"A": "b"}})["metadata"]["kind"] == (
        "HttpPreRequestPayload"
    )
    error = sample.fail("tool_pre_invoke", None)
    assert error["type"] == "ValidationError"
    assert error["errors"] == [{"loc": ["name"], "type": "missing", "msg": "Field required"}]


def test_extensions_go_to_a_hook_that_takes_them(sample):
    assert sample.invoke("resource_pre_fetch", {"uri": "u"})["metadata"] == {"extensions": None, "uri": "u"}
    answer = sample.invoke("resource_pre_fetch", {"uri": "u"}, extensions={})
    assert answer["metadata"]["extensions"] == "Extensions"
    for hook, payload in (("resource_pre_fetch", {"uri": "u"}), ("tool_pre_invoke", {"name": "t"})):
        error = sample.fail(hook, payload, extensions={"http": {"headers": {"n": 1}}})
        assert error["stage"] == "request" and error["errors"][0]["loc"] == ["http", "headers", "n"]


def test_a_secret_stays_one(sample):
    token = msgpack.ExtType(SECRET, b"hush-hush")
    metadata = sample.tool({"do": "secret"}, context={"state": {"token": token}})["metadata"]
    assert metadata == {"text": "********** SecretStr('**********') hu", "secret": token}


def test_each_call_has_its_own_context_variables(sample):
    for _ in range(2):
        assert sample.tool({"do": "context_variable"})["metadata"] == {"before": "initialize"}


# -- errors --------------------------------------------------------------------------------------------------------------


def raised(worker, kind):
    return worker.fail("tool_pre_invoke", {"name": "t", "args": {"do": "raise", "kind": kind}})


def test_a_plugin_error_is_verbatim(sample):
    assert raised(sample, "PluginError") == {
        "code": "c", "type": "PluginError", "message": "m", "plugin_name": "other", "details": {"x": 1}, "mcp_error_code": -1,
        "cause": "exception",
    }  # fmt: skip


def test_a_violation_error(sample):
    error = raised(sample, "PluginViolationError")
    assert (error["type"], error["message"], error["violation"]["code"]) == ("PluginViolationError", "denied", "c")


@pytest.mark.parametrize(
    ("kind", "name", "message", "cause"),
    [
        ("ValueError", "ValueError", "ValueError('no')", "exception"),
        ("TimeoutError", "TimeoutError", "TimeoutError('no')", "timeout"),
        ("SystemExit", "SystemExit", "SystemExit(3)", "exception"),
        ("KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt('no')", "exception"),
        ("StopIteration", "RuntimeError", "RuntimeError('coroutine raised StopIteration')", "exception"),
    ],
)
def test_any_exception_is_its_repr(sample, kind, name, message, cause):
    error = raised(sample, kind)
    assert (error["type"], error["message"], error["cause"]) == (name, message, cause)
    assert "do_raise" in error["details"]["traceback"]
    assert sample.tool() == {}


def test_a_traceback_is_bounded(sample):
    error = raised(sample, "recursion")
    assert error["type"] == "RecursionError" and len(error["details"]["traceback"].encode()) <= 8192


def test_what_cannot_be_sent_is_named(sample):
    error = sample.fail("tool_pre_invoke", {"name": "t", "args": {"do": "opaque"}})
    assert error["type"] == "TypeError"
    assert error["message"] == "TypeError('metadata: a value of type sample.Opaque cannot be sent to another process')"
    error = sample.fail("tool_pre_invoke", {"name": "t", "args": {"do": "deep"}})
    assert error["message"] == "ValueError('metadata: the value is nested deeper than 128 levels')"
    assert sample.tool() == {}


def test_an_answer_beyond_the_limit(worker):
    worker.init("sample.Sample", HOOKS, frame_bytes=1000)
    assert len(worker.tool({"do": "large", "size": 900})["metadata"]["large"]) == 900
    error = worker.fail("tool_pre_invoke", {"name": "t", "args": {"do": "large", "size": 1000}})
    assert error["cause"] == "oversize" and "1000" in error["message"]


def test_waiting_for_what_nobody_ends(sample):
    error = sample.fail("bad_await", {})
    assert error["message"] == "RuntimeError(\"Task got bad yield: 'no future'\")"
    assert sample.invoke("bare_yield", {})["metadata"] == {"went": "on"}


def test_requests_that_are_wrong_in_themselves(sample):
    assert sample.fail("nothing_such", {})["code"] == "unknown_hook"
    with pytest.raises(Failed) as caught:
        sample.call("fly")
    assert caught.value.error["code"] == "unknown_method"
    with pytest.raises(Failed) as caught:
        sample.call("invoke", hook="tool_pre_invoke", payload=b"\x92\x01", context={"request_id": "r"})
    assert caught.value.error["code"] == "bad_request" and "cut off" in caught.value.error["message"]
    assert sample.fail("tool_pre_invoke", {"name": "t"}, context={"content_type": "x" * 201})["stage"] == "request"
    # Text that is not UTF-8 passes the daemon; it costs this call and no more.
    sample.socket.sendall(b"\x94\x00\xcd\x03\xe7\xa6invoke\x91\x81\xa1k\xa1\xff")
    with pytest.raises(Failed) as caught:
        sample.answer(999)
    assert caught.value.error["code"] == "bad_request"
    assert sample.tool() == {}


# -- ping, shutdown, the end -----------------------------------------------------------------------------------------------


def test_ping(worker):
    assert worker.call("ping") == {}


def test_shutdown_calls_the_plugin_and_exits(own):
    assert own.call("shutdown") == {} and own.wait() == 0
    own.read_output("shutdown of sample\n")


def test_a_failing_shutdown_is_logged(worker):
    worker.init("sample.ShutdownFails", [])
    assert worker.call("shutdown") == {} and worker.wait() == 0
    worker.read_output("RuntimeError: not so fast")


def test_the_end_of_the_connection_is_the_end_of_the_worker(own):
    own.tool({"do": "thread"})
    own.socket.close()
    assert own.wait() == 0


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x01", pack([1, 1, None, {}]), pack([]), pack([0, 1])])
def test_what_is_no_request_ends_the_worker(worker, garbage):
    worker.init("sample.Sample", HOOKS)
    worker.socket.sendall(garbage)
    assert worker.wait() == 1
    worker.read_output("cpexd worker: ")


def test_many_requests_in_one_write_and_one_byte_at_a_time(sample):
    params = {"hook": "tool_pre_invoke", "payload": pack({"name": "t"}), "context": {"request_id": "r"}}
    request = pack([0, 5, "invoke", [params]])
    sample.socket.sendall(request * 500)
    for _ in range(500):
        assert sample.receive() == [1, 5, None, {}]
    for i in range(len(request)):
        sample.socket.sendall(request[i : i + 1])
    assert sample.receive() == [1, 5, None, {}]


def test_a_large_payload(sample):
    payload = {"name": "t", "args": {"do": "change", "data": b"x" * (8 << 20)}}
    answer = sample.invoke("tool_pre_invoke", payload, timeout=30)
    assert len(unpack(answer["modified_payload"])["args"]["data"]) == 8 << 20


def test_the_path(own, request):
    modules = own.tool({"do": "modules"})["metadata"]
    assert modules["path"][0].endswith("tests/worker/plugins")
    assert [path.rsplit("/", 1)[-1] for path in modules["path"][-3:]] == ["shim", "worker-shim", "worker-shim"]
    assert not any("cpexd_worker" in path for path in modules["path"])
    assert modules["asyncio"] == (request.node.callspec.id == "cpex")


# -- several plugins -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(worker):
    for member in range(3):
        worker.call("load", 30, member=member, members=3, class_name="sample.Sample", paths=[str(PLUGINS)])
    for member in range(3):
        entry = {"name": f"p{member}", "kind": "isolated_venv", "hooks": HOOKS, "config": {}}
        worker.call("init", 30, member=member, plugin=entry, hooks=HOOKS, max_concurrent=8, frame_bytes=1 << 16, generation=1)
    return worker


def send_chain(worker, context=None, **args):
    """The ids of its three steps."""
    steps = [{"member": member, "contexts": None, "extensions": pack(None)} for member in range(3)]
    first = worker.send("chain", hook="tool_pre_invoke", payload=pack({"name": "t", "args": args}), steps=steps,
                        context=context or pack({"request_id": "r"}), unchecked=False, payload_type=None)  # fmt: skip
    worker.skip_ids(2)
    return [first, first + 1, first + 2]


def test_invoke_names_the_plugin(three):
    assert three.tool({"do": "name"}, member=2)["metadata"] == {"name": "p2"}
    with pytest.raises(Failed) as caught:
        three.tool(member=3)
    assert caught.value.error["code"] == "not_ready"


def test_a_chain_goes_on_while_nothing_is_changed(three):
    assert [three.answer(each)["metadata"]["name"] for each in send_chain(three, do="name")] == ["p0", "p1", "p2"]


@pytest.mark.parametrize("do", ["change", "raise", "state", "opaque", "large"])
def test_a_chain_ends_at_anything_else(three, do):
    first, *rest = send_chain(three, do=do, size=1 << 17, kind="ValueError")
    try:
        three.answer(first)
    except Failed as failed:
        assert do in ("raise", "opaque", "large"), failed.error
    assert three.tool({"do": "name"})["metadata"] == {"name": "p0"}, "the rest was answered before"
    assert not three.has_answers(rest)


def test_a_chain_whose_context_cannot_be_read(three):
    first, *_ = send_chain(three, context=b"\xa1\xff")
    with pytest.raises(Failed) as caught:
        three.answer(first)
    assert (caught.value.error["type"], caught.value.error["code"]) == ("ProtocolError", "bad_request")


def test_steps_are_cancelled_before_they_begin(three):
    with three.together():
        first, second, third = send_chain(three, do="name")
        three.notify("cancel", msgid=third)
    three.answer(first), three.answer(second)
    assert three.tool({"do": "name"})["metadata"] == {"name": "p0"}


def test_one_that_cannot_be_loaded_leaves_the_others_alone(worker):
    worker.call("load", 30, member=0, members=2, class_name="sample.Sample", paths=[str(PLUGINS)])
    with pytest.raises(Failed):
        worker.call("load", 30, member=1, members=2, class_name="no_such_module.P", paths=[])
    entry = {"name": "p", "kind": "isolated_venv", "hooks": HOOKS, "config": {}}
    assert worker.call("init", 30, member=0, plugin=entry, hooks=HOOKS)["hooks"] == HOOKS
    with pytest.raises(Failed):
        worker.call("init", 30, member=1, plugin=entry, hooks=HOOKS)
