# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio: one protocol object reads and resolves futures by their id; no task for a call.

Calls of one turn of the loop are sent together: what is read wakes many tasks at once, whose next calls are one system call then.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from . import _calls, codec, errors
from .answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack  # which type checkers bring themselves


_TOGETHER_BYTES = 1 << 16  # more than that is sent at once, so that the transport tells when it is too much


class _Connection(asyncio.Protocol):
    def __init__(self, sock: socket.socket, max_frame_bytes: int, on_generation: Callable[[int], object] | None) -> None:
        self.sock = sock
        self.on_generation = on_generation
        self.loop = asyncio.get_running_loop()
        self.calls: dict[int, asyncio.Future[Any]] = {}
        self.lost: errors.CpexdError | None = None
        self.next_id = 0
        self.unsent: list[bytes] = []
        self.unsent_bytes = 0
        self.several = False  # messages came at once, so several tasks may be about to call
        self.reader = codec.Reader(max_frame_bytes)
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        try:
            messages = self.reader.feed(data)
            self.several = len(messages) > 1
            for message in messages:
                if message[0] == codec.RESPONSE:
                    future = self.calls.get(message[1])
                    if future and not future.done():  # else late: nobody waits for it any more
                        future.set_result(message)
                elif message[0] == codec.NOTIFICATION:
                    self._notice(message[1], message[2])
                else:
                    raise errors.ProtocolError("the daemon sent a request")
            if self.reader.failure:
                raise errors.ProtocolError(self.reader.failure)
        except errors.ProtocolError as error:
            self.lose(error)

    def _notice(self, method: Any, params: Any) -> None:
        number = params[0].get("generation") if params else None
        if self.on_generation and method == "generation" and isinstance(number, int):
            self.loop.call_soon(self.on_generation, number)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(errors.ConnectionLost(f"the connection was lost: {exc}" if exc else "the daemon closed the connection"))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def lose(self, reason: errors.CpexdError) -> None:
        if self.lost:
            return
        self.lost = reason
        self.transport.abort()
        self.unsent.clear()
        self.writable.set()
        for future in self.calls.values():
            if not future.done():
                future.set_exception(type(reason)(reason.message))  # raising writes into it: each gets its own
        self.calls.clear()

    def lose_from_afar(self, reason: errors.CpexdError) -> None:
        """From another thread than its loop's."""
        try:
            self.loop.call_soon_threadsafe(self.lose, reason)
        except RuntimeError:  # the loop is closed, and the connection of no use to anybody
            self.sock.close()

    def new_id(self) -> int:
        while self.next_id in self.calls:
            self.next_id = (self.next_id + 1) & 0xFFFFFFFF
        msgid = self.next_id
        self.next_id = (msgid + 1) & 0xFFFFFFFF
        return msgid

    def write(self, data: bytes) -> None:
        self.unsent.append(data)
        self.unsent_bytes += len(data)
        if len(self.calls) == 1 and not self.several or self.unsent_bytes > _TOGETHER_BYTES:
            self._flush()
        elif len(self.unsent) == 1:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self.unsent:
            data = self.unsent[0] if len(self.unsent) == 1 else b"".join(self.unsent)
            self.unsent.clear()
            self.unsent_bytes = 0
            self.transport.write(data)

    async def call(self, method: str, params: dict[str, Any], seconds: float | None) -> codec.Message:
        """Returns the response."""
        msgid = self.new_id()
        data = codec.pack([codec.REQUEST, msgid, method, [params]])
        future = self.calls[msgid] = self.loop.create_future()
        timer = None if seconds is None else self.loop.call_later(seconds, _time_over, future)
        sent = False
        try:
            while not self.writable.is_set() and not future.done():
                await _either(self.writable, future)
            if not future.done():
                self.write(data)
                sent = True
            return await future
        except (asyncio.CancelledError, errors.CallTimeout):
            if sent and not self.lost:
                self.write(codec.pack([codec.NOTIFICATION, "cancel", [{"msgid": msgid}]]))
            raise
        finally:
            self.calls.pop(msgid, None)
            if timer:
                timer.cancel()


async def _connect(path: str, max_frame_bytes: int, on_generation: Callable[[int], object] | None) -> _Connection:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        _, connection = await loop.create_unix_connection(lambda: _Connection(sock, max_frame_bytes, on_generation), sock=sock)
    except BaseException:
        sock.close()
        raise
    return connection


