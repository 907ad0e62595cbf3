# SPDX-License-Identifier: Apache-2.0
"""Objects of the `cpex` package to and from what travels to cpexd.

Models go out field by field: their serializers would drop the fields of subclasses. What comes back is put into the host's own
objects only where it changed, so that a model or a date that the host keeps in the shared state stays what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any

try:
    from cpex.framework import (
        ControlExecutionRecord,
        GlobalContext,
        PluginContext,
        PluginError,
        PluginErrorModel,
        PluginPayload,
        PluginResult,
        PluginViolation,
        PluginViolationError,
        get_hook_registry,
    )
    from cpex.framework.extensions.extensions import Extensions
    from cpex.framework.hooks.policies import HookPayloadPolicy, apply_policy
    from cpex.framework.hooks import identity, message  # noqa: F401 - they register their hooks; nothing else imports them
    from cpex.framework.manager import PayloadSizeError
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "cpex":
        raise
    raise ImportError(
        "cpexd_client.cpex needs the package cpex 0.1.3 or newer, which is not installed here; "
        "install it (pip install 'cpexd-client[cpex]'), or call cpexd with cpexd_client.AsyncClient, which does without"
    ) from error
try:
    from cpex.framework import DenialOutcome
except ImportError:  # cpex 0.1.3 has none
    DenialOutcome = None

from pydantic import BaseModel, RootModel, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from . import codec, errors
from .answer import Answer

_PLAIN = (type(None), bool, int, float, str, bytes, SecretStr, codec.Secret)


def plain(value: Any) -> Any:
    """The value in the types of msgpack. Raises ValueError for what has no such form."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, RootModel):
        return plain(value.root)
    if isinstance(value, BaseModel):
        return {key: plain(item) for key, item in value}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, _PLAIN):
        return value
    return to_jsonable_python(value)  # dates, UUIDs, URLs, paths, …


