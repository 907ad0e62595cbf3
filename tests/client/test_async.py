# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio, against a stand-in for the daemon."""

import asyncio
import os
import threading

import msgpack
import pytest
from cpexd_client import AsyncClient, CallTimeout, ConnectionLost, PluginError, ProtocolError


def test_a_call_and_its_parameters(daemon):
    async def main():
        async with AsyncClient(path) as client:
            answer = await client.invoke("h", {"a": 1}, context={"request_id": "r1"}, timeout=2)
            params = {"hook": "h", "payload": msgpack.packb({"a": 1}), "context": {"request_id": "r1"}, "timeout_ms": 2000}
            assert answer.raw["params"] == params
            await client.ping()
            assert (await client.hello("me"))["params"] == {"client": "me", "version": 1}
            assert await client.hooks() == {} and await client.plugins() == []

    path = daemon().path
    asyncio.run(main())


def test_many_at_once_out_of_order_on_one_connection(daemon):
    def serve(peer):
        calls = [peer.receive() for _ in range(500)]
        for _, msgid, _, [params] in reversed(calls):
            peer.answer(msgid, {"n": params["n"]})

    async def main():
        async with AsyncClient(server.path, timeout=30) as client:
            answers = await asyncio.gather(*(client.call("x", {"n": n}) for n in range(500)))
        assert [answer["n"] for answer in answers] == list(range(500))

    server = daemon(serve)
    asyncio.run(main())
    assert len(server.peers) == 1


def test_another_generation(daemon):
    def serve(peer):
        _, msgid, method, [params] = peer.receive()
        assert (method, params["notifications"]) == ("hello", ["generation"])
        peer.answer(msgid, {"generation": 1})
        peer.send(msgpack.packb([2, "generation", [{"generation": 2}]]) + msgpack.packb([2, "unknown", [{}]]))
        peer.answer(peer.receive()[1], {})
        peer.send(msgpack.packb([2, "generation", [{"generation": 3}]]))
        peer.receive()

    async def main():
        told = asyncio.Queue()
        async with AsyncClient(path, on_generation=told.put_nowait) as client:
            await client.ping()
            assert [await asyncio.wait_for(told.get(), 5) for _ in range(2)] == [2, 3]

    path = daemon(serve).path
    asyncio.run(main())


def test_calls_of_one_turn_are_sent_together(daemon):
    read = []

    def serve(peer):
        ids = []
        while data := peer.sock.recv(1 << 20):
            unpacker = msgpack.Unpacker()
            unpacker.feed(data)
            came = [message[1] for message in unpacker]
            read.append(len(came))
            ids += came
            if len(ids) == 20:
                peer.send(b"".join(msgpack.packb([1, msgid, None, {}]) for msgid in ids))
                ids.clear()

    async def twice(client):
        await client.ping()
        await client.ping()

    async def main():
        async with AsyncClient(path, timeout=10) as client:
            await asyncio.gather(*(twice(client) for _ in range(20)))

    path = daemon(serve).path
    asyncio.run(main())
    assert sum(read) == 40 and read[-1] == 20


def test_what_comes_before_garbage_is_an_answer(daemon):
    def serve(peer):
        first, _ = peer.receive(), peer.receive()
        peer.send(msgpack.packb([1, first[1], None, {"good": 1}]) + b"\xc1")
        peer.receive()

    async def main():
        async with AsyncClient(path, timeout=10) as client:
            answers = await asyncio.gather(client.call("x"), client.call("y"), return_exceptions=True)
            assert answers[0] == {"good": 1} and type(answers[1]) is ProtocolError

    path = daemon(serve).path
    asyncio.run(main())


def test_a_subscription_that_is_refused(daemon):
    async def main():
        async with AsyncClient(path, on_generation=print) as client:
            with pytest.raises(ProtocolError, match="^no$"):
                await client.ping()
            with pytest.raises(ProtocolError, match="^no$"):
                await client.ping()

    path = daemon(lambda peer: peer.fail(peer.receive()[1], {"type": "ProtocolError", "message": "no"})).path
    asyncio.run(main())


def test_an_error(daemon):
    async def main():
        async with AsyncClient(path) as client:
            with pytest.raises(PluginError, match="^m$"):
                await client.invoke("h", {})

    path = daemon(lambda peer: peer.fail(peer.receive()[1], {"type": "PluginError", "message": "m"})).path
    asyncio.run(main())


