# SPDX-License-Identifier: Apache-2.0
"""Hosts that behave badly harm nobody; hosts that behave well are served side by side."""

import contextlib
import os
import socket
import threading
import time

import msgpack
import pytest
from daemon import SANITIZED, CallError, eventually, plugin

ECHO = plugin("echo", """
    async def tool_pre_invoke(self, payload, context):
        args = payload.args or {}
        if "sleep" in args:
            await asyncio.sleep(args["sleep"])
        if "touch" in args:
            open(args["touch"], "w").close()
        return Result(metadata={"echo": args.get("echo"), "size": len(args.get("blob", ""))},
                      modified_payload=payload if "back" in args else None)
""", isolation={"max_concurrent": 64, "timeout": 60, "workers": {"min": 1, "max": 1}})

HOOK = "tool_pre_invoke"


def call(**args):
    return {"name": "t", "args": args}


@pytest.fixture
def echo(cpexd):
    return cpexd([ECHO])


def serves(daemon):
    return daemon.invoke(HOOK, call(echo=1))["metadata"]["echo"] == 1


def closed(host):
    """Whether the daemon closes this connection, without a word, within a second or two."""
    host.socket.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        while host.socket.recv(4096):
            pass
    return True


BREAKERS = {
    "no-msgpack": b"\xc1",
    "text": b"GET / HTTP/1.1\r\nHost: cpexd\r\n\r\n",
    "no-array": b"\x01",
    "a-map": b"\x80",
    "empty-array": b"\x90",
    "unknown-kind": b"\x94\x07\x01\xa4ping\x90",
    "id-is-text": b"\x94\x00\xa1x\xa4ping\x90",
    "id-is-negative": b"\x94\x00\xff\xa4ping\x90",
    "id-beyond-32-bits": b"\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa4ping\x90",
    "method-is-a-number": b"\x94\x00\x01\x02\x90",
    "a-response": b"\x94\x01\x01\xc0\xc0",
    "array-of-4-gi": b"\xdd\xff\xff\xff\xff",
    "map-of-4-gi": b"\xdf\xff\xff\xff\xff",
    "bin-of-4-gi": b"\x94\x00\x01\xa6invoke\x91\x81\xa7payload\xc6\xff\xff\xff\xff",
    "str-of-4-gi": b"\x94\x00\x01\xdb\xff\xff\xff\xff",
    "ext-of-4-gi": b"\xc9\xff\xff\xff\xff\x01",
    "too-deep": b"\x91" * 10_000,
    "many-nested-counts": b"\xdd\x00\xff\xff\xff" * 200,
}


@pytest.mark.parametrize("name", BREAKERS)
def test_who_breaks_the_framing_is_disconnected(echo, name):
    echo.expect(r"warning: host pid \d+ uid \d+: disconnected: ")
    with echo.host() as good, echo.host() as bad:
        assert good.invoke(HOOK, call(echo=0))["metadata"]["echo"] == 0
        bad.socket.sendall(BREAKERS[name])
        assert closed(bad)
        assert good.invoke(HOOK, call(echo=2))["metadata"]["echo"] == 2
    echo.wait_log(rf"host pid {os.getpid()} uid {os.getuid()}: disconnected: \S")
    assert serves(echo)


def test_a_message_id_that_is_still_open(echo):
    echo.expect("disconnected: ")
    with echo.host() as bad:
        request = msgpack.packb([0, 7, "invoke", [{"hook": HOOK, "payload": msgpack.packb(call(sleep=5)), "context": {"request_id": "r"}}]])
        bad.socket.sendall(request + request)
        assert closed(bad)


def test_random_bytes(echo):
    echo.expect("disconnected: ")
    for _ in range(200):
        with echo.host() as bad, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            bad.socket.sendall(os.urandom(300))
    assert serves(echo)


def test_half_a_frame_and_silence(echo):
    with echo.host() as half:
        half.socket.sendall(msgpack.packb([0, 1, "ping", [{}]])[:-1])
        assert serves(echo)
        half.socket.sendall(msgpack.packb([0, 1, "ping", [{}]])[-1:])
        assert half.response(1) == {}


