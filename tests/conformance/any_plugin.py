# SPDX-License-Identifier: Apache-2.0
"""The plugin of tests/conformance/property: does on each hook what its configuration says, step by step.

`script` maps a hook to steps; a step is a map with `do`, and where it counts only in some calls `calls`, the list of their numbers
(the key "call" of the shared metadata). What the plugin was given is written to a file for each hook and plugin.
"""

import json
import os

from cpex.framework import (
    Plugin,
    PluginError,
    PluginPayload,
    PluginResult,
    PluginViolation,
    PluginViolationError,
    ToolPostInvokePayload,
    ToolPreInvokePayload,
)
from cpex.framework.extensions import Extensions
from cpex.framework.hooks import identity, message  # noqa: F401 - they register their hooks
from cpex.framework.hooks.http import HttpHeaderPayload
from cpex.framework.hooks.registry import get_hook_registry
from cpex.framework.models import PluginErrorModel

FIELDS = ("args", "result", "metadata", "items", "parameters", "credentials", "headers", "content", "tool_calls")


class Parcel(PluginPayload):
    """The payload of the hooks that no framework knows."""

    name: str
    items: dict = {}
    weight: float = 1.5


class ToolCall(ToolPreInvokePayload):
    """A payload of a class that is derived from the hook's."""

    more: int = 1


class SmallParcel(Parcel):
    small: bool = True


class OwnTimeout(TimeoutError):
    pass


class Odd(Exception):
    def __repr__(self):
        return "Odd <ä>"


def make_error(kind, text):
    kinds = {
        "value": lambda: ValueError(text),
        "key": lambda: KeyError(text),
        "runtime": lambda: RuntimeError(text, 3),
        "timeout": lambda: TimeoutError(text),
        "own timeout": lambda: OwnTimeout(text),
        "odd": lambda: Odd(text),
        "stop": lambda: StopIteration(text),
        "assert": lambda: AssertionError(),
        "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, text),
        "long": lambda: ValueError(text * 60),
        "plugin": lambda: PluginError(PluginErrorModel(message=text, plugin_name="somebody")),
        "plugin full": lambda: PluginError(
            PluginErrorModel(message=text, plugin_name="", code="E7", details={"n": 1, "deep": [None]}, mcp_error_code=-7)
        ),
        "validation": lambda: Parcel.model_validate({"name": 5}),
    }
    return kinds[kind]()


def make_violation(value):
    return PluginViolation(**value) if value is not None else None


