# SPDX-License-Identifier: Apache-2.0
"""What asyncio promises, inside hooks."""

import time

import pytest
from worker import Worker


@pytest.fixture(scope="module")
def waits(variant):
    """A worker that the tests share."""
    with Worker(variant) as worker:
        worker.init("waits.Waits", ["tool_pre_invoke"])
        yield worker


def send(worker, **args):
    return worker.send_invoke("tool_pre_invoke", {"name": "t", "args": args})


def error_of(worker, ident):
    kind, other, error, result = worker.receive()
    assert (kind, other, result) == (1, ident, None)
    return error


def test_calls_share_the_worker(waits):
    begun = time.monotonic()
    idents = [send(waits, seconds=0.3, n=n) for n in range(8)]
    assert [waits.answer(ident)["metadata"]["n"] for ident in idents] == list(range(8))
    assert time.monotonic() - begun < 1


def test_a_short_call_overtakes_a_long_one(waits):
    long = send(waits, seconds=0.5)
    short = send(waits, seconds=0)
    assert waits.receive()[1] == short
    assert waits.receive()[1] == long


def test_loop_task_timeout_threads(waits):
    answer = waits.answer(send(waits, do="promises"))
    assert answer["metadata"] == {"child": "child", "timed_out": True, "gathered": ["thread", "waited"]}


def test_tasks_of_the_plugin_run_between_calls(waits):
    first = waits.answer(send(waits, do="ticks"))["metadata"]["ticks"]
    time.sleep(0.3)
    assert waits.answer(send(waits, do="ticks"))["metadata"]["ticks"] > first + 5


def begin(worker, other, **args):
    """Sends a call, which has begun when this returns, and so have its tasks: calls of `other` that came later, one after the other, have ended."""
    ident = send(worker, **args)
    for _ in range(3):
        worker.answer(send(worker, do=other))
    return ident


def test_cancel(waits):
    ident = begin(waits, "ticks", seconds=10)
    waits.notify("cancel", msgid=ident)
    error = error_of(waits, ident)
    assert (error["type"], error["message"]) == ("CancelledError", "CancelledError()")
    assert error["contexts"]
    waits.notify("cancel", msgid=ident)  # too late: nothing happens
    waits.notify("cancel", msgid=12345)
    assert waits.call("ping") == {}


def test_cancel_before_the_call_has_begun(waits):
    for _ in range(50):
        ident = send(waits, seconds=10)
        waits.notify("cancel", msgid=ident)
        assert error_of(waits, ident)["type"] == "CancelledError"


def test_a_plugin_may_survive_its_cancellation(waits):
    ident = send(waits, do="survive_cancel")
    time.sleep(0.1)
    waits.notify("cancel", msgid=ident)
    assert waits.answer(ident)["metadata"] == {"survived": True}


def test_errors(waits):
    error = error_of(waits, send(waits, do="own_timeout"))
    assert (error["type"], error["message"], error["cause"]) == ("TimeoutError", "TimeoutError()", "timeout")
    error = error_of(waits, send(waits, do="bad_await"))
    assert error["message"] == "RuntimeError(\"Task got bad yield: 'no future'\")"


def test_shutdown_ends_the_plugins_tasks(worker):
    worker.init("waits.Waits", ["tool_pre_invoke"])
    worker.answer(send(worker, do="ticks"))
    assert worker.call("shutdown") == {} and worker.wait() == 0
    worker.read_output("background task ended\n")


def test_asyncio_that_comes_in_the_middle_of_a_hook(worker, request):
    worker.init("late.Late", ["tool_pre_invoke", "resource_pre_fetch"])
    first = worker.answer(send(worker))
    assert first["metadata"] == {"value": "value", "before": request.node.callspec.id == "cpex"}
    assert worker.invoke("resource_pre_fetch", {"uri": "u"})["metadata"] == {"running": False}
    idents = [send(worker) for _ in range(4)]
    assert all(worker.answer(ident)["metadata"]["value"] == "value" for ident in idents)
    ident = send(worker)
    worker.notify("cancel", msgid=ident)
    assert worker.receive()[1] == ident
    assert worker.call("shutdown") == {} and worker.wait() == 0


def test_asyncio_that_comes_and_is_not_waited_on(worker):
    worker.init("late.Late", ["tool_pre_invoke", "resource_pre_fetch"])
    for _ in range(3):
        assert worker.invoke("resource_pre_fetch", {"uri": "u"})["metadata"] == {"running": False}
    assert worker.answer(send(worker))["metadata"]["value"] == "value"


def test_a_call_that_cancels_itself_at_once(worker):
    worker.init("late.Late", ["tool_pre_invoke"])
    assert worker.answer(send(worker, cancel=True))["metadata"] == {"cancelled": True}


