# SPDX-License-Identifier: Apache-2.0
"""cpexctl as its users see it, against a stand-in for the daemon."""

import json
import os
import pathlib
import subprocess
import time

import msgpack
import pytest

CPEXCTL = pathlib.Path(os.environ.get("CPEXD_BUILD", "build"), "cpexctl").absolute()
pytestmark = pytest.mark.skipif(not CPEXCTL.exists(), reason=f"{CPEXCTL} is not built")

RECORD = {"plugin_name": "pii", "mode": "sequential", "status": "completed", "payload_modified": True, "duration_ns": 1500000}
VIOLATION = {"reason": "Denied", "description": "no cats", "code": "CATS", "details": {"word": "cats"}, "plugin_name": "pii"}


def run(*args, stdin="", env=None):
    """Returns status, standard output and standard error."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("CPEXD_", "XDG_"))}
    done = subprocess.run(
        [CPEXCTL, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=30, env=clean | (env or {})
    )
    return done.returncode, done.stdout, done.stderr


def answers(result=None, error=None, seen=None):
    """A serve() that gives every call the same answer and notes its method and parameters."""

    def serve(peer):
        while message := peer.receive():
            if seen is not None:
                seen.append((message[2], message[3][0]))
            if error is not None:
                peer.fail(message[1], error)
            else:
                peer.answer(message[1], result)

    return serve


def test_invoke_json(daemon):
    seen = []
    payload = {"b": b"bytes", "s": msgpack.ExtType(1, b"hush"), "n": msgpack.ExtType(2, (2**64).to_bytes(9, "big"))}
    result = {
        "continue_processing": True,
        "modified_payload": msgpack.packb(payload),
        "violation": None,
        "contexts": msgpack.packb([1, "r1", {"pii": {"state": {"n": 1}, "metadata": {}}}]),
        "executions": [RECORD],
        "generation": 3,
    }
    path = daemon(answers(result, seen=seen)).path
    status, out, err = run(
        "--socket", path, "invoke", "h", "--payload", '{"a": [1, 2.5, null]}', "--context", '{"user": "u"}', "--json"
    )
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    assert json.loads(out) == result | {
        "modified_payload": {"b": "Ynl0ZXM=", "s": "**********", "n": 2**64},
        "contexts": {"pii": {"state": {"n": 1}, "metadata": {}}},
    }
    [(method, params)] = seen
    assert method == "invoke"
    assert len(params["context"].pop("request_id")) == 32
    assert params == {"hook": "h", "payload": msgpack.packb({"a": [1, 2.5, None]}), "context": {"user": "u"}}


def test_invoke_with_everything(daemon, tmp_path):
    seen = []
    path = daemon(answers({"contexts": msgpack.packb([1, "r1", {}])}, seen=seen)).path
    (tmp_path / "payload").write_text('"plain"')
    args = ["--context", '{"request_id": "r1"}', "--extensions", '{"x": 1}', "--plugin", "p", "--payload-type", ""]
    args += ["--timeout-ms", "7", "--violations-as-exceptions", "--timing", "--contexts-out", tmp_path / "contexts"]
    assert run("--socket", path, "invoke", "h", "--payload", f"@{tmp_path / 'payload'}", *args)[0] == 0
    assert run("--socket", path, "invoke", "h", "--payload", "-", "--contexts-in", tmp_path / "contexts", stdin="1\n")[0] == 0
    assert seen[0][1] == {
        "hook": "h",
        "payload": msgpack.packb("plain"),
        "context": {"request_id": "r1"},
        "extensions": {"x": 1},
        "plugin": "p",
        "payload_type": "",
        "timeout_ms": 7,
        "violations_as_exceptions": True,
        "timing": True,
    }
    assert seen[1][1]["payload"] == b"\x01"
    assert seen[1][1]["contexts"] == msgpack.packb([1, "r1", {}])


def test_invoke_for_people(daemon):
    result = {"modified_payload": msgpack.packb({"q": "\x1b[2J***"}), "executions": [RECORD]}
    status, out, _ = run("--socket", daemon(answers(result)).path, "invoke", "h", "--payload", "{}")
    assert status == 0
    assert out == 'allowed\nran\n  pii  sequential  changed the payload  1.50 ms  -\npayload\n{\n  "q": "\\u001b[2J***"\n}\n'


def test_nobody_ran_and_nothing_is_said(daemon):
    assert run("--socket", daemon(answers({})).path, "invoke", "h", "--payload", "{}") == (
        0,
        "allowed\nran\n  no plugin: none listens to this hook\n",
        "",
    )
    conditions = daemon(answers({"contexts": b"\x93\x01\xa1r\x80"}), "conditions.sock").path
    assert run("--socket", conditions, "invoke", "h", "--payload", "{}")[1] == "allowed\nran\n  no plugin\n"


def test_a_blocked_call(daemon):
    path = daemon(answers({"continue_processing": False, "violation": VIOLATION})).path
    status, out, _ = run("--socket", path, "invoke", "h", "--payload", "{}")
    assert status == 1
    assert out.startswith("blocked\n  by           pii\n  reason       Denied\n  description  no cats\n  code         CATS\n")
    status, out, _ = run("--socket", path, "invoke", "h", "--payload", "{}", "--json")
    assert status == 1 and json.loads(out)["violation"] == VIOLATION


@pytest.mark.parametrize("result", [None, "x", 5, [], True, b"\x80", 0.5])
def test_a_result_that_is_no_answer(daemon, result, tmp_path):
    path = daemon(answers(result)).path
    args = ["--socket", path, "invoke", "h", "--payload", "{}", "--contexts-out", tmp_path / "contexts"]
    status, out, err = run(*args)
    assert (status, out) == (2, "") and "answer is not a map" in err and err.count("\n") == 1
    status, out, err = run(*args, "--json")
    assert (status, err) == (2, "") and json.loads(out)["error"]["code"] == "protocol"
    assert not (tmp_path / "contexts").exists()


@pytest.mark.parametrize("value", [0, 1, None, "false", "true", [], {}, 0.0])
def test_a_result_that_neither_allows_nor_blocks(daemon, value):
    path = daemon(answers({"continue_processing": value})).path
    status, out, err = run("--socket", path, "invoke", "h", "--payload", "{}")
    assert (status, out) == (2, "") and "neither true nor false" in err and err.count("\n") == 1
    status, out, err = run("--socket", path, "invoke", "h", "--payload", "{}", "--json")
    assert (status, err) == (2, "") and json.loads(out)["error"]["code"] == "protocol"


def test_contexts_are_for_their_owner_alone(daemon, tmp_path):
    contexts = msgpack.packb([1, "r1", {"p": {"state": {"key": msgpack.ExtType(1, b"hush")}, "metadata": {}}}])
    path = daemon(answers({"contexts": contexts})).path
    old = os.umask(0)
    try:
        assert run("--socket", path, "invoke", "h", "--payload", "1", "--contexts-out", tmp_path / "contexts")[0] == 0
    finally:
        os.umask(old)
    assert (tmp_path / "contexts").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "contexts").read_bytes() == contexts
    status, _, err = run("--socket", path, "invoke", "h", "--payload", "1", "--contexts-out", tmp_path / "no" / "contexts")
    assert status == 2 and "cannot be written: No such file" in err


def test_large_integers(daemon):
    numbers = [sign * (1 << bits) + more for bits in (64, 95, 96, 127, 1000, 4094) for sign in (1, -1) for more in (-1, 0, 1)]
    numbers += [10**27, 10**27 - 1, -(10**36), 2**4095 - 1, -(2**4095)]
    shortest = [n.to_bytes(max(n, ~n).bit_length() // 8 + 1, "big", signed=True) for n in numbers]
    values = [msgpack.ExtType(2, data) for data in shortest]
    result = {"metadata": {"numbers": values}}
    status, out, _ = run("--socket", daemon(answers(result)).path, "invoke", "h", "--payload", "1", "--json")
    assert status == 0 and json.loads(out)["metadata"]["numbers"] == numbers


def test_many_large_integers_take_no_time(daemon):
    one = msgpack.ExtType(2, b"\x7f" * 4096)
    path = daemon(answers({"metadata": {"numbers": [one] * 2000}})).path
    start = time.monotonic()
    status, out, _ = run("--socket", path, "invoke", "h", "--payload", "1", "--json")
    assert status == 0 and time.monotonic() - start < 5
    assert json.loads(out)["metadata"]["numbers"][0]["$ext"][0] == 2


def test_an_error(daemon):
    error = {
        "type": "PluginError",
        "code": "",
        "message": "ValueError('no')",
        "plugin_name": "pii",
        "cause": "exception",
        "details": {},
    }
    path = daemon(answers(error=error)).path
    status, out, err = run("--socket", path, "invoke", "h", "--payload", "{}")
    assert (status, out, err) == (2, "", "cpexctl: plugin \"pii\": PluginError (exception): ValueError('no')\n")
    status, out, err = run("--socket", path, "invoke", "h", "--payload", "{}", "--json")
    assert (status, err) == (2, "") and json.loads(out) == {"error": error}


def test_what_would_allow_it(daemon):
    error = {"type": "PluginError", "message": "no", "details": {"sandbox": "the sandbox has denied it\x1b"}}
    status, _, err = run("--socket", daemon(answers(error=error)).path, "invoke", "h", "--payload", "{}")
    assert (status, err) == (2, "cpexctl: PluginError: no\n  the sandbox has denied it\\x1b\n")


def test_the_lines_of_a_message(daemon):
    error = {"type": "ValidationError", "message": "1 error\nname\n  Field \x1b required\n"}
    status, _, err = run("--socket", daemon(answers(error=error)).path, "invoke", "h", "--payload", "{}")
    assert (status, err) == (2, "cpexctl: ValidationError: 1 error\n  name\n    Field \\x1b required\n")


@pytest.mark.parametrize(
    "args, said",
    [
        ([], "no command was given"),
        (["fly"], 'there is no command "fly"'),
        (["ping", "x"], '"x" is one word too many'),
        (["invoke"], "invoke needs HOOK"),
        (["invoke", "h"], "invoke needs --payload"),
        (["invoke", "h", "--payload"], "--payload needs a value"),
        (["status", "--payload", "1"], "status takes no --payload"),
        (["ping", "--wrong"], "there is no option --wrong"),
        (["ping", "--timeout", "soon"], "a number of seconds"),
        (["invoke", "h", "--payload", "1", "--timeout-ms", "0"], "a whole number from 1"),
        (["venv", "burn"], "it is list, build or verify"),
        (["invoke", "h", "--payload", "{'a': 1}"], "--payload:1:2: "),
        (["invoke", "h", "--payload", "1", "--context", "[]"], '--context: an object is needed, like {"request_id"'),
        (["invoke", "h", "--payload", "@/no/such/file"], "/no/such/file: cannot be opened"),
    ],
)
def test_mistakes(args, said):
    status, out, err = run(*args)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1
    status, out, err = run(*args, "--json") if not args or args[-1] != "--payload" else run("--json", *args)
    assert (status, err) == (2, "") and said in json.loads(out)["error"]["message"]


def test_nobody_listens(tmp_path, daemon):
    missing = tmp_path / "missing.sock"
    status, _, err = run("--socket", missing, "ping")
    assert status == 2 and str(missing) in err and "--socket PATH" in err
    status, _, err = run("--socket", missing, "status")
    assert status == 2 and str(tmp_path / "control.sock") in err and "--control PATH" in err
    _, _, err = run("ping", env={"CPEXD_SOCKET": str(missing)})
    assert str(missing) in err
    _, _, err = run("status", env={"CPEXD_SOCKET": str(missing)})
    assert str(tmp_path / "control.sock") in err
    _, _, err = run("--control", missing, "status", env={"CPEXD_CONTROL": "/elsewhere"})
    assert str(missing) in err


def test_a_daemon_that_does_not_answer(daemon):
    status, _, err = run("--socket", daemon(lambda peer: (peer.receive(), peer.receive())).path, "ping", "--timeout", "0.1")
    assert status == 2 and "did not answer in time" in err


def test_the_looking_commands(daemon):
    seen = []
    results = {
        "status": {"version": "9", "state": "running", "plugins": [{"name": "pii", "status": "ready", "workers": [{}, {}]}, {}]},
        "plugins": {"plugins": [{"name": "pii", "status": "failed", "priority": -5, "hooks": ["a", "b"]}]},
        "hooks": {"hooks": {"tool_pre_invoke": ["pii", "audit"]}},
        "venv.list": {"venvs": [{"fingerprint": "f0", "created": 86400 * 366}]},
    }

    def serve(peer):
        while message := peer.receive():
            seen.append((os.path.basename(peer.sock.getsockname()), message[2]))
            peer.answer(message[1], results[message[2]])

    path = daemon(serve).path
    daemon(serve, "control.sock")
    for args, right in [
        (["status"], "pii     ready   -     2  "),
        (["plugins"], "pii     failed  -     -         -5        -        a, b"),
        (["hooks"], "tool_pre_invoke  pii, audit"),
        (["venv", "list"], "f0           -        1971-01-0"),
    ]:
        status, out, _ = run("--socket", path, *args)
        assert status == 0 and right in out
        status, out, _ = run("--socket", path, *args, "--json")
        assert status == 0 and json.loads(out) == results[".".join(args)]
    assert seen[::2] == [
        ("control.sock", "status"),
        ("cpexd.sock", "plugins"),
        ("cpexd.sock", "hooks"),
        ("control.sock", "venv.list"),
    ]


def test_reload(daemon, tmp_path):
    changed = {"generation": 4, "changed": {"added": ["a"], "removed": [], "restarted": [], "kept": ["b", "c"]}}
    refused = {
        "type": "ProtocolError",
        "code": "config",
        "message": "refused",
        "details": {"diagnostics": ["plugins.yaml:1:1: wrong"]},
    }
    daemon(answers(changed), "control.sock")
    other = daemon(answers(error=refused), "other.sock").path
    host = tmp_path / "cpexd.sock"
    assert run("--socket", host, "reload") == (
        0,
        "generation 4\n  added      a\n  removed    -\n  restarted  -\n  kept       b, c\n",
        "",
    )
    assert json.loads(run("--socket", host, "reload", "--json")[1]) == changed
    assert run("--control", other, "reload") == (1, "", "cpexctl: refused\n  plugins.yaml:1:1: wrong\n")
    status, out, _ = run("--control", other, "reload", "--json")
    assert status == 1 and json.loads(out) == {"error": refused}


def test_venv_build(daemon):
    seen = []
    good = {"venvs": [{"plugin": "a", "fingerprint": "f0", "built": True, "error": None}]}
    bad = {"venvs": [{"plugin": "a", "fingerprint": "f0", "built": False, "error": "pip failed"}]}
    path = daemon(answers(good, seen=seen)).path
    assert run("--control", path, "venv", "build", "--plugin", "a") == (0, "a  f0  built\n", "")
    assert seen == [("venv.build", {"plugin": "a"})]
    status, out, _ = run("--control", daemon(answers(bad), "bad.sock").path, "venv", "build")
    assert (status, out) == (1, "a  f0  pip failed\n")


def test_venv_verify(daemon):
    good = {"plugin": "a", "fingerprint": "f0", "differences": [], "error": None}
    bad = {"plugin": "b", "fingerprint": "f1", "differences": ["x: is missing", "y: was not there"], "error": None}
    failed = {"plugin": "c", "fingerprint": None, "differences": [], "error": "it has no venv"}
    assert run("--control", daemon(answers({"venvs": [good]})).path, "venv", "verify") == (0, "a  f0  as it was built\n", "")
    status, out, _ = run("--control", daemon(answers({"venvs": [good, bad, failed]}), "bad.sock").path, "venv", "verify")
    assert (status, out.splitlines()) == (1, ["a  f0  as it was built", "b  f1  x: is missing", "b  f1  y: was not there", "c  -   it has no venv"])


def test_check_runs_the_cpexd_of_the_path(tmp_path):
    cpexctl = tmp_path / "bin" / "cpexctl"
    cpexctl.parent.mkdir()
    cpexctl.write_bytes(CPEXCTL.read_bytes())
    cpexctl.chmod(0o755)
    cpexd = tmp_path / "cpexd"
    cpexd.write_text('#!/bin/sh\necho "$0" "$@"\nexit 1\n')
    cpexd.chmod(0o755)
    done = subprocess.run(
        [cpexctl, "check", "c.yaml", "--plugins", "p.yaml"], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/bin"}
    )
    assert (done.returncode, done.stdout) == (1, f"{cpexd} --check -c c.yaml --plugins p.yaml\n")
    (cpexctl.parent / "cpexd").write_text("#!/bin/sh\necho beside\n")
    (cpexctl.parent / "cpexd").chmod(0o755)
    done = subprocess.run([cpexctl, "check"], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/bin"})
    assert (done.returncode, done.stdout) == (0, "beside\n")


def test_a_full_disk(daemon):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [CPEXCTL, "--socket", daemon(answers({})).path, "ping"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2 and "No space left" in done.stderr


def test_help_and_version():
    status, out, err = run("--help")
    assert (status, err) == (0, "") and "--violations-as-exceptions" in out
    status, out, _ = run("--version")
    assert status == 0 and out.startswith("cpexctl ")
