# SPDX-License-Identifier: Apache-2.0
"""The client for threads, against a stand-in for the daemon."""

import concurrent.futures
import contextlib
import gc
import os
import signal
import threading
import time
import warnings
import weakref

import cpexd_client
import msgpack
import pytest
from conftest import PURE
from cpexd_client import CallTimeout, Client, ConnectionLost, CpexdError, PluginError, ProtocolError, ValidationError


def test_the_parameters_of_invoke(daemon):
    with Client(daemon().path) as client:
        params = client.invoke("h", {"a": 1}, context={"user": "u"}).raw["params"]
        request_id = params["context"].pop("request_id")
        assert len(request_id) == 32
        assert params == {"hook": "h", "payload": msgpack.packb({"a": 1}), "context": {"user": "u"}}

        params = client.invoke(
            "h",
            None,
            context={"request_id": "r1"},
            contexts=b"\x90",
            extensions={},
            timeout=0.0125,
            plugin="p",
            payload_type="",
            violations_as_exceptions=True,
        ).raw["params"]
        assert params == {
            "hook": "h",
            "payload": b"\xc0",
            "context": {"request_id": "r1"},
            "contexts": b"\x90",
            "extensions": {},
            "timeout_ms": 13,
            "plugin": "p",
            "payload_type": "",
            "violations_as_exceptions": True,
        }


def test_an_answer_and_its_neutral_values(daemon):
    payload = msgpack.packb({"args": {"big": msgpack.ExtType(2, (2**64).to_bytes(9, "big"))}})

    def serve(peer):
        _, msgid, _, _ = peer.receive()
        peer.answer(msgid, {})
        _, msgid, _, _ = peer.receive()
        peer.answer(msgid, {"continue_processing": False, "modified_payload": payload, "contexts": b"c", "generation": 7,
                             "timing": {"total_usec": 5}})
        _, msgid, _, _ = peer.receive()
        peer.answer(msgid, {"modified_payload": b"\xc1"})

    with Client(daemon(serve).path) as client:
        answer = client.invoke("h", {})
        assert answer.continue_processing is True
        assert answer.modified_payload is None and answer.violation is None and answer.contexts is None
        assert answer.metadata == answer.state == answer.global_metadata == {}
        assert answer.executions == [] and answer.retry_delay_ms == answer.generation == 0
        assert answer.timing is None
        answer = client.invoke("h", {})
        assert not answer.continue_processing
        assert answer.modified_payload == {"args": {"big": 2**64}}
        assert answer.modified_payload is answer.modified_payload
        assert answer.contexts == b"c" and answer.generation == 7 and answer.timing == {"total_usec": 5}
        answer = client.invoke("h", {})
        with pytest.raises(ProtocolError):
            answer.modified_payload


def test_the_small_methods(daemon):
    def serve(peer):
        results = {"hello": {"version": 1}, "ping": {}, "hooks": {"hooks": {"h": ["p"]}}, "plugins": {"plugins": [{"name": "p"}]}}
        while message := peer.receive():
            peer.answer(message[1], results[message[2]])

    with Client(daemon(serve).path) as client:
        assert client.hello() == {"version": 1}
        assert client.ping() is None
        assert client.hooks() == {"h": ["p"]}
        assert client.plugins() == [{"name": "p"}]


@pytest.mark.parametrize("name", ["PluginError", "PluginViolationError", "PayloadSizeError", "ValidationError", "ProtocolError"])
def test_errors_have_their_class(daemon, name):
    def serve(peer):
        peer.fail(peer.receive()[1], {"type": name, "code": "c", "message": "m", "plugin_name": "p", "details": {"d": 1}})

    with Client(daemon(serve).path) as client, pytest.raises(CpexdError) as caught:
        client.invoke("h", {})
    error = caught.value
    assert type(error) is getattr(cpexd_client, name)
    assert (str(error), error.message, error.code, error.plugin_name, error.details) == ("m", "m", "c", "p", {"d": 1})
    assert error.executions == [] and error.state is None


