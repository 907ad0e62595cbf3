# SPDX-License-Identifier: Apache-2.0
"""Runs tests/vectors/protocol.json through the decoder of the Python client; the file says how values are written in it."""

import json
import math

import msgpack
import pytest
from conftest import TOP
from cpexd_client import ProtocolError, Secret, codec

VECTORS = json.loads((TOP / "tests" / "vectors" / "protocol.json").read_text())["vectors"]
FIELDS = {"request": ["id", "method", "params"], "response": ["id", "error", "result"], "notification": ["method", "params"]}


def same(value, right):
    if isinstance(right, dict) and any(key.startswith("$") for key in right):
        return same_special(value, right)
    if isinstance(right, dict):
        return type(value) is dict and value.keys() == right.keys() and all(same(value[key], right[key]) for key in right)
    if isinstance(right, list):
        return type(value) is list and len(value) == len(right) and all(map(same, value, right))
    return type(value) is type(right) and value == right


def same_special(value, right):
    if "$bytes" in right:
        return value == bytes.fromhex(right["$bytes"])
    if "$document" in right:
        return type(value) is bytes and same(codec.unpack(value), right["$document"])
    if "$secret" in right:
        return value == Secret(right["$secret"])
    if "$float" in right:
        number = float(right["$float"])
        if math.isnan(number):
            return math.isnan(value)
        return type(value) is float and value == number and math.copysign(1, value) == math.copysign(1, number)
    return type(value) is int and value == int(right.get("$int") or right["$bigint"])


def read(data, size):
    reader = codec.Reader(16 << 20)
    messages = [message for at in range(0, len(data), size) if not reader.failure for message in reader.feed(data[at : at + size])]
    return messages, reader.failure


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector):
    data = bytes.fromhex(vector["hex"])
    for size in (1, len(data)):
        if "refused" in vector:
            messages, failure = read(data, size)
            assert messages == []
            assert failure or vector["refused"].startswith("declares more bytes"), "was not refused"
            continue
        [message], failure = read(data, size)
        assert not failure
        fields = FIELDS[vector["kind"]]
        assert message[0] == list(FIELDS).index(vector["kind"])
        assert len(message) == 1 + len(fields)
        for value, field in zip(message[1:], fields):
            if field == "params":
                value = value[0] if value else {}
            assert same(value, vector.get(field)), field


def test_what_is_declared_too_large_is_refused_when_it_comes():
    reader = codec.Reader(1 << 20)
    assert reader.feed(bytes.fromhex("940001dbffffffff")) == []
    for _ in range(3):
        assert reader.failure or reader.feed(bytes(1 << 19)) == []
    assert reader.failure


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.get("method") == "test"], ids=lambda vector: vector["name"])
def test_values_are_written_as_they_are_read(vector):
    [message], _ = read(bytes.fromhex(vector["hex"]), 4096)
    again = codec.pack(message)
    if "32 bits" in vector["name"]:  # Python has no floats of 32 bits
        again = again.replace(bytes.fromhex("cb3ff8000000000000"), bytes.fromhex("ca3fc00000"))
    assert again.hex() == vector["hex"]


def test_values_of_other_kinds():
    class Model:
        def model_dump(self):
            return {"secret": Pydantic()}

    class Pydantic:
        def get_secret_value(self):
            return "s"

    assert codec.unpack(codec.pack((Model(), bytearray(b"x")))) == [{"secret": Secret("s")}, b"x"]
    assert codec.unpack(codec.pack("\ud800")) == "\ud800"
    assert codec.unpack(msgpack.packb(msgpack.ExtType(9, b"x"))) == msgpack.ExtType(9, b"x")
    with pytest.raises(TypeError, match="type object cannot be sent"):
        codec.pack({"x": object()})


def test_a_secret_does_not_show_itself():
    secret = Secret("hush")
    assert "hush" not in f"{secret} {secret!r} {[secret]}"
    assert secret.get_secret_value() == "hush"
    assert secret == Secret("hush") != Secret("other")
    assert str(Secret("")) == ""


@pytest.mark.parametrize("document", [b"", b"\xc1", b"\x01\x02", b"\x91", b"\x81\x90\x01"])
def test_a_document_is_exactly_one_value(document):
    with pytest.raises(ProtocolError):
        codec.unpack(document)
