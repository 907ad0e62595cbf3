# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets: well-formed OpenMetrics with the right figures, on a Unix socket and on a port."""

import http.client
import re
import socket

import pytest
from daemon import CallError, eventually, plugin

HOOK = "tool_pre_invoke"
BODY = """
    async def tool_pre_invoke(self, payload, context):
        if payload.name == "fail":
            raise ValueError("x")
        await asyncio.sleep((payload.args or {}).get("seconds", 0))
        return Result()
"""
SAMPLE = re.compile(r'(cpexd_[a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(connection, path="/metrics", method="GET"):
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer


def parse(text):
    """{(name, labels): value}, after a check that each family is declared once, before its samples, which stand together."""
    families, samples, current = {}, {}, None
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    for line in lines[:-2]:
        if line.startswith("# TYPE "):
            current, kind = line.split(" ")[2:]
            assert current not in families
            families[current] = kind
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] == current
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            suffix = name.removeprefix(current)
            assert suffix in {"counter": ["_total"], "gauge": [""], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}[families[current]]
            assert (name, labels) not in samples
            samples[name, labels] = float(value)
    return samples


@pytest.fixture
def daemon(cpexd, tmp_path):
    daemon = cpexd([plugin('odd "name"\\', BODY, isolation={"timeout": 0.3}), plugin("b", BODY)],
                   settings={"metrics": {"path": str(tmp_path / "m.sock")}})
    daemon.metrics = tmp_path / "m.sock"
    return daemon


def test_figures(daemon):
    daemon.expect("on_error: fail")
    for _ in range(3):
        daemon.invoke(HOOK, {"name": "t", "args": {}})
    for payload in ({"name": "fail", "args": {}}, {"name": "t", "args": {"seconds": 1}}):
        with pytest.raises(CallError):
            daemon.invoke(HOOK, payload)
    status, text, answer = get(Connection(daemon.metrics))
    assert status == 200 and answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    samples = parse(text)
    odd = r'plugin="odd \"name\"\\"'
    assert samples["cpexd_plugin_calls_total", odd + ',outcome="answered"'] == 3
    assert samples["cpexd_plugin_calls_total", odd + ',outcome="exception"'] == 1
    assert samples["cpexd_plugin_calls_total", odd + ',outcome="timeout"'] == 1
    assert samples["cpexd_plugin_calls_total", 'plugin="b",outcome="answered"'] == 3
    assert samples["cpexd_plugin_duration_seconds_count", odd] == 5
    assert samples["cpexd_plugin_duration_seconds_bucket", odd + ',le="+Inf"'] == 5
    assert samples["cpexd_plugin_duration_seconds_bucket", odd + ',le="0.25"'] == 4
    assert 0.3 < samples["cpexd_plugin_duration_seconds_sum", odd] < 3
    assert samples["cpexd_plugin_up", odd] == samples["cpexd_plugin_workers", odd] == 1
    assert 4 << 20 < samples["cpexd_plugin_memory_bytes", odd] < 1 << 30
    assert (samples["cpexd_calls_total", None], samples["cpexd_calls_failed_total", None], samples["cpexd_generation", None]) == (5, 2, 1)


def test_only_what_there_is(daemon):
    connection = Connection(daemon.metrics)
    assert get(connection, "/healthz")[:2] == (200, "ok\n")
    assert get(connection, "/")[0] == 404
    assert get(connection, "/metrics", "HEAD")[:2] == (200, "")
    with pytest.raises((http.client.HTTPException, OSError, AssertionError)):
        assert get(connection, "/metrics", "POST")[0] == 200


def test_garbage_harms_nobody(daemon):
    for data in (b"\0" * 100, b"GET " + b"x" * 100000 + b"\r\n\r\n", b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(daemon.metrics))
            one.settimeout(5)
            try:
                one.sendall(data)
                one.shutdown(socket.SHUT_WR)
                while one.recv(65536):
                    pass
            except OSError:
                pass
    assert get(Connection(daemon.metrics))[0] == 200
    assert daemon.invoke(HOOK, {"name": "t", "args": {}})["continue_processing"]


def test_a_port_of_this_machine(cpexd):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = cpexd([plugin("p", BODY)], settings={"metrics": {"port": port}})
    status, text, _ = get(http.client.HTTPConnection("127.0.0.1", port, timeout=10))
    assert status == 200 and parse(text)["cpexd_plugin_up", 'plugin="p"'] == 1
    assert eventually(lambda: daemon.admin("status")["state"] == "running")
