# SPDX-License-Identifier: Apache-2.0
"""Plugins and packages from PyPI that need more than a recorded case can give: a Redis, a web server, numpy.

What the rate limiter answers is compared with the in-process manager, which runs in the very venv that cpexd has built for the plugin.
"""

import concurrent.futures
import contextlib
import http.server
import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from daemon import PREAMBLE, ROOT, eventually, plugin

sys.path.insert(0, str(ROOT / "client" / "python"))
import cpexd_client  # noqa: E402

pytestmark = pytest.mark.pypi
HOOK = "tool_pre_invoke"


def load_conformance():
    """The runner of the recorded cases: what it makes of answers can be compared with what the recorder writes."""
    path = str(ROOT / "tests" / "conformance" / "run")
    loader = importlib.machinery.SourceFileLoader("conformance_run", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


conformance = load_conformance()


# ---- The rate limiter ----

class Redis:
    """A real one, on a port of its own, that keeps nothing on the disk."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/"]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        eventually(lambda: self.say("PING") == ["PONG"], what="Redis does not answer")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def say(self, *command):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *command], capture_output=True, text=True)
        return done.stdout.split()


@pytest.fixture
def redis():
    server = Redis()
    server.start()
    yield server
    server.stop()


VARIANTS = {  # name: backend, algorithm
    "memory-fixed": ("memory", "fixed_window"),
    "memory-sliding": ("memory", "sliding_window"),
    "memory-bucket": ("memory", "token_bucket"),
    "redis-fixed": ("redis", "fixed_window"),
    "redis-sliding": ("redis", "sliding_window"),
    "redis-bucket": ("redis", "token_bucket"),
}


def limiter(name, only=None, **config):
    """A plugin that is nothing but an entry. Its conditions keep it to calls of server `only`."""
    entry = plugin(name, "", hooks=[HOOK, "prompt_pre_fetch"], requirements="cpex-rate-limiter==0.1.12\n", mode="sequential",
                   conditions=[{"server_ids": [only]}] if only else [], config=config | {
                       "class_name": "cpex_rate_limiter.rate_limiter.RateLimiterPlugin", "script_path": "plugins/rate_limiter_plugin"})
    return entry | {"code": "", "package": "rate_limiter_plugin"}


def call(user, tool="t", server=None, tenant=None, hook=HOOK, raises=False):
    payload = {"name": tool, "args": {}} if hook == HOOK else {"prompt_id": tool, "args": {}}
    context = {"request_id": "r", "user": user, "tenant_id": tenant, "server_id": server, "state": {}, "metadata": {}}
    return {"hook": hook, "payload": payload, "global_context": context, "context_from": None, "violations_as_exceptions": raises,
            "extensions": {"request": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}}}


def calls_of(server):
    """Each limit of the variants below, up to it and beyond."""
    prompt = {"hook": "prompt_pre_fetch", "server": server}
    return [
        *[call("ann", server=server) for _ in range(4)],
        call({"email": "ann"}, server=server), call("ann", server=server, tenant="acme"), call("ann", "s", server=server, raises=True),
        *[call(f"user{n}", server=server, tenant="acme") for n in range(5)],
        *[call(f"other{n}", "Search ", server=server) for n in range(3)],
        call("bob", "p", **prompt), call("bob", "p", **prompt), call("bob", "search", **prompt), call("bob", "t", server=server, raises=True),
        call(None, server=server), call("  ", server=server), call("", server=server), call(None, server=server), call(None, server=server),
    ]  # fmt: skip


def in_process(daemon, name, calls):
    """What the manager of the real cpex answers, with the same file and the same packages."""
    (daemon.folder / "calls.json").write_text(json.dumps(calls))
    (daemon.folder / "traces").mkdir(exist_ok=True)
    recorder = ROOT / "tests" / "conformance" / "record.py"
    command = [daemon.status(name)["python"], recorder, "--one", daemon.folder, daemon.folder / "expected.json", daemon.folder / "traces"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, timeout=60)
    return json.loads((daemon.folder / "expected.json").read_text())["calls"]


def by_cpexd(daemon, calls):
    with contextlib.closing(cpexd_client.Client(str(daemon.socket))) as client:
        return conformance.run_calls(client, calls)


TIMES = ("reset_in", "Retry-After", "X-RateLimit-Reset")


def without_times(value, found):
    """The value with what depends on the moment taken out, into `found`."""
    if isinstance(value, list):
        return [without_times(item, found) for item in value]
    if not isinstance(value, dict):
        return value
    for key in TIMES:
        if key in value:
            found.append((key, type(value[key]).__name__, int(value[key])))
    return {key: without_times(item, found) for key, item in value.items() if key not in TIMES}


def assert_same(expected, actual):
    """Equal but for times; those are of the same kinds in the same places, and as far apart as the two runs may be."""
    wanted, got = [], []
    assert not conformance.diff(without_times(expected, wanted), without_times(actual, got))
    assert [entry[:2] for entry in wanted] == [entry[:2] for entry in got]
    for (key, _, want), (_, _, have) in zip(wanted, got):
        assert abs(have - want) <= 120, (key, want, have)
        assert 0 < (have - time.time() if key == "X-RateLimit-Reset" else have) <= 3600


def test_rate_limiter_as_in_process(cpexd, pypi, kept_cache, redis):
    limits = {"by_user": "3/h", "by_tenant": "4/h", "by_tool": {"search": "2/h"}}
    plugins = [limiter(name, name, backend=backend, algorithm=algorithm, redis_url=redis.url, redis_key_prefix=name, **limits)
               for name, (backend, algorithm) in VARIANTS.items()]  # fmt: skip
    plugins.append(limiter("per-server", "catalog", by_user="5/h", by_user_per_server="2/m"))
    calls = [each for name in VARIANTS for each in calls_of(name)]
    calls += [call("ann", server="catalog"), call("ann", server="catalog"), call("ann", server="catalog"), call("ann", server="nobody")]
    daemon = cpexd(plugins, cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)
    expected = in_process(daemon, "redis-fixed", calls)
    assert {answer.get("continue_processing") for answer in expected} == {True, False, None}
    keys = redis.say("KEYS", "*")
    assert len(keys) > 10
    redis.say("FLUSHALL")
    assert_same(expected, by_cpexd(daemon, calls))
    assert sorted(redis.say("KEYS", "*")) == sorted(keys)


def test_rate_limiter_on_the_bundled_sdk(cpexd, pypi, kept_cache, redis):
    entry = limiter("r", backend="redis", redis_url=redis.url, by_user="2/h") | {"requirements": ""}
    folder, needs = conformance.unpacked("cpex-rate-limiter==0.1.12", kept_cache)
    assert not needs
    entry["entry"]["config"]["script_path"] = str(folder)
    entry["entry"]["config"].pop("requirements_file")
    daemon = cpexd([entry], cache=kept_cache)
    answers = by_cpexd(daemon, [call("ann"), call("ann"), call("ann"), call("ann", raises=True)])
    assert [answer.get("continue_processing") for answer in answers] == [True, True, False, None]
    assert answers[2]["violation"]["http_headers"]["X-RateLimit-Limit"] == "2"
    assert answers[0]["metadata"] == {"rate_limiter": {"allowed": 1, "throttled": 0, "backend": "redis"}}


def test_a_window_passes(cpexd, pypi, kept_cache, redis):
    daemon = cpexd([limiter("r", backend="redis", redis_url=redis.url, by_user="2/s")], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)
    by_cpexd(daemon, [call("warm up")])
    allowed = [answer["continue_processing"] for answer in by_cpexd(daemon, [call("ann")] * 3)]
    time.sleep(1.1)
    allowed += [answer["continue_processing"] for answer in by_cpexd(daemon, [call("ann")])]
    assert allowed == [True, True, False, True]


def test_one_limit_for_all_workers(cpexd, pypi, kept_cache, redis):
    entry = limiter("r", backend="redis", redis_url=redis.url, by_user="7/h")
    entry["entry"]["isolation"] = {"workers": {"min": 3, "max": 3}, "max_concurrent": 2}
    daemon = cpexd([entry], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)
    eventually(lambda: len(daemon.workers("r")) == 3, 30)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = [rows[0] for rows in pool.map(lambda _: by_cpexd(daemon, [call("ann")]), range(24))]
    assert sum(answer["continue_processing"] for answer in answers) == 7
    assert {answer["violation"]["code"] for answer in answers if not answer["continue_processing"]} == {"RATE_LIMIT"}


def test_redis_goes_and_comes_back(cpexd, pypi, kept_cache, redis):
    daemon = cpexd([limiter(name, name, backend="redis", redis_url=redis.url, by_user="100/h", fail_mode=name) for name in ("open", "closed")],
                   cache=kept_cache, ready=False)  # fmt: skip
    daemon.wait_ready(seconds=300)
    calls = [call("ann", server="open"), call("ann", server="closed"), call("ann", server="closed", raises=True)]
    assert [answer["continue_processing"] for answer in by_cpexd(daemon, calls)] == [True, True, True]
    redis.stop()
    answers = by_cpexd(daemon, calls)
    assert answers[0]["continue_processing"] and answers[1]["violation"]["code"] == "BACKEND_UNAVAILABLE"
    assert_same(in_process(daemon, "open", calls), answers)
    redis.start()
    eventually(lambda: [answer.get("continue_processing") for answer in by_cpexd(daemon, calls)] == [True, True, True], 20)


# ---- Packages that plugins bring along ----

def test_uvloop_and_nest_asyncio(cpexd, pypi, kept_cache):
    """Two that reach deep into asyncio."""
    fast = plugin("fast", """
        async def initialize(self):
            uvloop.install()
            self.ticking = asyncio.create_task(self.tick())
            self.ticks = 0

        async def tick(self):
            while True:
                self.ticks += 1
                await asyncio.sleep(0.01)

        async def tool_pre_invoke(self, payload, context):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=-1)
            said, _ = await process.communicate()
            in_a_thread = await asyncio.to_thread(uvloop.run, asyncio.sleep(0.01, "there"))
            return Result(metadata={"fast": [said.decode().strip(), in_a_thread, self.ticks > 0]})
    """, preamble="import uvloop\n" + PREAMBLE, requirements="uvloop==0.22.1\n")
    nested = plugin("nested", """
        async def tool_pre_invoke(self, payload, context):
            inner = asyncio.get_running_loop().run_until_complete(asyncio.sleep(0.02, payload.args["n"]))
            return Result(metadata={payload.name: [inner, asyncio.run(asyncio.sleep(0.01, "run"))]})
    """, preamble="import nest_asyncio\nnest_asyncio.apply()\n" + PREAMBLE, requirements="nest_asyncio==1.6.0\n")
    daemon = cpexd([fast, nested], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: daemon.invoke(HOOK, {"name": f"call {n}", "args": {"n": n}})["metadata"], range(10)))
    assert answers == [{"fast": ["42", "there", True], f"call {n}": [n, "run"]} for n in range(10)]


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers after a while, so that calls that wait for it lie over each other."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.4)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_httpx_and_numpy(cpexd, pypi, kept_cache, web):
    asks = plugin("asks", """
        async def initialize(self):
            import httpx
            self.client = httpx.AsyncClient(trust_env=False)
            self.under_way = self.most = 0

        async def tool_pre_invoke(self, payload, context):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            answer = await self.client.post(self.config.config["url"], content=payload.args["text"])
            self.under_way -= 1
            return Result(modified_payload=payload.model_copy(update={"args": {"text": answer.text}}), metadata={"most": self.most})

        async def shutdown(self):
            await self.client.aclose()
    """, requirements="httpx==0.28.1\n", config={"url": web}, isolation={"workers": {"min": 1, "max": 1}, "max_concurrent": 8})
    counts = plugin("counts", """
        async def tool_pre_invoke(self, payload, context):
            import numpy
            codes = numpy.frombuffer(payload.args["text"].encode(), dtype=numpy.uint8)
            return Result(metadata={"mean": codes.mean(), "largest": codes.max(), "small": numpy.float32(0.5), "is": codes.any(), "codes": codes[:2],
                                    "matrix": numpy.eye(2), "text": numpy.str_("x"), "nothing": numpy.array([])})
    """, requirements="numpy==2.2.6\n")
    daemon = cpexd([asks, counts], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)

    def invoke(text):
        return daemon.invoke(HOOK, {"name": "t", "args": {"text": text}})

    invoke("warm up")
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(invoke, ["abc", "def", "ghi", "jkl", "mno", "pqr"]))
    assert time.monotonic() - begun < 6 * 0.4
    assert [answer["modified_payload"]["args"]["text"] for answer in answers] == ["cba", "fed", "ihg", "lkj", "onm", "rqp"]
    assert max(answer["metadata"]["most"] for answer in answers) > 1
    assert answers[0]["metadata"] | {"most": 0} == {
        "most": 0, "mean": 98.0, "largest": 99, "small": 0.5, "is": True, "codes": [99, 98], "matrix": [[1.0, 0.0], [0.0, 1.0]], "text": "x", "nothing": []}
