# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio: one protocol object reads and resolves futures by their id; no task and no queue for a call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from . import _calls, codec, errors
from .answer import Answer


class _Connection(asyncio.Protocol):
    def __init__(self, max_frame_bytes: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls: dict[int, asyncio.Future[Any]] = {}
        self.lost: errors.CpexdError | None = None
        self.next_id = 0
        self.reader = codec.Reader(max_frame_bytes)
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self.reader.feed(data):
                self._take(message)
        except errors.ProtocolError as error:
            self.lose(error)

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
        self.writable.set()
        for future in self.calls.values():
            if not future.done():
                future.set_exception(type(reason)(reason.message))  # raising writes into it: each gets its own
        self.calls.clear()

    def _take(self, message: codec.Message) -> None:
        if message.kind == codec.REQUEST:
            raise errors.ProtocolError("the daemon sent a request")
        future = self.calls.get(message.id) if message.kind == codec.RESPONSE and message.id is not None else None
        if future is None or future.done():  # late: nobody waits for it any more
            return
        if message.error is None:
            future.set_result(message.result)
        else:
            future.set_exception(errors.from_wire(message.error))

    def new_id(self) -> int:
        while self.next_id in self.calls:
            self.next_id = (self.next_id + 1) & 0xFFFFFFFF
        msgid = self.next_id
        self.next_id = (msgid + 1) & 0xFFFFFFFF
        return msgid

    async def call(self, method: str, params: dict[str, Any], seconds: float | None) -> Any:
        msgid = self.new_id()
        data = codec.request(msgid, method, params)
        future = self.calls[msgid] = self.loop.create_future()
        timer = None if seconds is None else self.loop.call_later(seconds, _time_over, future)
        sent = False
        try:
            while not self.writable.is_set() and not future.done():
                await _either(self.writable, future)
            if not future.done():
                self.transport.write(data)
                sent = True
            return await future
        except (asyncio.CancelledError, errors.CallTimeout):
            if sent and not self.lost:
                self.transport.write(codec.cancel(msgid))
            raise
        finally:
            self.calls.pop(msgid, None)
            if timer:
                timer.cancel()


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


class AsyncClient:
    """A connection to cpexd that any number of tasks of one event loop may share.

    As ``Client``, with coroutines. Cancelling a call tells the daemon, which cancels it in the plugin too.
    """

    def __init__(
        self, path: str | None = None, *, timeout: float | None = None, max_frame_bytes: int = _calls.MAX_FRAME_BYTES
    ) -> None:
        self.path = path or _calls.default_path()
        self.timeout = timeout
        self._max_frame_bytes = max_frame_bytes
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way raise ``ConnectionLost``."""
        connection, self._connection = self._connection, None
        if connection:
            connection.lose(errors.ConnectionLost("the client was closed"))
            await asyncio.sleep(0)  # the transport closes its descriptor in the loop's next turn

    async def _connected(self) -> _Connection:
        connection = self._connection
        if connection and not connection.lost:
            return connection
        async with self._connecting:
            if not self._connection or self._connection.lost:
                loop = asyncio.get_running_loop()
                _, self._connection = await loop.create_unix_connection(lambda: _Connection(self._max_frame_bytes), self.path)
            return self._connection

    async def call(self, method: str, params: dict[str, Any] | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Calls any method of the daemon. `timeout` in seconds. Raises what the daemon's error says (``CpexdError``)."""
        connection = await self._connected()
        seconds = self.timeout if timeout is None else timeout
        return _calls.result_map(await connection.call(method, params or {}, seconds))

    async def hello(self, name: str = "cpexd-client (Python)") -> dict[str, Any]:
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
        self,
        hook: str,
        payload: Any,
        *,
        context: Mapping[str, Any] | None = None,
        contexts: bytes | None = None,
        extensions: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        plugin: str | None = None,
        payload_type: str | None = None,
        violations_as_exceptions: bool = False,
    ) -> Answer:
        """Calls a hook; arguments and errors as ``Client.invoke``."""
        seconds = self.timeout if timeout is None else timeout
        params = _calls.invoke_params(
            hook,
            payload,
            context=context,
            contexts=contexts,
            extensions=extensions,
            timeout=seconds,
            plugin=plugin,
            payload_type=payload_type,
            violations_as_exceptions=violations_as_exceptions,
        )
        return Answer(await self.call("invoke", params, timeout=_calls.wait_for(seconds)))
