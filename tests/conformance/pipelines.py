# SPDX-License-Identifier: Apache-2.0
"""Random pipelines, and what a case that shows a difference can do without (see `property`).

A specification is a map {"top": of plugins.yaml, "plugins": entries, "calls": of calls.json}. Many pipelines share one: each has hooks
of its own, on which a part of the plugins listens, so that one start of a daemon serves them all. A plugin with `on_error: disable`
belongs to one pipeline, or it would soon be gone from all.

What is left out is where cpexd and CPEX are known to differ (docs/semantics.md): objects changed in place, a table of contexts
handed on twice, what a plugin leaves behind before it is cancelled, siblings that run on after an error, results without some of a
result's attributes. Concurrent plugins end 200 ms apart, so that their order is certain.
"""

import copy
import json
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent

PIPELINES = 25  # in one specification
SHARED_PLUGINS = 12
APART_SECONDS = 0.2

WORDS = ("amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heron", "indigo", "jade", "kelp", "lotus")
KEYS = ("k1", "k2", "k3")
VALUES = (None, True, False, 0, 1, -1, 2**53 + 1, 2**64, -(2**70), 1.0, 0.1, 12345.678, "", "text", "1", "schön <&> 🎉", [], {},
          [1, [2, None]], {"a": {"b": [True]}}, {"k1": "inner"}, ["x", {"y": 1.5}])
HEADERS = ({}, {"authorization": "Bearer x", "x-a": "1"}, {"k1": "2"})
REAL_HOOKS = {
    "tool_pre_invoke": lambda rng: {"name": rng.choice(("t1", "t2", "")), "args": data(rng)} | omissible(rng, headers=None)
    | omissible(rng, headers=rng.choice(HEADERS)),
    "tool_post_invoke": lambda rng: {"name": rng.choice(("t1", "t2", "")), "result": rng.choice((data(rng), rng.choice(VALUES)))},
    "resource_pre_fetch": lambda rng: {"uri": rng.choice(("res://1", "res://2"))} | omissible(rng, metadata=data(rng)),
    "resource_post_fetch": lambda rng: {"uri": rng.choice(("res://1", "")), "content": rng.choice((data(rng), rng.choice(VALUES)))},
    "prompt_pre_fetch": lambda rng: {"prompt_id": rng.choice(("p1", "p2", ""))} | omissible(rng, args=texts(rng)),
    "prompt_post_fetch": lambda rng: {"prompt_id": rng.choice(("p1", "p2")), "result": rng.choice((prompt(rng), rng.choice(VALUES)))},
    "agent_pre_invoke": lambda rng: {"agent_id": rng.choice(("a1", "a2")), "messages": messages(rng)} | omissible(rng, tools=["t1"])
    | omissible(rng, headers=rng.choice(HEADERS)) | omissible(rng, parameters=data(rng)) | omissible(rng, model="m", system_prompt=None),
    "agent_post_invoke": lambda rng: {"agent_id": "a1", "messages": messages(rng)} | omissible(rng, tool_calls=[data(rng)]),
    "http_pre_request": lambda rng: {"path": "/", "method": "GET", "headers": rng.choice(HEADERS)}
    | omissible(rng, client_host="h", client_port=rng.choice((80, "80", 80.0))),
    "http_post_request": lambda rng: {"path": "/", "method": "GET", "headers": rng.choice(HEADERS)}
    | omissible(rng, response_headers=rng.choice(HEADERS)) | omissible(rng, status_code=200),
    "http_auth_resolve_user": lambda rng: {"headers": rng.choice(HEADERS)} | omissible(rng, credentials=data(rng)),
    "http_auth_check_permission": lambda rng: {"user_email": "ann@x", "permission": "p"} | omissible(rng, is_admin=rng.choice((True, 1, "yes"))),
    "identity_resolve": lambda rng: {"raw_token": rng.choice(("token-1", ""))} | omissible(rng, headers=rng.choice(HEADERS), source="api_key"),
    "token_delegate": lambda rng: {"target_name": rng.choice(("t1", "t2"))} | omissible(rng, bearer_token="token-2")
    | omissible(rng, required_permissions=["p"], route_attenuation={"actions": ["read"]}),
    "cmf.tool_pre_invoke": lambda rng: {"message": cmf(rng)},
    "cmf.llm_output": lambda rng: {"message": cmf(rng)} | omissible(rng, hook="llm_output"),
    "evaluate": lambda rng: {"message": cmf(rng)},
}
# The pipelines of a specification whose hooks are CPEX's own.
REAL_PIPELINES = (
    ("tool_pre_invoke", "tool_post_invoke"),
    ("resource_pre_fetch", "resource_post_fetch"),
    ("prompt_pre_fetch", "prompt_post_fetch"),
    ("agent_pre_invoke", "agent_post_invoke"),
    ("http_pre_request", "http_post_request"),
    ("http_auth_resolve_user", "http_auth_check_permission"),
    ("identity_resolve", "token_delegate"),
    ("cmf.tool_pre_invoke", "cmf.llm_output", "evaluate"),
)
POLICY_FIELDS = ("name", "args", "items", "result", "metadata", "uri", "weight", "content", "headers", "messages", "parameters", "message", "hook",
                 "is_admin", "raw_token", "credentials", "client_port", "tool_calls", "prompt_id")
