# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B023 - cases run at once, so their lambdas may use the loop variables
"""The plugin base class, its configuration, contexts, errors, the decorator and the helpers."""

import asyncio

from cpex.framework import (
    ControlExecutionRecord,
    ControlExecutionStatus,
    DenialExecutionRecord,
    DenialOutcome,
    GlobalContext,
    OnError,
    Plugin,
    PluginCondition,
    PluginConfig,
    PluginContext,
    PluginContextTable,
    PluginError,
    PluginErrorModel,
    PluginMode,
    PluginPayload,
    PluginResult,
    PluginViolation,
    PluginViolationError,
    ToolPreInvokePayload,
    TransportType,
    UserContext,
    get_attr,
    hook,
)
from cpex.framework.base import HookRef, PluginRef
from cpex.framework.decorator import HookMetadata, get_hook_metadata, has_hook_metadata
from cpex.framework.errors import convert_exception_to_error, sanitize_denial_metadata
from cpex.framework.hooks.policies import DefaultHookPolicy, HookPayloadPolicy, apply_policy
from cpex.framework.models import Config, MCPClientConfig, MCPServerConfig
from cpex.framework.utils import (
    StructuredData,
    coerce_nested,
    get_matchable_value,
    import_module,
    matches,
    normalize_content_type,
    parse_class_name,
    payload_matches,
)
from harness import case, finish

BASE = {"name": "n", "kind": "k"}


class Sample(Plugin):
    async def tool_pre_invoke(self, payload, context):
        return PluginResult()

    @hook("own.hook", PluginPayload, PluginResult)
    async def handler(self, payload, context, extensions):
        return PluginResult()

    @hook(["one", "two"])
    async def another(self, payload, context):
        return PluginResult()

    @hook("sync")
    def not_async(self, payload, context):
        return PluginResult()

    @hook("short")
    async def too_short(self, payload):
        return PluginResult()


def kinds(function):
    """The outcome; of errors only type and place."""
    try:
        return function()
    except ValueError as exc:
        return [(line["type"], line["loc"]) for line in exc.errors()]


# configuration
for number, entry in enumerate(
    [
        {},
        {"mode": "enforce"},
        {"mode": "permissive"},
        {"mode": "enforce_ignore_error"},
        {"mode": "enforce_ignore_error", "on_error": "disable"},
        {"mode": "Enforce"},
        {"mode": "audit", "on_error": "nope"},
        {"mode": PluginMode.CONCURRENT, "priority": "7"},
        {"priority": 9.0},
        {"priority": 1.5},
        {"priority": None},
        {"priority": "high"},
        {"name": 5},
        {"hooks": "tool_pre_invoke"},
        {"hooks": ["a", 1]},
        {"hooks": ("a", "b"), "tags": {"x"}},
        {"conditions": [{"tools": ["a"], "user_patterns": ["x"]}, {}]},
        {"conditions": [{"content_types": ["Text/HTML; charset=x", " a/B "]}]},
        {"conditions": {}},
        {"conditions": [{"tools": "a"}]},
        {"capabilities": "read_headers"},
        {"capabilities": ["read_headers", "read_agent"]},
        {"capabilities": ["read_x"]},
        {"capabilities": None},
        {"config": None},
        {"config": {"a": {"b": 1}}},
        {"config": [1]},
        {"applied_to": {"tools": [{"tool_name": "x", "fields": ["a"]}]}},
        {"applied_to": {"tools": [{}]}},
        {"unknown": 1},
    ]
):
    case(f"config {number}", lambda: PluginConfig(**{**BASE, **entry}))
    case(f"config {number} dump", lambda: PluginConfig(**{**BASE, **entry}).model_dump())
    case(f"config {number} json", lambda: PluginConfig(**{**BASE, **entry}).to_json())

