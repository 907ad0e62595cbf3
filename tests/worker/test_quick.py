# SPDX-License-Identifier: Apache-2.0
"""Calls that the extension serves, and what it leaves to Python: the answers are the same."""

import pytest
from worker import PLUGINS, SECRET, Failed, Worker, msgpack, pack

HOOKS = ["tool_pre_invoke", "resource_pre_fetch", "http_pre_request", "sample.custom", "bad_await", "bare_yield"]
TOKEN = msgpack.ExtType(SECRET, b"a token of twenty")


@pytest.fixture(scope="module")
def workers(python):
    """One that has answered a call of each hook, so that the extension serves further ones, and one of a group, where it never does."""
    with Worker(python) as quick, Worker(python) as slow:
        for worker, members in ((quick, 1), (slow, 2)):
            worker.call("load", class_name="sample.Sample", paths=[str(PLUGINS)], members=members)
            worker.call("init", plugin={"name": "sample", "kind": "isolated_venv", "hooks": HOOKS}, hooks=HOOKS, max_concurrent=8, generation=1,
                        frame_bytes=1 << 20)  # fmt: skip
            assert worker.tool() == {} and worker.invoke("bare_yield", {})
            worker.invoke("http_pre_request", {"path": "/", "method": "GET", "headers": {"A": "b"}})
        yield quick, slow


def outcome(worker, hook, payload, **more):
    try:
        return worker.invoke(hook, payload, **more)
    except Failed as failed:
        # Where it was caught is no part of what the plugin sees.
        failed.error["details"] = {**failed.error["details"], "traceback": failed.error["details"].get("traceback", "").splitlines()[-1:]}
        return failed.error


def who_calls(worker):
    return worker.tool({"do": "who_calls"})["metadata"]["caller"]


def test_the_extension_serves_from_the_second_call_on(workers):
    quick, slow = workers
    assert [who_calls(quick), who_calls(slow)] == ["_read", "call"]


TOOL = [
    {"do": "nothing"}, {"do": "name"}, {"do": "change"}, {"do": "exotic"}, {"do": "opaque"}, {"do": "deep"}, {"do": "metadata"}, {"do": "state"},
    {"do": "large", "size": 100}, {"do": "large", "size": 1 << 19}, {"do": "large", "size": 1 << 21}, {"do": "floats"}, {"do": "lists"},
    {"do": "state", "junk": True}, {"do": "block"}, {"do": "none"}, {"do": "text"}, {"do": "cross"}, {"do": "local_class"}, {"do": "same"},
    {"do": "given"}, {"do": "given_changed"},
    {"do": "same", "itself": True}, {"do": "child"}, {"do": "dict"}, {"do": "secret"}, {"do": "context_variable"},
    {"do": "delay"}, {"do": "restored"},
    {"do": "nested_state"}, {"do": "other_context"}, {"do": "other_state"}, {"do": "no_context"}, {"do": "odd_result"},
    *({"do": "raise", "kind": kind} for kind in ("PluginError", "PluginViolationError", "SystemExit", "StopIteration", "ValueError", "TimeoutError",
                                                 "KeyboardInterrupt")),
]  # fmt: skip
CONTEXTS = {
    "bare": {},
    "full": {"user": "u", "tenant_id": "t", "server_id": "s", "state": {"n": 1, "deep": {"a": [1]}, "token": TOKEN}, "metadata": {"m": "n"}},
    "nil": {"user": None, "tenant_id": None, "state": {}, "metadata": {}, "user_context": None},
    "details": {"user": {"email": "e"}, "user_context": {"user_id": "u", "groups": ["g"]}, "content_type": "text/plain"},
    "wrong": {"user": 7},
    "strange": {"stranger": 1},
    "many": {f"stranger {n}": None for n in range(50)},
}  # fmt: skip


@pytest.mark.parametrize("args", TOOL, ids=lambda args: "-".join(map(str, args.values())))
def test_tool_calls(workers, args):
    for context in CONTEXTS.values() if args["do"] != "secret" else [CONTEXTS["full"]]:
        quick, slow = (outcome(worker, "tool_pre_invoke", {"name": "t", "args": args}, context=context) for worker in workers)
        assert quick == slow, context


