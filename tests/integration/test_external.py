# SPDX-License-Identifier: Apache-2.0
"""Plugins that a server of any language serves over a Unix socket: the two examples, another cpexd, and servers that misbehave."""

import base64
import contextlib
import hashlib
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import urllib.request

import msgpack
import pytest
from daemon import BUILD, ROOT, CallError, eventually, plugin

HOOK = "tool_pre_invoke"
EXAMPLES = ROOT / "client" / "examples"
CODEC = "https://registry.npmjs.org/@msgpack/msgpack/-/msgpack-3.1.3.tgz"
CODEC_SHA512 = "47XIizs9XZXvuJgoaJUIE2lFoID8ugvc0jzSHP+Ptfk8nTbnR8g788wv48N03Kx0UkAv559HWRQ3yzOgzlRNUA=="


def external(path, name="remote", **isolation):
    return {"entry": {"name": name, "kind": "external", "hooks": [HOOK], "isolation": {"socket": str(path)} | isolation},
            "package": name, "code": "", "requirements": ""}


def tool(name="t", **args):
    return {"name": name, "args": args}


@contextlib.contextmanager
def running(*command):
    process = subprocess.Popen(command)
    try:
        eventually(pathlib.Path(command[-1]).exists)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """A folder with the example in JavaScript and the codec it imports."""
    if not shutil.which("node"):
        pytest.skip("there is no node: apt install nodejs")
    folder, tarball = tmp_path_factory.mktemp("node"), BUILD / "test-msgpack.tgz"
    if not tarball.exists():
        try:
            with urllib.request.urlopen(CODEC, timeout=20) as answer:
                data = answer.read()
        except OSError as exc:
            pytest.skip(f"registry.npmjs.org cannot be reached: {exc}")
        assert base64.b64encode(hashlib.sha512(data).digest()).decode() == CODEC_SHA512
        tarball.write_bytes(data)
    with tarfile.open(tarball) as tar:
        tar.extractall(folder, filter="data")
    (folder / "node_modules" / "@msgpack").mkdir(parents=True)
    (folder / "package").rename(folder / "node_modules" / "@msgpack" / "msgpack")
    shutil.copy(EXAMPLES / "redact_server.mjs", folder)
    return folder


@pytest.fixture(params=["c", "node"])
def example(request, tmp_path):
    path = tmp_path / "x.sock"
    command = [BUILD / "client" / "redact_server"] if request.param == "c" else [
        "node", request.getfixturevalue("node") / "redact_server.mjs"]
    with running(*command, path):
        yield path


@pytest.mark.parametrize("name", ["redact_server.c", "redact_server.mjs"])
def test_the_examples_are_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) < 150


def test_an_example_serves(example, cpexd):
    """It passes, changes and blocks, in a pipeline with a plugin of a venv before and after it."""
    local = """
    async def tool_pre_invoke(self, payload, context):
        return Result(modified_payload=ToolPreInvokePayload(name=payload.name, args={**payload.args, self.name: "a secret"}))
    """
    daemon = cpexd([plugin("before", local, priority=1), external(example), plugin("after", local, priority=200)])
    answer = daemon.invoke(HOOK, tool(a=["one secret", {"b": 7, "c": b"secret"}]))
    word = answer["modified_payload"]["args"]["a"][0].removeprefix("one ")
    assert word in ("******", "[redacted]")
    assert answer["modified_payload"]["args"] == {"a": [f"one {word}", {"b": 7, "c": b"secret"}], "before": f"a {word}", "after": "a secret"}
    assert [each["plugin_name"] for each in answer["executions"]] == ["before", "remote", "after"]

    denial = daemon.invoke(HOOK, tool("forbidden"))
    assert denial["continue_processing"] is False
    assert (denial["violation"]["code"], denial["violation"]["plugin_name"]) == ("FORBIDDEN", "remote")
    assert daemon.status("remote")["workers"][0]["state"] == "ready"


