# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B023 - cases run at once, so their lambdas may use the loop variables
"""Payloads and results of every hook, through the registry and by their classes."""

import warnings

import cpex.framework.hooks.identity  # noqa: F401 - the real SDK registers these hooks when they are imported
import cpex.framework.hooks.message  # noqa: F401
from cpex.framework import (
    AgentHookType,
    AgentPreInvokePayload,
    HookRegistry,
    HttpHeaderPayload,
    HttpHookType,
    HttpPreRequestPayload,
    PluginPayload,
    PluginResult,
    PromptHookType,
    PromptPosthookPayload,
    ResourceHookType,
    ToolHookType,
    ToolPreInvokePayload,
    ToolPreInvokeResult,
    get_hook_registry,
)
from cpex.framework.hooks.identity import DelegationPayload, IdentityHookType, IdentityPayload
from cpex.framework.hooks.message import CmfHookType, MessageHookType
from harness import case, finish

warnings.simplefilter("ignore")
REGISTRY = get_hook_registry()

INPUTS = {
    "tool_pre_invoke": [
        {"name": "t"},
        {"name": "t", "args": None},
        {"name": "t", "args": {"a": [1, {"b": 2}]}, "headers": {"X": "y"}, "unknown": 1},
        {"name": 1, "args": []},
        {"args": {1: 2}},
        {"name": "t", "headers": {"X": 1}},
    ],
    "tool_post_invoke": [{"name": "t", "result": {"a": 1}}, {"name": "t", "result": None}, {"name": "t"}],
    "prompt_pre_fetch": [
        {"prompt_id": "p"},
        {"prompt_id": "p", "args": {"a": "b"}},
        {"prompt_id": 1, "args": {"a": 1}},
    ],
    "prompt_post_fetch": [
        {"prompt_id": "p", "result": {"messages": [{"role": "user", "content": {"text": "hi", "n": [[{"x": 1}]]}}]}},
        {"prompt_id": "p", "result": [1, {"a": 2}]},
        {"prompt_id": "p"},
    ],
    "resource_pre_fetch": [{"uri": "u"}, {"uri": "u", "metadata": {"a": 1}}, {"uri": None, "metadata": "x"}],
    "resource_post_fetch": [{"uri": "u", "content": {"text": "x"}}, {"uri": "u"}],
    "agent_pre_invoke": [
        {"agent_id": "a", "messages": []},
        {"agent_id": "a", "messages": [{"role": "user", "content": [{"type": "text"}]}, "plain", [{"in": 1}]]},
        {"agent_id": "a", "messages": [], "tools": ["x", 1], "headers": {"a": "b"}, "parameters": {"t": 0.5}},
        {"agent_id": "a", "messages": {"role": "user"}},
        {},
    ],
    "agent_post_invoke": [{"agent_id": "a", "messages": [], "tool_calls": [{"name": "x"}]}, {"agent_id": "a"}],
    "http_pre_request": [
        {"path": "/", "method": "GET", "headers": {}},
        {"path": "/", "method": "GET", "headers": {"a": 1}, "client_port": "80"},
        {"path": "/", "method": "GET", "headers": None},
        {"path": "/"},
    ],
    "http_post_request": [
        {"path": "/", "method": "GET", "headers": {}, "response_headers": {"a": "b"}, "status_code": "200"}
    ],
    "http_auth_resolve_user": [{"headers": {}, "credentials": {"a": 1}}, {"credentials": []}],
    "http_auth_check_permission": [{"user_email": "a", "permission": "p", "is_admin": "yes"}, {"is_admin": "maybe"}],
    "identity_resolve": [
        {"raw_token": "secret"},
        {"raw_token": "", "source": "mtls", "headers": {"a": "b"}, "client_port": "1"},
        {"raw_token": 5},
        {},
    ],
    "token_delegate": [
        {"target_name": "t", "bearer_token": "s", "route_attenuation": {"actions": ["read"], "ttl_seconds": "5"}},
        {"target_name": "t", "required_permissions": "x"},
    ],
    "evaluate": [
        {"message": {"role": "user", "content": [{"content_type": "text", "text": "x"}]}, "hook": "llm_input"}
    ],
    "cmf.llm_input": [{"message": {"role": "nobody"}, "hook": "x"}],
    "no_such_hook": [{}],
}
RESULTS = [
    {},
    {"continue_processing": False, "violation": {"reason": "r", "description": "d", "code": "c"}},
    {"modified_payload": None, "metadata": None, "retry_delay_ms": "5"},
    {"continue_processing": "maybe", "metadata": [], "violation": {"reason": "r"}, "retry_delay_ms": 1.5},
    {"executions": [{}]},
]

for hook, inputs in INPUTS.items():
    case(f"{hook}: types", lambda: (REGISTRY.get_payload_type(hook), REGISTRY.get_result_type(hook).__name__))
    case(f"{hook}: registered", lambda: REGISTRY.is_registered(hook))
    for number, data in enumerate(inputs):
        case(f"{hook} {number}", lambda: REGISTRY.json_to_payload(hook, data))
        case(f"{hook} {number}: dump", lambda: REGISTRY.json_to_payload(hook, data).model_dump())
        case(f"{hook} {number}: json", lambda: REGISTRY.json_to_payload(hook, data).model_dump_json())
        case(f"{hook} {number}: set", lambda: sorted(REGISTRY.json_to_payload(hook, data).model_fields_set))
        case(
            f"{hook} {number}: result",
            lambda: REGISTRY.json_to_result(hook, {"modified_payload": data}).modified_payload,
        )
    for number, data in enumerate(RESULTS):
        case(f"{hook}: result {number}", lambda: REGISTRY.json_to_result(hook, data))
        case(f"{hook}: result {number} dump", lambda: REGISTRY.json_to_result(hook, data).model_dump_json())