# Transports of external plugins concern the host: what is refused is the same, the words are not.
for number, entry in enumerate(
    [
        {"mcp": {"proto": "STDIO", "script": "a.py"}},
        {"mcp": {"proto": "STDIO"}},
        {"mcp": {"proto": "STDIO", "script": "a.py", "cmd": ["x"]}},
        {"mcp": {"proto": "SSE"}},
        {"mcp": {"proto": "SSE", "url": "https://example.com/mcp"}},
        {"mcp": {"proto": "SSE", "url": "http://127.0.0.1/"}},
        {"mcp": {"proto": "SSE", "url": "file:///etc"}},
        {"mcp": {"proto": "bogus"}},
        {"mcp": {"proto": "HTTP"}},
        {"kind": "external"},
        {"kind": "external", "config": {"a": 1}},
        {"kind": "external", "unix_socket": {"path": "/x"}},
        {"kind": "external", "unix_socket": {"path": "x"}},
        {"kind": "external", "unix_socket": {"path": "/x"}, "grpc": {"target": "h:1"}},
        {"grpc": {"target": "nope"}},
        {"grpc": {}},
    ]
):
    case(f"transport {number}", lambda: kinds(lambda: PluginConfig(**{**BASE, **entry})))

case("config safe", lambda: PluginConfig(**BASE, config={"ä": 1}).get_safe_config())
case("config frozen", lambda: setattr(PluginConfig(**BASE), "name", "x"))
case(
    "config in place",
    lambda: (lambda d: (PluginConfig.model_validate(d), d))({**BASE, "mode": "enforce_ignore_error"})[1],
)
case("config context", lambda: PluginConfig.model_validate(
    {"name": "n", "kind": "external", "config": {"a": 1}, "unix_socket": {"path": "/x"}},
    context={"ignore_config_external": True},
).config)  # fmt: skip
case("condition dump", lambda: PluginCondition(tools={"a"}, prompts=set()).model_dump())
case("file", lambda: Config(plugins=[BASE], plugin_dirs=["p"], other=1))
case("file empty", lambda: Config())
case("file errors", lambda: Config(plugins=[{"name": "a"}, {"kind": "k", "priority": "x"}], plugin_dirs="p"))
case("mcp client", lambda: kinds(lambda: MCPClientConfig(proto="STDIO", cmd=[""])))
case("mcp client env", lambda: kinds(lambda: MCPClientConfig(proto="STDIO", script="x.py", env={}, url="http://a.b")))
case("mcp server", lambda: MCPServerConfig(port="80"))
for kind in (PluginMode, OnError, TransportType, ControlExecutionStatus, DefaultHookPolicy):
    case(f"{kind.__name__}", lambda: [(member.name, member.value, str(member)) for member in kind])

# plugin
CONFIG = PluginConfig(**BASE, hooks=["tool_pre_invoke"], tags=["t"], priority=5, conditions=[{"tools": ["a"]}])
PLUGIN = Sample(CONFIG)
case("plugin", lambda: (PLUGIN.name, PLUGIN.priority, PLUGIN.mode, PLUGIN.hooks, PLUGIN.tags, PLUGIN.conditions))
case("plugin config", lambda: PLUGIN.config is CONFIG)
case("plugin assigned", lambda: setattr(PLUGIN, "name", "x") and None or PLUGIN.name)
case("plugin starts", lambda: (asyncio.run(PLUGIN.initialize()), asyncio.run(PLUGIN.shutdown())))
case("plugin payload", lambda: PLUGIN.json_to_payload("tool_pre_invoke", {"name": "x"}))
case("plugin payload text", lambda: PLUGIN.json_to_payload("tool_pre_invoke", '{"name": "x"}'))
case("plugin result", lambda: PLUGIN.json_to_result("tool_pre_invoke", {"retry_delay_ms": 1}))
case("plugin payload unknown", lambda: PLUGIN.json_to_payload("x", {}))
case("plugin result unknown", lambda: PLUGIN.json_to_result("x", "{}"))
case("plugin own payloads", lambda: Sample(CONFIG, {"x": PluginPayload}, {"x": PluginResult}).json_to_payload("x", {}))
case("plugin own results", lambda: Sample(CONFIG, {"x": PluginPayload}, {"x": PluginResult}).json_to_result("x", "{}"))
case("plugin without config", lambda: Sample())

# references and marks
REF = PluginRef(PLUGIN)
case(
    "ref",
    lambda: (REF.name, REF.priority, REF.mode, REF.on_error, REF.hooks, REF.tags, REF.capabilities, len(REF.uuid)),
)
for name in ("tool_pre_invoke", "own.hook", "one", "two", "sync", "short", "missing"):
    case(f"hook ref {name}", lambda: (lambda r: (r.name, r.accepts_extensions, r.hook.__name__))(HookRef(name, REF)))
