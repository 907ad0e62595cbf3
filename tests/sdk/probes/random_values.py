# SPDX-License-Identifier: Apache-2.0
"""Every model of the SDK with random values: made, dumped, copied, compared, changed, pickled.

`random_values.py SEED COUNT` makes COUNT inputs of each model; the same numbers give the same cases under any SDK, since nothing that
is drawn depends on what came before. An input is a right one with a few things changed, so that most are nearly right.
"""

import copy
import importlib
import json
import pickle
import random
import sys
import warnings

from cpex.framework.hooks import identity, message  # noqa: F401 - the real SDK registers their hooks when they are imported
from cpex.framework.models import BaseModel
from harness import case, finish

warnings.simplefilter("ignore")

PART = {"content_type": "text", "text": "hi"}
CALL = {"tool_call_id": "1", "name": "calc", "arguments": {"a": [1, {"b": None}]}, "namespace": "n"}
RESOURCE = {"resource_request_id": "r", "uri": "file:///a", "resource_type": "file", "content": "text", "annotations": {"a": 1}}
SUBJECT = {"id": "u", "type": "user", "roles": ["r"], "permissions": ["p"], "teams": ["t"], "claims": {"c": "v"}}
HOP = {"subject_id": "u", "subject_type": "user", "scopes_granted": ["s"], "timestamp": "2024-01-02T03:04:05Z", "ttl_seconds": 5}
CHAIN = {"chain": [HOP], "depth": 1, "delegated": True, "age_seconds": 1.5}
TOOL = {"name": "calc", "title": "t", "input_schema": {"type": "object"}, "annotations": {"a": True}}
TOKENS = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
HEADERS = {"X-A": "1", "accept": "text/plain"}
VIOLATION = {"reason": "r", "description": "d", "code": "c", "details": {"n": 1}, "mcp_error_code": -1, "http_headers": HEADERS}
RECORD = {"plugin_id": "i", "plugin_name": "n", "plugin_kind": "k", "hook_name": "h", "mode": "audit", "status": "completed",
          "duration_ns": 7, "reason": "r", "config_keys": ["a"]}  # fmt: skip
USER = {"user_id": "u", "email": "e@x", "groups": ["g"], "attributes": {"a": [1]}, "authenticated_at": "2024-01-02T03:04:05Z"}
SHARED = {"request_id": "1", "user": {"email": "e"}, "user_context": USER, "tenant_id": "t", "state": {"k": [1]}, "metadata": {"m": {}}}
EXTENSIONS = {
    "request": {"environment": "prod", "trace_id": "t"}, "agent": {"input": "i", "conversation": {"summary": "s"}}, "http": {"headers": HEADERS},
    "security": {"labels": ["pii"], "subject": SUBJECT, "objects": {"calc": {"permissions": ["p"]}}, "data": {"calc": {"retention": {"max_age_seconds": 1}}}},
    "delegation": CHAIN, "mcp": {"tool": TOOL}, "completion": {"stop_reason": "end", "tokens": TOKENS}, "provenance": {"source": "s"},
    "llm": {"model_id": "m", "capabilities": ["x"]}, "framework": {"framework": "f", "metadata": {"a": 1}},
    "meta": {"tags": ["t"], "properties": {"p": "v"}}, "custom": {"c": [1, {"d": 2}]},
}  # fmt: skip
MESSAGE = {"role": "user", "content": [PART, {"content_type": "tool_call", "content": CALL}, {"content_type": "resource", "content": RESOURCE}],
           "channel": "final"}  # fmt: skip

