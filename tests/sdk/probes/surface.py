# SPDX-License-Identifier: Apache-2.0
"""Every public name of every module of the SDK, and what it is: its value, members, signature, fields, defaults, base classes.

Without an argument the names are those that the modules have; else those of a JSON file {module: [names]}. What is not of the SDK itself
(typing.Optional, a logger) is only said to be there.
"""

import enum
import importlib
import inspect
import json
import sys
import types

from harness import OUTCOMES, finish, stable

MODULES = """
base cmf cmf.message cmf.view constants decorator errors extensions extensions.agent extensions.completion extensions.constants
extensions.delegation extensions.extensions extensions.framework extensions.http extensions.llm extensions.mcp extensions.meta
extensions.provenance extensions.request extensions.security extensions.tiers hooks hooks.agents hooks.http hooks.identity hooks.message
hooks.policies hooks.prompts hooks.registry hooks.resources hooks.tools isolated.client isolated.venv_comm loader loader.config
loader.plugin manager memory models observability pdp pdp.authzen pdp.base pdp.opa protocols registry settings utils validators
""".split()


# What pydantic adds to a class with private attributes, and a detail of how settings are read.
NO_MEMBERS = ("model_post_init", "empty_string_to_none")


def names_of(module):
    """The public ones that can be imported by name."""
    return [name for name in dir(module) if name.isidentifier() and name[0] != "_" and not isinstance(getattr(module, name), types.ModuleType)]


def signature(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [(p.name, p.kind.name, None if p.default is p.empty else repr(p.default)) for p in parameters]


def own_bases(cls):
    """Bases of the SDK but for its private ones and the stand-ins for pydantic's."""
    return [base.__name__ for base in cls.__mro__ if base.__module__.startswith("cpex.")
            and base.__name__[0] != "_" and base.__name__.split("[")[0] not in ("BaseModel", "OldNames", "RootModel")]  # fmt: skip


def members(cls):
    """Public methods and properties that the SDK defines."""
    found = {}
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if name[0] == "_" or name in NO_MEMBERS or owner is None or owner.__name__ not in own_bases(cls):
            continue
        value = vars(owner)[name]
        if isinstance(value, property):
            found[name] = "property"
        elif isinstance(value, (classmethod, staticmethod)):
            found[name] = (type(value).__name__, signature(value.__func__))
        elif inspect.isfunction(value):
            found[name] = (inspect.iscoroutinefunction(value), signature(value))
    return found


def default_of(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return type(value).__name__ if type(value).__name__ == "datetime" else repr(value)


def described(value):
    if not getattr(value, "__module__", "").startswith("cpex.") and not isinstance(value, (str, int, float, bool, frozenset, tuple)):
        return "there"
    if inspect.isfunction(value):
        return ("function", inspect.iscoroutinefunction(value), signature(value))
    if not isinstance(value, type):
        return ("value", sorted(value) if isinstance(value, frozenset) else repr(value) if isinstance(value, (str, int, tuple)) else "")
    if issubclass(value, enum.Enum):
        return ("enum", [(name, member.value) for name, member in value.__members__.items()], own_bases(value))
    if hasattr(value, "model_fields"):
        fields = {name: (default_of(field), field.alias, bool(field.exclude)) for name, field in value.model_fields.items()}
        return ("model", fields, bool(value.model_config.get("frozen")), members(value), own_bases(value))
    return ("class", signature(value), members(value), own_bases(value))


def observe(module, name):
    scope = {}
    try:
        exec(f"from {module} import {name} as value", scope)
        return stable(repr(described(inspect.unwrap(scope["value"]))))
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


def main():
    given = json.loads(open(sys.argv[1]).read()) if len(sys.argv) > 1 else None
    for module in ("cpex.framework", *(f"cpex.framework.{name}" for name in MODULES)):
        for name in names_of(importlib.import_module(module)) if given is None else given.get(module, ()):
            OUTCOMES[f"{module}.{name}"] = observe(module, name)
    finish()


main()
