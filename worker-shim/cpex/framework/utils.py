# SPDX-License-Identifier: Apache-2.0
"""Small helpers for plugins: tolerant attribute access, attribute access on JSON, matching of conditions."""

from __future__ import annotations

from . import _lazily
from ._fields import ConfigDict
from ._model import BaseModel

_MAX_DEPTH = 20
_MAX_BREADTH = 500
_BLOCKED_MODULES = frozenset(
    (
        "os", "sys", "subprocess", "shutil", "socket", "http.server", "ctypes", "importlib", "builtins", "code",
        "codeop", "compileall", "runpy",
    )
)  # fmt: skip

__getattr__ = _lazily(__name__)


class StructuredData(BaseModel):
    """A mapping from JSON whose values are read as attributes."""

    model_config = ConfigDict(extra="allow")


def _too_broad(kind, count):
    import logging

    logging.getLogger(__name__).warning(
        "a %s with %d entries (limit %d) keeps its plain form", kind, count, _MAX_BREADTH
    )


def coerce_nested(v, *, _depth=0):
    """Mappings at any depth as StructuredData; models and overly deep or broad values stay as they are."""
    if _depth >= _MAX_DEPTH or not isinstance(v, (dict, list)):
        return v
    if len(v) > _MAX_BREADTH:
        _too_broad(type(v).__name__, len(v))
        return v
    if isinstance(v, dict):
        return StructuredData(**{key: coerce_nested(item, _depth=_depth + 1) for key, item in v.items()})
    return [coerce_nested(item, _depth=_depth + 1) for item in v]


def coerce_messages(v):
    """The mappings in a list of messages as StructuredData."""
    if isinstance(v, list):
        return [coerce_nested(item) if isinstance(item, dict) else item for item in v]
    return v


def import_module(mod_name):
    """Import a module by a name from configuration; refuses paths and modules that reach into the system."""
    import importlib

    if ".." in mod_name or "/" in mod_name or "\\" in mod_name:
        raise ImportError(f"Plugin module name '{mod_name}' contains invalid characters.")
    parts = mod_name.split(".")
    if any(".".join(parts[:count]) in _BLOCKED_MODULES for count in range(1, len(parts) + 1)):
        raise ImportError(f"Plugin module '{mod_name}' is blocked for security reasons.")
    return importlib.import_module(mod_name)


def parse_class_name(name):
    """("package.module", "Class") from "package.module.Class"."""
    module, _, cls = name.rpartition(".")
    return (module, cls)


def normalize_content_type(content_type):
    """A content type without parameters, in lower case."""
    if not isinstance(content_type, str):
        return ""
    return content_type.split(";", 1)[0].strip().lower()


def get_attr(obj, attr, default=""):
    """An attribute or a key; the default also for empty values."""
    if obj is None:
        return default
    if hasattr(obj, attr):
        return getattr(obj, attr, default) or default
    if isinstance(obj, dict):
        return obj.get(attr, default) or default
    return default


def matches(condition, context):
    """Whether the fields of a condition that look at the context match."""
    if condition.server_ids and context.server_id not in condition.server_ids:
        return False
    if condition.tenant_ids and context.tenant_id not in condition.tenant_ids:
        return False
    if condition.content_types:
        kind = context.content_type
        if not kind or not kind.strip() or normalize_content_type(kind) not in condition.content_types:
            return False
    if condition.user_patterns:
        if not context.user:
            return False
        return any(pattern in context.user for pattern in condition.user_patterns)
    return True


# hook -> (attribute of the payload, field of the condition)
_MATCHED = {
    "tool_pre_invoke": ("name", "tools"),
    "tool_post_invoke": ("name", "tools"),
    "prompt_pre_fetch": ("prompt_id", "prompts"),
    "prompt_post_fetch": ("prompt_id", "prompts"),
    "resource_pre_fetch": ("uri", "resources"),
    "resource_post_fetch": ("uri", "resources"),
    "agent_pre_invoke": ("agent_id", "agents"),
    "agent_post_invoke": ("agent_id", "agents"),
    "token_delegate": ("target_name", "tools"),
    "identity_resolve": ("raw_token", "tools"),
}


def get_matchable_value(payload, hook_type):
    """What conditions compare of a payload: a tool's name, a resource's uri, ..."""
    entry = _MATCHED.get(hook_type)
    return getattr(payload, entry[0], None) if entry else None


def payload_matches(payload, hook_type, conditions, context):
    """Whether one of the conditions matches a call, or there is none."""
    return not conditions or any(_fits(payload, hook_type, condition, context) for condition in conditions)


def _fits(payload, hook_type, condition, context):
    if not matches(condition, context):
        return False
    entry = _MATCHED.get(hook_type)
    wanted = getattr(condition, entry[1], None) if entry else None
    value = get_matchable_value(payload, hook_type)
    return not wanted or not value or value in wanted