CAPABILITIES = ("read_headers", "write_headers", "read_agent", "read_subject", "read_roles", "read_teams", "read_labels", "append_labels",
                "read_delegation", "append_delegation", "read_claims", "read_permissions")
MODES = ("sequential",) * 6 + ("transform",) * 4 + ("audit",) * 2 + ("concurrent",) * 2 + ("fire_and_forget",) * 2
ERRORS = ("value", "key", "runtime", "timeout", "own timeout", "odd", "stop", "assert", "unicode", "long", "plugin", "plugin full",
          "validation")
JUNK = ("none", "text", "map", "class", "lookalike")
METRICS = ({"score": 0.5, "hits": 3, "on": True}, {"text": "no", "bad key": 1, "deep": [1]}, {f"k{i}": i for i in range(17)}, {})


def data(rng):
    return {key: rng.choice(VALUES) for key in KEYS if rng.random() < 0.5}


def texts(rng):
    return {key: rng.choice(("", "text", "schön <&>")) for key in KEYS if rng.random() < 0.5}


def prompt(rng):
    return {"messages": messages(rng)} | omissible(rng, description="d") | omissible(rng, deep=[[{"a": 1}], {"b": {"c": None}}])


def messages(rng):
    kinds = (lambda: {"role": "user", "content": {"type": "text", "text": rng.choice(("", "hello"))}}, lambda: "plain", lambda: data(rng))
    return [rng.choice(kinds)() for _ in range(rng.randint(0, 2))]


def cmf(rng):
    parts = (
        lambda: {"content_type": "text", "text": "hello"},
        lambda: {"content_type": "thinking", "text": ""},
        lambda: {"content_type": "tool_call", "content": {"tool_call_id": "c", "name": "t1"} | omissible(rng, arguments=data(rng))},
        lambda: {"content_type": "tool_result", "content": {"tool_call_id": "c", "tool_name": "t1", "content": rng.choice(VALUES)}},
        lambda: {"content_type": "resource", "content": {"resource_request_id": "r", "uri": "u", "resource_type": "file"}},
        lambda: {"content_type": "image", "content": {"type": "url", "data": "http://x"}},
    )
    content = [rng.choice(parts)() for _ in range(rng.randint(0, 2))]
    return {"role": rng.choice(("user", "tool"))} | omissible(rng, schema_version="2.0") | omissible(rng, channel="final") | (
        {"content": content} if content else {}
    )


def omissible(rng, **fields):
    return {} if rng.random() < 0.5 else fields


def violation(rng):
    if rng.random() < 0.2:
        return None
    found = {"reason": rng.choice(("no", "é" * 200, "")), "description": "because", "code": rng.choice(("NO", "C" * 300)), "details": data(rng)}
    if rng.random() < 0.4:
        found |= {"mcp_error_code": -32001, "http_status_code": 429, "http_headers": {"retry-after": "3"}}
    return found


# ---- Plugins