EXAMPLES = {
    "models": {
        "PluginCondition": {"tools": ["a"], "user_patterns": ["u"], "content_types": ["Text/HTML; q=1"]},
        "PluginConfig": {"name": "n", "kind": "k", "hooks": ["h"], "tags": ["t"], "mode": "permissive", "on_error": "ignore", "priority": 5,
                         "conditions": [{"tools": ["a"]}], "capabilities": ["read_headers"], "config": {"a": {"b": [1]}}},
        "ControlExecutionRecord": RECORD,
        "PluginErrorModel": {"message": "m", "plugin_name": "p", "code": "c", "details": {"a": 1}, "mcp_error_code": 5},
        "PluginViolation": VIOLATION,
        "UserContext": USER,
        "GlobalContext": SHARED,
        "PluginContext": {"global_context": SHARED, "state": {"a": 1}, "metadata": {"b": [2]}},
        "PluginPayload": {},
        "PluginResult": {"continue_processing": False, "modified_payload": {"a": 1}, "violation": VIOLATION, "metadata": {"m": 1},
                         "modified_extensions": EXTENSIONS, "http_headers": HEADERS, "retry_delay_ms": 5, "executions": [RECORD],
                         "denial_metadata": {"x": 1}},
        "AppliedTo": {"tools": [{"tool_name": "t", "fields": ["f"], "context": ["c"], "extensions": {"e": 1}}], "prompts": [{"prompt_name": "p"}]},
    },
    "hooks.tools": {"ToolPreInvokePayload": {"name": "t", "args": {"a": [1]}, "headers": HEADERS}, "ToolPostInvokePayload": {"name": "t", "result": {"r": 1}},
                    "ToolPreInvokeResult": {"modified_payload": {"name": "t", "args": {"a": 1}}, "metadata": {"m": 1}}},
    "hooks.prompts": {"PromptPrehookPayload": {"prompt_id": "p", "args": {"a": "b"}},
                      "PromptPosthookPayload": {"prompt_id": "p", "result": {"messages": [{"role": "user", "content": {"text": "x"}}]}}},
    "hooks.resources": {"ResourcePreFetchPayload": {"uri": "u", "metadata": {"a": 1}}, "ResourcePostFetchPayload": {"uri": "u", "content": {"text": "x"}}},
    "hooks.agents": {"AgentPreInvokePayload": {"agent_id": "a", "messages": [{"role": "u", "content": "c"}], "tools": ["t"], "headers": HEADERS, "parameters": {"t": 1}},
                     "AgentPostInvokePayload": {"agent_id": "a", "messages": [{"role": "u"}], "tool_calls": [{"n": 1}]}},
    "hooks.http": {"HttpHeaderPayload": HEADERS, "HttpPreRequestPayload": {"path": "/", "method": "GET", "headers": HEADERS, "client_port": 1},
                   "HttpPostRequestPayload": {"path": "/", "method": "GET", "headers": HEADERS, "response_headers": HEADERS, "status_code": 200},
                   "HttpAuthResolveUserPayload": {"credentials": {"a": "b"}, "headers": HEADERS},
                   "HttpAuthCheckPermissionPayload": {"user_email": "e", "permission": "p", "is_admin": True},
                   "HttpAuthCheckPermissionResultPayload": {"granted": True, "reason": "r"}},
    "hooks.identity": {"IdentityPayload": {"raw_token": "s", "headers": HEADERS, "client_port": 5},
                       "IdentityResult": {"subject": SUBJECT, "delegation": CHAIN, "rejected": True, "raw_claims": {"a": 1}},
                       "AttenuationConfig": {"capabilities": ["c"], "actions": ["a"], "ttl_seconds": 5},
                       "DelegationPayload": {"target_name": "t", "required_permissions": ["p"], "route_attenuation": {"actions": ["a"]}, "bearer_token": "s"},
                       "DelegationResult": {"delegated_token": "t", "delegation_update": CHAIN, "forwarded_headers": HEADERS, "cache_ttl": 5}},
    "hooks.message": {"MessagePayload": {"message": MESSAGE, "hook": "llm_input"}},
    "extensions": {"Extensions": EXTENSIONS, "AgentExtension": EXTENSIONS["agent"], "ConversationContext": {"summary": "s", "topics": ["t"]},
                   "CompletionExtension": EXTENSIONS["completion"], "TokenUsage": TOKENS, "DelegationExtension": CHAIN, "DelegationHop": HOP,
                   "FrameworkExtension": EXTENSIONS["framework"], "HttpExtension": {"headers": HEADERS}, "LLMExtension": EXTENSIONS["llm"],
                   "MCPExtension": EXTENSIONS["mcp"], "ToolMetadata": TOOL, "ResourceMetadata": {"uri": "u", "annotations": {"a": 1}},
                   "PromptMetadata": {"name": "p", "arguments": [{"name": "a"}]}, "MetaExtension": EXTENSIONS["meta"],
                   "ProvenanceExtension": {"source": "s", "message_id": "m"}, "RequestExtension": {"environment": "e", "request_id": "r", "trace_id": "t"},
                   "SecurityExtension": EXTENSIONS["security"], "SubjectExtension": SUBJECT, "ObjectSecurityProfile": {"permissions": ["p"], "data_scope": ["d"]},
                   "DataPolicy": {"apply_labels": ["l"], "allowed_actions": ["a"], "retention": {"policy": "p"}}, "RetentionPolicy": {"max_age_seconds": 1}},
    "cmf.message": {"Message": MESSAGE, "TextContent": PART, "ThinkingContent": {"content_type": "thinking", "text": "t"}, "ToolCall": CALL,
                    "ToolResult": {"tool_call_id": "1", "tool_name": "t", "content": {"a": 1}, "is_error": True}, "Resource": RESOURCE,
                    "ResourceReference": {"resource_request_id": "r", "uri": "u", "resource_type": "uri", "range_start": 1, "range_end": 2},
                    "PromptRequest": {"prompt_request_id": "p", "name": "n", "arguments": {"a": 1}},
                    "PromptResult": {"prompt_request_id": "p", "prompt_name": "n", "messages": [MESSAGE], "content": "c"},
                    "ImageSource": {"type": "url", "data": "d"}, "VideoSource": {"type": "base64", "data": "d", "duration_ms": 5},
                    "AudioSource": {"type": "url", "data": "d"}, "DocumentSource": {"type": "url", "data": "d", "title": "t"},
                    "ImageContentPart": {"content_type": "image", "content": {"type": "url", "data": "d"}}, "ContentPart": {"content_type": "text"},
                    "PromptResultContentPart": {"content_type": "prompt_result", "content": {"prompt_request_id": "p", "prompt_name": "n", "messages": [MESSAGE]}}},
}  # fmt: skip

