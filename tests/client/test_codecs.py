# SPDX-License-Identifier: Apache-2.0
"""The extension and the Python that it stands for: the same bytes, values and errors."""

import enum
import functools
import importlib.util
import random
import sys
import typing

import cpexd_client
import msgpack
import pytest
from conftest import PURE, TOP


def other():
    """The package once more, with Python's codec."""
    name, folder = "cpexd_client_in_python", TOP / "client/python/cpexd_client"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    known = sys.modules.pop("_cpexd_client", None)
    sys.modules["_cpexd_client"] = None  # not to be found
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["_cpexd_client"]
        if known:
            sys.modules["_cpexd_client"] = known
    return module


python = other()
fast = cpexd_client
pytestmark = pytest.mark.skipif(PURE, reason="without the extension there is nothing to compare")


class Colour(enum.IntEnum):
    RED = 3


class Pair(typing.NamedTuple):
    left: int
    right: str


class Words(dict):
    pass


class Text(str):
    pass


class Model:
    def model_dump(self):
        return {"a": Hidden(), "b": [1]}


class Hidden:
    def get_secret_value(self):
        return "s\ud800"


VALUES = [
    None, True, False, 0, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, 2**31, 2**32, -(2**31), -(2**31) - 1, 2**63, -(2**63), 2**64 - 1,
    2**64, -(2**63) - 1, 2**127, -(2**127), 10**400, 1.5, -0.0, float("inf"), "", "é€😀", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65536,
    "\ud800", b"", b"\xff" * 255, bytes(256), bytes(65536), bytearray(b"x"), memoryview(b"y"), [], [[]], (1, 2), {}, {"a": {"b": [1, None]}},
    {1: 2, None: 3, b"k": 4, 1.5: 5, True: 6, 2**70: 7}, list(range(16)), list(range(70000)), {str(n): n for n in range(16)},
    {str(n): n for n in range(70000)}, Colour.RED, Pair(1, "x"), Words(a=1), Text("t"), Model(), Hidden(), [Model(), (Hidden(),)],
    msgpack.ExtType(9, b"x"), msgpack.ExtType(3, b"2001-12-14"), msgpack.Timestamp(1, 2), {3, 1, 2}, frozenset("b"), {"s": {1}},
]  # fmt: skip


def seen(value):
    """Secrets are of two classes here."""
    if isinstance(value, (list, dict)):
        return [seen(item) for item in (value.items() if isinstance(value, dict) else value)]
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(seen, value))
    return ("secret", value.get_secret_value()) if hasattr(value, "get_secret_value") else (type(value), repr(value))


def outcome(function, value):
    try:
        return seen(function(value))
    except Exception as error:
        return type(error).__name__


def test_these_are_two():
    assert fast.codec.Reader.__module__ == "_cpexd_client"
    assert python.codec.Reader.__module__ == "cpexd_client_in_python.codec"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}")
def test_values(value):
    packed = fast.codec.pack(value)
    assert packed == python.codec.pack(value)
    assert seen(fast.codec.unpack(packed)) == seen(python.codec.unpack(packed))


def test_pieces():
    large = memoryview(b"d" * 100_000)
    for message in ([0, 1, "m", [{"a": large, "b": b"x" * 16384, "c": [bytes(large)]}]], [2, "n", []]):
        for module in (fast, python):
            assert b"".join(module.codec.pieces(message)) == module.codec.pack(message)
    assert type(fast.codec.pack(bytes(large))) is bytes and fast.codec.document(bytes(large)) == python.codec.pack(bytes(large))


@pytest.mark.parametrize("value", [object(), {"a": [object]}, Ellipsis, range(3), 1j], ids=lambda value: type(value).__name__)
def test_what_cannot_be_sent(value):
    assert outcome(fast.codec.pack, value) == outcome(python.codec.pack, value) == "TypeError"


@pytest.mark.parametrize("seed", range(4))
def test_bytes_of_strangers(seed):
    """Good documents with a few bytes changed."""
    dice = random.Random(seed)
    documents = [fast.codec.pack(value) for value in VALUES if len(repr(value)) < 1000]
    for _ in range(1500):
        data = bytearray(dice.choice(documents))
        for _ in range(dice.randrange(3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        data += dice.choice((b"", b"", b"\xc0"))
        assert outcome(fast.codec.unpack, data) == outcome(python.codec.unpack, bytes(data)), data.hex()


def messages(module, pieces):
    reader, found = module.codec.Reader(1 << 20), []
    for piece in pieces:
        if not reader.failure:
            found += reader.feed(piece)
    return seen(found), reader.failure is None


@pytest.mark.parametrize("seed", range(4))
def test_streams(seed):
    dice = random.Random(seed)
    good = [[1, 7, None, {"a": "x" * 100}], [1, 2**32 - 1, {"code": "c"}, None], [2, "generation", [{}]], [0, 1, "m", []], [1, 0, None, [[]]]]
    bad = [[1, 2**32, None, {}], [1, -1, None, {}], [1, 1, [], {}], [3, 1], [], {}, [True, 1, None, {}], [2, 1, []], [0, 1, "m", [1]], [1, 1, None]]
    deep = functools.reduce(lambda inner, _: [inner], range(126), 0)
    good, bad = good + [[1, 1, None, deep]], bad + [[1, 1, None, [[deep]]]]
    for _ in range(300):
        stream = b"".join(msgpack.packb(dice.choice(good)) for _ in range(dice.randrange(5)))
        if dice.random() < 0.5:
            stream += msgpack.packb(dice.choice(bad))
        cuts = sorted(dice.randrange(len(stream) + 1) for _ in range(dice.randrange(4)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)]) if a < b]
        assert messages(fast, pieces) == messages(python, pieces), [piece.hex() for piece in pieces]