def test_half_a_frame_and_gone(echo):
    echo.expect("disconnected: ")
    message = msgpack.packb([0, 1, "invoke", [{"hook": HOOK, "payload": b"x" * 1000}]])
    for length in (1, 5, 20, len(message) - 1):
        with echo.host() as half:
            half.socket.sendall(message[:length])
    assert serves(echo)


def test_byte_by_byte(echo):
    with echo.host() as host:
        host.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        message = msgpack.packb([0, 9, "invoke", [{"hook": HOOK, "payload": msgpack.packb(call(echo="slow")), "context": {"request_id": "r"}}]])
        for byte in message:
            host.socket.sendall(bytes([byte]))
        assert host.end(9)["metadata"]["echo"] == "slow"


def test_many_messages_in_one_write(echo):
    with echo.host() as host:
        host.socket.sendall(b"".join(msgpack.packb([0, n, "ping", [{}]]) for n in range(1000)))
        for n in range(1000):
            assert host.response(n) == {}


def test_declared_size_costs_no_memory(echo):
    before = echo.rss_kib()
    hosts = [echo.host() for _ in range(20)]
    for host in hosts:
        # 15 MB declared, 10 bytes sent: within the frame limit, so the daemon waits for the rest.
        host.socket.sendall(b"\x94\x00\x01\xa6invoke\x91\x81\xa7payload\xc6\x00\xe4\xe1\xc0")
    assert serves(echo)
    assert echo.rss_kib() - before < 20_000
    echo.expect("disconnected: ")
    for host in hosts:
        host.close()


def test_frame_limit(cpexd):
    daemon = cpexd([ECHO], settings={"limits": {"frame_bytes": 65536}})
    daemon.expect("disconnected: ")
    assert daemon.invoke(HOOK, call(blob="x" * 60_000))["metadata"]["size"] == 60_000
    with daemon.host() as host:
        with contextlib.suppress(BrokenPipeError):
            host.begin(HOOK, call(blob="x" * 70_000))
        assert closed(host)
    daemon.wait_log("limits.frame_bytes")


@pytest.mark.parametrize("place", ["payload", "context", "extensions", "contexts"])
def test_values_limit(cpexd, place):
    """It counts in documents, too. The connection goes on."""
    daemon = cpexd([ECHO], settings={"limits": {"values": 1000}})
    many = {"x": [None] * 1000}
    value = msgpack.packb(many) if place in ("payload", "contexts") else many
    params = {"payload": msgpack.packb(call()), "context": {"request_id": "r"}, place: value}
    with daemon.host() as host:
        with pytest.raises(CallError) as error:
            host.call("invoke", hook=HOOK, **params)
        value = error.value.details["value"]
        assert error.value.code == "limit" and 1000 < value < 1050
        assert error.value.message == f"the message has too many values: {value}, at most 1000 (limits.values)"
        assert error.value.details == {"limit": "values", "value": value, "maximum": 1000, "setting": "limits.values"}
        assert host.invoke(HOOK, call(echo="on"))["metadata"]["echo"] == "on"
        host.notify("cancel", **many)
        assert closed(host)
    daemon.expect("disconnected: a notification has more values than the limit")
    daemon.wait_log("limits.values")


@pytest.mark.parametrize("params, word", [
    ({}, "hook"),
    ({"hook": 7}, "hook"),
    ({"hook": HOOK, "context": {"request_id": "r"}}, "payload"),
    ({"hook": HOOK, "payload": "text"}, "payload"),
    ({"hook": HOOK, "payload": b""}, "payload"),
    ({"hook": HOOK, "payload": b"\xc0\xc0"}, "payload"),
    ({"hook": HOOK, "payload": b"\xc0", "context": []}, "context"),
    ({"hook": HOOK, "payload": b"\xc0", "context": {"request_id": "r"}, "timeout_ms": "1"}, "timeout_ms"),
])
def test_a_request_that_is_wrong_in_itself(echo, params, word):
    with echo.host() as host:
        with pytest.raises(CallError) as caught:
            host.call("invoke", **params)
        assert caught.value.type == "ProtocolError" and caught.value.code == "bad_request"
        assert word in caught.value.message
        assert host.call("ping") == {}