def native(value: Any) -> Any:
    """The reverse: secrets become pydantic's."""
    if isinstance(value, dict):
        return {key: native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [native(item) for item in value]
    if isinstance(value, codec.Secret):
        return SecretStr(value.get_secret_value())
    return value


def restored(sent: Any, got: Any) -> Any:
    """What came back for `sent`, a model where that was one: a host looks at attributes of what it put into a payload itself.

    The values are the plugin's, as unchecked as if it had changed the model in place. What does not have the model's fields stays a dict.
    """
    if isinstance(got, dict):
        if isinstance(sent, BaseModel) and not isinstance(sent, RootModel) and got.keys() == dict(sent).keys():
            return sent.model_copy(update={key: restored(value, got[key]) for key, value in sent})
        if isinstance(sent, Mapping):
            return {key: restored(sent.get(key), value) for key, value in got.items()}
    if isinstance(got, list) and isinstance(sent, list) and len(got) == len(sent):
        return [restored(*pair) for pair in zip(sent, got)]
    return got


def update(target: dict[str, Any], sent: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Takes over what differs from what was sent, to the byte: 1, 1.0 and True are equal in Python."""
    for key, value in got.items():
        if key not in target or key not in sent or codec.pack(sent[key]) != codec.pack(value):
            target[key] = restored(target.get(key), native(value))


def replace(target: dict[str, Any], sent: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """As update(), and what is gone goes."""
    for key in [key for key in target if key not in got]:
        del target[key]
    update(target, sent, got)


# ---- Contexts (docs/protocol.md)


def own_context(context: PluginContext) -> dict[str, Any]:
    return {"state": plain(context.state), "metadata": plain(context.metadata)}


def pack_contexts(request_id: str, own: dict[str, Any]) -> bytes | None:
    return codec.pack([1, request_id, own]) if own else None


def unpack_contexts(blob: bytes | None) -> dict[str, Any]:
    return {} if blob is None else codec.unpack(blob)[2]


def put_own(context: PluginContext, sent: Mapping[str, Any] | None, got: Mapping[str, Any]) -> None:
    for key in ("state", "metadata"):
        replace(getattr(context, key), (sent or {}).get(key) or {}, got.get(key) or {})


def global_context(context: GlobalContext) -> dict[str, Any]:
    return {key: plain(value) for key, value in context if value is not None}


# ---- Payloads


def payload_type(hook: str, payload: Any) -> str | None:
    if not isinstance(payload, BaseModel):
        return ""
    own = get_hook_registry().get_payload_type(hook)
    if own is None or isinstance(payload, own):
        return None
    return f"{type(payload).__module__}:{type(payload).__qualname__}"


def _class_named(name: str) -> type[BaseModel] | None:
    """Imports nothing: a plugin's answer must not decide what runs in the host."""
    module, _, path = name.partition(":")
    cls: Any = sys.modules.get(module)
    for part in path.split("."):
        cls = getattr(cls, part, None)
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return cls
    registry = get_hook_registry()
    registered = (registry.get_payload_type(hook) for hook in registry.get_registered_hooks())
    return next((cls for cls in registered if cls and cls.__name__ == path), None)


def modified_payload(hook: str, sent: Any, answer: Answer) -> Any:
    data = native(answer.modified_payload)
    name = answer.payload_type
    if data is None or name == "":
        return data
    if name:
        cls = _class_named(name)
    else:
        cls = get_hook_registry().get_payload_type(hook) or (type(sent) if isinstance(sent, BaseModel) else None)
    if cls is None:
        return data
    try:
        return _as_sent(sent, cls.model_validate(data))
    except ValidationError:
        # A plugin may put anything into a copy of a payload, and CPEX hands it on as it is.
        if issubclass(cls, RootModel):
            return cls.model_construct(data)
        return cls.model_construct(**data) if isinstance(data, dict) else data


def _as_sent(sent: Any, modified: Any) -> Any:
    """What is a field of any type was an object of the host's, perhaps."""
    if type(sent) is not type(modified) or isinstance(sent, RootModel):
        return modified
    fields = {key: restored(getattr(sent, key), value) for key, value in modified if isinstance(value, (dict, list))}
    return modified.model_copy(update=fields)


def accepted(sent: Any, modified: Any, policy: HookPayloadPolicy | None, allow: bool) -> Any:
    """The payload as far as the host's own policies let it change; `allow`: where there is none, all of it."""
    if modified is None:
        return None
    if policy is None:
        return modified if allow else None
    if isinstance(modified, type(sent)) and isinstance(sent, BaseModel):
        return apply_policy(sent, modified, policy)
    return modified if isinstance(modified, (PluginPayload, dict)) else None


# ---- Results and errors


def _violation(data: Mapping[str, Any] | None) -> PluginViolation | None:
    if data is None:
        return None
    violation = PluginViolation.model_validate(native({key: data[key] for key in data if key != "plugin_name"}))
    if data.get("plugin_name"):
        violation.plugin_name = data["plugin_name"]
    return violation


def records(executions: Any) -> list[ControlExecutionRecord]:
    return [ControlExecutionRecord.model_validate(native(record)) for record in executions or []]


def result(answer: Answer, payload: Any, of_a_plugin: bool) -> PluginResult:
    """A plugin's, for the manager that called it, or the manager's own, which tells no denial_metadata."""
    extensions = answer.modified_extensions
    more = {}
    if of_a_plugin and DenialOutcome is not None:
        more["denial_metadata"] = native(answer.raw.get("denial_metadata"))
    return PluginResult(
        continue_processing=answer.continue_processing,
        modified_payload=payload,
        modified_extensions=None if extensions is None else Extensions.model_validate(native(extensions)),
        violation=_violation(answer.violation),
        metadata=native(answer.metadata),
        http_headers=answer.http_headers,
        retry_delay_ms=answer.retry_delay_ms,
        executions=records(answer.executions),
        **more,
    )


def failure(text: str, plugin_name: str = "cpexd", code: str | None = "", **more: Any) -> PluginError:
    return PluginError(PluginErrorModel(message=text, plugin_name=plugin_name, code=code, **more))


def exception(error: errors.CpexdError) -> Exception:
    """The exception that CPEX raises for it. What only a daemon can do wrong is a PluginError of the plugin "cpexd"."""
    if isinstance(error, errors.PayloadSizeError):
        return PayloadSizeError(error.message)
    if isinstance(error, errors.PluginViolationError):
        return _denial(error)
    name = error.plugin_name
    details = native(error.data.get("details", {}))
    more = {"mcp_error_code": error.mcp_error_code} if isinstance(error, errors.PluginError) else {}
    return failure(error.message, "cpexd" if name is None else name, error.data.get("code", ""), details=details, **more)


def _denial(error: errors.PluginViolationError) -> PluginViolationError:
    denial = PluginViolationError(error.message, _violation(error.violation))
    denial.executions = records(error.executions)
    outcome = error.data.get("denial_outcome")
    if outcome is not None and DenialOutcome is not None and denial.executions:
        denial.denial_outcome = DenialOutcome.from_execution(denial.executions[-1], denial.violation, outcome.get("metadata"))
    return denial
