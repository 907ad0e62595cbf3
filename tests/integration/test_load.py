# SPDX-License-Identifier: Apache-2.0
"""Many calls from many hosts at once: each gets its own answer, and the daemon is afterwards what it was before."""

import threading

from daemon import SANITIZED, plugin

HOOK = "tool_pre_invoke"
HOSTS = 50
CALLS = 10_000
DEPTH = 8  # calls in flight of one host

ECHO = plugin("echo", """
    async def tool_pre_invoke(self, payload, context):
        n = payload.args["nonce"]
        if n % 7 == 0:
            await asyncio.sleep(0.001)
        return Result(modified_payload=payload.model_copy(update={"args": {"nonce": n, "twice": 2 * n}}), metadata={"nonce": n})
""", isolation={"max_concurrent": 32, "workers": {"min": 2, "max": 2}, "queue": 1000, "timeout": 60})


def talk(daemon, first, count, wrong):
    try:
        with daemon.host(timeout=60) as host:
            for start in range(first, first + count, DEPTH):
                nonces = range(start, min(start + DEPTH, first + count))
                ids = [host.begin(HOOK, {"name": "t", "args": {"nonce": n, "pad": "x" * (n % 500)}}, {"request_id": f"r{n}"}) for n in nonces]
                for n, msgid in zip(nonces, ids, strict=True):
                    answer = host.end(msgid)
                    if answer["modified_payload"]["args"] != {"nonce": n, "twice": 2 * n} or answer["metadata"] != {"nonce": n}:
                        wrong.append((n, answer))
    except Exception as error:
        wrong.append((first, error))


def round_of_calls(daemon):
    wrong = []
    each = CALLS // HOSTS
    threads = [threading.Thread(target=talk, args=(daemon, n * each, each, wrong)) for n in range(HOSTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, (len(wrong), wrong[:3])


def test_ten_thousand_calls_from_fifty_hosts(cpexd):
    daemon = cpexd([ECHO])
    round_of_calls(daemon)  # buffers and the allocator reach their size
    warm_rss, warm_descriptors = daemon.rss_kib(), daemon.footprint()
    round_of_calls(daemon)
    assert daemon.footprint() == warm_descriptors == daemon.at_start
    if not SANITIZED:  # ASan keeps freed memory back
        assert daemon.rss_kib() - warm_rss < 1024, "memory grows with the number of calls"
    assert daemon.status("echo")["calls_total"] == 2 * CALLS
