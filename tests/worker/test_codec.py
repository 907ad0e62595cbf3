# SPDX-License-Identifier: Apache-2.0
"""The extension's msgpack against the msgpack package's."""

import importlib.util
import math
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgpack
import pytest
from worker import BIGINT, EXT, SECRET, pack, unpack

_spec = importlib.util.spec_from_file_location("_cpexd", EXT / "_cpexd.abi3.so")
_cpexd = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_cpexd)
decode, encode = _cpexd.decode, _cpexd.encode


class Secret:
    def __init__(self, value):
        self.value = value

    def get_secret_value(self):
        return self.value

    def __eq__(self, other):
        return isinstance(other, Secret) and self.value == other.value


@pytest.fixture(autouse=True)
def configured():
    _cpexd.configure(Secret, None)


def random_text(rng, depth):
    return "".join(rng.choice("aé€😀\0") for _ in range(rng.choice([0, 3, 15, 31, 32, 200, 40 if depth else 70000])))


def random_value(rng, depth=0):
    kind = rng.randrange(12 if depth < 5 else 8)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        bits = rng.randrange(1, 64)
        return rng.choice([rng.getrandbits(bits), -rng.getrandbits(bits), 2**64 - 1, -(2**63), 0x7F, 0x80, -32, -33])
    if kind == 3:
        return rng.choice([rng.random() * 1e300, -0.0, math.inf, 1e-320])
    if kind in (4, 5):
        return random_text(rng, depth)
    if kind in (6, 7):
        return rng.randbytes(rng.choice([0, 1, 255, 256, 65536 if depth == 0 else 17]))
    if kind in (8, 9):
        return [random_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3, 15, 16]))]
    keys = [rng.choice([random_value(rng, 5), f"key{i}", i]) for i in range(rng.choice([0, 1, 5, 15, 16]))]
    return {key: random_value(rng, depth + 1) for key in keys}


VALUES = [random_value(random.Random(seed)) for seed in range(1500)]


