# SPDX-License-Identifier: Apache-2.0
"""Every cause of a failure under every on_error: the answer or the error, the record, and whether later calls skip the plugin."""

import re
import time
from dataclasses import dataclass, field

import pytest
from daemon import SPOIL, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
FRAME_BYTES = 65536
VALUES = 5000

# What the plugin is to do is the name of the tool. A worker's answer is spoilt where the worker itself makes it.
P = SPOIL + """
    async def initialize(self):
        if self.config.config.get("broken"):
            raise RuntimeError("the model is missing")

    async def tool_pre_invoke(self, payload, context):
        what = payload.name
        if what == "await":
            await asyncio.sleep(30)
        elif what == "hang":
            while True:
                pass
        elif what == "crash":
            os._exit(7)
        elif what == "answer":
            self.spoil(lambda real, message: real([1, message[1], None, "no map"]))
        elif what == "field":
            self.spoil(lambda real, message: real([1, message[1], None, {"metadata": 5}]))
        elif what == "framing":
            self.spoil(lambda real, message: b"\\xc1")
        elif what == "long":
            return Result(metadata={"text": "x" * 70000})
        elif what == "many":
            return Result(metadata={"values": [None] * 10000})
        elif what == "raise":
            raise ValueError("no")
        elif what == "raise-timeout":
            raise TimeoutError("mine")
        elif what == "violate":
            raise PluginViolationError("I object", PluginViolation(reason="r", description="d", code="C"))
        elif what == "remember":
            context.state["text"] = "x" * 40000
        elif what == "wait":
            await asyncio.sleep(1)
        return Result(metadata={"p": what})
"""

GROW = """
    async def tool_pre_invoke(self, payload, context):
        if payload.name == "grow":
            return Result(modified_payload=payload.model_copy(update={"args": {"text": "x" * 40000}}))
        return Result()
"""

AFTER = """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={"after": 1})
"""


@dataclass
class Cause:
    """What a failure is to look like. `message` is a pattern of the whole error message."""

    name: str
    tool: str
    message: str
    status: str = "error"
    details: dict = field(default_factory=dict)
    disables: bool = True
    isolation: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    before: str = None  # what is under way, or has been done, when the call comes
    lasts: bool = False  # later calls fail in the same way

    def error_code(self):
        return None if self.status == "completed" else f"plugin_{self.name}"


DIED = "Plugin p: the worker died during the call: "
ONE = {"workers": {"min": 1, "max": 1}, "max_concurrent": 1}

CAUSES = {
    "timeout": Cause("timeout", "await", "Plugin p exceeded 1s timeout", "timeout", isolation={"timeout": 1}),
    "stuck": Cause("timeout", "hang", "Plugin p exceeded 1s timeout", "timeout", isolation={"timeout": 1}),
    "own-timeout": Cause("timeout", "raise-timeout", "Plugin p exceeded 30s timeout", "timeout"),
    "crash": Cause("crash", "crash", DIED + "it exited with status 7"),
    "malformed-answer": Cause("malformed", "answer", "Plugin p: the worker's answer is not a map"),
    "malformed-field": Cause("malformed", "field", "Plugin p: metadata is no map, or nested too deep"),
    "broken-framing": Cause("crash", "framing", DIED + "it was killed: the bytes are not msgpack"),
    "oversize-call": Cause(
        "oversize", "grow", r"Plugin p: the call is longer than a message may be \(\d+, at most 65536: limits.frame_bytes\)",
        details={"limit": "oversize", "maximum": FRAME_BYTES, "setting": "limits.frame_bytes"}, before="remember",
    ),
    "oversize-answer": Cause("oversize", "long", "Plugin p: its answer is longer than a message may be"),
    "answer-of-many": Cause(
        "oversize", "many", r"Plugin p: its answer has more values than a message may have \(\d+, at most 5000: limits.values\)",
        details={"limit": "oversize", "maximum": VALUES, "setting": "limits.values"},
    ),
    "exception": Cause("exception", "raise", r"ValueError\('no'\)", "completed"),
    "again": Cause("exception", "raise", r"ValueError\('no'\)", "completed", before="fail once"),
    "queue-full": Cause(
        "queue_full", "fine",
        r"Plugin p: too many calls wait for a worker of this plugin \(2, at most 1: isolation.queue\)",
        details={"limit": "queue_full", "value": 2, "maximum": 1, "setting": "isolation.queue"}, disables=False,
        isolation=ONE | {"queue": 1}, before="fill the queue",
    ),
    "queue-timeout": Cause(
        "queue_timeout", "fine", "Plugin p: no worker became free in time", disables=False, isolation=ONE | {"timeout": 1}, before="hang",
    ),
    "start-failed": Cause(
        "start_failed", "fine", "Plugin p: the plugin failed to initialize: the model is missing", config={"broken": True}, lasts=True,
    ),
}
FIELDS = ("status", "requested_allow", "effective_allow", "matched", "applied", "payload_modified", "extensions_modified", "reason", "error_code")


def record_of_p(executions):
    """The fields of p's record; None: it did not run."""
    found = [record for record in executions if record["plugin_name"] == "p"]
    assert len(found) <= 1
    return {key: found[0][key] for key in FIELDS} if found else None


