# SPDX-License-Identifier: Apache-2.0
"""The process that calls: `caller.py KIND PLACE`, one for each contestant, on the same Python.

KIND is `cpexd` or `floor` (PLACE: a socket), or `upstream` (PLACE: a plugins.yaml, its folder the working one). It reads commands, one JSON
document a line, and answers each with one line; the first line says that it is ready.

    {"op": "sequential", "work": "small", "seconds": 0.5}              one call after the other
    {"op": "concurrent", "work": "small", "seconds": 0.5, "callers": 32}
    {"op": "calls", "work": "small", "n": 500}                         so many, not timed
"""

import asyncio
import json
import os
import pathlib
import socket
import statistics
import struct
import sys
import time


def text(size):
    """`size` bytes of prose with a social security number every 4 KiB."""
    chunk = "123-45-6789 " + ("lorem ipsum dolor sit amet consectetur " * 110)[: 4096 - 12]
    return (chunk * (size // len(chunk) + 1))[:size]


def small():
    """Eight arguments of 60 bytes, two with a number."""
    fields = [f"field {i}: the quick brown fox jumps over the lazy dog, ok? " for i in range(8)]
    for i in (2, 5):
        fields[i] = f"field {i}: customer ssn is 123-45-678{i} as given on the form"
    return {f"arg_{i}": field[:60].ljust(60, ".") for i, field in enumerate(fields)}


# Bytes of text. CPEX refuses arguments beyond a million characters, and so does cpexd.
SIZES = [*(1 << n for n in range(10, 20)), 1_000_000]

# A workload: the hook, its payload, and whether the plugin changes that.
WORKS = {
    "small": ("tool_pre_invoke", {"name": "t", "args": small()}, True),
    "chain": ("tool_post_invoke", {"name": "t", "result": small()}, True),
    "wait": ("prompt_pre_fetch", {"prompt_id": "p", "args": {}}, False),
    "empty": ("resource_pre_fetch", {"uri": "file:///" + "x" * 560}, False),
} | {str(size): ("tool_pre_invoke", {"name": "t", "args": {"text": text(size)}}, True) for size in SIZES}
PAYLOAD_CLASSES = {
    "tool_pre_invoke": "ToolPreInvokePayload",
    "tool_post_invoke": "ToolPostInvokePayload",
    "prompt_pre_fetch": "PromptPrehookPayload",
    "resource_pre_fetch": "ResourcePreFetchPayload",
}


class Cpexd:
    def __init__(self, path):
        from cpexd_client import AsyncClient, Client

        self.client, self.aio = Client(path), AsyncClient(path)
        self.n = 0

    def blocking(self, work):
        hook, payload, changes = WORKS[work]
        self.n += 1
        answer = self.client.invoke(hook, payload, context={"request_id": str(self.n)})
        assert (answer.modified_payload is not None) == changes, answer

    async def call(self, work):
        hook, payload, changes = WORKS[work]
        self.n += 1
        answer = await self.aio.invoke(hook, payload, context={"request_id": str(self.n)})
        assert (answer.modified_payload is not None) == changes, answer


class Upstream:
    blocking = None

    def __init__(self, config):
        import logging

        import cpex.framework

        logging.disable(logging.CRITICAL)
        self.framework, self.n = cpex.framework, 0
        self.classes = {hook: getattr(cpex.framework, name) for hook, name in PAYLOAD_CLASSES.items()}
        self.manager = cpex.framework.PluginManager(config, timeout=30)
        self.began = time.perf_counter()
        LOOP.run_until_complete(self.manager.initialize())

    async def call(self, work):
        hook, payload, changes = WORKS[work]
        self.n += 1
        context = self.framework.GlobalContext(request_id=str(self.n))
        result, _ = await self.manager.invoke_hook(hook, self.classes[hook](**payload), context)
        assert (result.modified_payload is not None) == changes, result


class Floor:
    """Sends and gets as many bytes as the payload has, and does nothing with them."""

    call = None

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb", buffering=1 << 16)
        self.head = struct.Struct(">I")
        self.bodies = {work: json.dumps(payload).encode() for work, (_, payload, _) in WORKS.items()}

    def blocking(self, work):
        body = self.bodies[work]
        self.socket.sendall(self.head.pack(len(body)) + body)
        length = self.head.unpack(self.stream.read(4))[0]
        assert len(self.stream.read(length)) == len(body)


def figures(latencies, wall, cpu):
    latencies.sort()
    n = len(latencies)
    return {
        "n": n,
        "least_us": latencies[0] * 1e6,
        "p50_us": statistics.median(latencies) * 1e6,
        "p99_us": latencies[min(n - 1, round(n * 0.99))] * 1e6,
        "calls_per_s": n / wall,
        "client_cpu_us": cpu / n * 1e6,
    }


def sequential(caller, work, seconds):
    latencies, clock = [], time.perf_counter
    begun, cpu = clock(), time.process_time()
    if caller.blocking:
        call, end = caller.blocking, begun
        while end - begun < seconds:
            start = clock()
            call(work)
            end = clock()
            latencies.append(end - start)
    else:

        async def run():
            call, end = caller.call, begun
            while end - begun < seconds:
                start = clock()
                await call(work)
                end = clock()
                latencies.append(end - start)

        LOOP.run_until_complete(run())
    return figures(latencies, clock() - begun, time.process_time() - cpu)


def concurrent(caller, work, seconds, callers):
    latencies, clock = [], time.perf_counter
    begun, cpu = clock(), time.process_time()

    async def one():
        end = begun
        while end - begun < seconds:
            start = clock()
            await caller.call(work)
            end = clock()
            latencies.append(end - start)

    async def all_of_them():
        await asyncio.gather(*(one() for _ in range(callers)))

    LOOP.run_until_complete(all_of_them())
    return figures(latencies, clock() - begun, time.process_time() - cpu)


def calls(caller, work, n):
    async def run():
        for _ in range(n):
            await caller.call(work)

    if caller.blocking:
        for _ in range(n):
            caller.blocking(work)
    else:
        LOOP.run_until_complete(run())
    return {}


def own_time(caller, work, seconds):
    """What the plugin itself takes for that payload, called in this process without any framework."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "worker-shim"))  # behind upstream's package, where that is there
    from pii_scanner.plugin import redact

    payload, latencies, clock = WORKS[work][1], [], time.perf_counter
    begun = end = clock()
    while end - begun < seconds:
        start = clock()
        redact(payload["args"])
        end = clock()
        latencies.append(end - start)
    return {"n": len(latencies), "least_us": min(latencies) * 1e6, "p50_us": statistics.median(latencies) * 1e6}


LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
OPS = {"sequential": sequential, "concurrent": concurrent, "calls": calls, "own_time": own_time}


def main():
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a plugin prints is no answer
    kind, place = sys.argv[1:]
    caller = {"cpexd": Cpexd, "upstream": Upstream, "floor": Floor}[kind](place)
    calls(caller, "small", 1)
    ready = {"ready": True}
    if kind == "upstream":
        ready["start_ms"] = (time.perf_counter() - caller.began) * 1e3
    out.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        op = OPS[command.pop("op")]
        try:
            out.write(json.dumps(op(caller, **command)) + "\n")
        except Exception as error:
            out.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}) + "\n")
    os._exit(0)  # the framework's threads would hold the end up


main()