def conditions(rng):
    choices = {
        "server_ids": ["s1"],
        "tenant_ids": ["t-a", "t-b"],
        "user_patterns": ["ann", "sub"],
        "content_types": ["application/json"],
        "tools": ["t1"],
        "resources": ["res://1"],
        "prompts": ["p1"],
        "agents": ["a1"],
    }
    return [{key: choices[key] for key in rng.sample(sorted(choices), rng.randint(0, 2))} for _ in range(rng.randint(1, 2))]


def plugin(rng, name, on_error):
    mode = rng.choice(MODES)
    entry = {"name": name, "kind": "isolated_venv", "hooks": [], "mode": mode}
    if rng.random() < 0.02:
        entry["mode"] = "disabled"
    if mode == "sequential" and rng.random() < 0.2:
        entry["mode"] = rng.choice(("enforce", "enforce_ignore_error"))
    if mode == "transform" and rng.random() < 0.2:
        entry["mode"] = "permissive"
    if rng.random() < 0.7:
        entry["priority"] = rng.choice((-5, 1, 10, 10, 50, 100, 200))
    if on_error:
        entry["on_error"] = on_error
    if rng.random() < 0.3:
        entry["conditions"] = conditions(rng)
    if rng.random() < 0.5:
        entry["capabilities"] = rng.sample(CAPABILITIES, rng.randint(1, 4))
    entry["config"] = {"class_name": "anyplugin.plugin.AnyPlugin", "script_path": "plugins/anyplugin",
                       "requirements_file": "requirements.txt", "script": {}}
    if rng.random() < 0.2:
        entry["config"]["two_arguments"] = True
    return entry


# ---- Steps

def step(rng):
    """One step that lets the plugin go on."""
    weighted = {
        "own.set": 2, "own.drop": 1, "own.count": 3, "own.meta": 2,
        "state.set": 4, "state.drop": 1, "state.replace": 1, "state.clear": 1,
        "shared.set": 2, "shared.drop": 1, "shared.replace": 1, "user": 1,
        "payload.set": 6, "payload.drop": 1, "payload.rename": 2, "payload.same": 1, "payload.plain": 1, "payload.dict": 1,
        "payload.other": 2, "payload.wrong": 1, "message": 1, "token": 1, "typed": 1,
        "meta": 4, "look": 4, "retry": 2, "headers": 1, "metrics": 1, "extend": 2, "object": 1, "yield": 1,
    }
    do = rng.choices(list(weighted), weighted.values())[0]
    made = {"do": do, "key": rng.choice(KEYS), "value": rng.choice(VALUES)}
    if do == "payload.rename":
        made["value"] = rng.choice(("t1", "t2", "renamed"))
    elif do == "payload.same":
        made["value"] = rng.choice(("copy", "itself"))
    elif do == "payload.plain":  # no small integers and the like: there is only one object of each
        made["value"] = rng.choice((f"text {rng.random()}", [], {}, [1, [2, None]], {"k1": "inner"}))
    elif do == "payload.other":
        made["key"] = rng.choice(("post", "pre", "parcel", "child", "small", "headers", "identity", "delegation"))
    elif do == "extend":
        made["key"] = rng.choice(("all", "copy", "own"))
    elif do == "meta" and rng.random() < 0.1:
        made["key"] = "_decision_plugin"
    elif do == "user":
        made["value"] = "mallory"
    elif do == "retry":
        made["value"] = rng.choice((0, 1, 200, 1500, -3))
    elif do == "metrics":
        made["value"] = rng.choice(METRICS)
    elif do == "object":
        made["value"] = violation(rng)
    elif do == "yield":
        made = {"do": "yield"}
    return made


def last_step(rng):
    """One that decides about the call."""
    do = rng.choice(("block", "block", "raise", "raise", "violate", "return"))
    if do == "raise":
        return {"do": do, "key": rng.choice(ERRORS), "value": rng.choice(("it failed", "ä", ""))}
    if do == "return":
        return {"do": do, "key": rng.choice(JUNK)}
    return {"do": do, "key": "it objects", "value": violation(rng)}


def some_calls(rng, made, n_calls):
    if rng.random() < 0.6:
        made["calls"] = sorted(rng.sample(range(n_calls), rng.randint(1, n_calls)))
    return made