async def _subscribe(connection: _Connection, seconds: float | None) -> None:
    params = _calls.hello_params(_calls.NAME, "generation")
    try:
        _calls.result(await connection.call("hello", params, seconds))
    except BaseException:
        connection.lose(errors.ConnectionLost("the daemon did not take the subscription"))
        raise


async def _either(event: asyncio.Event, future: asyncio.Future[Any]) -> None:
    """Waits until the daemon takes bytes again or the call is over. Only under back-pressure, so a task is fine."""
    writable = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((writable, future), return_when=asyncio.FIRST_COMPLETED)
    finally:
        writable.cancel()


def _time_over(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(errors.CallTimeout("no answer came in time"))


class _Loop:
    """What a client has in one event loop."""

    __slots__ = ("connecting", "connection")

    def __init__(self) -> None:
        self.connecting = asyncio.Lock()
        self.connection: _Connection | None = None


class AsyncClient:
    """Calls from asyncio. Any number of tasks may share it, of any number of event loops: it has one connection in each.

    As ``Client``, with coroutines. Cancelling a call tells the daemon, which cancels it in the plugin too.

    ``on_generation(number)`` is called from the loop when the daemon has another configuration.

    ``connected`` counts how often it has connected: another number than before means that the daemon may be another one.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        timeout: float | None = None,
        max_frame_bytes: int = _calls.MAX_FRAME_BYTES,
        on_generation: Callable[[int], object] | None = None,
    ) -> None:
        self.path = path or _calls.default_path()
        self.timeout = timeout
        self.connected = 0
        self._on_generation = on_generation
        self._max_frame_bytes = max_frame_bytes
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; calls under way raise ``ConnectionLost``."""
        reason = errors.ConnectionLost("the client was closed")
        for loop, mine in list(self._loops.items()):
            connection, mine.connection = mine.connection, None
            if connection and loop is asyncio.get_running_loop():
                connection.lose(reason)
            elif connection:
                connection.lose_from_afar(reason)
        await asyncio.sleep(0)  # a transport closes its descriptor in the loop's next turn

    def _connected(self) -> _Connection | None:
        mine = self._loops.get(asyncio.get_running_loop())
        return mine.connection if mine and mine.connection and not mine.connection.lost else None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._forget_closed_loops()
        mine = self._loops.setdefault(loop, _Loop())
        async with mine.connecting:  # one task connects for all that wait
            if not mine.connection or mine.connection.lost:
                connection = await _connect(self.path, self._max_frame_bytes, self._on_generation)
                if self._on_generation:
                    await _subscribe(connection, self.timeout)
                mine.connection = connection
                self.connected += 1
            return mine.connection

    def _forget_closed_loops(self) -> None:
        """Nobody closes the connection of a loop that asyncio.run() has ended."""
        for loop in [loop for loop in list(self._loops) if loop.is_closed()]:
            gone = self._loops.pop(loop, None)
            if gone and gone.connection:
                gone.connection.sock.close()

    async def call(self, method: str, params: dict[str, Any] | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Calls any method of the daemon. `timeout` in seconds. Raises what the daemon's error says (``CpexdError``)."""
        seconds = self.timeout if timeout is None else timeout
        connection = self._connected() or await self._connect()
        return _calls.result(await connection.call(method, params or {}, seconds))

    async def hello(self, name: str = _calls.NAME) -> dict[str, Any]:
        """{version, server, generation, features, limits}; `name` is for the daemon's log."""
        return await self.call("hello", _calls.hello_params(name))

    async def ping(self) -> None:
        """Returns when the daemon has answered."""
        await self.call("ping")

    async def hooks(self) -> dict[str, list[str]]:
        """From hook to the names of its plugins in order of priority."""
        return (await self.call("hooks")).get("hooks") or {}

    async def plugins(self) -> list[dict[str, Any]]:
        """Dicts of name, kind, version, hooks, mode, on_error, priority, status, description, author and tags."""
        return (await self.call("plugins")).get("plugins") or []

    async def invoke(
        self, hook: str, payload: Any, *, timeout: float | None = None, **options: Unpack[_calls.Options]
    ) -> Answer:
        """Calls a hook; arguments, options and errors as ``Client.invoke``."""
        seconds = self.timeout if timeout is None else timeout
        params = _calls.invoke_params(hook, payload, seconds, options)
        connection = self._connected() or await self._connect()
        return Answer(_calls.result(await connection.call("invoke", params, _calls.wait_for(seconds))))
