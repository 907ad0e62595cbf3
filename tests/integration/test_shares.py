# SPDX-License-Identifier: Apache-2.0
"""What users may hold at once: a user who takes all that there is gets his share, and the others are served."""

import struct
import time

import pytest
from daemon import SANITIZED, CallError, eventually, plugin
from strangers import as_nobody, let_in, root_only

HOOK = "tool_pre_invoke"
SLEEPER = plugin("p", """
    async def tool_pre_invoke(self, payload, context):
        await asyncio.sleep((payload.args or {}).get("sleep", 0))
        return Result(metadata={"ok": 1})
""", isolation={"max_concurrent": 64, "queue": 10000, "workers": {"min": 1, "max": 1}})


@pytest.fixture
def shared(cpexd, tmp_path):
    """Starts a daemon that anybody may connect to."""
    def start(**limits):
        daemon = cpexd([SLEEPER], settings={"limits": limits, "socket": {"path": str(tmp_path / "d0" / "cpexd.sock"), "mode": "0666"}})
        let_in(daemon.socket.parent)
        daemon.expect("refused")
        return daemon
    return start


@root_only
def test_connections(shared):
    daemon = shared(connections=10)

    def connect_often():
        hosts, refused = [], 0
        for _ in range(20):
            host = daemon.host()
            try:
                host.call("ping")
                hosts.append(host)
            except (EOFError, ConnectionError):
                refused += 1
        return len(hosts), refused

    assert as_nobody(connect_often) == [5, 15]
    daemon.wait_log("too many hosts are connected .limits.connections")
    assert daemon.invoke(HOOK, {"name": "t", "args": {}})["metadata"] == {"ok": 1}


@root_only
def test_calls(shared):
    daemon = shared(calls=20)

    def call_often():
        errors = []
        with daemon.host() as host:
            for call in [host.begin(HOOK, {"name": "t", "args": {"sleep": 0.5}}) for _ in range(15)]:
                try:
                    host.end(call)
                except CallError as exc:
                    errors.append((exc.error["code"], exc.error["details"]))
        return len(errors), errors[0]

    assert as_nobody(call_often) == [5, ["limit", {"limit": "calls", "value": 10, "maximum": 10, "setting": "limits.calls"}]]


@root_only
def test_connection_rate(shared):
    daemon = shared(connection_rate=5)

    def reconnect():
        def works():
            try:
                with daemon.host() as host:
                    host.call("ping")
                return True
            except (EOFError, OSError):
                return False

        first = sum(works() for _ in range(10))
        time.sleep(1.1)
        return first, works()

    first, later = as_nobody(reconnect)
    assert first in (5, 6) and later  # a second may begin meanwhile
    daemon.wait_log("it connects too often .limits.connection_rate")


def test_memory(cpexd):
    """Half a message of each of many connections is memory, too: beyond the limit the connection that asks for more is closed."""
    daemon = cpexd([SLEEPER], settings={"limits": {"bytes": "8M", "frame_bytes": "4M"}})
    daemon.expect("the peer has gone in the middle of a message")
    daemon.expect("disconnected: the calls and answers of its user take too much memory .limits.bytes")
    hosts = [daemon.host() for _ in range(8)]
    half = b"\x94\x00\x01\xa6invoke\x91\x81\xa7payload\xc6" + struct.pack(">I", 3 << 20) + b"x" * (2 << 20)
    for host in hosts:
        host.socket.setblocking(True)
        try:
            host.socket.sendall(half)
        except (BrokenPipeError, ConnectionResetError):
            pass
    daemon.wait_log("take too much memory")
    assert SANITIZED or daemon.rss_kib() < 32 << 10
    for host in hosts:
        host.close()
    eventually(lambda: daemon.admin("status")["hosts"] == 0)
    assert daemon.invoke(HOOK, {"name": "t", "args": {}})["metadata"] == {"ok": 1}


def test_memory_of_calls_in_flight(cpexd):
    daemon = cpexd([SLEEPER], settings={"limits": {"bytes": "10M", "frame_bytes": "4M"}})
    with daemon.host() as one, daemon.host() as other:
        call = HOOK, {"name": "t", "args": {"sleep": 0.5}}, {"state": {"big": b"x" * (3 << 20)}}
        first = one.begin(*call)
        eventually(lambda: daemon.admin("status")["calls"]["active"] == 1)
        second = other.begin(*call)
        third = other.begin(*call)
        outcomes = []
        for host, call in ((one, first), (other, second), (other, third)):
            try:
                outcomes.append(host.end(call)["metadata"]["ok"])
            except (CallError, EOFError, ConnectionError) as exc:
                outcomes.append(getattr(exc, "error", {}).get("details", {}).get("setting") or "closed")
    daemon.expect("take too much memory")
    assert outcomes[0] == 1 and outcomes[1:] != [1, 1]
    assert daemon.invoke(HOOK, {"name": "t", "args": {}})["metadata"] == {"ok": 1}