SCALARS = [None, True, False, 0, 1, -7, 2**40, 2**70, 1.0, 1.5, -0.0, 1e300, "", "a", "1", " 2 ", "x y", "ü\u2028", "true", "audit", "user", "text",
           "2024-01-02T03:04:05+01:00", b"by", b"\xff", float("nan"), float("inf")]  # fmt: skip
KEYS = ["a", "b", "name", "kind", "zz", "", "ü.x", 1, None, True, 2.5]


class Own:
    """A class of the plugin's own."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return isinstance(other, Own) and other.n == self.n

    def __hash__(self):
        return self.n

    def __repr__(self):
        return f"Own({self.n})"


def any_value(rng, depth=0):
    """Anything a plugin may hand over."""
    kind = rng.random()
    if depth > 2 or kind < 0.6:
        return rng.choice(SCALARS)
    size = rng.randrange(4)
    if kind < 0.75:
        return {rng.choice(KEYS[:7]): any_value(rng, depth + 1) for _ in range(size)}
    if kind < 0.9:
        return [any_value(rng, depth + 1) for _ in range(size)]
    if kind < 0.93:
        return tuple(any_value(rng, depth + 1) for _ in range(size))
    if kind < 0.96:
        return {rng.choice(SCALARS[:5])}
    return Own(rng.randrange(3)) if kind < 0.98 else {rng.choice(KEYS): rng.choice(SCALARS)}


def places(value, path=()):
    """Every place in nested dicts and lists."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def changed(rng, value):
    """A copy with something replaced, taken out or added at a random place."""
    value = copy.deepcopy(value)
    path = rng.choice(list(places(value)))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    what = rng.random()
    inner = holder[path[-1]] if path else value
    if what < 0.2 and isinstance(inner, dict):
        inner[rng.choice(KEYS)] = any_value(rng)
    elif not path:
        return value
    elif what < 0.4 and isinstance(holder, dict):
        del holder[path[-1]]
    elif what < 0.5 and isinstance(inner, list):
        holder[path[-1]] = rng.choice([tuple, list, lambda items: {"a": items}])(inner)
    else:
        holder[path[-1]] = any_value(rng)
    return value


def some_fields(rng, cls):
    names = [*cls.model_fields, "zz"]
    return {rng.choice(names) for _ in range(rng.randrange(1, 4))}


def options(rng, cls):
    found = {name: True for name in ("exclude_none", "exclude_unset", "exclude_defaults", "by_alias") if rng.random() < 0.25}
    for name in ("include", "exclude"):
        if rng.random() < 0.3:
            found[name] = some_fields(rng, cls)
            if rng.random() < 0.4:
                found[name] = {field: rng.choice([True, {"a"}, {0: True}, {"__all__": True}, {"content": True}]) for field in found[name]}
    return found


