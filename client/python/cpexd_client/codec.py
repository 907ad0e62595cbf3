# SPDX-License-Identifier: Apache-2.0
"""Values and messages on the wire (docs/protocol.md): in Python, and in C (src/) where that was built."""

from __future__ import annotations

import contextlib
import functools
import math
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]

from .errors import CallTimeout, ProtocolError

EXT_SECRET = 1
EXT_BIGINT = 2
DEPTH_MAX = 128

_READ_BYTES = 1 << 16  # a new string of 1 << 18 would be memory that the kernel has to give and take each time

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2

# A message is the list that it is on the wire.
Message = list[Any]

Piece = bytes | memoryview

CORE_MAX = 1023
WAITS_ON_CORE = False  # whether Reader.wait_on() has any effect


class Secret:
    """A string that does not show itself; on the wire the ext type that plugins get as ``SecretStr``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return "**********" if self._value else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"


def _default(value: Any) -> Any:
    """What msgpack does not know: integers beyond 64 bits, secrets (ours and pydantic's), models, sets."""
    if isinstance(value, int):
        n = (value if value >= 0 else ~value).bit_length() // 8 + 1
        return msgpack.ExtType(EXT_BIGINT, value.to_bytes(n, "big", signed=True))
    if hasattr(value, "get_secret_value"):
        return msgpack.ExtType(EXT_SECRET, value.get_secret_value().encode("utf-8", "surrogatepass"))
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, (set, frozenset)):
        items = list(value)
        with contextlib.suppress(TypeError):  # in order, where they have one
            items.sort()
        return items
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent: {value!r}")


def _ext(code: int, data: bytes) -> Any:
    if code == EXT_SECRET:
        return Secret(data.decode("utf-8", "surrogatepass"))
    if code == -1:  # as msgpack does by itself
        return msgpack.Timestamp.from_bytes(data)
    if code == EXT_BIGINT:
        return int.from_bytes(data, "big", signed=True)
    return msgpack.ExtType(code, data)


_CONTAINERS = frozenset((dict, list))

_OPTIONS: dict[str, Any] = {"ext_hook": _ext, "strict_map_key": False, "unicode_errors": "surrogatepass"}
_unpackb = functools.partial(msgpack.unpackb, **_OPTIONS)

# What msgpack raises for bytes that it cannot take; TypeError for a map key that Python cannot hash.
_BAD_BYTES = (ValueError, TypeError, msgpack.UnpackException)

# A packer has a buffer, which is cold memory if it is a new one for each value. One that nobody uses lies here.
_idle_packers: list[Any] = []
_IDLE_BYTES = 1 << 20  # with a buffer that has grown beyond that it is not kept


def pack(value: Any) -> bytes:
    """Raises TypeError for what has no form on the wire."""
    try:
        packer = _idle_packers.pop()
    except IndexError:
        packer = msgpack.Packer(default=_default, unicode_errors="surrogatepass")
    packed: bytes = packer.pack(value)
    if len(packed) < _IDLE_BYTES:
        _idle_packers.append(packer)
    return packed


def document(value: Any) -> Piece:
    """As pack(); the extension leaves a large one in the memory that it was written into."""
    return pack(value)


def pieces(message: Message) -> list[Piece]:
    """A packed message to be sent piece by piece; the extension does not copy the large documents in it."""
    return [pack(message)]


def unpack(document: Piece) -> Any:
    """The value of a document. Raises ProtocolError where it is not exactly one."""
    try:
        return _unpackb(document)
    except _BAD_BYTES as error:
        raise ProtocolError(f"a document is not one msgpack value: {error!r}") from None


def _fits(value: Any) -> bool:
    """Whether no more than DEPTH_MAX containers are inside each other; an empty one at the bottom does not count."""
    level = [value]
    for _ in range(DEPTH_MAX):
        below = []
        for container in level:
            for item in container.values() if type(container) is dict else container:
                if item and type(item) in _CONTAINERS:
                    below.append(item)
        if not below:
            return True
        level = below
    return False


def check(value: Any) -> Message:
    """The value, which is a message. Raises ProtocolError with the sentence that says what is wrong with it."""
    if type(value) is not list:
        raise ProtocolError("a message is an array")
    if not value or type(value[0]) is not int or not 0 <= value[0] <= NOTIFICATION:
        raise ProtocolError("a message begins with 0, 1 or 2")
    kind = value[0]
    if len(value) != (3 if kind == NOTIFICATION else 4):
        raise ProtocolError("the message has the wrong number of elements")
    if kind != NOTIFICATION and (type(value[1]) is not int or not 0 <= value[1] < 1 << 32):
        raise ProtocolError("the message id is not an integer of 32 bits")
    if not _fits(value):
        raise ProtocolError("a message is nested too deeply")
    if kind == RESPONSE:
        if value[2] is not None and type(value[2]) is not dict:
            raise ProtocolError("the error is neither nil nor a map")
        return value
    method, params = value[-2:]
    if type(method) is not str:
        raise ProtocolError("the method is not a string")
    if type(params) is not list or len(params) > 1 or (params and type(params[0]) is not dict):
        raise ProtocolError("the parameters are not an array of one map")
    return value