def same(a, b):
    """Equal in value and type: 1 is not 1.0 and not True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(map(same, a.values(), b.values()))
    return struct.pack(">d", a) == struct.pack(">d", b) if isinstance(a, float) else a == b


def test_random_values_both_ways():
    for value in VALUES:
        assert same(decode(pack(value)), value)
        assert same(unpack(encode(value)), value)
        assert encode(value) == pack(value)  # the shortest form, as everybody's


def test_every_python_that_is_here(python):
    lines = [pack(value).hex() for value in VALUES[:400]]
    lines += [encode(value).hex() for value in (2**64, -(2**63) - 1, -(2**71), 2**2000, Secret("s"), "\ud800")]
    bad = ["c1", "", "92", "dd00ff0000", "c70305ffffff"]
    command = [python, Path(__file__).with_name("codec_child.py"), EXT]
    done = subprocess.run(command, input="\n".join(lines + bad), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[: len(lines)] == lines
    assert len(answers) == len(lines) + len(bad) and all(answer.startswith("refused: ") for answer in answers[len(lines) :])


def test_every_truncation_is_refused():
    for value in VALUES[:300]:
        data = pack(value)
        for end in range(min(len(data), 400)):
            with pytest.raises(ValueError, match="cut off"):
                decode(data[:end])
    with pytest.raises(ValueError, match="bytes follow"):
        decode(b"\x01\x02")


def test_random_bytes_do_no_harm():
    rng = random.Random(1)
    accepted = 0
    for _ in range(20000):
        data = rng.randbytes(rng.randrange(1, 40))
        try:
            value = decode(data)
        except (ValueError, TypeError):
            continue
        accepted += 1
        assert same(decode(encode(value)), value) or value != value or "nan" in repr(value) or "Secret" in repr(value)
    assert accepted > 100


def test_mutated_values_do_no_harm():
    rng = random.Random(2)
    for value in VALUES[:500]:
        data = bytearray(pack(value)[:2000])
        for _ in range(20):
            data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                decode(bytes(data))
            except (ValueError, TypeError):
                pass


@pytest.mark.parametrize(
    "data",
    "ddffffffff dd00ff0000 dfffffffff df80000000 dbffffffff c6ffffffff c9ffffffff01 dcffff deffff 91919191".split(),
)
def test_declared_counts_cost_nothing(data):
    data = bytes.fromhex(data)
    begun = time.monotonic()
    for _ in range(1000):
        with pytest.raises(ValueError, match="cut off"):
            decode(data)
    assert time.monotonic() - begun < 1


def test_depth_is_exact():
    assert decode(b"\x91" * 128 + b"\xc0")
    with pytest.raises(ValueError, match="128 levels"):
        decode(b"\x91" * 129 + b"\xc0")
    assert decode(b"\x91" * 128 + b"\x90")
    with pytest.raises(ValueError, match="128 levels"):
        decode(b"\x91" * 10**6)
    value = None
    for _ in range(128):
        value = [value]
    assert decode(encode(value)) == value
    for outer in ([value], {"k": value}, (value,)):
        with pytest.raises(ValueError, match="128 levels"):
            encode(outer)


def test_big_integers():
    for n in (2**64, 2**64 + 1, -(2**63) - 1, 2**71 - 1, 2**71, -(2**71), -(2**71) - 1, 2**127, 10**500, -(10**500)):
        data = encode(n)
        assert decode(data) == n
        ext = unpack(data)
        assert ext.code == BIGINT and int.from_bytes(ext.data, "big", signed=True) == n
        with pytest.raises(OverflowError):
            n.to_bytes(len(ext.data) - 1, "big", signed=True)


def test_integers_of_a_class_of_their_own():
    class Odd(int):
        def to_bytes(self, *args, **options):
            return b""

        def bit_length(self):
            return 1 << 40

        def __invert__(self):
            return None

    for n in (2**70, -(2**70), 5):
        assert encode(Odd(n)) == encode(n)


def test_secrets():
    assert decode(pack(msgpack.ExtType(SECRET, "é".encode()))) == Secret("é")
    assert unpack(encode([Secret("é" * n) for n in (0, 1, 2, 4, 8, 100)])) == [
        msgpack.ExtType(SECRET, ("é" * n).encode()) for n in (0, 1, 2, 4, 8, 100)
    ]
    with pytest.raises(TypeError, match="secret"):
        encode(Secret(5))
    _cpexd.configure(None, None)
    with pytest.raises(ValueError, match="secret"):
        decode(pack(msgpack.ExtType(SECRET, b"x")))


def test_extensions_keys_and_text():
    with pytest.raises(ValueError, match="extension type 5"):
        decode(pack(msgpack.ExtType(5, b"abc")))
    with pytest.raises(ValueError, match="key is an array or a map"):
        decode(b"\x81\x90\x01")
    with pytest.raises(ValueError):
        decode(b"\xa1\xff")
    assert decode(encode({"\udc80": "\ud800"})) == {"\udc80": "\ud800"}
    for n in (31, 32, 33):  # around the length up to which keys are shared
        assert decode(pack({"k" * n: 1, "é" * n: 2})) == {"k" * n: 1, "é" * n: 2}
    many = {f"key-{i}": i for i in range(5000)}
    assert decode(pack(many)) == many == decode(pack(many))
    assert decode(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}
    assert decode(memoryview(b"\x01")) == decode(bytearray(b"\x01")) == 1


def test_subclasses_and_the_fallback():
    import collections
    import enum

    class Name(str, enum.Enum):
        A = "a"

    class Number(enum.IntEnum):
        ONE = 1

    assert encode([Name.A, Number.ONE]) == pack(["a", 1])
    assert encode({Name.A: Name.A}) == pack({"a": "a"})
    assert encode(collections.OrderedDict(a=1)) == pack({"a": 1})
    assert encode((1, (2,))) == pack([1, [2]]) and encode({3, 1, 2}) == pack([1, 2, 3]) and encode(frozenset()) == pack([])
    assert sorted(unpack(encode({1, "a"})), key=str) == [1, "a"]
    assert encode(bytearray(b"x")) == encode(memoryview(b"x")) == pack(b"x")
    with pytest.raises(TypeError, match="type object cannot be sent"):
        encode([object()])
    with pytest.raises(TypeError, match="key"):
        encode({(1,): 2})
    _cpexd.configure(Secret, lambda value: ["was", type(value).__name__])
    assert encode(object()) == pack(["was", "object"])
    _cpexd.configure(Secret, lambda value: value)
    with pytest.raises(ValueError, match="128 levels"):
        encode(object())

    def fails(value):
        raise KeyError("x")

    _cpexd.configure(Secret, fails)
    with pytest.raises(KeyError):
        encode([object()])


def test_containers_that_change_while_they_are_encoded():
    victim = [0, object(), 2, 3]

    def change(value):
        victim.clear()
        return 1

    _cpexd.configure(Secret, change)
    with pytest.raises(RuntimeError, match="changed its size"):
        encode(victim)
    victim = {i: object() for i in range(100)}
    with pytest.raises(RuntimeError, match="changed its size"):
        encode(victim)


def test_the_limit_is_exact():
    assert len(encode("x" * 100, 102)) == 102
    with pytest.raises(_cpexd.Oversize, match="more than 101 bytes"):
        encode("x" * 100, 101)
    with pytest.raises(_cpexd.Oversize):
        encode(None, 0)


# -- the connection --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    connection = _cpexd.Connection(theirs.detach(), 1 << 20)
    with ours:
        yield ours, connection
    connection.close()


def test_messages_at_every_split(pair):
    ours, connection = pair
    messages = [[0, 1, "m", [{"a": "x" * 40, "b": b"y" * 300, "c": {}}]], [], [2, "n", []], "s" * 300]
    data = b"".join(map(pack, messages))
    for split in range(len(data)):
        ours.sendall(data[:split])
        got = []
        while (message := connection.recv(False)) is not None:
            got.append(message)
        ours.sendall(data[split:])
        got += [connection.recv() for _ in range(len(messages) - len(got))]
        assert got == messages
    assert connection.recv(False) is None


def test_byte_by_byte_is_linear(pair):
    ours, connection = pair
    data = pack([b"x" * 900_000])
    for i in range(0, len(data), 4096):
        ours.sendall(data[i : i + 4096])
        message = connection.recv(False)
    assert message == [b"x" * 900_000]
    begun = time.monotonic()
    data = pack(list(range(100)) * 50)
    for byte in data:
        ours.sendall(bytes([byte]))
        message = connection.recv(False)
    assert message == list(range(100)) * 50 and time.monotonic() - begun < 5


def test_the_limit_of_a_message(pair):
    ours, connection = pair
    data = pack(b"x" * ((1 << 20) - 5))
    assert len(data) == 1 << 20
    writer = threading.Thread(target=ours.sendall, args=(data,))
    writer.start()
    assert len(connection.recv()) == (1 << 20) - 5
    writer.join()
    ours.sendall(b"\xc6" + (1 << 20).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="longer than the limit"):
        connection.recv(False)


def test_large_binary_parameters_are_views_that_stay(pair):
    ours, connection = pair
    small, large = bytes(range(256)) * 127, bytes(range(256)) * 128  # of 64 KiB that are read into, or more
    rest = pack("rest")
    views = []
    for ident in range(5):
        data = large[ident:] + bytes(ident)
        ours.sendall(pack([0, ident, "m", [{"large": data, "small": small[:100], "inner": {"large": small}}]]) + rest)
        params = connection.recv()[3][0]
        assert connection.recv() == "rest"
        assert type(params["small"]) is bytes and type(params["large"]) is memoryview and type(params["inner"]["large"]) is bytes
        views.append((params["large"], data))
    for view, data in views:
        assert view.readonly and view == data and decode(memoryview(pack(data))) == data


def test_pieces_are_the_encoding_and_large_bytes_are_not_copied(pair):
    ours, connection = pair
    small, large, view = b"s" * 16383, b"l" * 16384, memoryview(b"v" * 70_000)
    array, wide = bytearray(b"a" * 20_000), memoryview(b"w" * 80_000).cast("i", (100, 200))  # may change its size, has two dimensions
    value = [1, 2, None, {"a": small, "b": large, "c": [view, "x" * 20_000, array], "d": view, "e": wide}]
    pieces = _cpexd.encode_pieces(value, 1 << 20)
    assert b"".join(pieces) == encode(value) == pack(value)
    assert [i for i, piece in enumerate(pieces) if piece is large or type(piece) is memoryview and piece.readonly] == [1, 3, 5, 7]
    assert all(memoryview(piece).ndim == memoryview(piece).itemsize == 1 for piece in pieces)
    assert len(encode(value)) == sum(map(len, _cpexd.encode_pieces(value, len(encode(value)))))
    for limit in (len(encode(value)) - 1, 40_000, 16_384, 1):
        with pytest.raises(_cpexd.Oversize, match=f"more than {limit} bytes"):
            _cpexd.encode_pieces(value, limit)
    assert b"".join(_cpexd.encode_pieces(large, 1 << 20)) == pack(large)
    writer = threading.Thread(target=connection.send, args=(pieces * 20,))
    writer.start()
    got = b""
    while len(got) < 20 * len(pack(value)):
        got += ours.recv(1 << 16)
    writer.join()
    assert got == 20 * pack(value)
    for wrong in ("text", [1], [b"x", None]):
        with pytest.raises(TypeError):
            connection.send(wrong)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xc1", "0xc1"), (b"\x92\x01\xc1", "0xc1"), (b"\x91" * 129, "128 levels"), (b"\xdd\xff\0\0\0", "limit")],
)
def test_what_is_no_message(pair, data, text):
    ours, connection = pair
    ours.sendall(data)
    with pytest.raises(ValueError, match=text):
        connection.recv()


def test_a_message_that_cannot_be_decoded_names_its_request(pair):
    ours, connection = pair
    ours.sendall(b"\x94\x00\xcd\x01\x02\xa1m\x91\xa1\xff" + b"\x93\x02\xa1m\x91\xa1\xff" + pack("next"))
    for ident in (0x102, -1):
        with pytest.raises(_cpexd.Undecodable) as caught:
            connection.recv()
        assert caught.value.args[1] == ident and "utf-8" in caught.value.args[0]
    assert connection.recv() == "next"


def test_the_end(pair):
    ours, connection = pair
    ours.sendall(pack("last") + b"\x92\x01")
    ours.shutdown(socket.SHUT_WR)
    assert connection.recv() == "last"
    with pytest.raises(EOFError, match="inside a message"):
        connection.recv()
    connection.close()
    connection.close()
    assert connection.fileno() == -1
    for use in (connection.recv, lambda: connection.send([b"x"])):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_sending_waits_for_a_slow_reader(pair):
    ours, connection = pair
    data = b"x" * (8 << 20)
    writer = threading.Thread(target=connection.send, args=([data],))
    writer.start()
    got = 0
    while got < len(data):
        got += len(ours.recv(1 << 16))
    writer.join()
    ours.close()
    with pytest.raises(OSError):
        connection.send([data])


@pytest.mark.parametrize("blocking", [True, False])
def test_a_waiting_reader_leaves_the_interpreter_to_others(blocking):
    ours, theirs = socket.socketpair()
    theirs.setblocking(blocking)
    connection = _cpexd.Connection(theirs.detach(), 1000)
    got = []
    reader = threading.Thread(target=lambda: got.append(connection.recv()))
    reader.start()
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="another thread"):
        connection.recv()
    ours.sendall(pack("late"))
    reader.join(5)
    assert got == ["late"] and not reader.is_alive()
    connection.close()
    ours.close()


def test_the_descriptor_is_high_and_not_inherited(pair):
    import fcntl

    _, connection = pair
    assert connection.fileno() >= 256
    assert fcntl.fcntl(connection.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_nothing_leaks():
    objects = sys.getrefcount(None)
    value = {"k": [1, 2.5, "text", b"bytes", 2**70, None, Secret("s")]}
    for _ in range(2000):
        decode(encode(value))
        for bad in (b"\x92\x01", b"\x82\xa1a\x01\xa1b\xc1", b"\xa1\xff"):
            with pytest.raises(ValueError):
                decode(bad)
        with pytest.raises(TypeError):
            encode([value, object()])
    assert abs(sys.getrefcount(None) - objects) < 1000