def test_many_calls_at_once(example, cpexd):
    daemon = cpexd([external(example, max_concurrent=16)])
    with daemon.host() as host:
        calls = {host.begin(HOOK, tool(n=f"secret {n}")): n for n in range(200)}
        for call, n in calls.items():
            assert host.end(call)["modified_payload"]["args"]["n"].endswith(f" {n}")


class TestNode:
    """What only the example in JavaScript does."""

    @pytest.fixture
    def path(self, node, tmp_path):
        with running("node", node / "redact_server.mjs", tmp_path / "x.sock") as self.process:
            yield tmp_path / "x.sock"

    def test_context_and_state(self, path, cpexd):
        daemon = cpexd([external(path)])
        first = daemon.invoke(HOOK, tool(a="b"))
        second = daemon.invoke(HOOK, tool(a="b"), contexts=first["contexts"])
        assert (first["metadata"], second["metadata"]) == ({"calls": 1}, {"calls": 2})
        assert second["state"] == {"redacted": True}

    def test_an_exception_and_a_hook_it_does_not_have(self, path, cpexd):
        entry = external(path)
        entry["entry"]["hooks"].append("tool_post_invoke")
        daemon = cpexd([entry])
        daemon.expect("on_error: fail")
        with pytest.raises(CallError) as caught:
            daemon.invoke(HOOK, tool("fail"))
        assert caught.value.error["message"] == "it was asked to fail"
        assert (caught.value.error["type"], caught.value.error["plugin_name"]) == ("PluginError", "remote")
        with pytest.raises(CallError) as caught:
            daemon.invoke("tool_post_invoke", {"name": "t", "result": 1})
        assert "there is no hook tool_post_invoke" in caught.value.error["message"]

    def test_a_timeout_costs_only_its_call(self, path, cpexd):
        """The server hears of the cancellation; the connection stays, with the calls of others."""
        daemon = cpexd([external(path, timeout=0.3, max_concurrent=8)])
        daemon.expect("on_error: fail")
        with daemon.host() as host:
            slow, other = host.begin(HOOK, tool("slow", ms=5000)), host.begin(HOOK, tool("slow", ms=250))
            assert host.end(other)["metadata"] == {"calls": 1}
            with pytest.raises(CallError) as caught:
                host.end(slow)
        assert caught.value.error["cause"] == "timeout"
        assert daemon.invoke(HOOK, tool("slow", ms=1))["metadata"] == {"calls": 1}
        assert daemon.status("remote")["restarts"] == 0

    def test_a_server_that_comes_back(self, cpexd, node, tmp_path):
        path = tmp_path / "x.sock"
        with running("node", node / "redact_server.mjs", path):
            daemon = cpexd([external(path, timeout=2)])
            daemon.expect("closed the connection|cannot be reached|on_error: fail")
            assert daemon.invoke(HOOK, tool(a="b"))["metadata"] == {"calls": 1}
        path.unlink()
        eventually(lambda: daemon.status("remote")["status"] == "failed")
        with pytest.raises(CallError) as caught:
            daemon.invoke(HOOK, tool())
        assert caught.value.error["cause"] == "start_failed"
        assert f"its server cannot be reached at {path}" in caught.value.error["message"]
        with running("node", node / "redact_server.mjs", path):
            eventually(lambda: daemon.status("remote")["status"] == "ready", 5)
            assert daemon.invoke(HOOK, tool(a="b"))["metadata"] == {"calls": 1}
            assert daemon.stop() == 0


def test_a_daemon_is_a_plugin_of_another(cpexd):
    """Pipelines chain, and the inner daemon's own contexts come back to it."""
    inner = cpexd([plugin("inner", """
        async def tool_pre_invoke(self, payload, context):
            context.state["n"] = context.state.get("n", 0) + 1
            context.global_context.state["inner"] = True
            if payload.name == "block":
                return Result(continue_processing=False, violation=PluginViolation(reason="r", description="d", code="C", details={}))
            if payload.name == "fail":
                raise ValueError("inside")
            return Result(metadata={"n": context.state["n"]})
    """)])
    inner.expect("on_error: fail")
    outer = cpexd([external(inner.socket)])
    outer.expect("on_error: fail")
    first = outer.invoke(HOOK, tool())
    second = outer.invoke(HOOK, tool(), contexts=first["contexts"])
    assert (first["metadata"], second["metadata"]) == ({"n": 1}, {"n": 2})
    assert second["state"] == {"inner": True}
    assert outer.invoke(HOOK, tool("block"))["violation"]["code"] == "C"
    with pytest.raises(CallError) as caught:
        outer.invoke(HOOK, tool("fail"))
    assert caught.value.error["message"] == "ValueError('inside')"