@pytest.mark.parametrize("more", [
    {"unchecked": True}, {"unchecked": False, "payload_type": None, "contexts": None, "extensions": None}, {"own": {"state": {"mine": 1}, "metadata": {}}},
    {"payload_type": ""}, {"payload_type": "cpex.framework.hooks.tools:ToolPreInvokePayload"}, {"payload_type": "no:such"}, {"extensions": {}},
    {"extensions": {"custom": {"a": 1}}}, {"contexts": b"\xc1"}, {"contexts": 7}, {"context": None}, {"context": []}, {"stranger": 1}, {"member": 0}, {"member": 1},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("do", ["nothing", "metadata", "state"])
def test_parameters(workers, do, more):
    quick, slow = (outcome(worker, "tool_pre_invoke", {"name": "t", "args": {"do": do}}, **more) for worker in workers)
    assert quick == slow


@pytest.mark.parametrize("unchecked", [True, False])
@pytest.mark.parametrize("payload", [
    {"name": "t"}, {"name": "t", "args": None}, {"name": 7}, {}, None, [], {"name": "t", "stranger": 1}, {"name": "t", "args": {1: 2}}, {"name": "t", "args": []},
    {"name": "t", "args": {}, "headers": {"authorization": "Bearer of it"}}, {"name": "t", "args": {"do": "change", "secret": TOKEN, "bytes": b"b"}},
], ids=str)  # fmt: skip
def test_payloads(workers, payload, unchecked):
    quick, slow = (outcome(worker, "tool_pre_invoke", payload, unchecked=unchecked) for worker in workers)
    assert quick == slow


def test_what_cannot_be_decoded(workers):
    answers = []
    for worker in workers:
        ident = worker.send("invoke", hook="tool_pre_invoke", payload=b"\x81\xa4name\xa1\xff", context={"request_id": "r"})
        answers.append(worker.receive()[2:])
        ident = worker.send("invoke", hook="tool_pre_invoke", payload=pack({"name": "t"}) + b"\xc0", context={"request_id": "r"})
        answers.append(worker.receive()[2:])
        assert ident
    assert answers[:2] == answers[2:] and answers[0][0]["code"] == answers[1][0]["code"] == "bad_request"


@pytest.mark.parametrize("hook", ["resource_pre_fetch", "http_pre_request", "sample.custom", "bad_await", "bare_yield"])
def test_other_hooks(workers, hook):
    payload = {"uri": "u"} if hook == "resource_pre_fetch" else {"path": "/", "method": "GET", "headers": {"A": "b"}}
    quick, slow = ([outcome(worker, hook, payload) for _ in range(3)] for worker in workers)
    assert quick == slow


def test_calls_do_not_see_each_other(workers):
    for worker in workers:
        assert [worker.tool({"do": "context_variable"})["metadata"] for _ in range(3)] == [{"before": "initialize"}] * 3


def test_many_at_once(workers):
    quick, slow = workers
    for worker in workers:
        with worker.together():
            idents = [worker.send_invoke("tool_pre_invoke", {"name": "t", "args": {"do": do, "kind": "ValueError"}}, {"request_id": str(number)})
                      for number in range(20) for do in ("metadata", "raise", "nothing")]  # fmt: skip
        for number, ident in enumerate(idents):
            if number % 3 == 1:
                with pytest.raises(Failed):
                    worker.answer(ident)
            else:
                assert worker.answer(ident).get("metadata", {}).get("request_id") == (str(number // 3) if number % 3 == 0 else None)


def test_a_forked_child_that_comes_back_from_the_hook(python):
    with Worker(python) as worker:
        worker.init("sample.Sample", ["tool_pre_invoke"])
        assert worker.tool() == {}
        assert worker.tool({"do": "fork"})["metadata"] == {"status": 0}
        assert worker.tool({"do": "name"})["metadata"] == {"name": "sample"}


def test_retiring_in_a_call_that_the_extension_serves(python):
    with Worker(python) as worker:
        worker.init("sample.Retires", ["tool_pre_invoke"])
        assert worker.tool({"not_yet": True})["metadata"] == {"name": "t"}
        with worker.together():
            last = worker.send_invoke("tool_pre_invoke", {"name": "last", "args": {}})
            worker.send_invoke("tool_pre_invoke", {"name": "unread", "args": {}})
        assert worker.answer(last)["metadata"] == {"name": "last"}
        assert worker.wait() == 1


@pytest.mark.parametrize("by", ["encoding", "payload", "result"])
def test_asyncio_that_comes_when_the_hook_is_over(python, by):
    with Worker(python) as worker:
        worker.init("late.AtTheEnd", ["tool_pre_invoke", "resource_pre_fetch"])
        assert worker.tool() == {}
        assert worker.tool({"by": by}) == ({"metadata": {"it": "asyncio"}} if by == "encoding" else {})
        assert worker.invoke("resource_pre_fetch", {"uri": "u"}) == {"metadata": {"before": True}}


def test_a_class_that_cannot_be_compiled_fails_no_call_that_does_without(python):
    with Worker(python) as worker:
        worker.init("sample.Unfinished", ["sample.unfinished"])
        assert [worker.invoke("sample.unfinished", {}, payload_type="") for _ in range(2)] == [{"metadata": {"type": "dict"}}] * 2


def test_what_is_never_plain_is_left_to_python(workers):
    """A payload with another model in it would be decoded twice in each call."""
    hooks = ["tool_pre_invoke", "http_pre_request", "prompt_post_fetch"]
    assert workers[0].tool({"do": "plain", "hooks": hooks})["metadata"] == {"plain": [True, False, False]}