def kinds(value, depth=0):
    """The classes inside a value, which its repr does not always show."""
    if isinstance(value, BaseModel):
        return (type(value).__name__, [(name, kinds(getattr(value, name), depth + 1)) for name in type(value).model_fields]) if depth < 5 else "…"
    if isinstance(value, dict):
        return {repr(key): kinds(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *[kinds(item, depth + 1) for item in value]]
    return type(value).__name__


def one(label, rng, cls, example):
    """All observations of one input."""
    data = changed(rng, example)
    for _ in range(rng.randrange(3)):
        data = changed(rng, data)
    other = changed(rng, data)
    how, how_json, update = options(rng, cls), options(rng, cls), {name: any_value(rng) for name in some_fields(rng, cls)}
    fields, value = sorted(some_fields(rng, cls)), any_value(rng)
    indent = rng.choice([None, None, 1, 2])

    def made(source=data):
        return cls.model_validate(copy.deepcopy(source))

    case(f"{label} made", made)
    case(f"{label} by keywords", lambda: cls(**{str(key): item for key, item in copy.deepcopy(data).items()}))
    try:
        made()
    except Exception as exc:
        text = str(exc)
        case(f"{label} text of the error", lambda: text)
        return
    case(f"{label} kinds", lambda: kinds(made()))
    case(f"{label} set", lambda: sorted(made().model_fields_set, key=str))
    case(f"{label} str", lambda: str(made()))
    case(f"{label} dump", lambda: made().model_dump())
    case(f"{label} dump as json", lambda: made().model_dump(mode="json"))
    case(f"{label} json", lambda: made().model_dump_json())
    case(f"{label} part {how}", lambda: made().model_dump(**how))
    case(f"{label} part as json {how_json}", lambda: made().model_dump(mode="json", **how_json))
    case(f"{label} part json {how_json}", lambda: made().model_dump_json(indent=indent, **how_json))
    case(f"{label} again", lambda: made() == made())
    case(f"{label} from its dump", lambda: cls.model_validate(made().model_dump()))
    case(f"{label} from its json", lambda: cls.model_validate_json(made().model_dump_json()))
    case(f"{label} other", lambda: made() == made(other))
    case(f"{label} hash", lambda: hash(made()) == hash(made()))
    case(f"{label} pickled", lambda: (lambda model: (model, sorted(model.model_fields_set, key=str)))(pickle.loads(pickle.dumps(made()))))
    case(f"{label} deep copy", lambda: (lambda model: (copy.deepcopy(model) == model, kinds(copy.deepcopy(model))))(made()))
    case(f"{label} copy", lambda: (lambda new: (new, sorted(new.model_fields_set, key=str)))(made().model_copy(update=update)))
    case(f"{label} deep copy with changes", lambda: made().model_copy(update=update, deep=True))
    case(f"{label} copy dumped", lambda: made().model_copy(update={name: item for name, item in update.items() if name != "zz"}).model_dump())
    case(f"{label} assigned", lambda: assigned(made(), fields, value))
    case(f"{label} iterated", lambda: [name for name, _ in made()] if cls.__name__ != "HttpHeaderPayload" else list(made()))
    case(f"{label} itself", lambda: (lambda model: cls.model_validate(model) is model)(made()))
    case(f"{label} constructed", lambda: cls.model_construct(**{key: item for key, item in data.items() if key in cls.model_fields}))


def assigned(model, fields, value):
    outcomes = []
    for name in fields:
        try:
            setattr(model, name, value)
            outcomes.append((name, getattr(model, name)))
        except Exception as exc:
            outcomes.append((name, type(exc).__name__.removeprefix("Pydantic")))
    return outcomes, model


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    for module, examples in EXAMPLES.items():
        for name, example in examples.items():
            cls = getattr(importlib.import_module(f"cpex.framework.{module}"), name)
            case(f"{name} example", lambda: json.dumps(cls.model_validate(copy.deepcopy(example)).model_dump(mode="json")))
            for number in range(count):
                label = f"{name} {seed}.{number}"
                one(label, random.Random(label), cls, example)
    finish()


main()
