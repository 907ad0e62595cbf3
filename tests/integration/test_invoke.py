# SPDX-License-Identifier: Apache-2.0
"""The main way: a call goes in, the redacted arguments come out; through the socket and through cpexctl."""

import json

import pytest
from daemon import ROOT, CallError, plugin

SSN = "123-45-6789"
PAYLOAD = {"name": "send_mail", "args": {"to": "ann@example.com", "n": 3, "body": {"lines": ["hello", f"it is {SSN}."]}}}
REDACTED = {"name": "send_mail", "args": {"to": "ann@example.com", "n": 3, "body": {"lines": ["hello", "it is [REDACTED]."]}},
            "headers": None}

GUARD = plugin("guard", """
    async def tool_pre_invoke(self, payload, context):
        if payload.name == "rm":
            return Result(continue_processing=False, violation=PluginViolation(
                reason="no", description="rm is not allowed", code="DENIED", details={"tool": "rm"}))
        if payload.name == "raise":
            raise ValueError("broken")
        return Result()
""")


@pytest.fixture
def scanner(cpexd):
    """The plugin of conf/ as it stands there."""
    return cpexd([], settings={"plugins": str(ROOT / "conf" / "plugins.yaml")})


def test_redacts(scanner):
    answer = scanner.invoke("tool_pre_invoke", PAYLOAD)
    assert answer["continue_processing"] is True
    assert answer["modified_payload"] == REDACTED
    assert answer["metadata"] == {"ssn_redacted": 1}
    assert answer["violation"] is None
    assert answer["generation"] == 1


def test_redacts_results(scanner):
    answer = scanner.invoke("tool_post_invoke", {"name": "lookup", "result": [{"ssn": SSN}, 1, None]})
    assert answer["modified_payload"] == {"name": "lookup", "result": [{"ssn": "[REDACTED]"}, 1, None]}


def test_nothing_to_redact(scanner):
    answer = scanner.invoke("tool_pre_invoke", {"name": "send_mail", "args": {"n": "000-12-3456"}})
    assert answer["modified_payload"] is None
    assert answer["metadata"] == {}


def test_a_hook_that_nobody_listens_to(scanner):
    answer = scanner.invoke("prompt_pre_fetch", {"prompt_id": "p"})
    assert answer["continue_processing"] is True
    assert answer["modified_payload"] is None
    assert answer["contexts"] is None


def test_hooks_and_plugins(scanner):
    with scanner.host() as host:
        hello = host.call("hello", client="test", version=1)
        assert hello["limits"] == {"frame_bytes": 16 << 20, "calls": 1024, "values": 500000}
        assert hello["version"] == 1 and hello["server"].startswith("cpexd ") and hello["generation"] == 1
        assert hello["limits"]["frame_bytes"] > 0
        assert host.call("ping") == {}
        assert host.call("hooks")["hooks"] == {"tool_pre_invoke": ["pii_scanner"], "tool_post_invoke": ["pii_scanner"]}
        (entry,) = host.call("plugins")["plugins"]
    assert entry["name"] == "pii_scanner" and entry["kind"] == "isolated_venv" and entry["status"] == "ready"
    assert entry["mode"] == "sequential" and entry["on_error"] == "fail" and entry["priority"] == 10
    assert entry["hooks"] == ["tool_pre_invoke", "tool_post_invoke"] and entry["tags"] == ["security", "pii"]