def test_what_errors_carry(daemon):
    def serve(peer):
        peer.fail(
            peer.receive()[1],
            {"type": "PluginError", "message": "m", "cause": "crash", "executions": [{"a": 1}], "state": {"s": 1},
             "details": {"timing": {"total_usec": 7}}},
        )
        peer.fail(peer.receive()[1], {"type": "ValidationError", "message": "m", "errors": [{"loc": ["x"]}]})
        peer.fail(peer.receive()[1], {"type": "PluginViolationError", "message": "m", "violation": {"code": "v"}})
        peer.fail(peer.receive()[1], {"type": "SomethingNew", "message": "m"})

    with Client(daemon(serve).path) as client:
        with pytest.raises(PluginError) as caught:
            client.invoke("h", {})
        assert caught.value.cause == "crash" and caught.value.mcp_error_code == -32603
        assert caught.value.executions == [{"a": 1}] and caught.value.state == {"s": 1}
        assert caught.value.timing == {"total_usec": 7}
        with pytest.raises(ValidationError) as caught:
            client.invoke("h", {})
        assert caught.value.errors == [{"loc": ["x"]}]
        with pytest.raises(cpexd_client.PluginViolationError) as caught:
            client.invoke("h", {})
        assert caught.value.violation == {"code": "v"}
        with pytest.raises(CpexdError) as caught:
            client.invoke("h", {})
        assert type(caught.value) is CpexdError


def test_answers_out_of_order_to_many_threads(daemon):
    def serve(peer):
        while True:
            calls = [peer.receive() for _ in range(20)]
            if None in calls:
                return
            for _, msgid, _, [params] in reversed(calls):
                peer.answer(msgid, {"n": params["n"]})

    server = daemon(serve)
    with Client(server.path) as client, concurrent.futures.ThreadPoolExecutor(20) as pool:
        for _ in range(25):
            assert [a["n"] for a in pool.map(lambda n: client.call("x", {"n": n}, timeout=30), range(20))] == list(range(20))
    assert len(server.peers) == 1


def test_each_of_many_threads_gets_its_own(daemon):
    def work(client, thread):
        return all(client.call("x", {"n": [thread, i]}, timeout=30)["params"] == {"n": [thread, i]} for i in range(200))

    with Client(daemon().path) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda thread: work(client, thread), range(16)))


def test_split_answers_notifications_and_late_answers(daemon):
    def serve(peer):
        msgid = peer.receive()[1]
        data = msgpack.packb([2, "generation", [{"generation": 2}]]) + msgpack.packb([1, 99, None, {}])
        for byte in data + msgpack.packb([1, msgid, None, {"x": "y" * 50}]):
            peer.send(bytes([byte]))
        while message := peer.receive():
            peer.answer(message[1], {})

    with Client(daemon(serve).path) as client:
        assert client.call("x") == {"x": "y" * 50}
        assert client.call("x") == {}


def holds():
    """The processors that the main thread may run on."""
    return os.sched_getaffinity(os.getpid())


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one processor")
def test_waits_where_the_daemon_says(daemon):
    """The thread is held there while it waits, and only once it was woken elsewhere; with the extension alone."""
    everywhere = holds()
    core = min(everywhere)
    away, seen, asked = everywhere - {core}, set(), []

    def serve(peer):
        while message := peer.receive():
            _, msgid, method, (params,) = message
            if method == "hello":
                asked.append(params["notifications"])
                peer.answer(msgid, {})
                peer.send(msgpack.packb([2, "core", [{"core": core}]]))
                continue
            time.sleep(0.001)
            seen.add(frozenset(holds()))
            if params.get("last"):
                peer.send(msgpack.packb([2, "core", [{"core": None}]]))
            peer.answer(msgid, {})

    try:
        with Client(daemon(serve).path) as client:
            for _ in range(30):
                for may in (away, everywhere):  # so that it is woken elsewhere, where it is not to be held
                    os.sched_setaffinity(0, may)
                    client.call("x", {}, timeout=30)
                    assert holds() == may
            assert asked == ([] if PURE else [["core"]])
            assert seen == {frozenset(away), frozenset(everywhere)} | (set() if PURE else {frozenset([core])})
            client.call("x", {"last": True})
            seen.clear()
            for _ in range(100):
                client.call("x")
            assert seen == {frozenset(everywhere)}
    finally:
        os.sched_setaffinity(0, everywhere)


