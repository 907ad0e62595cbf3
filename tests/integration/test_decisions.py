# SPDX-License-Identifier: Apache-2.0
"""The file of decisions: what came of each call and who decided it, never what was said; and no call waits for it."""

import contextlib
import datetime
import json
import os
import re
import stat
import time

import msgpack
import pytest
from daemon import CallError, eventually, plugin

HOOK = "tool_pre_invoke"
SECRET = "hunter2"

# Each plugin minds the calls whose tool is called as it is; the arguments say what it does.
BODY = """
    async def tool_pre_invoke(self, payload, context):
        if payload.name != self.config.name:
            return Result()
        do = payload.args["do"]
        if do == "deny" or do == "fail":
            violation = PluginViolation(reason=payload.args["secret"], description=payload.args["secret"], code="NO", details={"s": payload.args["secret"]})
        if do == "fail":
            raise PluginViolationError(payload.args["secret"], violation)
        if do == "deny":
            return Result(continue_processing=False, violation=violation)
        if do == "raise":
            raise ValueError(payload.args["secret"])
        if do == "change":
            return Result(modified_payload=ToolPreInvokePayload(name="new", args={"new": payload.args["secret"]}))
        if do == "sleep":
            await asyncio.sleep(10)
        return Result()
"""


def call(name, do):
    return {"name": name, "args": {"do": do, "secret": SECRET}}


def five():
    return [plugin("first", BODY, priority=1), plugin("lenient", BODY, priority=2, on_error="ignore"),
            plugin("auditor", BODY, priority=3, mode="audit"), plugin("behind", BODY, priority=4, mode="fire_and_forget")]


@pytest.fixture
def start(cpexd, tmp_path):
    def start(plugins, path=None, **settings):
        daemon = cpexd(plugins, settings={"decisions": {"path": str(path or tmp_path / "decisions")} | settings, "metrics": {"path": str(tmp_path / "m.sock")}},
                       wrapper=["sh", "-c", 'umask 077; exec "$@"', "sh"])
        daemon.decisions = tmp_path / "decisions"
        daemon.at_start = None  # the file is opened with the first line
        return daemon

    return start


def read(daemon, n, path=None):
    """The lines of the file, once there are n of them."""
    path = path or daemon.decisions
    text = eventually(lambda: path.exists() and (text := path.read_text()).count("\n") >= n and text)
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]  # none of which a reader may take for two
    assert len(lines) == n, lines
    return lines


def end(daemon, *args, **rest):
    with contextlib.suppress(CallError):
        daemon.invoke(HOOK, *args, **rest)


def decided(line):
    return [(each["name"], each["decision"], each.get("cause")) for each in line["plugins"]]


def dropped(daemon):
    import http.client
    import socket

    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(daemon.settings["metrics"]["path"])
    connection.request("GET", "/metrics")
    return int(re.search(r"^cpexd_decisions_dropped_total (\d+)$", connection.getresponse().read().decode(), re.MULTILINE)[1])