def core_of(notification: Message) -> int | None:
    """Where notification `core` says to wait."""
    params = notification[2]
    core = params[0].get("core") if params else None
    return core if type(core) is int and 0 <= core <= CORE_MAX else None


class Reader:
    """Finds the messages in a stream of bytes, however they are split. A large document in a result may be a memoryview.

    ``failure`` is None, or says why nothing can be read after the messages that were handed out.

    Of the threads that share a socket one reads for all: take() says whether it is the one who asks, until give_back().
    """

    def __init__(
        self,
        max_frame_bytes: int,
        sock: socket.socket | None = None,
        calls: dict[int, Any] | None = None,
        numbers: Iterator[int] | None = None,
        sending: threading.Lock | None = None,
    ) -> None:
        self.failure: str | None = None
        self._limit = max_frame_bytes
        self._unpacker: Any = None  # once a message was split, or came with another
        self._sock: Any = sock
        self._turn = threading.Lock()
        if sock:
            self._readable = select.poll()
            self._readable.register(sock, select.POLLIN)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        messages: list[Message] = []
        try:
            if self._unpacker is None:
                try:
                    if len(data) <= self._limit:
                        return [check(_unpackb(data))]
                except _BAD_BYTES:
                    pass
                self._unpacker = msgpack.Unpacker(
                    read_size=min(_READ_BYTES, self._limit),
                    max_buffer_size=self._limit,
                    max_array_len=self._limit - 1,
                    **_OPTIONS,
                )
            self._unpacker.feed(data)
            for value in self._unpacker:
                messages.append(check(value))
        except ProtocolError as error:
            self.failure = error.message
        except msgpack.BufferFull:
            self.failure = "a message is longer than max_frame_bytes"
        except _BAD_BYTES as error:
            self.failure = f"the bytes are not msgpack: {error!r}"
        return messages

    def wait_on(self, core: int | None) -> None:
        """On which processor receive() had better wait from now on; None: on any. Setting that in Python would cost what it spares."""

    def hold(self) -> None:
        """Before another wait that had better be there; release() comes after it. For the thread that is sending."""

    def release(self) -> None:
        pass

    def receive(self, seconds: float | None) -> list[Message]:
        """Reads from the socket once, when there is something to read, and does as feed(). Raises EOFError at the end."""
        if seconds is None:
            data = self._sock.recv(_READ_BYTES)
        elif self._readable.poll(math.ceil(seconds * 1000)):
            try:
                data = self._sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
        else:
            return []
        if not data:
            raise EOFError("the daemon closed the connection")
        return self.feed(data)

    def take(self) -> bool:
        return self._turn.acquire(False)

    def give_back(self) -> None:
        self._turn.release()

    @property
    def taken(self) -> bool:
        return self._turn.locked()

    def close(self) -> None:
        """The socket is not used any more."""

    def exchange(
        self, connection: Any, method: str, params: dict[str, Any], deadline: float | None
    ) -> dict[str, Any] | Message | None:
        """What the extension does in one step: a call on a connection of which no other thread reads or sends, with a small
        request. Returns the result where it is a map, else the response, or None where nothing was sent: then the call goes the
        long way, as it always does here.

        While it lasts the thread has taken the reader, and `calls` has None under the call's number, which is the next of `numbers`.
        It calls connection.hand_out(number, messages) where the answer is not all that came, which returns it, what to raise, or None;
        connection.lose(error) when the socket fails, connection.cancel(number) when CallTimeout or KeyboardInterrupt ends it, and
        connection.leave(number) at the end, unless nobody else is there.
        """
        return None


def _fallback(value: Any) -> Any:
    """As _default(), for the extension, which knows more."""
    if hasattr(value, "get_secret_value"):
        return Secret(value.get_secret_value())
    if isinstance(value, msgpack.Timestamp):
        return tuple.__new__(msgpack.ExtType, (-1, value.to_bytes()))
    return _default(value)


try:
    import _cpexd_client  # type: ignore[import-not-found]

    _cpexd_client.configure(Secret, _fallback, msgpack.ExtType, _ext, ProtocolError, CallTimeout)
except ImportError:  # it was not built, or serves another interpreter of this process
    pass
else:
    pack, document, pieces = _cpexd_client.pack, _cpexd_client.document, _cpexd_client.pieces
    WAITS_ON_CORE = True
    unpack, Reader = _cpexd_client.unpack, _cpexd_client.Reader  # type: ignore[misc]
