# SPDX-License-Identifier: Apache-2.0
"""A worker, started and spoken to as cpexd does it, with the msgpack package as the other side's codec."""

import contextlib
import os
import select
import socket
import subprocess
import time
from pathlib import Path

import msgpack

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CPEXD_BUILD") or ROOT / "build").resolve()
LAUNCHER = BUILD / "cpexd-launch"
EXT = BUILD / "worker-shim"
PLUGINS = Path(__file__).resolve().parent / "plugins"

SECRET, BIGINT = 1, 2


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def unpack(data):
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


class Failed(Exception):
    """The worker answered with an error."""

    def __init__(self, error):
        super().__init__(error)
        self.error = error


class Worker:
    """One process; use it as a context manager, which leaves nothing behind."""

    def __init__(self, python, *options, env=None, **popen):
        ours, theirs = socket.socketpair()
        self.output, output = os.pipe()
        command = [
            LAUNCHER, "--python", python, "--shim", ROOT / "worker-shim/shim", "--ext", EXT, "--sdk", ROOT / "worker-shim",
            "--parent", str(os.getpid()), *options,
        ]  # fmt: skip

        def as_descriptors_3_and_4():
            os.dup2(theirs.fileno(), 3, inheritable=True)
            os.dup2(os.memfd_create("stacks"), 4, inheritable=True)

        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(3, 4),
            preexec_fn=as_descriptors_3_and_4, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}, **popen,
        )  # fmt: skip
        theirs.close()
        os.close(output)
        self.talk_over(ours)

    def talk_over(self, ours):
        self.socket = ours
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 30)
        self._answers = {}
        self._last = 0
        self._held = None
        self._pid = None

    @property
    def pid(self):
        """The worker's, which it says itself; `process` is its guard."""
        if not self._pid:
            kind, method, (params,) = self.receive()
            assert (kind, method) == (2, "started")
            self._pid = params["pid"]
        return self._pid

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        os.close(self.output)

    # -- messages ----------------------------------------------------------------------------------------------------

    def send(self, method, **params):
        """Sends a request. Return: its id."""
        self._last += 1
        self._write(pack([0, self._last, method, [params]]))
        return self._last

    def skip_ids(self, n):
        """Those that a request has beside its own."""
        self._last += n

    def has_answers(self, idents):
        return bool(self._answers.keys() & set(idents))

    def notify(self, method, **params):
        self._write(pack([2, method, [params]]))

    def _write(self, data):
        if self._held is None:
            self.socket.sendall(data)
        else:
            self._held += data

    @contextlib.contextmanager
    def together(self):
        """What is sent in this block arrives at once."""
        self._held = bytearray()
        yield
        held, self._held = self._held, None
        self.socket.sendall(held)

    def receive(self, timeout=10):
        """The next message, as it is; EOFError at the end."""
        deadline = time.monotonic() + timeout
        while True:
            for message in self._unpacker:
                return message
            if not select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no message for {timeout} s; output: {self.read_output()}")
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self._unpacker.feed(data)

    def answer(self, ident, timeout=10):
        """The result of a request; Failed for an error."""
        assert self.pid
        while ident not in self._answers:
            kind, other, error, result = self.receive(timeout)
            assert kind == 1 and other not in self._answers and (error is None) != (result is None)
            self._answers[other] = error, result
        error, result = self._answers.pop(ident)
        if error is not None:
            raise Failed(error)
        return result

    def call(self, method, timeout=10, **params):
        return self.answer(self.send(method, **params), timeout)

    # -- a plugin ----------------------------------------------------------------------------------------------------

    def init(self, class_name, hooks, config=None, name="sample", timeout=30, **more):
        entry = {"name": name, "kind": "isolated_venv", "hooks": hooks, "config": config or {}, **more.pop("entry", {})}
        self.call("load", timeout, class_name=class_name, paths=[str(PLUGINS)])
        return self.call("init", timeout, plugin=entry, hooks=hooks, max_concurrent=8, generation=1, **more)

    def send_invoke(self, hook, payload, context=None, **more):
        return self.send(
            "invoke", hook=hook, payload=pack(payload), context={"request_id": "r", **(context or {})},
            **({"contexts": pack(more.pop("own"))} if "own" in more else {}), **more,
        )  # fmt: skip

    def invoke(self, hook, payload, context=None, timeout=10, **more):
        return self.answer(self.send_invoke(hook, payload, context, **more), timeout)

    def tool(self, args=None, name="t", **more):
        return self.invoke("tool_pre_invoke", {"name": name, "args": args or {}}, **more)

    def fail(self, *args, **more):
        """The error of an invoke that must fail."""
        try:
            answer = self.invoke(*args, **more)
        except Failed as exc:
            return exc.error
        raise AssertionError(f"no error but {answer}")

    # -- the process -------------------------------------------------------------------------------------------------

    def read_output(self, until=None, timeout=5):
        """What the plugin printed: all there is now, or up to and including `until`."""
        data = b""
        deadline = time.monotonic() + timeout
        while True:
            wait = max(0, deadline - time.monotonic()) if until is not None and until.encode() not in data else 0
            if not select.select([self.output], [], [], wait)[0]:
                break
            more = os.read(self.output, 65536)
            if not more:
                break
            data += more
        text = data.decode()
        assert until is None or until in text, text
        return text

    def wait(self, timeout=10):
        return self.process.wait(timeout)