def test_asks_once_where_to_wait(daemon):
    """Whatever it sends, and however often several call at once."""
    asked = []

    def serve(peer):
        while message := peer.receive():
            asked.extend([message] if message[2] == "hello" else [])
            peer.answer(message[1], {})

    with Client(daemon(serve).path) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for _ in range(40):
                client.invoke("h", {"text": "x" * 100_000})
            list(pool.map(lambda _: client.call("x"), range(20)))
    assert len(asked) == (0 if PURE else 1)


@pytest.mark.parametrize("told", [{}, {"core": -1}, {"core": 1 << 70}, {"core": 4096}, {"core": "0"}, {"core": True}, None])
def test_is_told_nonsense(daemon, told):
    def serve(peer):
        while message := peer.receive():
            peer.send(msgpack.packb([2, "core", [] if told is None else [told]], default=lambda n: msgpack.ExtType(2, n.to_bytes(10, "big"))))
            peer.answer(message[1], {})

    with Client(daemon(serve).path) as client:
        for _ in range(50):
            client.call("x")
            assert holds() == holds_at_start


holds_at_start = holds()


def test_large_both_ways(daemon):
    with Client(daemon().path, timeout=30) as client:
        big = os.urandom(20 << 20)
        assert client.call("x", {"big": big})["params"]["big"] == big


def test_large_documents(daemon):
    received = []

    def serve(peer):
        while message := peer.receive():
            received.append(message[3][0]["payload"])
            peer.answer(message[1], {"modified_payload": received[-1], "contexts": received[-1], "metadata": {"b": received[-1]}})

    with Client(daemon(serve).path, timeout=30) as client:
        answers = []
        for size in (16_000, 40_000, 1_000_000, 5_000_000):
            payload = {"a": "x" * size, "b": os.urandom(size), "c": [1]}
            answers.append((payload, client.invoke("h", payload)))
            assert received[-1] == msgpack.packb(payload)
        for payload, answer in answers:  # what has been read since has changed nothing
            assert answer.modified_payload == payload
            assert type(answer.contexts) is bytes and answer.contexts == msgpack.packb(payload)
            assert type(answer.metadata["b"]) is bytes
        assert client.invoke("h", {"a": 1}, contexts=answers[-1][1].contexts).modified_payload == {"a": 1}


@pytest.mark.parametrize(
    "garbage", [b"\xc1", b"HTTP/1.1 400 Bad Request\r\n", b"\x94\x00\x01\xa1x\x90", b"\x94\x01\x00\xa1x\xc0", b"\x91\x81\x90\x01"]
)
def test_garbage_fails_the_call_and_the_next_one_connects_anew(daemon, garbage):
    served = []

    def serve(peer):
        message = peer.receive()
        served.append(message)
        if len(served) == 1:
            peer.send(garbage)
            peer.receive()
        elif message:
            peer.answer(message[1], {})

    with Client(daemon(serve).path, timeout=10) as client:
        with pytest.raises(ProtocolError):
            client.call("first")
        assert client.call("second") == {}
    assert [message[2] for message in served] == ["first", "second"]


def test_a_lost_connection_fails_what_is_in_flight_and_is_not_sent_again(daemon):
    served = []

    def serve(peer):
        for _ in range(5):
            served.append(peer.receive()[2])
        if len(served) == 5:
            return  # hangs up on all of them
        while message := peer.receive():
            peer.answer(message[1], {})

    def call(client, name):
        try:
            return client.call(name, timeout=10)
        except ConnectionLost as error:
            return error

    with Client(daemon(serve).path) as client, concurrent.futures.ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda n: call(client, f"first {n}"), range(5)))
        assert all(isinstance(result, ConnectionLost) and isinstance(result, ConnectionError) for result in results)
        assert len({id(result) for result in results}) == 5
    assert sorted(served) == [f"first {n}" for n in range(5)]