def json_of(value):
    """JSON form, sets sorted."""
    if hasattr(type(value), "model_dump"):
        value = value.model_dump(warnings=False)
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): json_of(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(json_of(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [json_of(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def field_of(payload):
    """(name of the field that steps change, its content as a new dict)."""
    for name in FIELDS:
        held = payload.get(name) if isinstance(payload, dict) else getattr(payload, name, None)
        held = json_of(held)
        if held is not None:
            return name, held if isinstance(held, dict) else {}
    return "items", {}


def is_root(payload):
    return "root" in getattr(type(payload), "model_fields", ())


class Run:
    """One call of one hook."""

    def __init__(self, plugin, hook, payload, context, extensions):
        self.plugin, self.hook, self.payload, self.context, self.extensions = plugin, hook, payload, context, extensions
        self.shared = context.global_context
        self.call = self.shared.metadata.get("call")
        self.out = {}
        self.new = None  # the payload to return
        self.typed = False

    def trace(self):
        seen = {
            "call": self.call,
            "payload": [type(self.payload).__name__, json_of(self.payload)],
            "state": json_of(self.shared.state),
            "metadata": json_of(self.shared.metadata),
            "own": [json_of(self.context.state), json_of(self.context.metadata)],
            "who": [self.shared.request_id, json_of(self.shared.user), self.shared.tenant_id, self.shared.server_id,
                    self.shared.content_type, json_of(self.shared.user_context)],
            "extensions": json_of(self.extensions),
        }
        with open(f"{os.environ['CPEX_TRACE_DIR']}/{self.hook}.{self.plugin.name}", "a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")

    async def go(self, script):
        self.trace()
        for step in script:
            if "calls" in step and self.call not in step["calls"]:
                continue
            do, key, value = step["do"], step.get("key"), step.get("value")
            if do in ("sleep", "yield"):
                import asyncio  # late, so that most workers live without it

                await asyncio.sleep(value or 0)
            elif do == "return":
                return JUNK[key](self)
            else:
                STEPS[do](self, key, value)
        result_class = (get_hook_registry().get_result_type(self.hook) if self.typed else None) or PluginResult
        if self.new is not None:
            self.out["modified_payload"] = self.new
        return result_class(**self.out)

    # ---- Steps

    def own_count(self, key, value):
        old = self.context.state.get(key, 0)
        self.context.state[key] = old + 1 if isinstance(old, int) else 1

    def user(self, key, value):
        self.shared.user, self.shared.tenant_id = value, "elsewhere"

    def replace_state(self, key, value):
        self.shared.state = {key: value}

    def replace_metadata(self, key, value):
        self.shared.metadata = {key: value}

    def edit(self, change):
        base = self.new if self.new is not None else self.payload
        if is_root(base):
            held = dict(base.root)
            change(held)
            self.new = type(base)({key: str(item) for key, item in held.items()})
            return
        name, held = field_of(base)
        change(held)
        if name == "headers":
            held = {key: str(item) for key, item in held.items()}
            held = HttpHeaderPayload(held) if self.hook != "identity_resolve" else held
        if hasattr(type(base), "model_copy") and name in type(base).model_fields:
            self.new = base.model_copy(update={name: held})
        elif isinstance(base, dict):
            self.new = {**base, name: held}
        else:
            self.new = {name: held}

    def rename(self, key, value):
        base = self.new if self.new is not None else self.payload
        if "name" in getattr(type(base), "model_fields", ()):
            self.new = base.model_copy(update={"name": value})

    def same(self, key, value):
        if value == "itself":
            self.new = self.payload
        elif hasattr(type(self.payload), "model_copy"):
            self.new = self.payload.model_copy()

    def wrong(self, key, value):
        """Nobody looks at what a copy is given."""
        base = self.new if self.new is not None else self.payload
        fields = sorted(getattr(type(base), "model_fields", ()))
        if fields and not is_root(base):
            field = fields[int(key[1:]) % len(fields)]
            if field in ("message", "headers", "response_headers", "route_attenuation") and isinstance(value, (list, dict)):
                value = "no model"  # pydantic dumps CPEX's copies of a list in place of a model as an empty map
            self.new = base.model_copy(update={field: value})

    def message(self, key, value):
        """Another text in the first part of a message."""
        base = self.new if self.new is not None else self.payload
        held = getattr(base, "message", None)
        if hasattr(held, "model_copy") and getattr(held, "content", None) and hasattr(held.content[0], "text"):
            parts = [held.content[0].model_copy(update={"text": str(value)}), *held.content[1:]]
            self.new = base.model_copy(update={"message": held.model_copy(update={"content": parts})})

    def token(self, key, value):
        """A secret is one for all but plugins."""
        for field in ("raw_token", "bearer_token"):
            held = getattr(self.payload, field, None)
            if hasattr(held, "get_secret_value"):
                self.meta("token", held.get_secret_value())
                self.shared.state[key] = held

    def plain(self, key, value):
        self.new = json.loads(json.dumps(value))  # an object of its own each time

    def as_dict(self, key, value):
        self.new = json_of(self.payload)

    def other_class(self, key, value):
        classes = {
            "post": lambda: ToolPostInvokePayload(name="other", result=value),
            "pre": lambda: ToolPreInvokePayload(name="other", args={"v": value}),
            "parcel": lambda: Parcel(name="other", items={"v": value}),
            "child": lambda: ToolCall(name="child", args={"v": value}),
            "small": lambda: SmallParcel(name="child", items={"v": value}),
            "headers": lambda: HttpHeaderPayload({"v": str(value)}),
            "identity": lambda: identity.IdentityResult(raw_claims={"v": str(value)}, reject_status=403),
            "delegation": lambda: identity.DelegationResult(delegated_token="t", forwarded_headers={"v": str(value)}),
        }
        self.new = classes[key]()

    def meta(self, key, value):
        self.out.setdefault("metadata", {})[key] = value

    def count_all(self, key, value):
        """Depends on all that came before."""
        seen = [self.shared.state.get(key), self.context.state.get(key), field_of(self.payload)[1].get(key)]
        self.meta(f"{self.plugin.name}.{key}", json_of(seen))

    def extend(self, key, value):
        if key == "all":
            self.out["modified_extensions"] = self.extensions
        elif key == "copy" and self.extensions is not None:
            self.out["modified_extensions"] = self.extensions.model_copy(update={"custom": {self.plugin.name: value}})
        else:
            self.out["modified_extensions"] = Extensions(custom={self.plugin.name: value})

    def block(self, key, value):
        self.out["continue_processing"] = False
        self.out["violation"] = make_violation(value)

    def object_only(self, key, value):
        """A violation that lets the call go on."""
        self.out["violation"] = make_violation(value)

    def fail(self, key, value):
        raise make_error(key, value)

    def violate(self, key, value):
        raise PluginViolationError(key, make_violation(value))


def put(where):
    return lambda run, key, value: where(run).__setitem__(key, value)


def drop(where):
    return lambda run, key, value: where(run).pop(key, None)


STEPS = {
    "own.set": put(lambda run: run.context.state),
    "own.drop": drop(lambda run: run.context.state),
    "own.count": Run.own_count,
    "own.meta": put(lambda run: run.context.metadata),
    "state.set": put(lambda run: run.shared.state),
    "state.drop": drop(lambda run: run.shared.state),
    "state.replace": Run.replace_state,
    "state.clear": lambda run, key, value: run.shared.state.clear(),
    "shared.set": put(lambda run: run.shared.metadata),
    "shared.drop": drop(lambda run: run.shared.metadata),
    "shared.replace": Run.replace_metadata,
    "user": Run.user,
    "payload.set": lambda run, key, value: run.edit(lambda held: held.__setitem__(key, value)),
    "payload.drop": lambda run, key, value: run.edit(lambda held: held.pop(key, None)),
    "payload.rename": Run.rename,
    "payload.same": Run.same,
    "payload.plain": Run.plain,
    "payload.dict": Run.as_dict,
    "payload.other": Run.other_class,
    "payload.wrong": Run.wrong,
    "message": Run.message,
    "token": Run.token,
    "typed": lambda run, key, value: setattr(run, "typed", True),
    "meta": Run.meta,
    "look": Run.count_all,
    "retry": lambda run, key, value: run.out.__setitem__("retry_delay_ms", value),
    "headers": lambda run, key, value: run.out.__setitem__("http_headers", {"x-a": str(value)}),
    "metrics": lambda run, key, value: run.out.__setitem__("denial_metadata", value),
    "extend": Run.extend,
    "block": Run.block,
    "object": Run.object_only,
    "raise": Run.fail,
    "violate": Run.violate,
}


class Lookalike:
    """Has a result's attributes and is none."""

    def __init__(self, run):
        self.metadata = {"lookalike": run.plugin.name}
        self.violation = self.modified_payload = self.modified_extensions = self.http_headers = self.denial_metadata = None
        self.continue_processing = True
        self.retry_delay_ms = 7


JUNK = {
    "none": lambda run: None,
    "text": lambda run: "junk",
    "map": lambda run: {"continue_processing": False},
    "class": lambda run: PluginResult,
    "lookalike": Lookalike,
}


class AnyPlugin(Plugin):
    def __init__(self, config):
        super().__init__(config)
        registry = get_hook_registry()
        for hook in config.hooks:
            if registry.get_payload_type(hook) is None:
                registry.register_hook(hook, Parcel, PluginResult)
            setattr(self, hook, self.method(hook, config.config.get("two_arguments")))

    def method(self, hook, two_arguments):
        async def run(payload, context, extensions):
            return await Run(self, hook, payload, context, extensions).go(self.config.config["script"].get(hook, ()))

        async def run_without_extensions(payload, context):
            return await run(payload, context, None)

        return run_without_extensions if two_arguments else run