def test_asyncio_in_the_middle_of_a_later_hook(worker):
    worker.init("late.Late", ["tool_pre_invoke", "resource_pre_fetch"])
    assert worker.tool({"not_yet": True}) == {} == worker.invoke("resource_pre_fetch", {"uri": "not yet"})
    ident = send(worker)
    time.sleep(0.005)
    worker.notify("cancel", msgid=ident)
    assert worker.receive()[1] == ident
    assert worker.answer(send(worker))["metadata"]["value"] == "value"


def test_asyncio_in_a_later_hook_that_does_not_wait(worker):
    worker.init("late.Late", ["tool_pre_invoke", "resource_pre_fetch"])
    assert worker.invoke("resource_pre_fetch", {"uri": "not yet"}) == {}
    for _ in range(3):
        assert worker.invoke("resource_pre_fetch", {"uri": "u"})["metadata"] == {"running": False}
    assert worker.answer(send(worker))["metadata"]["value"] == "value"


def test_a_later_call_that_cancels_itself_at_once(worker):
    worker.init("late.Late", ["tool_pre_invoke"])
    assert worker.tool({"not_yet": True}) == {}
    assert worker.answer(send(worker, cancel=True))["metadata"] == {"cancelled": True}


def test_asyncio_that_a_thread_brings(worker):
    worker.init("late.Late", ["prompt_pre_fetch", "tool_pre_invoke"])
    assert worker.invoke("prompt_pre_fetch", {"prompt_id": "p"}) == {}
    assert worker.answer(send(worker))["metadata"]["value"] == "value"


# ---- What people do with asyncio, wherever they import it ----

EXPECTED = {
    "sleep": "slept",
    "task_group": [0, 1, 2],
    "task_group_that_fails": ["KeyError('in the group')"],
    "timeout": True,
    "wait_for": "in time",
    "thread": True,
    "executors": [3, 3],
    "loop_in_a_thread": True,
    "from_a_thread": "put",
    "process": ["cba", 3],
    "streams": "HELLO",
    "generator": "closed",
    "call_later": "later",
    "signal": True,
    "completed": ["quick", "slow", 1, 0],
    "shield": "done",
    "own_task": 40,
    "same_loop": [True, True, True, True],
    "other_loop": ["cba", 3],
}


@pytest.fixture(scope="module", params=["class", "initialize"])
def busy(variant, request):
    with Worker(variant) as worker:
        worker.init("busy.Busy", ["tool_pre_invoke", "resource_pre_fetch"], config={"when": request.param})
        yield worker


def result_of(worker, ident):
    return worker.answer(ident, 20)["metadata"]["result"]


@pytest.mark.parametrize("do", EXPECTED)
def test_asyncio_from_the_beginning(busy, do):
    assert result_of(busy, send(busy, do=do)) == EXPECTED[do]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("do", EXPECTED)
def test_asyncio_from_the_middle_of_a_hook(python, do, first):
    """`first`: it is the first hook; the extension may serve others."""
    with Worker(python) as worker:
        worker.init("busy.Busy", ["tool_pre_invoke"], config={"when": "hook"})
        assert first or worker.tool({"do": "nothing"}) == {}
        assert result_of(worker, send(worker, do=do)) == EXPECTED[do]
        assert result_of(worker, send(worker, do=do)) == EXPECTED[do]


def test_processes_of_a_pool(python):
    with Worker(python) as worker:
        worker.init("busy.Busy", ["tool_pre_invoke"], config={"when": "hook"})
        assert result_of(worker, send(worker, do="process_pool")) == 49


def test_interleaved_calls_do_not_mix(busy):
    before = result_of(busy, send(busy, do="interleaved", name="first"))["total"]
    idents = [send(busy, do="interleaved", name=f"call {n}") for n in range(40)]
    results = [result_of(busy, ident) for ident in idents]
    assert all(result["mine"] and result["most"] == 2 for result in results)
    assert sorted(result["total"] - before for result in results)[-1] == 40


def test_all_at_once(busy):
    """Everything interleaved with everything, twice."""
    names = [name for name in EXPECTED if name not in ("generator", "other_loop", "signal")] * 2
    idents = [(name, send(busy, do=name)) for name in names]
    assert [(name, result_of(busy, ident)) for name, ident in idents] == [(name, EXPECTED[name]) for name in names]


def test_a_cancelled_call_takes_its_children_along(busy):
    ident = begin(busy, "closed", do="nested")
    busy.notify("cancel", msgid=ident)
    assert error_of(busy, ident)["type"] == "CancelledError"
    assert sorted(map(str, result_of(busy, send(busy, do="closed")))) == ["0", "1", "2", "gathered"]


def test_a_hook_that_blocks_holds_up_its_worker_and_no_more(busy):
    sleeping = send(busy, do="sleep")
    blocking = busy.send_invoke("resource_pre_fetch", {"uri": "u"})
    assert busy.answer(blocking) == {}
    assert result_of(busy, sleeping) == "slept"
