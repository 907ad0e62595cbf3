# SPDX-License-Identifier: Apache-2.0
"""Values and messages on the wire (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from .errors import ProtocolError

EXT_SECRET = 1
EXT_BIGINT = 2
DEPTH_MAX = 128

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2


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


class Message(NamedTuple):
    """One message. ``id`` is None for a notification, ``method`` for a response; ``error`` and ``result`` are of responses."""

    kind: int
    id: int | None = None
    method: str | None = None
    params: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    result: Any = None


def _default(value: Any) -> Any:
    """What msgpack does not know: integers beyond 64 bits, secrets (ours and pydantic's), models."""
    if isinstance(value, int):
        n = (value if value >= 0 else ~value).bit_length() // 8 + 1
        return msgpack.ExtType(EXT_BIGINT, value.to_bytes(n, "big", signed=True))
    if hasattr(value, "get_secret_value"):
        return msgpack.ExtType(EXT_SECRET, value.get_secret_value().encode("utf-8", "surrogatepass"))
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent: {value!r}")


def _ext(code: int, data: bytes) -> Any:
    if code == EXT_SECRET:
        return Secret(data.decode("utf-8", "surrogatepass"))
    if code == EXT_BIGINT:
        return int.from_bytes(data, "big", signed=True)
    return msgpack.ExtType(code, data)


_UNPACK: dict[str, Any] = {"ext_hook": _ext, "strict_map_key": False, "unicode_errors": "surrogatepass"}

# What msgpack raises for bytes that it cannot take; TypeError for a map key that Python cannot hash.
_BAD_BYTES = (ValueError, TypeError, msgpack.UnpackException)


def pack(value: Any) -> bytes:
    """Raises TypeError for what has no form on the wire."""
    packed: bytes = msgpack.packb(value, default=_default, unicode_errors="surrogatepass")
    return packed


def unpack(document: bytes) -> Any:
    """The value of a document. Raises ProtocolError where it is not exactly one."""
    try:
        return msgpack.unpackb(document, **_UNPACK)
    except _BAD_BYTES as error:
        raise ProtocolError(f"a document is not one msgpack value: {error!r}") from None


def _fits(value: Any, levels: int) -> bool:
    """Whether no more than `levels` containers are inside each other; an empty one at the bottom does not count."""
    if levels == 0:
        return False
    for item in value.values() if type(value) is dict else value:
        if type(item) in (dict, list) and item and not _fits(item, levels - 1):
            return False
    return True


def _is_uint(value: Any, maximum: int) -> bool:
    return type(value) is int and 0 <= value <= maximum


def message(value: Any) -> Message:
    """Takes an envelope apart. Raises ProtocolError with the sentence that says what is wrong with it."""
    if type(value) is not list:
        raise ProtocolError("a message is an array")
    if not value or not _is_uint(value[0], NOTIFICATION):
        raise ProtocolError("a message begins with 0, 1 or 2")
    kind = value[0]
    if len(value) != (3 if kind == NOTIFICATION else 4):
        raise ProtocolError("the message has the wrong number of elements")
    if kind != NOTIFICATION and not _is_uint(value[1], 2**32 - 1):
        raise ProtocolError("the message id is not an integer of 32 bits")
    if not _fits(value, DEPTH_MAX):
        raise ProtocolError("a message is nested too deeply")
    if kind == RESPONSE:
        if value[2] is not None and type(value[2]) is not dict:
            raise ProtocolError("the error is neither nil nor a map")
        return Message(kind, value[1], None, None, value[2], value[3])
    method, params = value[-2:]
    if type(method) is not str:
        raise ProtocolError("the method is not a string")
    if type(params) is not list or len(params) > 1 or (params and type(params[0]) is not dict):
        raise ProtocolError("the parameters are not an array of one map")
    return Message(kind, None if kind == NOTIFICATION else value[1], method, params[0] if params else {})


class Reader:
    """Finds the messages in a stream of bytes, however they are split."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=max_frame_bytes, max_array_len=max_frame_bytes - 1, **_UNPACK)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yields the messages that `data` completes. Raises ProtocolError; nothing can be read after that."""
        try:
            self._unpacker.feed(data)
            for value in self._unpacker:
                yield message(value)
        except msgpack.BufferFull:
            raise ProtocolError("a message is longer than max_frame_bytes") from None
        except _BAD_BYTES as error:
            raise ProtocolError(f"the bytes are not msgpack: {error!r}") from None


def request(msgid: int, method: str, params: dict[str, Any]) -> bytes:
    return pack([REQUEST, msgid, method, [params]])


def cancel(msgid: int) -> bytes:
    return pack([NOTIFICATION, "cancel", [{"msgid": msgid}]])