@pytest.mark.parametrize("hook", [HOOK, "a.hook.that.nobody.listens.to"])
@pytest.mark.parametrize("context, extensions, loc, kind", [
    ({}, None, ["request_id"], "missing"),
    ({"request_id": None}, None, ["request_id"], "string_type"),
    ({"request_id": "r", "state": 1}, None, ["state"], "dict_type"),
    ({"request_id": "r", "user_context": {}}, None, ["user_context", "user_id"], "missing"),
    ({"request_id": "r"}, 1, [], "model_type"),
    ({"request_id": "r"}, {"agent": {"turn": "x"}}, ["agent", "turn"], "int_parsing"),
])
def test_a_context_that_cpex_would_not_take(echo, hook, context, extensions, loc, kind):
    with echo.host() as host:
        with pytest.raises(CallError) as caught:
            host.call("invoke", hook=hook, payload=b"\xc0", context=context, extensions=extensions)
        error = caught.value
        assert error.type == "ValidationError" and error.code == "bad_request"
        assert [(each["loc"], each["type"]) for each in error.errors] == [(loc, kind)]
        assert f"[type={kind}, " in error.message
        assert host.call("ping") == {}


@pytest.mark.parametrize("hook, payload, extensions", [
    ("token_delegate", {"bearer_token": "canary-canary"}, None),
    ("identity_resolve", {"raw_token": ["canary-canary"]}, None),
    ("http_auth_resolve_user", {"credentials": {"token": "canary-canary"}}, None),
    (HOOK, {"name": "t"}, {"http": {"headers": {"Authorization": ["canary-canary"]}}}),
    (HOOK, {"name": "t"}, {"http": {"headers": [{"cookie": "canary-canary"}]}}),
])
def test_the_complaint_shows_no_secret(echo, hook, payload, extensions):
    with echo.host() as host:
        with pytest.raises(CallError) as caught:
            host.invoke(hook, payload, extensions=extensions)
        assert caught.value.type == "ValidationError"
        assert "canary" not in str(caught.value.error) and "input_value=**********" in caught.value.message


def test_many_mistakes_are_counted_and_the_first_are_told(echo):
    with echo.host() as host:
        with pytest.raises(CallError) as caught:
            host.call("invoke", hook=HOOK, payload=b"\xc0", context={"request_id": "r"}, extensions={"llm": {"capabilities": [1] * 10_000}})
        assert caught.value.message.startswith("10000 validation errors for Extensions\n")
        assert caught.value.message.endswith("and 9900 more")
        assert len(caught.value.errors) == 100


def test_unknown_methods(echo):
    with echo.host() as host:
        for method in ("", "nonsense", "status", "reload", "x" * 10_000):
            with pytest.raises(CallError) as caught:
                host.call(method)
            assert caught.value.code == "unknown_method"
        host.notify("nonsense", a=1)
        assert host.call("ping") == {}


def test_answers_come_as_they_are_ready(echo):
    with echo.host() as host:
        slow, quick = host.begin(HOOK, call(sleep=0.6, echo="slow")), host.begin(HOOK, call(echo="quick"))
        first = host.message()
        assert first[1] == quick and first[3]["metadata"]["echo"] == "quick"
        assert host.end(slow)["metadata"]["echo"] == "slow"


def test_a_host_that_leaves_in_the_middle_of_a_call(echo, tmp_path):
    touched = tmp_path / "touched"
    with echo.host() as host:
        host.begin(HOOK, call(sleep=1, touch=str(touched)))
        time.sleep(0.2)
    assert serves(echo)
    time.sleep(1.2)
    assert not touched.exists(), "the call goes on although nobody waits for it"


def test_many_hosts(echo):
    hosts = [echo.host() for _ in range(200)]
    ids = [host.begin(HOOK, call(echo=n)) for n, host in enumerate(hosts)]
    for n, (host, msgid) in enumerate(zip(hosts, ids, strict=True)):
        assert host.end(msgid)["metadata"]["echo"] == n
        host.close()


