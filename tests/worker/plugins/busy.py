# SPDX-License-Identifier: Apache-2.0
"""What people do with asyncio in a plugin; imported when the configuration says: with the module's class, in initialize() or in a hook."""

import sys

from cpex.framework import Plugin, PluginResult, ToolPreInvokeResult


def in_another_process(n):
    return n * n


class Busy(Plugin):
    def __init__(self, config):
        super().__init__(config)
        self.when = config.config["when"]
        if self.when == "class":
            self.begin()
            self.loop_of_the_class = self.asyncio.get_event_loop()

    def begin(self):
        import asyncio
        import contextvars

        self.asyncio = asyncio
        self.lock, self.gate, self.queue = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Queue()
        self.inside = self.most = 0
        self.total = 0
        self.closed = []
        self.name_of_call = contextvars.ContextVar("name_of_call", default="unset")

    async def initialize(self):
        if self.when == "initialize":
            self.begin()
        if self.when != "hook":
            self.serving = self.asyncio.create_task(self.serve())

    async def serve(self):
        """A task of the plugin's own, which answers calls that put something into its queue."""
        while True:
            number, future = await self.queue.get()
            await self.asyncio.sleep(0.01)
            if not future.cancelled():
                future.set_result(number * 10)

    async def tool_pre_invoke(self, payload, context):
        if payload.args["do"] == "nothing":
            return ToolPreInvokeResult()
        if self.when == "hook" and not hasattr(self, "asyncio"):
            assert "asyncio" not in sys.modules
            self.begin()
            self.serving = self.asyncio.create_task(self.serve())
        result = await getattr(self, "do_" + payload.args["do"])(payload.args)
        return ToolPreInvokeResult(metadata={"result": result})

    async def do_sleep(self, args):
        await self.asyncio.sleep(0.01)
        return "slept"

    async def do_task_group(self, args):
        async with self.asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.asyncio.sleep(0.01, n)) for n in range(3)]
        return [task.result() for task in tasks]

    async def do_task_group_that_fails(self, args):
        async def fail():
            raise KeyError("in the group")

        try:
            async with self.asyncio.TaskGroup() as group:
                group.create_task(self.asyncio.sleep(10))
                group.create_task(fail())
        except* KeyError as errors:
            found = [repr(error) for error in errors.exceptions]
        return found

    async def do_timeout(self, args):
        try:
            async with self.asyncio.timeout(0.01) as limit:
                await self.asyncio.sleep(10)
        except TimeoutError:
            return limit.expired()

    async def do_wait_for(self, args):
        try:
            await self.asyncio.wait_for(self.asyncio.Event().wait(), 0.01)
        except TimeoutError:
            return await self.asyncio.wait_for(self.asyncio.sleep(0, "in time"), 1)

    async def do_thread(self, args):
        import threading
        import time

        main = threading.get_ident()
        return await self.asyncio.to_thread(lambda: [time.sleep(0.01), threading.get_ident() != main][1])

    async def do_executors(self, args):
        import concurrent.futures

        loop = self.asyncio.get_running_loop()
        found = [await loop.run_in_executor(None, sum, [1, 2])]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return [*found, await loop.run_in_executor(pool, sum, [3])]

    async def do_process_pool(self, args):
        import concurrent.futures
        import multiprocessing

        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return await self.asyncio.get_running_loop().run_in_executor(pool, in_another_process, 7)

    async def do_loop_in_a_thread(self, args):
        async def there():
            await self.asyncio.sleep(0.01)
            return self.asyncio.get_running_loop() is not here

        here = self.asyncio.get_running_loop()
        return await self.asyncio.to_thread(self.asyncio.run, there())

    async def do_from_a_thread(self, args):
        """A thread hands a coroutine to the worker's loop and waits for it."""
        loop = self.asyncio.get_running_loop()
        put = lambda: self.asyncio.run_coroutine_threadsafe(self.asyncio.sleep(0.01, "put"), loop).result(5)  # noqa: E731
        return await self.asyncio.to_thread(put)

    async def do_process(self, args):
        pipe = self.asyncio.subprocess.PIPE
        process = await self.asyncio.create_subprocess_exec(sys.executable, "-c", "print(input()[::-1]); exit(3)", stdin=pipe, stdout=pipe)
        out, _ = await process.communicate(b"abc\n")
        return [out.decode().strip(), await process.wait()]

    async def do_streams(self, args):
        async def answer(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await self.asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await self.asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
        return line.decode().strip()

    async def do_generator(self, args):
        """One that is left half way is closed all the same, also where closing it has to wait."""
        closed = []

        async def numbers():
            try:
                for number in range(10):
                    yield number
            finally:
                await self.asyncio.sleep(0.01)
                closed.append("closed")

        async for number in numbers():
            if number == 2:
                break
        del number
        for _ in range(100):
            if closed:
                break
            await self.asyncio.sleep(0.01)
        return closed.pop()

    async def do_call_later(self, args):
        loop = self.asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(loop.call_later, 0.01, future.set_result, "later")
        return await future

    async def do_signal(self, args):
        import os
        import signal

        loop = self.asyncio.get_running_loop()
        arrived = self.asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, arrived.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await self.asyncio.wait_for(arrived.wait(), 5)
        return loop.remove_signal_handler(signal.SIGUSR1)

    async def do_completed(self, args):
        found = []
        for each in self.asyncio.as_completed([self.asyncio.sleep(0.05, "slow"), self.asyncio.sleep(0.01, "quick")]):
            found.append(await each)
        done, pending = await self.asyncio.wait([self.asyncio.create_task(self.asyncio.sleep(0))])
        return [*found, len(done), len(pending)]

    async def do_shield(self, args):
        inner = self.asyncio.create_task(self.asyncio.sleep(0.05, "done"))
        try:
            await self.asyncio.wait_for(self.asyncio.shield(inner), 0.01)
        except TimeoutError:
            return await inner

    async def do_own_task(self, args):
        future = self.asyncio.get_running_loop().create_future()
        await self.queue.put((4, future))
        return await future

    async def do_same_loop(self, args):
        loop = self.asyncio.get_running_loop()
        of_class = getattr(self, "loop_of_the_class", loop)
        return [of_class is loop, self.serving.get_loop() is loop, self.asyncio.get_event_loop() is loop, self.asyncio.current_task() is not None]

    async def do_other_loop(self, args):
        """Whatever the plugin does to what asyncio takes for the current loop outside of tasks."""
        self.asyncio.set_event_loop(self.asyncio.new_event_loop())
        if sys.version_info < (3, 14):
            self.asyncio.set_event_loop_policy(self.poor_policy())
        return await self.do_process(args)

    def poor_policy(self):
        """As uvloop's: nothing in it watches processes."""

        class Policy(self.asyncio.events.BaseDefaultEventLoopPolicy):
            _loop_factory = self.asyncio.SelectorEventLoop

        return Policy()

    async def do_interleaved(self, args):
        """Locks and semaphores hold over calls; what a call has set is seen by itself and by its tasks alone."""
        name = args["name"]
        self.name_of_call.set(name)
        seen = [self.name_of_call.get()]
        async with self.gate:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.asyncio.sleep(0.01)
            self.inside -= 1
        async with self.lock:
            before = self.total
            await self.asyncio.sleep(0)
            self.total = before + 1

        async def child():
            await self.asyncio.sleep(0.005)
            return self.name_of_call.get()

        seen += await self.asyncio.gather(child(), self.asyncio.create_task(child()), self.asyncio.to_thread(self.name_of_call.get))
        return {"mine": all(each == name for each in seen), "most": self.most, "total": self.total}

    async def do_nested(self, args):
        """Cancelling the call cancels what it waits for."""
        try:
            await self.asyncio.gather(*[self.leave(n) for n in range(3)])
        finally:
            self.closed.append("gathered")

    async def leave(self, n):
        try:
            await self.asyncio.sleep(10)
        finally:
            self.closed.append(n)

    async def do_closed(self, args):
        return self.closed

    async def resource_pre_fetch(self, payload, context):
        """Blocks the whole worker."""
        import time

        time.sleep(0.2)
        return PluginResult()