for kind in (ToolHookType, PromptHookType, ResourceHookType, AgentHookType, HttpHookType, IdentityHookType, MessageHookType,
             CmfHookType):  # fmt: skip
    case(f"{kind.__name__}", lambda: [(member.name, member.value, str(member), f"{member}") for member in kind])

case("registry is one", lambda: HookRegistry() is REGISTRY)
case("registry by enum", lambda: REGISTRY.get_payload_type(ToolHookType.TOOL_PRE_INVOKE) is ToolPreInvokePayload)
case("registry json text", lambda: REGISTRY.json_to_payload("tool_pre_invoke", '{"name": "x"}'))
case("registry result text", lambda: REGISTRY.json_to_result("tool_pre_invoke", '{"continue_processing": false}'))
case(
    "registry unknown",
    lambda: (REGISTRY.get_payload_type("x"), REGISTRY.get_result_type("x"), REGISTRY.is_registered("x")),
)
case("registry unknown payload", lambda: REGISTRY.json_to_payload("x", {}))
case("registry unknown result", lambda: REGISTRY.json_to_result("x", {}))
case(
    "registry own", lambda: (REGISTRY.register_hook("own", PluginPayload, PluginResult), REGISTRY.is_registered("own"))
)
case("registry lists own", lambda: "own" in REGISTRY.get_registered_hooks())
case("registry lists all", lambda: sorted(hook for hook in INPUTS if hook in REGISTRY.get_registered_hooks()))

HEADERS = HttpHeaderPayload({"a": "b"})
case("headers", lambda: (HEADERS, HEADERS["a"], list(HEADERS), len(HEADERS), "a" in HEADERS, HEADERS.root))
case("headers text", lambda: str(HEADERS))
case("headers by name", lambda: HttpHeaderPayload(root={"a": "b"}) == HEADERS)
case("headers by keywords", lambda: HttpHeaderPayload(a="b"))
case("headers wrong", lambda: HttpHeaderPayload({"a": 1}))
case("headers no mapping", lambda: HttpHeaderPayload([1]))
case("headers dump", lambda: (HEADERS.model_dump(), HEADERS.model_dump_json()))
case("headers validate", lambda: HttpHeaderPayload.model_validate({"a": b"b"}))
case("headers copy", lambda: HEADERS.model_copy(update={"root": {"c": "d"}}))
case("headers set item", lambda: (lambda h: (h.__setitem__("x", "y"), h))(HttpHeaderPayload({})))
case("headers frozen", lambda: setattr(HttpHeaderPayload({}), "root", {}))
case("headers construct", lambda: HttpHeaderPayload.model_construct({"a": 1}))
case(
    "headers in result",
    lambda: PluginResult[HttpHeaderPayload](modified_payload={"a": "b"}).model_dump()["modified_payload"],
)
case("headers of payload", lambda: HttpPreRequestPayload(path="/", method="GET", headers=HEADERS).headers["a"])

PROMPT = PromptPosthookPayload(prompt_id="p", result={"messages": [{"content": {"text": "hi"}}], "description": None})
case("nested attribute", lambda: PROMPT.result.messages[0].content.text)
case("nested change", lambda: (lambda r: (setattr(r, "description", "d"), r.model_dump()))(PROMPT.result))
case("nested type", lambda: type(PROMPT.result).__name__)
case(
    "nested wide", lambda: type(PromptPosthookPayload(prompt_id="p", result=dict.fromkeys(map(str, range(501)))).result)
)
case("message attribute", lambda: AgentPreInvokePayload(agent_id="a", messages=[{"role": "u"}]).messages[0].role)

TOKEN = IdentityPayload(raw_token="secret")
case(
    "secret",
    lambda: (TOKEN.raw_token.get_secret_value(), str(TOKEN.raw_token), repr(TOKEN.raw_token), len(TOKEN.raw_token)),
)
case(
    "secret empty",
    lambda: (str(IdentityPayload(raw_token="").raw_token), repr(IdentityPayload(raw_token="").raw_token)),
)
case("secret dump", lambda: (TOKEN.model_dump(), TOKEN.model_dump(mode="json"), TOKEN.model_dump_json()))
case(
    "secret equal", lambda: (TOKEN == IdentityPayload(raw_token="secret"), TOKEN == IdentityPayload(raw_token="other"))
)
case("secret kept", lambda: DelegationPayload(target_name="t", bearer_token=TOKEN.raw_token).bearer_token)


def warned(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [warning.category for warning in caught]


case("headers deprecated", lambda: warned(lambda: ToolPreInvokePayload(name="t", headers={"a": "b"})))
case("no headers, no warning", lambda: warned(lambda: ToolPreInvokePayload(name="t", headers=None)))
case("result", lambda: ToolPreInvokeResult(modified_payload=ToolPreInvokePayload(name="t")).model_dump())

finish()