case("marks", lambda: [vars(get_hook_metadata(getattr(PLUGIN, name))) for name in ("handler", "another")])
case("no mark", lambda: (get_hook_metadata(PLUGIN.tool_pre_invoke), has_hook_metadata(PLUGIN.tool_pre_invoke)))
case("mark", lambda: (HookMetadata(["a", "b"]).hook_type, HookMetadata([]).hook_type, HookMetadata(["a"]).matches("b")))

# contexts
SHARED = {"request_id": "1", "user": {"email": "a@b"}, "state": {"k": [1]}}
case("global", lambda: GlobalContext(**SHARED))
case("global users", lambda: [GlobalContext(request_id="1", user=u).user for u in ("x", None, b"x", {"a": 1})])
case("global user wrong", lambda: GlobalContext(request_id="1", user=5))
case("global long", lambda: GlobalContext(request_id="1", content_type="x" * 201))
case("global unprintable", lambda: GlobalContext(request_id="1", content_type="x\n"))
case("global missing", lambda: GlobalContext())
case("context", lambda: PluginContext(global_context=SHARED))
case(
    "context keeps global",
    lambda: (lambda g: PluginContext(global_context=g).global_context is g)(GlobalContext(**SHARED)),
)
case("context copies state", lambda: (lambda s: PluginContext(global_context=SHARED, state=s).state is s)({}))
case("context missing", lambda: PluginContext())
case("context state", lambda: (lambda c: (c.set_state("a", 1), c.get_state("a"), c.get_state("b"), c.get_state("b", 2), c.state))(
    PluginContext(global_context={"request_id": "1"})
))  # fmt: skip
case(
    "context empty",
    lambda: [
        PluginContext(global_context={"request_id": "1", **more}).is_empty() for more in ({}, {"state": {"a": 1}})
    ],
)
case(
    "context cleanup",
    lambda: (lambda c: (asyncio.run(c.cleanup()), c))(PluginContext(global_context=SHARED, state={"a": 1})),
)
case("context emails", lambda: [PluginContext(global_context={"request_id": "1", **more}).user_email for more in (
    {}, {"user": "u"}, {"user": {"email": "e"}}, {"user": {}}, {"user": "u", "user_context": {"user_id": "i", "email": "c"}},
)])  # fmt: skip
case(
    "context groups",
    lambda: (
        PluginContext(global_context={"request_id": "1", "user_context": {"user_id": "i", "groups": ["g"]}}).user_groups
    ),
)
case("context table", lambda: PluginContextTable)
case("context dump", lambda: PluginContext(global_context=SHARED, state={"a": {1}}).model_dump())
case("user", lambda: UserContext(user_id="u", authenticated_at="2024-01-02T03:04:05Z", attributes={"a": 1}))
case("user json", lambda: UserContext(user_id="u", authenticated_at="2024-01-02T03:04:05+02:00").model_dump_json())
case(
    "user utc", lambda: UserContext(user_id="u", authenticated_at="2024-01-02T03:04:05.123456Z").model_dump(mode="json")
)
case(
    "user wrong",
    lambda: [e["type"] for e in errors(lambda: UserContext(user_id=1, is_admin="x", groups="g", authenticated_at=[]))],
)


def errors(function):
    try:
        function()
    except ValueError as exc:
        return exc.errors()


