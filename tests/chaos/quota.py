# SPDX-License-Identifier: Apache-2.0
"""Hosts go beyond every limit, are slow, vanish, and send garbage. One that does not is served as if they were not there; where the test runs as
root those are another user's, beside whom also whoever connects anew has a place."""

import contextlib
import ctypes
import os
import platform
import random
import socket
import time

import msgpack
from storm import HOOK, SANITIZED, Call, CallError, echo

SETRESUID = {"x86_64": 117, "aarch64": 147}.get(platform.machine())
IS_ROOT = os.geteuid() == 0 and SETRESUID is not None
NOBODY = 65534

LIMITS = {"frame_bytes": 65536, "output_bytes": 131072, "connections": 60, "calls_per_connection": 8, "calls": 60, "bytes": "3M",
          "connection_rate": 1000}
MOST = LIMITS["connections"] // 2  # that one user may have


def crowd(storm, daemon, rand):
    """More hosts than may be connected."""
    with contextlib.ExitStack() as hosts:
        for _ in range(MOST + 5):
            hosts.enter_context(daemon.host())
        time.sleep(0.1)
    time.sleep(0.7)  # the others want to misbehave, too


def frequent(storm, daemon, rand):
    """More connections in a second than may be."""
    for _ in range(LIMITS["connection_rate"] + 100):
        daemon.host().close()
    time.sleep(1.5)


def end(storm, host, begun):
    """Each call is answered, or refused by one of the limits on calls."""
    for nonce, msgid in begun:
        try:
            outcome = "answered" if Call(["sleeper"]).is_answer(nonce, host.end(msgid)) else "wrong"
        except CallError as error:
            outcome = (error.details or {}).get("setting", str(error))
        storm.count("calls")
        storm.outcome(outcome)
        if outcome not in ("answered", "limits.calls", "limits.calls_per_connection", "limits.bytes", "limits.output_bytes"):
            storm.count("wrong", outcome)


def begin(host, rand, n, **data):
    return [(nonce := rand.getrandbits(60), host.begin(HOOK, Call([], **data).payload(nonce))) for _ in range(n)]


def impatient(storm, daemon, rand):
    """More calls than one host may have in flight."""
    with daemon.host() as host:
        end(storm, host, begin(host, rand, 30, sleeper=0.05))


def hoarder(storm, daemon, rand):
    """As many calls as each of several hosts may have in flight, small ones and such as are as long as may be."""
    blob = "x" * rand.choice([0, 60_000])
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(daemon.host()) for _ in range(8)]
        begun = [begin(host, rand, LIMITS["calls_per_connection"], sleeper=0.2, blob=blob) for host in hosts]
        for host, calls in zip(hosts, begun, strict=True):
            end(storm, host, calls)


def too_long(storm, daemon, rand):
    with daemon.host() as host:
        host.socket.sendall(msgpack.packb([0, 1, "invoke", [{"payload": b"x" * LIMITS["frame_bytes"]}]]))
        storm.say(f"a message beyond limits.frame_bytes was answered: {host.message()}")


def deaf(storm, daemon, rand):
    """Calls without end, and reads no answer."""
    with daemon.host(timeout=5) as host:
        while storm.rest():
            host.begin(HOOK, Call([], blob="x" * 20_000).payload(1))


def slow(storm, daemon, rand):
    """One byte at a time, both ways."""
    nonce = rand.getrandbits(60)
    with daemon.host() as host:
        host.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        request = {"hook": HOOK, "payload": msgpack.packb(Call(["sleeper"]).payload(nonce)), "context": {"request_id": "r"}}
        for byte in msgpack.packb([0, 1, "invoke", [request]]):
            host.socket.sendall(bytes([byte]))
            time.sleep(0.001)
        while not (message := next(iter(host.unpacker), None)):
            byte = host.socket.recv(1)
            if not byte:
                raise EOFError
            host.unpacker.feed(byte)
        host.early[1] = message[2:]
        end(storm, host, [(nonce, 1)])


def garbage(storm, daemon, rand):
    with daemon.host() as host:
        host.socket.sendall(rand.randbytes(rand.randrange(1, 5000)))


def gone(storm, daemon, rand):
    """Leaves with calls in flight, and in the middle of a message."""
    with daemon.host() as host:
        for _ in range(5):
            host.begin(HOOK, Call([], sleeper=1).payload(1))
        host.socket.sendall(b"\x94\x00")


RUDE = [crowd, frequent, impatient, hoarder, too_long, deaf, slow, garbage, gone]


def quota(storm):
    sleeper = echo("sleeper", "await asyncio.sleep(what)", isolation={"workers": {"min": 2, "max": 2}, "max_concurrent": 64})
    storm.folder.chmod(0o711)
    daemon = storm.daemon([sleeper], settings={"log": {"level": "info"}, "limits": LIMITS, "socket": {"path": "cpexd.sock", "mode": "0666"}})
    daemon.expect(r"disconnected: |refused: .*limits.connection|asked to")

    # Of the same user they take what they can from each other.
    polite = Call(["sleeper"], may_be=() if IS_ROOT else {"limit"})

    def misbehave(how):
        rand = random.Random(f"{storm.seed} {how.__name__}")
        if IS_ROOT:  # this thread alone
            ctypes.CDLL(None).syscall(SETRESUID, -1, NOBODY, -1)
        while storm.rest():
            with contextlib.suppress(OSError, EOFError):
                how(storm, daemon, rand)
            time.sleep(0.05)

    with storm.hosts(daemon, lambda rand: polite, n=2, rate=100, reconnect=not IS_ROOT), storm.threads(misbehave, RUDE):
        while storm.rest():
            time.sleep(0.05)
            if IS_ROOT:
                with daemon.host() as newcomer:
                    storm.ask(newcomer, polite, storm.random)
    storm.settled(daemon)
    storm.measure(daemon)
    most = MOST * (5 * LIMITS["frame_bytes"] + LIMITS["output_bytes"]) // 1024 + 16384
    if storm.rss_growth > most and not SANITIZED:
        storm.say(f"cpexd has grown by {storm.rss_growth} KiB; its limits together are {most} KiB")
