# SPDX-License-Identifier: Apache-2.0
"""What a peer sends may cost cpexd a small multiple of its size in memory and time, and no more: who sends little cannot make it do much."""

import os
import pathlib
import re
import struct
import time

import msgpack
import pytest
from daemon import SANITIZED, CallError, plugin
from rpc import Host

pytestmark = pytest.mark.skipif(SANITIZED, reason="the sanitizers take memory and time of their own")

HOOK = "tool_pre_invoke"
N = 1 << 20
MEMORY_FACTOR, USEC_PER_KIB = 25, 1000


def text_of(size):
    return b"\xdb" + struct.pack(">I", size) + b"x" * size


# Values of about 1 MiB, each made to be dear for somebody who reads it carelessly.
NASTY = {
    "empty arrays": b"\xdd" + struct.pack(">I", N) + b"\x90" * N,
    "nil": b"\xdd" + struct.pack(">I", N) + b"\xc0" * N,
    "small maps": b"\xdd" + struct.pack(">I", N // 3) + b"\x81\xa0\xc0" * (N // 3),
    "one map": b"\xdf" + struct.pack(">I", N // 4) + b"".join(b"\xa2" + struct.pack(">H", i & 0x7F7F) + b"\xc0" for i in range(N // 4)),
    "equal keys": b"\xdf" + struct.pack(">I", N // 3) + b"\xa1k\xc0" * (N // 3),
    "depth": b"\x91" * N + b"\xc0",
    "a lie about the length": b"\xdd\xff\xff\xff\xff" + b"\x90" * N,
    "a lie about a text": b"\xdb\xff\xff\xff\xff" + b"x" * N,
    "one text": text_of(N),
    "numbers": b"\xdd" + struct.pack(">I", N // 9) + (b"\xcb" + struct.pack(">d", 1e300)) * (N // 9),
    "not UTF-8": b"\xdb" + struct.pack(">I", N) + b"\xff" * N,
}


def envelope(place, value):
    """A request of `invoke` with the value in that place."""
    if place == "message":
        return value
    if place == "payload":
        value = b"\xc6" + struct.pack(">I", len(value)) + value
    params = {b"hook": msgpack.packb(HOOK), b"payload": msgpack.packb(msgpack.packb({"name": "t", "args": {}})), b"context": msgpack.packb({"request_id": "r"})}
    params[place.encode()] = value
    packed = b"".join(msgpack.packb(key.decode()) + each for key, each in params.items())
    return b"\x94\x00\x01" + msgpack.packb("invoke") + b"\x91" + bytes([0x80 | len(params)]) + packed


def cpu_usec(pid):
    return time.clock_gettime(~pid << 3 | 2) * 1e6  # the clock of that process


def reset_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


@pytest.fixture(scope="module")
def quiet(request):
    """What the plugin does with it is the plugin's cost."""
    return plugin("p", "\n    async def tool_pre_invoke(self, payload, context):\n        return Result()\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user may not reset cpexd's memory peak")
@pytest.mark.parametrize("place", ["message", "payload", "context", "contexts", "extensions"])
def test_messages(cpexd, quiet, place):
    daemon = cpexd([quiet])
    daemon.expect("disconnected|the loop was busy")  # a million values take their time
    for name, value in NASTY.items():
        frame = envelope(place, value)
        reset_peak(daemon.pid)
        memory, cpu = peak_bytes(daemon.pid), cpu_usec(daemon.pid)
        with Host(daemon.socket, timeout=20) as host:
            try:
                host.socket.sendall(frame)
                if "lie" in name:
                    host.socket.shutdown(1)
                host.response(1)
            except (CallError, OSError, EOFError):
                pass
        assert daemon.invoke(HOOK, {"name": "t", "args": {}})["continue_processing"] is True
        assert peak_bytes(daemon.pid) - memory < MEMORY_FACTOR * len(frame), name
        assert cpu_usec(daemon.pid) - cpu < USEC_PER_KIB * len(frame) / 1024, name


# Files of half a MiB, the most is 1 MiB. They are the administrator's, and each value knows its place; so they may cost more.
SIZE = 1 << 19
FILE_FACTOR = 75
FILES = {
    "small scalars": "x: [" + "a," * (SIZE // 2) + "]\n",
    "small maps": "x: [" + "{}," * (SIZE // 3) + "]\n",
    "keys": "".join(f"{i:x}:\n" for i in range(SIZE // 7)),
    "depth": "x: " + "[" * SIZE,
    "anchors": "x: [" + "".join(f"&{i:x} a," for i in range(SIZE // 9)) + "]\n",
    "aliases": "x: &a [a]\ny: [" + "*a," * (SIZE // 3) + "]\n",
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
    "comments": "#\n" * (SIZE // 2),
    "one text": "x: '" + "y" * SIZE + "'\n",
    "escapes": 'x: "' + "\\n" * (SIZE // 2) + '"\n',
    "plugins": "plugins: [" + "{}," * (SIZE // 3) + "]\n",
    "braces": "x: '" + "{{" * (SIZE // 2) + "'\n",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="another user may not reset cpexd's memory peak")
def test_files(cpexd, quiet):
    daemon = cpexd([quiet])
    daemon.expect("plugins.yaml|refused")
    path = daemon.folder / "plugins.yaml"
    good = path.read_text()
    for name, text in FILES.items():
        path.write_text(text)
        reset_peak(daemon.pid)
        memory, cpu = peak_bytes(daemon.pid), cpu_usec(daemon.pid)
        daemon.ctl("reload", check=False)
        size = max(len(text), 64 * 1024)
        assert peak_bytes(daemon.pid) - memory < FILE_FACTOR * size, name
        assert cpu_usec(daemon.pid) - cpu < USEC_PER_KIB * size / 1024, name
    path.write_text(good)
    daemon.ctl("reload", check=True)