def test_answers_beyond_what_a_host_is_owed_are_errors(cpexd):
    daemon = cpexd([ECHO], settings={"limits": {"output_bytes": 1_000_000, "frame_bytes": 900_000}})
    with daemon.host() as lazy:
        ids = []
        sender = threading.Thread(target=lambda: ids.extend(lazy.begin(HOOK, call(blob="x" * 100_000, back=n)) for n in range(60)))
        sender.start()
        time.sleep(1)
        began = time.monotonic()
        assert serves(daemon)
        assert time.monotonic() - began < 1
        assert daemon.rss_kib() < 100_000 or SANITIZED
        outcomes = []
        for n in range(60):
            eventually(lambda: len(ids) > n)  # noqa: B023
            try:
                assert lazy.end(ids[n])["modified_payload"]["args"]["back"] == n
                outcomes.append("answer")
            except CallError as error:
                assert error.code == "limit" and error.details["setting"] == "limits.output_bytes"
                outcomes.append("limit")
        sender.join()
    assert set(outcomes) == {"answer", "limit"}


def test_a_host_that_never_reads_is_cut_off(cpexd):
    daemon = cpexd([ECHO], settings={"limits": {"output_bytes": 65536}})
    daemon.expect("disconnected: .*limits.output_bytes")
    with daemon.host(timeout=5) as lazy:
        with contextlib.suppress(OSError):
            for _ in range(20_000):
                lazy.request("hello")
        daemon.wait_log("disconnected: .*limits.output_bytes")
    assert serves(daemon)


def test_limit_of_calls_in_flight(cpexd):
    daemon = cpexd([ECHO], settings={"limits": {"calls_per_connection": 4}})
    with daemon.host() as host:
        ids = [host.begin(HOOK, call(sleep=0.5)) for _ in range(4)]
        with pytest.raises(CallError) as caught:
            host.invoke(HOOK, call())
        error = caught.value
        assert error.type == "ProtocolError" and error.code == "limit"
        assert error.details["maximum"] == 4 and error.details["value"] >= 4
        assert error.details["limit"] and error.details["setting"] == "limits.calls_per_connection"
        for msgid in ids:
            host.end(msgid)
        host.invoke(HOOK, call())


def test_limit_of_connections(cpexd):
    daemon = cpexd([ECHO], settings={"limits": {"connections": 3}})
    daemon.expect("limits.connections")
    hosts = [daemon.host() for _ in range(3)]
    assert [host.call("ping") for host in hosts] == [{}] * 3
    with daemon.host() as beyond:
        assert closed(beyond)
    hosts.pop().close()

    def has_room():
        with contextlib.suppress(OSError, EOFError):  # the daemon may not have noticed yet
            return serves(daemon)

    eventually(has_room)
    for host in hosts:
        host.close()


def test_cancel(echo, tmp_path):
    touched = tmp_path / "touched"
    with echo.host() as host:
        msgid = host.begin(HOOK, call(sleep=1, touch=str(touched)))
        time.sleep(0.1)
        began = time.monotonic()
        host.notify("cancel", msgid=msgid)
        with pytest.raises(CallError) as caught:
            host.end(msgid)
        assert caught.value.code == "cancelled" and time.monotonic() - began < 0.5
        host.notify("cancel", msgid=msgid)
        host.notify("cancel", msgid=999)
        host.notify("cancel")
        assert host.invoke(HOOK, call(echo=1))["metadata"]["echo"] == 1
        time.sleep(1.2)
        assert not touched.exists()


def test_control_socket_takes_garbage_too(echo):
    echo.expect("warning: control socket")
    from rpc import Host

    for junk in (b"\xc1", b"\xdd\xff\xff\xff\xff", os.urandom(100)):
        with Host(echo.control) as bad:
            bad.socket.sendall(junk)
    with pytest.raises(CallError) as caught:
        echo.admin("nonsense")
    assert caught.value.code == "unknown_method"
    assert echo.admin("ping") == {} and serves(echo)
