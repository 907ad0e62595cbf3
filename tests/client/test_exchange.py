# SPDX-License-Identifier: Apache-2.0
"""A call in one step (Reader.exchange()) and daemons that are slow, hang up, answer others or talk nonsense. Without the extension
no call is one step, and the outcome is the same but where a test says so."""

import contextlib
import gc
import itertools
import os
import random
import signal
import socket
import threading
import time
import tracemalloc

import msgpack
import pytest
from conftest import PURE
from cpexd_client import CallTimeout, Client, ConnectionLost, CpexdError, ProtocolError
from cpexd_client import client as module

TIMEOUTS = pytest.mark.parametrize("timeout", [None, 10])


def response(msgid, result):
    return msgpack.packb([1, msgid, None, result])


def in_thread(function):
    """Returns what it returned or raised, once asked for."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return lambda: (thread.join(20), outcome[0])[1]


@pytest.fixture
def long_way(monkeypatch):
    """The methods of the calls that exchange() left to client.py."""
    methods, call = [], module._Connection.call

    def spy(self, method, params, deadline):
        methods.append(method)
        return call(self, method, params, deadline)

    monkeypatch.setattr(module._Connection, "call", spy)
    return methods


@TIMEOUTS
def test_what_goes_in_one_step(daemon, long_way, timeout):
    with Client(daemon().path, timeout=timeout) as client:
        assert client.call("small", {"n": 1})["params"] == {"n": 1}
        assert client.call("large", {"text": "x" * 20000})["method"] == "large"
        assert client.call("small", {"n": 2})["params"] == {"n": 2}
    assert long_way == (["small", "large", "small"] if PURE else ["large"])


@TIMEOUTS
def test_an_answer_in_pieces(daemon, timeout):
    def serve(peer):
        data = response(peer.receive()[1], {"x": "y" * 300, "z": [1] * 20})
        for i in range(0, len(data), 50):
            peer.send(data[i : i + 50])
            time.sleep(0.01)
        peer.receive()

    with Client(daemon(serve).path, timeout=timeout) as client:
        assert client.call("x") == {"x": "y" * 300, "z": [1] * 20}


@TIMEOUTS
@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_answers_of_two_threads(daemon, timeout, own_first, together):
    """Of which the first one reads for both."""

    def serve(peer):
        calls = [peer.receive(), peer.receive()]
        answers = [response(msgid, {"method": method}) for _, msgid, method, _ in calls]
        if not own_first:
            answers.reverse()
        if together:
            peer.send(b"".join(answers))
        else:
            for answer in answers:
                peer.send(answer)
                time.sleep(0.1)
        while message := peer.receive():
            peer.answer(message[1], {})

    with Client(daemon(serve).path, timeout=timeout) as client:
        first = in_thread(lambda: client.call("first"))
        time.sleep(0.1)
        second = in_thread(lambda: client.call("second"))
        assert first() == {"method": "first"} and second() == {"method": "second"}
        assert client.call("x") == {}
        assert not client._connection.calls and not client._connection.reader.taken


def test_what_nobody_waits_for_is_ignored(daemon):
    def serve(peer):
        while message := peer.receive():
            msgid = message[1]
            peer.send(
                response(msgid ^ 0x80000000, {"of": "nobody"})
                + msgpack.packb([2, "generation", [{"generation": 2}]])
                + response(msgid, {"n": 1})
                + response(msgid, {"n": 2})
                + msgpack.packb([2, "x", []])
            )

    with Client(daemon(serve).path, timeout=10) as client:
        for _ in range(20):
            assert client.call("x") == {"n": 1}


@pytest.mark.parametrize("part", [0, 1, 20])
def test_a_timeout_in_the_middle_and_a_late_answer(daemon, part):
    told = []

    def serve(peer):
        late = response(peer.receive()[1], {"late": "x" * 50})
        peer.send(late[:part])
        told.append(peer.receive())
        peer.send(late[part:] + response(peer.receive()[1], {"n": 2}))
        peer.receive()

    server = daemon(serve)
    with Client(server.path) as client:
        begun = time.monotonic()
        with pytest.raises(CallTimeout):
            client.call("slow", timeout=0.1)
        assert 0.1 <= time.monotonic() - begun < 5
        assert client.call("x", timeout=10) == {"n": 2}
    assert told == [[2, "cancel", [{"msgid": 0}]]]
    assert len(server.peers) == 1


def test_a_daemon_that_trickles_does_not_put_a_timeout_off(daemon):
    over = threading.Event()

    def serve(peer):
        peer.receive()
        peer.send(b"\x94\x01\x00\xc0\xdb\x00\x10\x00\x00")
        while not over.wait(0.001):
            peer.send(b"x")

    with Client(daemon(serve).path) as client:
        try:
            with pytest.raises(CallTimeout):
                client.call("slow", timeout=0.2)
        finally:
            over.set()


@contextlib.contextmanager
def handler(function):
    before = signal.signal(signal.SIGUSR1, function)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def send_signal():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


@TIMEOUTS
def test_a_signal_between_the_pieces_of_an_answer(daemon, timeout):
    seen = []

    def serve(peer):
        data = response(peer.receive()[1], {"x": "y" * 50})
        for i in range(0, len(data), 10):
            send_signal()  # never after the last piece, when the handler may be gone
            time.sleep(0.01)
            peer.send(data[i : i + 10])
        peer.receive()

    with handler(lambda *_: seen.append(1)), Client(daemon(serve).path, timeout=timeout) as client:
        assert client.call("x") == {"x": "y" * 50}
    assert seen


@TIMEOUTS
@pytest.mark.parametrize("part", [0, 7])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_handler_that_raises(daemon, timeout, part, error):
    """The connection is as good as before, and only Ctrl-C cancels the call."""
    told = []

    def fail(*_):
        raise error("of the handler")

    def serve(peer):
        late = response(peer.receive()[1], {"late": "x" * 50})
        peer.send(late[:part])
        time.sleep(0.1)
        send_signal()
        if error is KeyboardInterrupt:
            told.append(peer.receive())
        peer.send(late[part:] + response(peer.receive()[1], {"n": 2}))
        peer.receive()

    server = daemon(serve)
    with handler(fail), Client(server.path, timeout=timeout) as client:
        with pytest.raises(error, match="of the handler"):
            client.call("slow")
        assert not client._connection.calls
        assert client.call("x") == {"n": 2}
    assert told == ([[2, "cancel", [{"msgid": 0}]]] if error is KeyboardInterrupt else [])
    assert len(server.peers) == 1


def test_a_call_within_a_signal_handler(daemon):
    """On the same connection, while the thread waits on it."""
    results = []

    def serve(peer):
        slow = peer.receive()
        send_signal()
        peer.send(response(slow[1], {"n": 1}))
        while message := peer.receive():
            if message[0] == 0:
                peer.answer(message[1], {"n": 2})

    def handle(*_):
        try:
            results.append(client.call("inner", timeout=0.2))
        except CallTimeout:
            results.append(None)

    with handler(handle), Client(daemon(serve).path, timeout=10) as client:
        assert client.call("slow") == {"n": 1}
        assert len(results) == 1
        assert client.call("x") == {"n": 2}


def test_a_call_within_the_packing_of_a_payload(daemon):
    with Client(daemon().path, timeout=10) as client:

        class Model:
            def model_dump(self):
                return {"inner": client.call("inner")["method"]}

        assert client.call("outer", {"x": Model()})["params"] == {"x": {"inner": "inner"}}


def test_an_error_of_the_packing_is_no_loss(daemon):
    class Model:
        def model_dump(self):
            raise BrokenPipeError("of the model")

    server = daemon()
    with Client(server.path, timeout=10) as client:
        client.ping()
        with pytest.raises(BrokenPipeError, match="of the model"):
            client.call("x", {"x": Model()})
        client.ping()
    assert len(server.peers) == 1


@TIMEOUTS
@pytest.mark.parametrize("part", [0, 1, 20])
def test_a_daemon_that_hangs_up_in_the_middle(daemon, timeout, part):
    """The call is not sent again."""
    served = []

    def serve(peer):
        while message := peer.receive():
            served.append(message[2])
            if message[2] == "bad":
                return peer.send(response(message[1], {"x": "y" * 50})[:part])
            peer.answer(message[1], {})

    with Client(daemon(serve).path, timeout=timeout) as client:
        for _ in range(5):
            assert client.call("good") == {}
            with pytest.raises(ConnectionLost):
                client.call("bad")
    assert served == ["good", "bad"] * 5


@TIMEOUTS
def test_a_daemon_that_hangs_up_after_its_answer(daemon, timeout):
    server = daemon(lambda peer: peer.answer(peer.receive()[1], {"n": 1}))
    with Client(server.path, timeout=timeout) as client:
        for _ in range(20):
            while client._connection and server.peers[-1].sock.fileno() >= 0:
                time.sleep(0.001)  # it hangs up
            assert client.call("x") == {"n": 1}
    assert len(server.peers) == 20


@TIMEOUTS
def test_close_in_the_middle(daemon, timeout):
    got = threading.Event()

    def serve(peer):
        peer.receive()
        got.set()
        peer.receive()

    client = Client(daemon(serve).path, timeout=timeout)
    outcome = in_thread(lambda: client.call("slow"))
    assert got.wait(10)
    connection = client._connection
    client.close()
    assert isinstance(outcome(), ConnectionLost) and "was closed" in str(outcome())
    assert connection.sock.fileno() == -1


@TIMEOUTS
def test_close_in_a_signal_handler(daemon, timeout):
    def serve(peer):
        peer.receive()
        send_signal()
        peer.receive()

    client = Client(daemon(serve).path, timeout=timeout)
    with handler(lambda *_: client.close()), pytest.raises(ConnectionLost, match="was closed"):
        client.call("slow")


def test_the_descriptor_of_a_closed_connection_is_not_used(daemon):
    """It may be that of another file by then."""
    client = Client(daemon().path, timeout=10)
    client.ping()
    connection, fd = client._connection, client._connection.sock.fileno()
    client.close()
    mine, other = socket.socketpair()
    with mine, other:
        if fd not in (mine.fileno(), other.fileno()):
            os.dup2(mine.fileno(), fd)
            mine.close()
            mine = socket.socket(fileno=fd)
        if fd == other.fileno():
            mine, other = other, mine
        assert connection.exchange(connection, "x", {}, time.monotonic() + 0.1) is None
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_a_daemon_that_reads_slowly(daemon):
    """Small and large requests of many threads arrive whole."""

    def serve(peer):
        unpacker = msgpack.Unpacker()
        while data := peer.sock.recv(3000):
            time.sleep(0.0002)
            unpacker.feed(data)
            for kind, msgid, _, [params] in unpacker:
                assert kind == 0
                peer.answer(msgid, {"n": params["n"], "length": len(params["text"])})

    def work(client, thread):
        for i in range(10):
            n = [thread, i]
            length = (10, 1500, 12000, 40000, 300000)[(thread + i) % 5]
            assert client.call("x", {"n": n, "text": "x" * length}) == {"n": n, "length": length}

    server = daemon(serve)
    with Client(server.path, timeout=50) as client:
        outcomes = [in_thread(lambda n=n: work(client, n)) for n in range(6)]
        assert [outcome() for outcome in outcomes] == [None] * 6
    assert len(server.peers) == 1


def test_a_full_buffer_takes_nothing(daemon):
    """Calls that time out then have sent nothing; the stream is whole, and the connection stays."""
    reads, received = threading.Event(), []

    def serve(peer):
        reads.wait(20)
        while message := peer.receive():
            received.append(message)
            if message[0] == 0:
                peer.answer(message[1], {"n": message[3][0]["n"]})

    server = daemon(serve)
    with Client(server.path) as client:
        for n in range(40):
            with pytest.raises(CallTimeout):
                client.call("x", {"n": n, "text": "x" * 14000}, timeout=0.001)
        reads.set()
        assert client.call("x", {"n": 40}, timeout=20) == {"n": 40}
    calls = [message[3][0]["n"] for message in received if message[0] == 0]
    assert calls == sorted(set(calls)) and len(calls) < 40
    assert len(server.peers) == 1


def test_a_part_of_a_request_is_never_followed_by_another(daemon):
    """Where a buffer has shrunk, the kernel cuts what exchange() sends; that costs it the connection."""
    go, received = threading.Event(), []

    def serve(peer):
        while message := peer.receive():
            received.append(message[2])
            peer.answer(message[1], {})
            if len(received) == 1:
                go.wait(20)

    server = daemon(serve)
    with Client(server.path, timeout=10) as client:
        client.call("first")
        client._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        outcome = in_thread(lambda: client.call("second", {"text": "x" * 14000}))
        time.sleep(0.1)
        go.set()
        if PURE:
            assert outcome() == {}
        else:
            assert isinstance(outcome(), ConnectionLost)
        assert client.call("third") == {}
    assert received == (["first", "second", "third"] if PURE else ["first", "third"])


def test_numbers_begin_anew_and_are_not_given_twice(daemon, monkeypatch):
    count = itertools.count
    monkeypatch.setattr(module.itertools, "count", lambda: count(2**32 - 3))
    numbers = []

    def serve(peer):
        first = peer.receive()
        numbers.append(first[1])
        for _ in range(5):
            message = peer.receive()
            numbers.append(message[1])
            peer.answer(message[1], {})
        peer.answer(first[1], {"first": True})
        peer.receive()

    with Client(daemon(serve).path, timeout=10) as client:
        first = in_thread(lambda: client.call("first"))
        time.sleep(0.1)
        for _ in range(5):
            assert client.call("x") == {}
        assert first() == {"first": True}
    assert numbers == [2**32 - 3, 2**32 - 2, 2**32 - 1, 0, 1, 2]


def test_a_request_from_the_daemon(daemon):
    def serve(peer):
        msgid = peer.receive()[1]
        peer.send(msgpack.packb([0, 1, "x", []]) + response(msgid, {}))
        peer.receive()

    with Client(daemon(serve).path, timeout=10) as client:
        with pytest.raises(ProtocolError, match="request"):
            client.call("x")


@pytest.mark.parametrize("seed", range(8))
def test_a_hostile_daemon(daemon, seed):
    """It answers something like an answer, cut anywhere, or hangs up. Every call ends, in a result or an error of ours."""
    dice = random.Random(seed)
    good = [{"a": "x" * 100}, {}, {"b": [1, {"c": b"d" * 20000}]}, None, 7]

    def serve(peer):
        while message := peer.receive():
            if message[0] != 0:
                continue
            data = bytearray(response(message[1], dice.choice(good)))
            for _ in range(dice.choice((0, 0, 1, 3))):
                data[dice.randrange(min(len(data), 40))] = dice.randrange(256)
            data += dice.choice((b"", b"", b"\xc1", b"\xdd\xff\xff\xff\xff", response(message[1], {}), os.urandom(30)))
            cut = dice.randrange(len(data))
            peer.send(data[:cut])
            peer.send(data[cut:])
            if dice.random() < 0.1:
                return

    with Client(daemon(serve).path, timeout=0.05, max_frame_bytes=1 << 20) as client:
        for _ in range(150):
            with contextlib.suppress(CpexdError):
                assert type(client.call("x")) is dict


@pytest.mark.skipif(PURE, reason="Python counts its references itself")
def test_nothing_is_left_behind(daemon):
    def serve(peer):
        while message := peer.receive():
            if message[0] == 0 and message[2] != "slow":
                notice = msgpack.packb([2, "x", []]) if message[2] == "mixed" else b""
                peer.send(notice + response(message[1], {"text": "x" * 200}))

    def used_after_work(client):
        for _ in range(200):
            client.call("x", {"text": "y" * 200})
            client.call("mixed")
            with pytest.raises(TypeError):
                client.call("x", {"x": object()})
            with pytest.raises(CallTimeout):
                client.call("slow", timeout=0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    with Client(daemon(serve).path, timeout=10) as client:
        tracemalloc.start()
        try:
            used = [used_after_work(client) for _ in range(5)]
        finally:
            tracemalloc.stop()
    assert min(after - before for before, after in itertools.pairwise(used)) < 4000  # one object for each call of a kind is more