def test_a_daemon_that_restarted_while_nobody_called(daemon):
    server = daemon()
    with Client(server.path) as client:
        client.ping()
        server.stop()
        with pytest.raises(FileNotFoundError):
            client.ping()
        server.start()
        client.ping()
        server.stop()
        server.start()
        client.ping()


def test_a_daemon_that_hangs_up_on_everybody(daemon):
    server = daemon(lambda peer: None)
    with Client(server.path, timeout=10) as client:
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                client.ping()
    assert len(server.peers) <= 6  # a call that reached nobody is tried once more, and no more


def test_a_call_that_takes_too_long_is_cancelled(daemon):
    told = []

    def serve(peer):
        slow = peer.receive()
        told.append(peer.receive())
        peer.fail(slow[1], {"type": "ProtocolError", "code": "cancelled", "message": "cancelled"})
        peer.answer(peer.receive()[1], {"n": 2})

    with Client(daemon(serve).path) as client:
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            client.call("slow", timeout=0.1)
        assert 0.1 <= time.monotonic() - start < 5
        assert isinstance(caught.value, CallTimeout)
        assert client.call("x", timeout=10) == {"n": 2}
    assert told == [[2, "cancel", [{"msgid": 0}]]]


def test_the_reader_hands_over(daemon):
    """The thread that reads for all gets its answer first; another one has to go on reading."""
    order = []

    def serve(peer):
        first, second = peer.receive(), peer.receive()
        peer.answer(first[1], {"n": 1})
        time.sleep(0.2)
        peer.answer(second[1], {"n": 2})

    with Client(daemon(serve).path, timeout=10) as client:
        threads = [threading.Thread(target=lambda: order.append(client.call("x")["n"])) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join(10)
    assert order == [1, 2]


def test_a_daemon_that_does_not_read(daemon):
    release = threading.Event()

    def serve(peer):
        release.wait(20)

    with Client(daemon(serve).path) as client:
        with pytest.raises(CallTimeout):
            client.call("x", {"big": bytes(16 << 20)}, timeout=0.2)
        release.set()


@pytest.fixture
def ctrl_c():
    """A shell has its background jobs ignore it, these tests among them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_waiting(daemon, ctrl_c):
    """The call is cancelled, and the connection is as good as before."""
    told = []

    def serve(peer):
        slow = peer.receive()
        time.sleep(0.2)  # an interrupt in the middle of sending would cost the connection
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        told.append(peer.receive())
        peer.answer(slow[1], {"late": True})
        while message := peer.receive():
            peer.answer(message[1], {"n": 2})

    server = daemon(serve)
    with Client(server.path) as client:
        with pytest.raises(KeyboardInterrupt):
            client.call("slow")
        assert client.call("x") == client.call("y", timeout=10) == {"n": 2}
    assert told == [[2, "cancel", [{"msgid": 0}]]]
    assert len(server.peers) == 1


@pytest.fixture
def handled():
    """When SIGUSR1 came."""
    times = []
    before = signal.signal(signal.SIGUSR1, lambda *_: times.append(time.monotonic()))
    yield times
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("timeout", [None, 10])
def test_signals_while_waiting(daemon, handled, timeout):
    """A handler runs in the middle of the wait, which then goes on."""

    def serve(peer):
        slow = peer.receive()
        while len(handled) < 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(0.01)
        peer.answer(slow[1], {})

    with Client(daemon(serve).path) as client:
        assert client.call("slow", timeout=timeout) == {}
    assert len(handled) >= 3


def test_signals_do_not_put_a_timeout_off(daemon, handled):
    over = threading.Event()

    def serve(peer):
        peer.receive()
        while not over.wait(0.02):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    with Client(daemon(serve).path) as client:
        try:
            with pytest.raises(CallTimeout):
                client.call("slow", timeout=0.2)
        finally:
            over.set()
    assert handled


def test_what_comes_before_garbage_is_an_answer(daemon):
    def serve(peer):
        peer.send(msgpack.packb([1, peer.receive()[1], None, {"good": 1}]) + b"\xc1")
        peer.receive()

    with Client(daemon(serve).path, timeout=10) as client:
        assert client.call("x") == {"good": 1}


def test_an_answer_longer_than_the_limit(daemon):
    with Client(daemon().path, timeout=10, max_frame_bytes=1000) as client:
        assert client.call("x", {"text": "y" * 900})
        with pytest.raises(ProtocolError, match="longer than"):
            client.call("x", {"text": "y" * 1000})


def test_threads_that_give_up_hand_over(daemon):
    """Some of the threads time out, the one that reads among them; the others still get their answers."""

    def serve(peer):
        waiting = []
        while message := peer.receive():
            if message[0] == 0 and message[3][0]["n"] % 3:
                waiting.append(message)
            if len(waiting) == 20:
                time.sleep(0.2)
                for _, msgid, _, [params] in waiting:
                    peer.answer(msgid, params)
                waiting.clear()

    def call(n):
        try:
            return client.call("x", {"n": n}, timeout=30 if n % 3 else 0.1)["n"]
        except CallTimeout:
            return None

    with Client(daemon(serve).path) as client, concurrent.futures.ThreadPoolExecutor(30) as pool:
        for _ in range(3):
            assert list(pool.map(call, range(30))) == [n if n % 3 else None for n in range(30)]


def test_a_child_process_with_a_client_of_its_own(daemon):
    with Client(daemon().path, timeout=10) as client:
        client.ping()
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException), Client(client.path, timeout=10) as own:
                status = 0 if own.call("x", {"n": 1})["params"] == {"n": 1} else 1
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert client.call("x", {"n": 2})["params"] == {"n": 2}


def test_a_client_that_nobody_closed_leaves_nothing(daemon):
    path = daemon().path
    Client(path).ping()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    clients = []
    for _ in range(20):
        client = Client(path, timeout=10)
        client.ping()
        client.itself = client  # found by the collector only
        clients.append(weakref.ref(client))
    del client
    deadline = time.monotonic() + 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        while any(client() for client in clients) and time.monotonic() < deadline:
            gc.collect()  # which does nothing while another thread does
    assert not any(client() for client in clients)
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the fake daemon is to see it
    assert len(os.listdir("/proc/self/fd")) <= before


def test_close_ends_calls_and_leaves_no_descriptor(daemon):
    before = len(os.listdir("/proc/self/fd"))
    client = Client(daemon(lambda peer: (peer.receive(), peer.receive())).path)
    caught = []

    def call():
        try:
            client.call("x")
        except ConnectionLost as error:
            caught.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.1)
        client.close()
        thread.join(10)
        del client
        gc.collect()
    assert len(caught) == 1
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the listener and its peer are the fake daemon's


def test_what_cannot_be_sent_is_an_error_before_anything_is(daemon):
    with Client(daemon().path, timeout=10) as client:
        with pytest.raises(TypeError):
            client.call("x", {"x": object()})
        assert client.call("x", {"n": 1})["params"] == {"n": 1}


def test_the_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("CPEXD_SOCKET", "/somewhere.sock")
    assert Client().path == "/somewhere.sock"
    monkeypatch.delenv("CPEXD_SOCKET")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert Client().path == "/run/cpexd/cpexd.sock", "the system's, for the user has none"
    (tmp_path / "cpexd").mkdir()
    (tmp_path / "cpexd/cpexd.sock").touch()
    assert Client().path == f"{tmp_path}/cpexd/cpexd.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Client().path == "/run/cpexd/cpexd.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Client().path == "/run/cpexd/cpexd.sock"