# violations and errors
VIOLATION = PluginViolation(reason="r", description="d", code="c")
case("violation", lambda: VIOLATION)
case(
    "violation details",
    lambda: PluginViolation(reason="r", description="d", code="c", details=None, http_headers={"a": "b"}),
)
case("violation wrong", lambda: PluginViolation(reason="r"))
case(
    "violation name",
    lambda: (setattr(VIOLATION, "plugin_name", "p"), VIOLATION.plugin_name, VIOLATION.model_copy().plugin_name),
)
case("violation name empty", lambda: setattr(VIOLATION, "plugin_name", " "))
case("violation dump", lambda: VIOLATION.model_dump())
case("violation assigned", lambda: (setattr(VIOLATION, "code", "x"), VIOLATION.code))
case("error model", lambda: PluginErrorModel(message="m", plugin_name="p"))
case(
    "error",
    lambda: (lambda e: (str(e), repr(e), e.error, e.args))(
        PluginError(error=PluginErrorModel(message="m", plugin_name="p"))
    ),
)
case("error positional", lambda: str(PluginError(PluginErrorModel(message="m", plugin_name="p"))))
case(
    "violation error",
    lambda: (lambda e: (str(e), e.message, e.violation.code, e.executions, e.denial_outcome))(
        PluginViolationError("m", VIOLATION)
    ),
)
case("violation error bare", lambda: (lambda e: (repr(e), e.violation))(PluginViolationError("m")))
case("violation error keyword", lambda: PluginViolationError(message="m", violation=VIOLATION).violation is VIOLATION)
case("converted", lambda: convert_exception_to_error(ValueError("x"), plugin_name="p"))
case(
    "denial metadata",
    lambda: sanitize_denial_metadata(
        {"a": 1, "b": True, "c": 1.5, "d": "x", "e f": 1, 5: 1, "g": float("nan"), "h": 2**63}
    ),
)
case(
    "denial metadata long",
    lambda: (sanitize_denial_metadata({str(i): i for i in range(17)}), sanitize_denial_metadata(None)),
)
RECORD = ControlExecutionRecord(
    plugin_id="i", plugin_name="n", plugin_kind="k", hook_name="h", mode="audit", status="error", error_code="a b"
)
case("record", lambda: RECORD)
case("record dump", lambda: RECORD.model_dump_json())
case("denial record", lambda: DenialExecutionRecord.from_execution(RECORD))
case("denial outcome", lambda: DenialOutcome.from_execution(RECORD, VIOLATION, {"a": 1}))
case("background", lambda: asyncio.run(PluginResult().wait_for_background_tasks()))


async def in_background():
    async def fails():
        return PluginErrorModel(message="m", plugin_name="p")

    return await PluginResult(background_tasks=[asyncio.ensure_future(fails())]).wait_for_background_tasks()


case("background error", lambda: asyncio.run(in_background()))

# helpers
case("get_attr", lambda: [get_attr({"a": 1, "e": ""}, "a"), get_attr({}, "a"), get_attr({"e": ""}, "e", "d"), get_attr(None, "a", 3),
                          get_attr(VIOLATION, "reason"), get_attr(VIOLATION, "nope", 1), get_attr(5, "x")])  # fmt: skip
case("coerce", lambda: coerce_nested({"a": [{"b": {"c": 1}}, 2]}))
case("coerce depth", lambda: str(coerce_nested(eval("{'a':" * 25 + "1" + "}" * 25))))
case("structured", lambda: StructuredData(a=1, b={"c": 2}).model_dump())
case("content types", lambda: [normalize_content_type(t) for t in ("A/b; c=d", "", "  ", None, "x")])
case("class names", lambda: [parse_class_name(n) for n in ("a.b.C", "C", "a.C")])
for name in ("os", "os.path", "sys", "a..b", "a/b", "http.server", "json", "osprey_missing"):
    case(f"import {name}", lambda: import_module(name).__name__)
TOOL = ToolPreInvokePayload(name="calc")
for number, (condition, context) in enumerate(
    [
        ({}, {}),
        ({"tools": ["calc"]}, {}),
        ({"tools": ["other"]}, {}),
        ({"server_ids": ["s"]}, {"server_id": "s"}),
        ({"server_ids": ["s"]}, {}),
        ({"tenant_ids": ["t"]}, {"tenant_id": "x"}),
        ({"user_patterns": ["adm"]}, {"user": "admin"}),
        ({"user_patterns": ["adm"]}, {"user": {"adm": 1}}),
        ({"user_patterns": ["adm"]}, {}),
        ({"content_types": ["a/B"]}, {"content_type": "A/b; x"}),
        ({"content_types": ["a/B"]}, {"content_type": " "}),
        ({"prompts": ["p"]}, {}),
    ]
):
    shared = GlobalContext(request_id="1", **context)
    case(f"matches {number}", lambda: matches(PluginCondition(**condition), shared))
    case(
        f"payload matches {number}",
        lambda: payload_matches(TOOL, "tool_pre_invoke", [PluginCondition(**condition)], shared),
    )
case("payload matches none", lambda: payload_matches(TOOL, "x", [], GlobalContext(request_id="1")))
case("matchable", lambda: (get_matchable_value(TOOL, "tool_pre_invoke"), get_matchable_value(TOOL, "x")))
POLICY = HookPayloadPolicy(writable_fields=frozenset({"args"}))
case("policy", lambda: apply_policy(TOOL, TOOL.model_copy(update={"name": "x", "args": {"a": 1}}), POLICY))
case("policy unchanged", lambda: apply_policy(TOOL, TOOL.model_copy(update={"name": "x"}), POLICY))

finish()