def test_cancelling_tells_the_daemon_and_the_late_answer_is_dropped(daemon):
    told = []

    def serve(peer):
        slow = peer.receive()
        called.set()
        told.append(peer.receive())
        peer.fail(slow[1], {"type": "ProtocolError", "code": "cancelled", "message": "cancelled"})
        peer.answer(peer.receive()[1], {"n": 2})

    async def main():
        async with AsyncClient(path) as client:
            task = asyncio.create_task(client.call("slow"))
            await asyncio.to_thread(called.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await client.call("x", timeout=10) == {"n": 2}

    called = threading.Event()
    path = daemon(serve).path
    asyncio.run(main())
    assert told == [[2, "cancel", [{"msgid": 0}]]]


def test_a_timeout_cancels_too(daemon):
    told = []

    def serve(peer):
        peer.receive()
        told.append(peer.receive())
        peer.answer(peer.receive()[1], {})

    async def main():
        async with AsyncClient(path) as client:
            with pytest.raises(CallTimeout):
                await client.call("slow", timeout=0.05)
            await client.call("x", timeout=10)

    path = daemon(serve).path
    asyncio.run(main())
    assert told == [[2, "cancel", [{"msgid": 0}]]]


def test_a_lost_connection(daemon):
    served = []

    def serve(peer):
        first = len(served) == 0
        for _ in range(3 if first else 1):
            served.append(peer.receive())
        if not first:
            peer.answer(served[-1][1], {})

    async def main():
        async with AsyncClient(path, timeout=10) as client:
            results = await asyncio.gather(*(client.call(f"first {n}") for n in range(3)), return_exceptions=True)
            assert [type(result) for result in results] == [ConnectionLost] * 3
            assert len(set(map(id, results))) == 3
            assert await client.call("second") == {}

    path = daemon(serve).path
    asyncio.run(main())
    assert [message[2] for message in served] == ["first 0", "first 1", "first 2", "second"]


def test_garbage(daemon):
    def serve(peer):
        peer.receive()
        peer.send(b"HTTP/1.1 400\r\n")
        peer.receive()

    async def main():
        async with AsyncClient(path, timeout=10) as client:
            with pytest.raises(ProtocolError):
                await client.call("x")

    path = daemon(serve).path
    asyncio.run(main())


def test_nobody_listens(tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await AsyncClient(str(tmp_path / "nobody")).ping()

    asyncio.run(main())


def test_many_large_calls_mind_back_pressure(daemon):
    async def main():
        async with AsyncClient(path, timeout=30) as client:
            answers = await asyncio.gather(*(client.call("x", {"big": big, "n": n}) for n in range(16)))
            assert [answer["params"]["n"] for answer in answers] == list(range(16))

    big = os.urandom(1 << 20)
    path = daemon().path
    asyncio.run(main())


def test_a_daemon_that_does_not_read(daemon):
    """Calls that wait for their turn to be sent are cancelled without a word; nothing of them is sent later."""

    def serve(peer):
        release.wait(20)
        while message := peer.receive():
            served.append(message[2])
            if message[2] == "last":
                peer.answer(message[1], {})
                return

    async def main():
        async with AsyncClient(path) as client:
            calls = [client.call(f"x{n}", {"big": bytes(4 << 20)}, timeout=0.2) for n in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [CallTimeout] * 3
            release.set()
            await client.call("last", timeout=20)

    served = []
    release = threading.Event()
    path = daemon(serve).path
    asyncio.run(main())
    assert served == ["x0", "cancel", "last"] or served[0] == "x0" and served[-1] == "last" and "x2" not in served


def test_close_ends_calls(daemon):
    async def main():
        client = AsyncClient(path)
        task = asyncio.create_task(client.call("x"))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(ConnectionLost):
            await task

    path = daemon(lambda peer: (peer.receive(), peer.receive())).path
    asyncio.run(main(), debug=True)


def test_event_loops_of_several_threads_have_a_connection_each(daemon):
    client = AsyncClient(daemon().path)
    seen = []

    def thread():
        asyncio.run(some())
        asyncio.run(some())  # another loop; nobody closed the connection of the first one

    async def some():
        seen.append([(await client.call("x", {"n": n}))["params"]["n"] for n in range(50)])

    async def main():
        threads = [threading.Thread(target=thread) for _ in range(3)]
        for each in threads:
            each.start()
        await some()
        while any(each.is_alive() for each in threads):
            await asyncio.sleep(0.01)
        await client.close()

    asyncio.run(main())
    assert seen == [list(range(50))] * 7 and client.connected == 7


def test_close_reaches_the_calls_of_another_loop(daemon):
    def serve(peer):
        while peer.receive():
            waiting.set()

    async def other():
        with pytest.raises(ConnectionLost, match="closed"):
            await client.call("x")
        lost.append(True)

    async def main():
        thread = threading.Thread(target=lambda: asyncio.run(other()))
        thread.start()
        await asyncio.to_thread(waiting.wait)
        await client.close()
        await asyncio.to_thread(thread.join)

    waiting, lost = threading.Event(), []
    client = AsyncClient(daemon(serve).path)
    asyncio.run(main())
    assert lost


def test_an_option_that_there_is_not(daemon):
    async def main():
        async with AsyncClient(path) as client:
            with pytest.raises(TypeError, match="'plug'"):
                await client.invoke("h", {}, plug="p")
            params = (await client.invoke("h", {}, plugin="p", direct=True, extensions=None)).raw["params"]
            assert params.keys() == {"hook", "payload", "context", "plugin", "direct"}

    path = daemon().path
    asyncio.run(main())
