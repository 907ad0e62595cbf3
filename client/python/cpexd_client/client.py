# SPDX-License-Identifier: Apache-2.0
"""The client for threads.

There is no thread in the background. Of the threads that wait for an answer one reads for all: it hands every answer to the
thread that waits for it, and when its own is there it lets another one read on. So a call from a single thread costs no change
of thread, and two system calls: it does not look first whether the daemon is still there, as sending finds out.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from . import _calls, codec, errors
from .answer import Answer

if TYPE_CHECKING:
    from typing_extensions import Unpack  # which type checkers bring themselves

_READ_BYTES = 1 << 18


class _Call:
    __slots__ = ("id", "ready", "done", "result", "error")

    def __init__(self, msgid: int) -> None:
        self.id = msgid
        self.ready: threading.Condition | None = None  # where its thread waits for another one that reads
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _poll(sock: socket.socket, event: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, event)
    return poll


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


class _HungUp(errors.ConnectionLost):
    """The daemon was gone before it got anything of a request."""


class _Connection:
    def __init__(self, path: str, max_frame_bytes: int, seconds: float | None) -> None:
        self.lock = threading.Lock()  # over everything but sending
        self.send_lock = threading.Lock()
        self.lost: errors.CpexdError | None = None
        self.calls: dict[int, _Call] = {}
        self.reading = False
        self.next_id = 0
        self.reader = codec.Reader(max_frame_bytes)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(seconds)
            self.sock.connect(path)
        except BaseException:
            self.sock.close()
            raise
        self.sock.settimeout(None)
        self.readable = _poll(self.sock, select.POLLIN)

    def close(self, reason: errors.CpexdError) -> None:
        with self.lock:
            self._lose(reason)
            self._release()

    def _lose(self, reason: errors.CpexdError) -> None:
        """Fails what is in flight."""
        if self.lost:
            return
        self.lost = reason
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        for call in self.calls.values():
            self._finish(call, None, self._loss())

    def _loss(self) -> errors.CpexdError:
        """An exception of its own for each thread, for raising writes into it."""
        assert self.lost
        return type(self.lost)(self.lost.message)

    def _release(self) -> None:
        """Closes the descriptor of a lost connection once no other thread can be in a system call on it."""
        if self.lost and not self.reading and not self.calls:
            self.sock.close()

    def new_call(self) -> _Call:
        with self.lock:
            while self.next_id in self.calls:
                self.next_id = (self.next_id + 1) & 0xFFFFFFFF
            call = _Call(self.next_id)
            self.next_id = (self.next_id + 1) & 0xFFFFFFFF
            self.calls[call.id] = call
            if self.lost:
                self._finish(call, None, self._loss())
            return call

    def forget(self, call: _Call) -> None:
        with self.lock:
            self.calls.pop(call.id, None)
            self._release()

    @staticmethod
    def _finish(call: _Call, result: Any, error: Exception | None) -> None:
        if not call.done:
            call.done, call.result, call.error = True, result, error
            if call.ready:
                call.ready.notify()

    def send(self, data: bytes, deadline: float | None) -> None:
        """Sends all of `data`. A part of a message would spoil the stream, so being late in the middle costs the connection. Raises
        _HungUp where nothing could be sent."""
        left = _left(deadline)
        if not self.send_lock.acquire(timeout=-1 if left is None else left):
            raise errors.CallTimeout("the request could not be sent in time")
        try:
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self.sock.send(rest, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    if not _poll(self.sock, select.POLLOUT).poll(_milliseconds(_left(deadline))):
                        if len(rest) < len(data):
                            self.close(errors.ConnectionLost("the daemon took only a part of a request"))
                        raise errors.CallTimeout("the daemon did not take the request in time") from None
        except errors.CallTimeout:
            raise
        except (OSError, ValueError) as error:  # ValueError: another thread has closed it meanwhile
            if len(rest) == len(data):
                self.close(errors.ConnectionLost("the daemon hung up"))
                raise _HungUp("the daemon hung up before it got the request") from None
            self.close(
                errors.ConnectionLost(
                    f"the daemon hung up while it got a request ({error}); is it longer than limits.frame_bytes?"
                )
            )
        except BaseException:
            self.close(errors.ConnectionLost("sending was interrupted"))
            raise
        finally:
            self.send_lock.release()

    def wait(self, call: _Call, deadline: float | None) -> Any:
        with self.lock:
            try:
                while not call.done:
                    left = _left(deadline)
                    if left == 0:
                        raise errors.CallTimeout("no answer came in time")
                    if self.reading:
                        call.ready = threading.Condition(self.lock)
                        call.ready.wait(left)
                        call.ready = None
                    else:
                        self._read(left)
            finally:
                self.calls.pop(call.id, None)
                if not self.reading:
                    self._wake_reader()
                self._release()
            if call.error:
                raise call.error
            return call.result

    def _wake_reader(self) -> None:
        for other in self.calls.values():
            if other.ready:
                other.ready.notify()
                return

    def _read(self, seconds: float | None) -> None:
        """Reads once, without the lock, and hands out what came."""
        data: bytes | None = None
        failure: errors.CpexdError | None = None
        self.reading = True
        self.lock.release()
        try:
            if seconds is None:
                data = self.sock.recv(_READ_BYTES)
            elif self.readable.poll(_milliseconds(seconds)):
                data = self.sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError as error:
            failure = errors.ConnectionLost(f"the connection was lost: {error}")
        finally:
            self.lock.acquire()
            self.reading = False
        if data == b"":
            failure = errors.ConnectionLost("the daemon closed the connection")
        try:
            for message in self.reader.feed(data) if data else ():
                self._take(message)
        except errors.ProtocolError as error:
            failure = error
        if failure:
            self._lose(failure)

    def _take(self, message: codec.Message) -> None:
        if message.kind == codec.REQUEST:
            raise errors.ProtocolError("the daemon sent a request")
        if message.kind == codec.RESPONSE and message.id in self.calls:  # else late: nobody waits for it any more
            error = None if message.error is None else errors.from_wire(message.error)
            self._finish(self.calls[message.id], message.result, error)


class Client:
    """A connection to cpexd that any number of threads may share.

    It connects at the first call, and anew at the first call after a loss. A call whose connection is lost raises
    ``ConnectionLost`` and is never sent again by itself. Not to be used on both sides of a fork.

    Args:
        path: the daemon's host socket; without it $CPEXD_SOCKET, or the daemon's default.
        timeout: seconds that every call may take, unless it says otherwise; None: no limit.
        max_frame_bytes: the longest answer accepted.

    Every method raises, beside what it says, ``ConnectionLost``, ``ProtocolError``, ``CallTimeout``, and ``OSError`` where nobody
    listens at the path.
    """

    def __init__(
        self, path: str | None = None, *, timeout: float | None = None, max_frame_bytes: int = _calls.MAX_FRAME_BYTES
    ) -> None:
        self.path = path or _calls.default_path()
        self.timeout = timeout
        self._max_frame_bytes = max_frame_bytes
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way raise ``ConnectionLost``."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection.close(errors.ConnectionLost("the client was closed"))

    def _connected(self, deadline: float | None) -> _Connection:
        with self._lock:
            if not self._connection or self._connection.lost:
                self._connection = _Connection(self.path, self._max_frame_bytes, _left(deadline))
            return self._connection

    def call(self, method: str, params: dict[str, Any] | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Calls any method of the daemon. `timeout` in seconds. Raises what the daemon's error says (``CpexdError``)."""
        seconds = self.timeout if timeout is None else timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            connection, call = self._begin(method, params or {}, deadline)
        except _HungUp:  # while nobody was reading
            connection, call = self._begin(method, params or {}, deadline)
        try:
            return _calls.result_map(connection.wait(call, deadline))
        except (errors.CallTimeout, KeyboardInterrupt):
            self._cancel(connection, call.id)
            raise

    def _begin(self, method: str, params: dict[str, Any], deadline: float | None) -> tuple[_Connection, _Call]:
        connection = self._connected(deadline)
        call = connection.new_call()
        try:
            connection.send(codec.request(call.id, method, params), deadline)
        except BaseException:
            connection.forget(call)
            raise
        return connection, call

    @staticmethod
    def _cancel(connection: _Connection, msgid: int) -> None:
        if connection.lost:
            return
        try:
            connection.send(codec.cancel(msgid), time.monotonic() + 0.1)
        except errors.CpexdError:
            pass

    def hello(self, name: str = _calls.NAME) -> dict[str, Any]:
        """{version, server, generation, features, limits}; `name` is for the daemon's log."""
        return self.call("hello", _calls.hello_params(name))

    def ping(self) -> None:
        """Returns when the daemon has answered."""
        self.call("ping")

    def hooks(self) -> dict[str, list[str]]:
        """From hook to the names of its plugins in order of priority."""
        return self.call("hooks").get("hooks") or {}

    def plugins(self) -> list[dict[str, Any]]:
        """Dicts of name, kind, version, hooks, mode, on_error, priority, status, description, author and tags."""
        return self.call("plugins").get("plugins") or []

    def invoke(
        self, hook: str, payload: Any, *, timeout: float | None = None, **options: Unpack[_calls.Options]
    ) -> Answer:
        """Calls a hook.

        Args:
            hook: its name, like "tool_pre_invoke".
            payload: a dict with the fields of the hook's payload, a pydantic model, or None.
            timeout: seconds for the whole call. The daemon gets it too; the client waits a second longer.

        Options:
            context: request_id (made up where it is missing), user, user_context, tenant_id, server_id, content_type, state,
                metadata.
            contexts: ``Answer.contexts`` of the last call of the same request.
            extensions: CPEX extensions by slot.
            plugin: run only this one.
            direct: with `plugin`: run it without the pipeline's rules (docs/protocol.md).
            payload_type: the payload's class where it is not the hook's own.
            violations_as_exceptions: a denial raises ``PluginViolationError``.
            timing: ``Answer.timing`` says where the time went.

        Raises:
            PluginError, PluginViolationError, PayloadSizeError, ValidationError: as CPEX would.
            TypeError: the payload has a value that cannot be sent.
        """
        seconds = self.timeout if timeout is None else timeout
        params = _calls.invoke_params(hook, payload, seconds, options)
        return Answer(self.call("invoke", params, timeout=_calls.wait_for(seconds)))
