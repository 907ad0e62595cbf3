# SPDX-License-Identifier: Apache-2.0
"""The client for threads.

There is no thread in the background. Of the threads that wait for an answer one reads for all: it hands every answer to the
thread that waits for it, and when its own is there it lets another one read on. So a call from a single thread costs no change
of thread, and two system calls: it does not look first whether the daemon is still there, as sending finds out.

While nobody else uses the connection such a call is one step of the extension (Reader.exchange() in codec.py), where that was built.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from . import _calls, codec, errors
from .answer import Answer

if TYPE_CHECKING:
    from typing_extensions import Unpack  # which type checkers bring themselves


_PIECES_AT_ONCE = 64
_CALLS_BEFORE_ASKING = 16  # in a row, where to wait: with fewer there is nothing to gain


class _Call:
    answer: codec.Message | errors.CpexdError | None = None
    ready: threading.Condition | None = None  # where its thread waits while another one reads


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _beyond(pieces: list[codec.Piece], n: int) -> list[codec.Piece]:
    """What is left of them after `n` bytes."""
    for i, piece in enumerate(pieces):
        if n < len(piece):
            return [memoryview(piece)[n:], *pieces[i + 1 :]]
        n -= len(piece)
    return []


class _HungUp(errors.ConnectionLost):
    """The daemon was gone before it got anything of a request."""


class _Connection:
    """What threads do to `calls` are single steps of Python, so one that is alone takes no lock but those of what it does."""

    def __init__(self, path: str, max_frame_bytes: int, seconds: float | None) -> None:
        self.sending = threading.Lock()
        self.lock = threading.Lock()  # over loss, and whoever waits for a reader
        self.lost: errors.CpexdError | None = None
        self.calls: dict[int, _Call | None] = {}  # None: the reader's exchange()
        self.ids = itertools.count()
        self.alone = 0  # calls in a row that found no other one under way
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(seconds)
            self.sock.connect(path)
        except BaseException:
            self.sock.close()
            raise
        self.sock.settimeout(None)
        self.reader = codec.Reader(max_frame_bytes, self.sock, self.calls, self.ids, self.sending)
        self.exchange = self.reader.exchange

    def close(self, reason: errors.CpexdError) -> None:
        """Fails what is in flight."""
        with self.lock:
            if not self.lost:
                self.lost = reason
                self.reader.close()
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)
                for call in list(self.calls.values()):
                    if call:
                        call.answer = call.answer or type(reason)(reason.message)  # its own, for raising writes into it
                        if call.ready:
                            call.ready.notify()
            if not self.calls:  # nobody is in a system call on it; whoever comes sees that it is lost
                self.sock.close()

    def call(self, method: str, params: dict[str, Any], deadline: float | None) -> codec.Message:
        """Returns the response. Raises _HungUp where nothing could be sent."""
        call, sent = _Call(), False
        while self.calls.setdefault(msgid := next(self.ids) & 0xFFFFFFFF, call) is not call:
            pass
        try:
            if self.lost:
                raise _HungUp(self.lost.message)
            self.send(codec.pieces([codec.REQUEST, msgid, method, [params]]), deadline)
            sent = True
            while call.answer is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise errors.CallTimeout("no answer came in time")
                if self.reader.take():
                    try:
                        if call.answer is None:
                            self._read(left)
                    finally:
                        self.reader.give_back()
                else:
                    self._follow(call, left)
        except (errors.CallTimeout, KeyboardInterrupt):
            if sent:
                self.cancel(msgid)
            raise
        finally:
            self.leave(msgid)
        if type(call.answer) is list:
            return call.answer
        assert isinstance(call.answer, errors.CpexdError)
        raise call.answer

    def count_alone(self, deadline: float | None) -> None:
        """Asks for notification `core`, once. Nobody waits for the answer, which is dropped as if it were late."""
        self.alone = 0 if self.calls else self.alone + 1
        if self.alone == _CALLS_BEFORE_ASKING and codec.WAITS_ON_CORE:
            params = _calls.hello_params(_calls.NAME, "core")
            with contextlib.suppress(_HungUp):  # which the call will find, too
                self.send(codec.pieces([codec.REQUEST, next(self.ids) & 0xFFFFFFFF, "hello", [params]]), deadline)

    def leave(self, msgid: int) -> None:
        """The call is over. Another thread may have to read on, or the descriptor to be closed."""
        del self.calls[msgid]
        if self.lost:
            self.close(self.lost)
        elif self.calls:
            with self.lock:
                for other in list(self.calls.values()):
                    if other and other.ready and other.answer is None:
                        other.ready.notify()
                        return

    def _follow(self, call: _Call, seconds: float | None) -> None:
        """Waits while another thread reads."""
        with self.lock:
            call.ready = threading.Condition(self.lock)
            if call.answer is None and self.reader.taken:
                call.ready.wait(seconds)
            call.ready = None

    def _read(self, seconds: float | None) -> None:
        """Reads once, and hands out what came."""
        try:
            messages = self.reader.receive(seconds)
        except (OSError, EOFError) as error:
            self.close(errors.ConnectionLost(f"the connection was lost: {error}"))
        else:
            self._hand_out(messages)

    def _hand_out(self, messages: list[codec.Message]) -> None:
        try:
            for message in messages:
                if message[0] == codec.RESPONSE:
                    call = self.calls.get(message[1])  # None: late, nobody waits for it any more
                    if call and call.answer is None:
                        call.answer = message
                        if call.ready:
                            with self.lock:
                                if call.ready:
                                    call.ready.notify()
                elif message[1] == "core":
                    self.reader.wait_on(codec.core_of(message))
                elif message[0] == codec.REQUEST:
                    raise errors.ProtocolError("the daemon sent a request")
            if self.reader.failure:
                raise errors.ProtocolError(self.reader.failure)
        except errors.ProtocolError as error:
            self.close(error)

    def hand_out(self, msgid: int, messages: list[codec.Message]) -> codec.Message | errors.CpexdError | None:
        """For Reader.exchange()."""
        call = self.calls[msgid] = self.calls[msgid] or _Call()
        self._hand_out(messages)
        return call.answer

    def lose(self, error: OSError | EOFError) -> NoReturn:
        """For Reader.exchange()."""
        self.close(errors.ConnectionLost(f"the connection was lost: {error}"))
        assert self.lost
        raise type(self.lost)(self.lost.message)

    def cancel(self, msgid: int) -> None:
        if not self.lost:
            with contextlib.suppress(errors.CpexdError):
                self.send(codec.pieces([codec.NOTIFICATION, "cancel", [{"msgid": msgid}]]), time.monotonic() + 0.1)

    def send(self, pieces: list[codec.Piece], deadline: float | None) -> None:
        """Sends all of the pieces. A part of a message would spoil the stream, so being late in the middle costs the connection. Raises
        _HungUp where nothing could be sent."""
        if not self.sending.acquire(False) and not self.sending.acquire(timeout=-1 if deadline is None else _left(deadline)):
            raise errors.CallTimeout("the request could not be sent in time")
        rest = pieces
        try:
            while True:
                try:
                    if len(rest) > 1:
                        n = self.sock.sendmsg(rest[:_PIECES_AT_ONCE], (), socket.MSG_DONTWAIT)
                    else:
                        n = self.sock.send(rest[0], socket.MSG_DONTWAIT)
                        if n == len(rest[0]):
                            return
                    rest = _beyond(rest, n)
                    if not rest:
                        return
                except BlockingIOError:
                    if not self._writable(deadline):
                        if rest is not pieces:
                            self.close(errors.ConnectionLost("the daemon took only a part of a request"))
                        raise errors.CallTimeout("the daemon did not take the request in time") from None
        except errors.CallTimeout:
            raise
        except (OSError, ValueError) as error:  # ValueError: another thread has closed it meanwhile
            if rest is pieces:
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
            self.sending.release()

    def _writable(self, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        self.reader.hold()
        try:
            return bool(poll.poll(None if deadline is None else math.ceil(_left(deadline) * 1000)))
        finally:
            self.reader.release()


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

    def _connect(self, deadline: float | None) -> _Connection:
        with self._lock:
            if not self._connection or self._connection.lost:
                self._connection = _Connection(self.path, self._max_frame_bytes, None if deadline is None else _left(deadline))
            return self._connection

    def call(self, method: str, params: dict[str, Any] | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Calls any method of the daemon. `timeout` in seconds. Raises what the daemon's error says (``CpexdError``)."""
        seconds = self.timeout if timeout is None else timeout
        return self._call(method, params or {}, None if seconds is None else time.monotonic() + seconds)

    def _call(self, method: str, params: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        connection = self._connection
        if not connection or connection.lost:
            connection = self._connect(deadline)
        if connection.alone < _CALLS_BEFORE_ASKING:
            connection.count_alone(deadline)
        response = connection.exchange(connection, method, params, deadline)
        if isinstance(response, dict):
            return response
        if response is None:
            try:
                response = connection.call(method, params, deadline)
            except _HungUp:  # while nobody was reading
                response = self._connect(deadline).call(method, params, deadline)
        return _calls.result(response)

    def hello(self, name: str = _calls.NAME) -> dict[str, Any]:
        """{version, server, generation, features, limits}; `name` is for the daemon's log."""
        return self.call("hello", _calls.hello_params(name, *(["core"] if codec.WAITS_ON_CORE else [])))

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
        return Answer(self._call("invoke", params, None if seconds is None else time.monotonic() + seconds + _calls.GRACE))
