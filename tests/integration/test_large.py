# SPDX-License-Identifier: Apache-2.0
"""Large payloads, which the daemon hands on without copying them: each call gets its own, whoever else holds on to the same memory."""

import random
import threading

import pytest
from daemon import SANITIZED, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
# What a call carries is one letter, so that a byte of another call shows.
CHECKED = """
    async def tool_pre_invoke(self, payload, context):
        text = payload.args["text"]
        await asyncio.sleep(payload.args.get("sleep", 0) * (self.config.name == "first"))
        if set(text) != {text[0]}:
            print("MIXED UP", set(text))
            raise ValueError(f"mixed up: {set(text)}")
"""
SAYS = CHECKED + """
        return Result(metadata={self.config.name: [text[0], len(text)]})
"""
GROWS = CHECKED + """
        return Result(modified_payload=payload.model_copy(update={"args": payload.args | {"text": text + text[0]}}))
"""
ISOLATION = {"max_concurrent": 8, "queue": 1000}


@pytest.fixture
def pipeline(cpexd):
    def start(**limits):
        modes = {"first": "sequential", "second": "sequential", "audit": "audit", "left": "concurrent", "right": "concurrent",
                 "behind": "fire_and_forget"}
        plugins = [plugin(name, GROWS if mode == "sequential" else SAYS, mode=mode, priority=i, isolation=ISOLATION)
                   for i, (name, mode) in enumerate(modes.items())]
        return cpexd(plugins, settings={"limits": limits})

    return start


def payload(letter, size, **more):
    return {"name": "t", "args": {"text": letter * size} | more}


def check(answer, letter, size):
    assert answer["modified_payload"]["args"]["text"] == letter * (size + 2)
    assert answer["metadata"] == {name: [letter, size + 2] for name in ("audit", "left", "right")}


def test_calls_do_not_mix(pipeline):
    daemon = pipeline()
    rand, errors = random.Random(3), []

    def caller(seed):
        mine = random.Random(seed)
        try:
            with daemon.host(timeout=120) as host:
                for _ in range(2):
                    wanted = {}
                    for _ in range(6):
                        letter, size = mine.choice("abcdefgh"), mine.choice([10, 16_000, 17_000, 70_000, 300_000, 900_000])
                        wanted[host.begin(HOOK, payload(letter, size))] = letter, size
                    dropped = host.begin(HOOK, payload("x", 600_000, sleep=30))
                    host.notify("cancel", msgid=dropped)
                    for msgid in mine.sample(list(wanted), len(wanted)):
                        check(host.end(msgid), *wanted[msgid])
                    with pytest.raises(CallError):
                        host.end(dropped)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caller, args=(rand.random(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert "MIXED UP" not in daemon.log()


def test_a_host_that_is_gone_has_left_its_payload_to_those_who_work_on_it(pipeline):
    daemon = pipeline()
    with daemon.host() as host:
        host.begin(HOOK, payload("g", 900_000, sleep=0.3))
        eventually(lambda: any(worker["calls_active"] for worker in daemon.status("first")["workers"]))
    for letter in "abc":
        check(daemon.invoke(HOOK, payload(letter, 900_000)), letter, 900_000)
    assert "MIXED UP" not in daemon.log()


def test_slow_readers_get_what_they_asked_for(pipeline):
    daemon = pipeline(output_bytes=20_000_000)
    with daemon.host(timeout=60) as slow:
        wanted = {slow.begin(HOOK, payload(letter, 800_000)): letter for letter in "abcdef"}
        for letter in "uvw":
            check(daemon.invoke(HOOK, payload(letter, 500_000)), letter, 500_000)
        for msgid, letter in wanted.items():
            check(slow.end(msgid), letter, 800_000)


@pytest.mark.skipif(SANITIZED, reason="what is freed is kept for a while")
def test_memory_is_given_back(cpexd):
    daemon = cpexd([plugin("first", GROWS)])
    call = HOOK, payload("m", 900_000)
    with daemon.host() as host:
        for _ in range(10):
            host.invoke(*call)
        before = daemon.rss_kib()
        for _ in range(100):
            host.invoke(*call)
        assert daemon.rss_kib() < before + 4096


def test_direct_answers(cpexd):
    daemon = cpexd([plugin("first", GROWS)])
    for size in (10, 16_382, 16_384, 900_000):
        answer = daemon.invoke(HOOK, payload("d", size), plugin="first", direct=True)
        assert answer["modified_payload"]["args"]["text"] == "d" * (size + 1)