def test_what_a_line_says(start):
    daemon = start(five())
    daemon.expect(SECRET)
    with daemon.host() as host:
        host.invoke(HOOK, call("nobody", "x"), {"request_id": "r-1"})
    [line] = read(daemon, 1)
    when = datetime.datetime.fromisoformat(line.pop("time"))
    assert abs(when - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(seconds=30)
    assert 0 < line["plugins"][0].pop("run_usec") <= line.pop("total_usec") < 1e7
    assert line["plugins"][0].pop("wait_usec") >= 0
    assert line["plugins"][0] == {"name": "first", "mode": "sequential", "decision": "continued"}
    assert line["plugins"][3] == {"name": "behind", "mode": "fire_and_forget", "decision": "started"}
    del line["plugins"]
    assert line == {"generation": 1, "request_id": "r-1", "hook": HOOK, "uid": os.getuid(), "pid": os.getpid(), "outcome": "allowed"}
    assert stat.S_IMODE(daemon.decisions.stat().st_mode) == 0o640
    assert SECRET not in daemon.decisions.read_text()


def test_every_outcome(start):
    daemon = start(five())
    daemon.expect(SECRET)
    daemon.expect("timeout of 200 ms")
    for payload, rest in (
        (call("first", "deny"), {}), (call("first", "deny"), {"violations_as_exceptions": True}), (call("first", "fail"), {}),
        (call("first", "raise"), {}), (call("lenient", "raise"), {}), (call("first", "change"), {}), (call("auditor", "deny"), {}),
        (call("first", "sleep"), {"timeout_ms": 200}), (call("first", "deny"), {"plugin": "first", "direct": True}),
        (call("first", "change"), {"plugin": "first", "direct": True}), ({"name": 5}, {}), (call("first", "fail"), {"plugin": "first", "direct": True}),
    ):
        end(daemon, payload, **rest)
    end(daemon, call("first", "deny"), {"user": 5.5})
    lines = read(daemon, 13)
    assert (lines[11].pop("outcome"), lines[11].pop("by"), lines.pop(11)["code"]) == ("denied", "first", "NO")
    continued = [("first", "continued", None), ("lenient", "continued", None), ("auditor", "continued", None), ("behind", "started", None)]
    denied = [("first", "denied", None)]
    assert [(line["outcome"], line.get("by"), line.get("code"), line.get("error")) for line in lines] == [
        ("denied", "first", "NO", None)] * 3 + [("error", "first", None, "PluginError")] + [("allowed", None, None, None)] * 3 + [
        ("error", "first", None, "PluginError"), ("denied", "first", "NO", None), ("allowed", None, None, None),
        ("error", None, None, "ValidationError"), ("error", None, None, "ValidationError")]
    assert decided(lines[0]) == denied + [("behind", "started", None)]
    assert decided(lines[1]) == decided(lines[2]) == decided(lines[8]) == denied
    assert decided(lines[3]) == [("first", "failed", "exception")]
    assert decided(lines[4]) == continued[:1] + [("lenient", "failed", "exception")] + continued[2:]
    assert decided(lines[5]) == [("first", "modified", None)] + continued[1:]
    assert decided(lines[6]) == continued[:2] + [("auditor", "objected", None)] + continued[3:]
    assert decided(lines[7]) == [("first", "failed", "timeout")]
    assert decided(lines[9]) == [("first", "modified", None)]
    assert SECRET not in daemon.decisions.read_text()


@pytest.mark.parametrize("which, wanted", [("changed", ["b", "c", "d", "e"]), ("denied", ["b", "e"])])
def test_which(start, which, wanted):
    daemon = start(five(), which=which)
    daemon.expect(SECRET)
    for i, payload in enumerate([call("nobody", "x"), call("first", "deny"), call("first", "change"), call("lenient", "raise"), call("first", "raise")]):
        end(daemon, payload, {"request_id": "abcde"[i]})
    assert [line["request_id"] for line in read(daemon, len(wanted))] == wanted


def test_names_that_are_meant_to_break_it(start):
    daemon = start([plugin("p", BODY)])
    names = ['a"}\n{"outcome": "allowed"', "\x1b[2J\x00\x7f\x9b", "\\", "\u2028é😀", "x" * 5000]
    with daemon.host() as host:
        for name in names:
            host.invoke(HOOK, call("nobody", "x"), {"request_id": name})
        # Bytes that are no UTF-8 in what is to be text.
        for request_id in (b"\xdb\x00\x00\x00\x02\xff\xc3", b"\xda\x00\x01\x80"):
            context = b"\x81\xaarequest_id" + request_id
            host.next_id += 1
            payload = msgpack.packb({"hook": HOOK, "payload": msgpack.packb(call("nobody", "x"))})
            host.socket.sendall(b"\x94\x00" + msgpack.packb(host.next_id) + b"\xa6invoke\x91\x83" + payload[1:] + b"\xa7context" + context)
            with contextlib.suppress(CallError):
                host.response(host.next_id)
    lines = read(daemon, len(names) + 2)
    assert [line["request_id"] for line in lines[:4]] == names[:4]
    assert lines[4]["request_id"] == "x" * 256 and "\ufffd" in lines[5]["request_id"]
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", daemon.decisions.read_bytes())


def test_a_rotated_file_is_made_anew_and_the_setting_may_change(start, tmp_path):
    daemon = start([plugin("p", BODY)])
    daemon.invoke(HOOK, call("nobody", "x"), {"request_id": "a"})
    read(daemon, 1)
    daemon.decisions.rename(tmp_path / "decisions.1")
    daemon.invoke(HOOK, call("nobody", "x"), {"request_id": "b"})
    assert read(daemon, 1)[0]["request_id"] == "b"
    daemon.decisions.unlink()
    daemon.invoke(HOOK, call("nobody", "x"), {"request_id": "c"})
    assert read(daemon, 1)[0]["request_id"] == "c"
    for path in (str(tmp_path / "other"), None):
        settings = daemon.settings | {"decisions": {"path": path}}
        (daemon.folder / "cpexd.yaml").write_text(json.dumps(settings))
        daemon.admin("reload")
        daemon.invoke(HOOK, call("nobody", "x"), {"request_id": str(path)})
    time.sleep(0.2)
    assert [len(read(daemon, 1, each)) for each in (tmp_path / "decisions.1", daemon.decisions, tmp_path / "other")] == [1, 1, 1]
    assert dropped(daemon) == 0


def test_what_is_written_at_the_end(start):
    daemon = start([plugin("p", BODY)])
    daemon.invoke(HOOK, call("nobody", "x"))
    assert daemon.stop() == 0
    read(daemon, 1)


def flood(daemon, n):
    """So many calls; returns the longest that 500 of them took together, in seconds."""
    longest = 0
    with daemon.host() as host:
        for start in range(0, n, 500):
            began = time.monotonic()
            for msgid in [host.begin(HOOK, call("nobody", "x"), {"request_id": f"{i:0250d}"}) for i in range(start, start + 500)]:
                host.end(msgid)
            longest = max(longest, time.monotonic() - began)
    return longest


def test_a_full_disk(start, tmp_path):
    daemon = start([plugin("p", BODY)], path="/dev/full")
    daemon.expect("/dev/full: decisions cannot be written: No space left on device")
    assert flood(daemon, 4000) < 10
    count = dropped(daemon)
    assert 500 < count < 4000
    assert daemon.log().count("decisions cannot be written") == 1
    (daemon.folder / "cpexd.yaml").write_text(json.dumps(daemon.settings | {"decisions": {"path": str(daemon.decisions)}}))
    daemon.admin("reload")
    daemon.invoke(HOOK, call("nobody", "x"), {"request_id": "after"})
    lines = read(daemon, 4001 - count)
    ids = [line["request_id"] for line in lines]
    assert ids.pop() == "after" and all(len(each) == 250 for each in ids) and len(set(ids)) == len(ids)
    daemon.wait_log(f"decisions are written again; {count} were dropped")


def test_a_folder_that_is_not_there(start, tmp_path):
    daemon = start([plugin("p", BODY)], path=tmp_path / "later" / "decisions")
    daemon.expect("later/decisions: decisions cannot be written: No such file or directory")
    for _ in range(3):
        daemon.invoke(HOOK, call("nobody", "x"))
    daemon.wait_log("cannot be written")
    (tmp_path / "later").mkdir()
    assert len(read(daemon, 3, tmp_path / "later" / "decisions")) == 3
    assert daemon.log().count("decisions cannot be written") == 1


def test_a_fifo_with_a_slow_reader_and_then_another(start, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    daemon = start([plugin("p", BODY)], path=path)
    daemon.expect("decisions cannot be written")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert flood(daemon, 4000) < 10
    count = dropped(daemon)
    assert count > 0 and daemon.log().count("decisions cannot be written: No buffer space") == 1
    first = os.read(reader, 1 << 20)
    os.close(reader)
    time.sleep(0.3)  # in which the daemon sees that it is gone
    text = b""
    with open(path, "rb") as other:
        while len(text) < 1 << 19:
            text += other.read1(65536)
        daemon.invoke(HOOK, call("nobody", "x"), {"request_id": "the last"})
        while b'"the last"' not in text or not text.endswith(b"\n"):
            text += other.read1(65536)
    ids = [json.loads(line)["request_id"] for line in text.splitlines()]
    assert ids.pop() == "the last" and first.count(b"\n") > 50 and len(ids) > 1000
    assert all(len(each) == 250 for each in ids) and len(set(ids)) == len(ids)