def test_cpexctl_prints_one_object(scanner):
    done = scanner.ctl("invoke", "tool_pre_invoke", "--payload", json.dumps(PAYLOAD), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["modified_payload"] == REDACTED
    assert answer["continue_processing"] is True
    assert answer["metadata"] == {"ssn_redacted": 1}


def test_cpexctl_for_people(scanner):
    done = scanner.ctl("invoke", "tool_pre_invoke", "--payload", json.dumps(PAYLOAD))
    assert done.returncode == 0, done.stderr
    assert "[REDACTED]" in done.stdout and SSN not in done.stdout


def test_cpexctl_exit_statuses(cpexd):
    daemon = cpexd([GUARD])
    daemon.expect('plugin "guard".*broken')

    def invoke(payload, *more):
        return daemon.ctl("invoke", "tool_pre_invoke", "--payload", json.dumps(payload), "--json", *more)

    assert invoke({"name": "ls"}).returncode == 0
    blocked = invoke({"name": "rm"})
    assert blocked.returncode == 1
    answer = json.loads(blocked.stdout)
    assert answer["continue_processing"] is False
    assert answer["violation"]["code"] == "DENIED" and answer["violation"]["plugin_name"] == "guard"
    assert answer["violation"]["details"] == {"tool": "rm"}
    raised = invoke({"name": "raise"})
    assert raised.returncode == 2
    assert "broken" in raised.stdout + raised.stderr
    assert invoke({"name": "ls"}, "--context", '{"request_id": "r9", "tenant_id": "t"}').returncode == 0


def test_cpexctl_without_daemon(scanner):
    scanner.stop()
    done = scanner.ctl("invoke", "tool_pre_invoke", "--payload", "{}", "--json")
    assert done.returncode == 2
    assert str(scanner.socket) in done.stdout + done.stderr


def test_cpexctl_payload_that_is_no_json(scanner):
    done = scanner.ctl("invoke", "tool_pre_invoke", "--payload", "{nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stderr


def test_cpexctl_status_and_plugins(scanner):
    for command in ("status", "plugins"):
        done = scanner.ctl(command, "--json")
        assert done.returncode == 0, done.stderr
        assert "pii_scanner" in json.dumps(json.loads(done.stdout))
        assert "pii_scanner" in scanner.ctl(command).stdout


def test_cpexctl_venv_list(scanner):
    done = scanner.ctl("venv", "list", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_only_the_plugin_that_is_named(cpexd):
    daemon = cpexd([plugin(name, f"""
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"{name}": 1}})
    """) for name in ("a", "b")])
    assert daemon.invoke("tool_pre_invoke", {"name": "x"})["metadata"] == {"a": 1, "b": 1}
    assert daemon.invoke("tool_pre_invoke", {"name": "x"}, plugin="b")["metadata"] == {"b": 1}
    with pytest.raises(CallError) as caught:
        daemon.invoke("tool_pre_invoke", {"name": "x"}, plugin="c")
    assert caught.value.type == "ProtocolError" and caught.value.code == "unknown_plugin"


def test_a_payload_that_does_not_validate(scanner):
    with pytest.raises(CallError) as caught:
        scanner.invoke("tool_pre_invoke", {"args": {}})
    assert caught.value.type == "ValidationError"
    assert caught.value.errors[0]["loc"] == ["name"] and caught.value.errors[0]["type"] == "missing"


def test_values_keep_their_types(cpexd):
    daemon = cpexd([plugin("echo", """
        async def tool_pre_invoke(self, payload, context):
            return Result(modified_payload=payload.model_copy(update={"args": dict(payload.args, seen=repr(payload.args["v"]))}))
    """)])
    for value in (True, None, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 1.0, 1.5, float("inf"), "", "ü\x00x", b"\x00\xff", [], {}, [[1]], {"b": 1, "a": 2}):
        answer = daemon.invoke("tool_pre_invoke", {"name": "x", "args": {"v": value}})
        args = answer["modified_payload"]["args"]
        assert args["v"] == value and type(args["v"]) is type(value)
        assert args["seen"] == repr(value)


def test_the_configuration_reaches_the_plugin_with_its_types(cpexd):
    config = {"n": 7, "f": 1.0, "yes": True, "none": None, "text": "7", "list": [1, "a"], "map": {"k": {"d": 1}}}
    daemon = cpexd([plugin("show", """
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={"name": self.config.name, "priority": self.config.priority, "config": dict(self.config.config)})
    """, config=config, priority=42)])
    metadata = daemon.invoke("tool_pre_invoke", {"name": "x"})["metadata"]
    assert metadata["name"] == "show" and metadata["priority"] == 42
    assert {key: metadata["config"][key] for key in config} == config
    assert type(metadata["config"]["f"]) is float


def test_initialize_and_shutdown_are_awaited(cpexd, tmp_path):
    trace = tmp_path / "trace"
    daemon = cpexd([plugin("life", f"""
        async def initialize(self):
            await asyncio.sleep(0)
            open({str(trace)!r}, "a").write("initialize\\n")

        async def shutdown(self):
            await asyncio.sleep(0)
            open({str(trace)!r}, "a").write("shutdown\\n")

        async def tool_pre_invoke(self, payload, context):
            return Result()
    """)])
    assert trace.read_text() == "initialize\n"
    assert daemon.stop() == 0
    assert trace.read_text() == "initialize\nshutdown\n"