def record(**fields):
    neutral = dict(zip(FIELDS, ("completed", None, True, None, False, False, False, None, None)))
    return neutral | fields


def whole(pattern, text):
    assert re.fullmatch(pattern, text), text
    return text


def three(cpexd, on_error, isolation=None, config=None):
    daemon = cpexd(
        [
            plugin("grow", GROW, priority=1),
            plugin("p", P, priority=2, on_error=on_error, isolation=isolation or {}, config=config),
            plugin("after", AFTER, priority=3),
        ],
        settings={"limits": {"frame_bytes": FRAME_BYTES, "values": VALUES}},
    )
    daemon.expect('plugin "p"')
    return daemon


def do(name):
    return HOOK, {"name": name, "args": {}}


def prepare(host, before):
    """Return: the calls that are under way."""
    if before == "fill the queue":
        under_way = [host.begin(*do("wait")), host.begin(*do("wait"))]
        time.sleep(0.3)
        return under_way
    if before == "hang":
        under_way = [host.begin(*do("hang"))]
        time.sleep(0.1)
        return under_way
    return []


def fail_once(host, on_error):
    if on_error == "fail":
        with pytest.raises(CallError):
            host.invoke(*do("raise"))
    else:
        host.invoke(*do("raise"))


def end(host, msgids):
    for msgid in msgids:
        try:
            host.end(msgid)
        except CallError:
            pass


def check_error(cause, error):
    assert (error.type, error.cause, error.plugin_name) == ("PluginError", cause.name, "p")
    assert (error.code, error.mcp_error_code) == ("", -32603)
    message = whole(cause.message, error.message)
    assert cause.details.items() <= error.details.items()
    told = {"stacks", "output"} if cause.name in ("timeout", "crash") else set()
    assert bool(cause.details) == bool(set(error.details) - told)
    assert record_of_p(error.executions) == record(
        status="error", effective_allow=False, applied=True, reason=message, error_code="plugin_error")
    assert [each["plugin_name"] for each in error.executions] == ["grow", "p"]


def check_ignored(cause, answer):
    assert answer["continue_processing"] and answer["violation"] is None
    assert answer["metadata"] == {"after": 1}
    assert [each["plugin_name"] for each in answer["executions"]] == ["grow", "p", "after"]
    have = record_of_p(answer["executions"])
    if cause.status == "completed":
        assert have == record(requested_allow=True, matched=False)
    else:
        reason = whole(cause.message, have["reason"])
        assert have == record(status=cause.status, applied=True, reason=reason, error_code=cause.error_code())


def check_skipped(answer):
    assert answer["metadata"] == {"after": 1}
    assert [each["plugin_name"] for each in answer["executions"]] == ["grow", "after"]


def check_outcome(cause, on_error, host, tool, contexts=None):
    if on_error == "fail":
        with pytest.raises(CallError) as caught:
            host.invoke(*do(tool), contexts=contexts)
        check_error(cause, caught.value)
    else:
        check_ignored(cause, host.invoke(*do(tool), contexts=contexts))


@pytest.mark.parametrize("on_error", ["fail", "ignore", "disable"])
@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES.keys())
def test_a_failure(cpexd, cause, on_error):
    daemon = three(cpexd, on_error, cause.isolation, cause.config)
    with daemon.host() as host:
        skipped = on_error == "disable" and cause.disables
        if cause.before == "fail once":
            fail_once(host, on_error)
            if skipped:
                check_skipped(host.invoke(*do(cause.tool)))
                return
        under_way = prepare(host, cause.before)
        # What the plugin remembers and what it is given are together too long, for it alone.
        contexts = host.invoke(*do("remember"))["contexts"] if cause.before == "remember" else None
        check_outcome(cause, on_error, host, cause.tool, contexts)
        if cause.before == "hang" and on_error == "disable":
            under_way.clear()  # its own timeout has disabled the plugin
            skipped = True
        end(host, under_way)
        if skipped:
            check_skipped(host.invoke(*do("fine")))
            assert {each["name"]: each["status"] for each in host.call("plugins")["plugins"]}["p"] == "disabled"
        elif cause.lasts:
            check_outcome(cause, on_error, host, "fine")
        else:
            eventually(lambda: daemon.workers("p"))
            answer = host.invoke(*do("fine"))
            assert answer["metadata"] == {"p": "fine", "after": 1}
            assert record_of_p(answer["executions"]) == record(requested_allow=True, matched=False)


@pytest.mark.parametrize("on_error", ["fail", "ignore", "disable"])
def test_a_violation_that_is_raised(cpexd, on_error):
    """It goes out whatever on_error says, and disables nobody."""
    daemon = three(cpexd, on_error)
    with daemon.host() as host:
        for _ in range(2):
            with pytest.raises(CallError) as caught:
                host.invoke(*do("violate"))
            error = caught.value
            assert (error.type, error.message, error.cause) == ("PluginViolationError", "I object", None)
            assert {key: error.violation[key] for key in ("reason", "description", "code", "plugin_name")} == {
                "reason": "r", "description": "d", "code": "C", "plugin_name": ""}
            assert record_of_p(error.executions) == record(
                requested_allow=False, effective_allow=False, matched=True, applied=True, reason="r", error_code="C")
        assert host.invoke(*do("fine"))["metadata"] == {"p": "fine", "after": 1}