class Hostile(threading.Thread):
    """A server that answers each request with what the test says: bytes, made from (id, method)."""

    def __init__(self, path, reply):
        super().__init__(daemon=True)
        self.reply = reply
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        unpacker = msgpack.Unpacker()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                unpacker.feed(data)
                for message in unpacker:
                    if message[0] == 0:
                        answer = self.reply(message[1], message[2])
                        if answer is None:
                            return
                        connection.sendall(answer)


def reply(ident, result, error=None):
    return msgpack.packb([1, ident, error, result])


@pytest.mark.parametrize(("bytes_of", "cause"), [
    (lambda ident: b"\xc1", "crash"),
    (lambda ident: None, "crash"),
    (lambda ident: reply(ident, [1]), "malformed"),
    (lambda ident: reply(ident, {"continue_processing": 7}), "malformed"),
    (lambda ident: reply(ident, {"modified_payload": b"\x92\x01"}), "malformed"),
    (lambda ident: reply(ident + 1000, {}), "crash"),
    (lambda ident: reply(ident, [1]) + reply(ident, {}), "malformed"),
    (lambda ident: reply(ident, None, {"type": "ValidationError", "stage": "request", "message": "m", "errors": []}), "exception"),
    (lambda ident: reply(ident, None, {"type": "ProtocolError", "code": "bad_request", "message": "m"}), "exception"),
    (lambda ident: msgpack.packb([0, 1, "ping", [{}]]), "crash"),
], ids=["garbage", "hangs-up", "no-map", "wrong-type", "no-document", "foreign-id", "twice", "blames-the-caller", "blames-the-request", "asks"])
def test_a_hostile_server(cpexd, tmp_path, bytes_of, cause):
    """Whatever it says, it is the plugin's failure and nobody else's, and on_error decides."""
    Hostile(tmp_path / "h.sock", lambda ident, method: bytes_of(ident) if method == "invoke" else reply(ident, {}))
    daemon = cpexd([external(tmp_path / "h.sock", timeout=0.5)])
    daemon.expect("on_error: fail|replaced|answered what it was not asked")
    for _ in range(2):
        with pytest.raises(CallError) as caught:
            daemon.invoke(HOOK, tool())
        assert (caught.value.error["type"], caught.value.error["cause"]) == ("PluginError", cause)
        eventually(lambda: daemon.status("remote")["status"] == "ready")


def test_a_server_that_stays_away_does_not_fill_the_log(cpexd):
    daemon = cpexd([external("away.sock")], ready=False, settings={"log": {"level": "debug"}})
    daemon.expect("cannot start")
    eventually(lambda: len(re.findall("debug: .*cannot start", daemon.log())) == 2, 20)
    assert 3 <= len(re.findall("error: .*cannot start", daemon.log())) <= 5


def test_a_server_that_does_not_know_hello(cpexd, tmp_path):
    Hostile(tmp_path / "h.sock", lambda ident, method: reply(ident, {"metadata": {"ok": 1}}) if method == "invoke" else
            reply(ident, None, {"type": "ProtocolError", "code": "unknown_method", "message": method}))
    daemon = cpexd([external(tmp_path / "h.sock")])
    assert daemon.invoke(HOOK, tool())["metadata"] == {"ok": 1}


def test_a_server_that_never_answers_hello(cpexd, tmp_path):
    Hostile(tmp_path / "h.sock", lambda ident, method: b"")
    daemon = cpexd([external(tmp_path / "h.sock", startup_timeout=0.5)])
    daemon.expect("did not answer")
    eventually(lambda: "did not answer" in (daemon.status("remote")["error"] or ""))