def script(rng, n_calls):
    steps = [some_calls(rng, step(rng), n_calls) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.35:
        steps.insert(rng.randint(0, len(steps)), some_calls(rng, last_step(rng), n_calls))
    return steps


# ---- Pipelines

def extensions(rng):
    whole = {
        "request": {"environment": "test", "trace_id": "t-1"},
        "http": {"headers": {"authorization": "secret", "x": "1"}},
        "agent": {"session_id": "s", "turn": rng.choice((2, "2", 2.0)), "conversation": {"topics": ["x"]}},
        "security": {"labels": ["b", "a"], "classification": "c", "objects": {"t1": {"permissions": ["p"]}}, "data": {"t1": {"retention": {}}},
                     "subject": {"id": "u1", "type": "user", "roles": ["r", "q"], "teams": ["t"], "permissions": ["p"], "claims": {"k": "v"}}},
        "delegation": {"chain": [{"subject_id": "ann", "subject_type": "user", "timestamp": "2025-01-01T00:00:00+00:00"}], "depth": 1},
        "mcp": {"tool": {"name": "t1", "input_schema": {"type": "object"}}},
        "completion": {"stop_reason": "end", "tokens": {"input_tokens": 1, "output_tokens": "2", "total_tokens": 3}},
        "provenance": {"source": "user"},
        "framework": {"framework": "f", "metadata": data(rng)},
        "llm": {"model_id": "m", "capabilities": ["vision"]},
        "meta": {"tags": ["y", "x"], "scope": "s", "properties": {"p": "q"}},
        "custom": {"k1": rng.choice(VALUES)},
    }
    return {slot: whole[slot] for slot in whole if rng.random() < 0.4}


def calls(rng, hooks, policies, first, n_calls, pause_ms):
    out, free = [], []  # the calls whose contexts nobody has taken yet
    for number in range(n_calls):
        hook = rng.choice(hooks)
        # Of a custom hook's payload only the class, which the daemon does not have, knows the defaults (docs/semantics.md).
        weight = {"weight": 2.5} if hook in policies else omissible(rng, weight=2.5)
        payload = REAL_HOOKS[hook](rng) if hook in REAL_HOOKS else {"name": "p", "items": data(rng)} | weight
        call = {
            "hook": hook,
            "payload": payload,
            "global_context": {
                "request_id": rng.choice(("r-1", "r-1", "r-1", "r-2")),
                "user": rng.choice((None, "ann@x", "bob", {"sub": "ann"}, "")),
                "tenant_id": rng.choice((None, "t-a", "t-c")),
                "server_id": rng.choice((None, "s1", "s2")),
                "state": data(rng),
                "metadata": {"call": number, **({"m": rng.choice(VALUES)} if rng.random() < 0.5 else {})},
            },
            "context_from": free.pop(rng.randrange(len(free))) if free and rng.random() < 0.7 else None,
            "violations_as_exceptions": rng.random() < 0.3,
        }
        if rng.random() < 0.3:
            call["global_context"]["content_type"] = rng.choice(("application/json", "Application/JSON; charset=x", "text/plain", ""))
        if rng.random() < 0.2:
            call["global_context"]["user_context"] = {"user_id": "u1", "roles": ["r"]}
        if rng.random() < 0.5:
            call["extensions"] = extensions(rng)
        if pause_ms and number:
            call["after_ms"] = pause_ms
        free.append(first + number)
        out.append(call)
    return out


def separate(concurrent, hook):
    """Lets the concurrent plugins of a hook end one after the other, in the order of the list."""
    if len(concurrent) < 2:
        return
    for place, entry in enumerate(concurrent, 1):
        entry["config"]["script"][hook].insert(0, {"do": "sleep", "value": place * APART_SECONDS})


def add_pipeline(rng, spec, shared, number, real, slow):
    own = [f"hook_{number}{letter}" for letter in "ab"[: rng.randint(1, 2)]]
    hooks = list(real) if real else own
    n_calls = rng.randint(1, 4)
    members = rng.sample(shared, rng.randint(1, 6))
    if rng.random() < 0.4:
        members.append(plugin(rng, f"private-{number}", "disable"))
        spec["plugins"].insert(rng.randint(0, len(spec["plugins"])), members[-1])
    rng.shuffle(members)
    # Whether a plugin is disabled must not depend on whether an error of another cancels it.
    members.sort(key=lambda entry: entry.get("on_error") != "disable")
    for hook in hooks:
        listening = [entry for entry in members if rng.random() < 0.8]
        concurrent = [entry for entry in listening if entry["mode"] == "concurrent"]
        listening = [entry for entry in listening if entry not in concurrent[3:]]
        for entry in listening:
            entry["hooks"] += [hook] * (2 if rng.random() < 0.04 and entry["mode"] != "concurrent" else 1)
            steps = script(rng, n_calls)
            if entry["mode"] == "concurrent" and "execution_pool" in spec["top"]["plugin_settings"]:
                # Who waits for the one that ends the call still starts in CPEX.
                steps = [each for each in steps if each["do"] not in ("raise", "return", "block", "violate")]
            entry["config"]["script"][hook] = steps
            if slow and rng.random() < 0.1 and entry["mode"] != "concurrent":
                entry["config"]["script"][hook].insert(0, some_calls(rng, {"do": "sleep", "value": 1.6}, n_calls))
        separate(concurrent[:3], hook)
        if rng.random() < 0.25:
            fields = rng.sample(POLICY_FIELDS, rng.randint(0, 8))
            spec["top"]["plugin_settings"].setdefault("hook_policies", {})[hook] = fields
    hidden = [entry for entry in members if entry["mode"] == "fire_and_forget" and entry.get("on_error") == "disable"]
    made = calls(rng, hooks, spec["top"]["plugin_settings"].get("hook_policies", ()), len(spec["calls"]), n_calls, 100 if hidden else 0)
    spec["calls"] += made
    return hooks


def sleeps(plugins, hooks):
    """Whether time plays a part on these hooks."""
    return any(each["do"] == "sleep" for entry in plugins for hook in hooks for each in entry["config"]["script"].get(hook, ()))


def specification(rng, n_pipelines):
    """Return: the specification, and the hooks of each of its pipelines."""
    slow = rng.random() < 0.1
    settings = {"plugin_timeout": 1} if slow else {}
    if rng.random() < 0.1:
        settings["default_hook_policy"] = "deny"
    if rng.random() < 0.1:
        settings["execution_pool"] = 1
    spec = {"top": {"plugin_settings": settings}, "plugins": [], "calls": []}
    spec["plugins"] = [plugin(rng, word, rng.choice((None, "fail", "ignore", "ignore"))) for word in WORDS[:SHARED_PLUGINS]]
    shared = list(spec["plugins"])
    real = dict(enumerate(REAL_PIPELINES))
    pipelines = [add_pipeline(rng, spec, shared, number, real.get(number), slow and number % 5 == 0) for number in range(n_pipelines)]
    return spec, pipelines


# ---- Folders

def write_case(spec, folder):
    """The specification as a case folder."""
    root = folder / "plugins" / "anyplugin"
    (root / "anyplugin").mkdir(parents=True)
    (root / "anyplugin" / "__init__.py").touch()
    (root / "requirements.txt").touch()
    shutil.copy(HERE / "any_plugin.py", root / "anyplugin" / "plugin.py")
    text = json.dumps(spec["top"] | {"plugins": spec["plugins"], "plugin_dirs": ["plugins"]}, ensure_ascii=False, indent=1)
    (folder / "plugins.yaml").write_text(text + "\n", encoding="utf-8")
    (folder / "calls.json").write_text(json.dumps(spec["calls"], indent=1) + "\n", encoding="utf-8")
    (folder / "env.json").write_text('{"CPEX_TRACE_DIR": "@TRACE@"}\n', encoding="utf-8")


def only(spec, hooks):
    """The pipeline with these hooks, alone."""
    spec = copy.deepcopy(spec)
    keep_calls(spec, [n for n, call in enumerate(spec["calls"]) if call["hook"] in hooks])
    for entry in spec["plugins"]:
        entry["hooks"] = [hook for hook in entry["hooks"] if hook in hooks]
        entry["config"]["script"] = {hook: steps for hook, steps in entry["config"]["script"].items() if hook in hooks}
    spec["plugins"] = [entry for entry in spec["plugins"] if entry["hooks"]]
    policies = spec["top"]["plugin_settings"].get("hook_policies", {})
    spec["top"]["plugin_settings"]["hook_policies"] = {hook: fields for hook, fields in policies.items() if hook in hooks}
    return spec


def keep_calls(spec, kept):
    place = {old: new for new, old in enumerate(kept)}
    spec["calls"] = [spec["calls"][n] for n in kept]
    for call in spec["calls"]:
        call["context_from"] = place.get(call["context_from"])


# ---- Shrinking

def parts(spec):
    """All that can be left out, the large things first, as paths."""
    settings = spec["top"]["plugin_settings"]
    found = [("calls", n) for n in range(len(spec["calls"]))] + [("plugins", n) for n in range(len(spec["plugins"]))]
    found += [("top", "plugin_settings", key) for key in settings]
    found += [("top", "plugin_settings", "hook_policies", hook) for hook in settings.get("hook_policies", {})]
    for n, entry in enumerate(spec["plugins"]):
        for hook, steps in entry["config"]["script"].items():
            found.append(("plugins", n, "hook", hook))
            # Without the sleeps the order of concurrent plugins would be chance.
            for place, each in enumerate(steps):
                if each["do"] != "sleep":
                    found.append(("plugins", n, "config", "script", hook, place))
            found += [("plugins", n, "config", "script", hook, place, "calls") for place, each in enumerate(steps) if "calls" in each]
        found += [("plugins", n, key) for key in ("priority", "on_error", "conditions", "capabilities") if key in entry]
        found += [("plugins", n, "config", "two_arguments")] if "two_arguments" in entry["config"] else []
    for n, call in enumerate(spec["calls"]):
        found += [("calls", n, key) for key in ("extensions", "after_ms", "violations_as_exceptions") if call.get(key)]
        found += [("calls", n, "global_context", key) for key in call["global_context"] if key not in ("request_id", "metadata")]
        held = {field: value for field, value in call["payload"].items() if isinstance(value, dict) and field != "message"}
        found += [("calls", n, "payload", field, key) for field in held for key in held[field]]
    return found


def without(spec, paths):
    """The specification without some of its parts; lists lose their items at the end, so that the other paths stay true."""
    spec = copy.deepcopy(spec)
    gone = object()
    for path in paths:
        if path[0] == "plugins" and path[2:3] == ("hook",):
            entry = spec["plugins"][path[1]]
            if entry is not gone:
                entry["hooks"] = [hook for hook in entry["hooks"] if hook != path[3]]
            continue
        where = spec
        for part in path[:-1]:
            where = gone if where is gone else where.get(part, gone) if isinstance(where, dict) else where[part]
        if isinstance(where, list):
            where[path[-1]] = gone
        elif where is not gone:
            where.pop(path[-1], None)
    keep_calls(spec, [n for n, call in enumerate(spec["calls"]) if call is not gone])
    spec["plugins"] = [entry for entry in spec["plugins"] if entry is not gone]
    for entry in spec["plugins"]:
        scripts = entry["config"]["script"]
        for hook in list(scripts):
            scripts[hook] = [each for each in scripts[hook] if each is not gone]
            if hook not in entry["hooks"]:
                del scripts[hook]
    spec["plugins"] = [entry for entry in spec["plugins"] if entry["hooks"]]
    return spec


def shrink(spec, differs, tries):
    """The smallest specification found that still `differs`, by leaving out ever smaller runs of parts."""
    chunk = max(1, len(parts(spec)) // 2)
    while True:
        smaller, start = False, 0
        while start < len(parts(spec)) and tries > 0:
            candidate = without(spec, parts(spec)[start : start + chunk])
            tries -= 1
            if candidate["calls"] and differs(candidate):
                spec, smaller = candidate, True
            else:
                start += chunk
        if tries <= 0 or (chunk == 1 and not smaller):
            return spec
        chunk = max(1, chunk // 2)
