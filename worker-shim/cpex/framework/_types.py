# SPDX-License-Identifier: Apache-2.0
"""From an annotation to a `Type`: the check of its values, its name in error locations, how it is dumped.

Compiled once for each field, at the first use of the model. Constructs of `typing` are recognized by their shape
(`__origin__`, `__args__`), so this module never has to import `typing` itself.
"""

from __future__ import annotations

import builtins
import sys
import types
from enum import Enum

from . import _containers as containers
from . import _scalars as scalars
from ._fields import MISSING, Any, Parameter, limits_of
from ._invalid import Invalid, Line


class Type:
    """A compiled annotation.

    `check(value, info)` gives the field's value or raises `Invalid`; `rank(value)` says how well a value fits before
    coercion (for unions); `dump(value, how)` dumps it, or is None when the value itself decides. `plain` are the types
    whose values pass the check unchanged; of `dict` and `list` it makes copies, and a dict has only text as keys.
    """

    __slots__ = ("name", "check", "rank", "dump", "model", "plain")

    def __init__(self, name, check, rank=None, dump=None, model=None, plain=()):
        self.name = name
        self.check = check
        self.rank = rank or _rank_by_coercion
        self.dump = dump
        self.model = model
        self.plain = plain


def _rank_by_coercion(value):
    return 1


class LazyClass:
    """Stands for a class of a module that is only looked at when a value has to be checked against it."""

    def __init__(self, module, name):
        self.module = module
        self.name = name

    def check(self, value, info):
        # An instance cannot exist before its module was imported.
        cls = getattr(sys.modules.get(self.module), self.name, None)
        if cls is not None and isinstance(value, cls):
            return value
        raise Invalid.one("is_instance_of", value, {"class": self.name})


class LazyModel:
    """Stands for a model whose module is imported when the first value for it arrives. May be part of a union with
    None only."""

    def __init__(self, module, name, optional=False):
        self.module = module
        self.name = name
        self.optional = optional

    def __or__(self, none):
        return LazyModel(self.module, self.name, True)

    def resolve(self):
        """The model."""
        return getattr(__import__(self.module, None, None, ("__name__",)), self.name)

    def check(self, value, info):
        return self.resolve().__validate__(value, info)

    def dump(self, value, how):
        return how.declared(value, self.resolve())

    def compiled(self):
        """The type for a field."""
        inner = Type(self.name, self.check, None, self.dump)
        return containers.nullable(inner, Type) if self.optional else inner


class OneOf:
    """Stands for `typing.Literal` in the SDK's own annotations."""

    def __init__(self, *values):
        self.values = values
        self.optional = False

    def resolve(self):
        """The same for those who ask for a field's annotation."""
        from typing import Literal

        return Literal[self.values]


class Tagged:
    """A union whose member is found by a tag in the value; `members` maps tags to annotations."""

    def __init__(self, find_tag, members):
        self.find_tag = find_tag
        self.members = members


ANY = Type("any", scalars.check_any, plain=(object,))
NONE = Type("none", scalars.check_none, scalars.rank_none, plain=(type(None),))
_SCALARS = {
    str: Type("str", scalars.check_str, scalars.rank_str, plain=(str,)),
    int: Type("int", scalars.check_int, scalars.rank_int, plain=(int,)),
    float: Type("float", scalars.check_float, scalars.rank_float, scalars.dump_float, plain=(float,)),
    bool: Type("bool", scalars.check_bool, scalars.rank_bool, plain=(bool,)),
    bytes: Type("bytes", scalars.check_bytes, scalars.rank_bytes),
    type(None): NONE,
    None: NONE,
    Any: ANY,
    object: ANY,
    list: containers.list_of(ANY, Type),
    dict: containers.dict_of(ANY, ANY, Type),
    set: containers.set_of(ANY, set, Type),
    frozenset: containers.set_of(ANY, frozenset, Type),
    tuple: containers.tuple_of(ANY, Type),
}


def compile_type(annotation, scope):
    """The `Type` of an annotation; `scope` looks up names and type parameters."""
    try:
        known = _SCALARS.get(annotation)
    except TypeError:  # an annotation that cannot be hashed, such as Literal[[]]
        known = None
    if known is not None:
        return known
    if isinstance(annotation, str):
        return compile_type(scope.evaluate(annotation), scope)
    if isinstance(annotation, (LazyClass, LazyModel, OneOf, Tagged)):
        return _own_construct(annotation, scope)
    if isinstance(annotation, types.UnionType):
        return _union(annotation.__args__, scope)
    if getattr(annotation, "__metadata__", None) is not None and hasattr(annotation, "__origin__"):
        return _annotated(annotation, scope)
    origin = getattr(annotation, "__origin__", None)
    if origin is not None:
        return _generic(annotation, origin, scope)
    return _plain(annotation, scope)


def _own_construct(annotation, scope):
    if isinstance(annotation, LazyModel):
        return annotation.compiled()
    if isinstance(annotation, LazyClass):
        return Type(f"is-instance[{annotation.name}]", annotation.check)
    if isinstance(annotation, OneOf):
        return containers.literal(annotation.values, Type)
    members = {tag: compile_type(member, scope) for tag, member in annotation.members.items()}
    return containers.tagged_union(annotation.find_tag, members, Type)


def _annotated(annotation, scope):
    inner = compile_type(annotation.__origin__, scope)
    limits = limits_of(annotation.__metadata__)
    return limited(inner, limits) if limits else inner


def _generic(annotation, origin, scope):
    """A subscripted (or bare `typing`) generic: Union, Literal, containers, Callable, type."""
    args = getattr(annotation, "__args__", ())
    label = getattr(origin, "_name", None) or getattr(origin, "__name__", "")
    if label in ("Union", "Optional"):
        return _union(args, scope)
    if label == "Literal":
        return containers.literal(args, Type)
    if label in ("ClassVar", "Final", "Required", "NotRequired"):
        return compile_type(args[0], scope)
    if hasattr(annotation, "__value__"):
        return compile_type(annotation.__value__, scope)
    if origin is type:
        return _class_object(args, scope)
    if label == "Callable":
        return Type("callable", scalars.check_callable)
    return _container(origin, label, [arg for arg in args if not _is_bare_parameter(arg, annotation)], scope)


def _is_bare_parameter(arg, annotation):
    """Old aliases such as a bare `typing.List` have type variables as arguments that mean nothing."""
    return type(arg).__name__ == "TypeVar" and arg.__module__ == "typing" and arg.__name__ in ("T", "KT", "VT", "T_co")


def _container(origin, label, args, scope):
    inner = [compile_type(arg, scope) if arg is not ... else ... for arg in args]
    if origin is list:
        return containers.list_of(inner[0] if inner else ANY, Type)
    if origin is dict or label in ("Mapping", "MutableMapping", "OrderedDict", "defaultdict"):
        key, value = inner if len(inner) == 2 else (ANY, ANY)
        return containers.dict_of(key, value, Type)
    if origin in (set, frozenset) or label in ("Set", "MutableSet"):
        return containers.set_of(inner[0] if inner else ANY, frozenset if origin is frozenset else set, Type)
    if origin is tuple:
        if len(inner) == 2 and inner[1] is ...:
            return containers.tuple_of(inner[0], Type)
        return containers.tuple_fixed(inner, Type) if inner else _SCALARS[tuple]
    if label in ("Sequence", "MutableSequence", "Iterable", "Collection"):
        return containers.sequence_of(inner[0] if inner else ANY, origin, Type)
    return _instance_of(origin)


def _class_object(args, scope):
    base = args[0] if args else object
    if not isinstance(base, type) or base is object or base is Any:
        return _TYPE_OBJECT

    def check(value, info):
        if isinstance(value, type) and issubclass(value, base):
            return value
        raise Invalid.one("is_subclass_of", value, {"class": base.__name__})

    return Type(f"is-subclass[{base.__name__}]", check)


def _check_type_object(value, info):
    if isinstance(value, type):
        return value
    raise Invalid.one("is_type", value)


_TYPE_OBJECT = Type("type", _check_type_object)


def _union(args, scope):
    members = []
    optional = False
    for arg in args:
        if arg is None or arg is type(None):
            optional = True
        else:
            members.append(compile_type(arg, scope))
    inner = members[0] if len(members) == 1 else containers.union_of(members, Type)
    return containers.nullable(inner, Type) if optional else inner


def _plain(annotation, scope):
    """What is no generic: classes, type variables, aliases."""
    kind = type(annotation).__name__
    if kind == "ForwardRef":
        return compile_type(scope.evaluate(annotation.__forward_arg__), scope)
    if kind == "TypeVar":
        return _type_variable(annotation, scope)
    if hasattr(annotation, "__supertype__"):
        return compile_type(annotation.__supertype__, scope)
    if kind == "TypeAliasType":
        return compile_type(annotation.__value__, scope)
    if not isinstance(annotation, type):
        return _special_form(annotation, scope)
    if issubclass(annotation, Parameter):
        return _type_variable(annotation, scope)
    return _class(annotation)


def _type_variable(variable, scope):
    if variable in scope.parameters:
        return compile_type(scope.parameters[variable], scope)
    bound = getattr(variable, "__bound__", None)
    return compile_type(bound, scope) if bound is not None else ANY


def _special_form(annotation, scope):
    label = getattr(annotation, "_name", None) or getattr(annotation, "__name__", None) or repr(annotation)
    if label == "Self" and scope.owner is not None:
        return _class(scope.owner)
    if label == "Callable":
        return Type("callable", scalars.check_callable)
    return ANY


def _class(cls):
    if issubclass(cls, Enum):
        return containers.enumeration(cls, Type)
    if hasattr(cls, "__plan__"):
        return _model(cls)
    if hasattr(cls, "get_secret_value"):
        return _secret(cls)
    if cls is type:
        return _TYPE_OBJECT
    label = (cls.__module__, cls.__name__)
    if label in (("typing", "Any"), ("typing_extensions", "Any")):
        return ANY
    if cls.__module__ in ("datetime", "decimal", "uuid", "pathlib", "_pydatetime"):
        from . import _rare

        rare = _rare.type_of(cls, Type)
        if rare is not None:
            return rare
    if hasattr(cls, "__pydantic_validator__"):
        return _foreign_model(cls)
    if getattr(cls, "_is_protocol", False) and not getattr(cls, "_is_runtime_protocol", False):
        return ANY
    if hasattr(cls, "__total__") and hasattr(cls, "__required_keys__"):
        return _SCALARS[dict]
    return _instance_of(cls)


def _instance_of(cls):
    name = getattr(cls, "__name__", str(cls))

    def check(value, info):
        if isinstance(value, cls):
            return value
        raise Invalid.one("is_instance_of", value, {"class": name})

    return Type(f"is-instance[{name}]", check, lambda value: 3 if isinstance(value, cls) else 1)


def _foreign_model(cls):
    """A model of pydantic, in a plugin that brings pydantic along."""

    def check(value, info):
        try:
            return cls.model_validate(value)
        except ValueError as problem:
            rows = problem.errors()
            lines = [Line(row["type"], row["loc"], row["input"], row.get("ctx"), row["msg"]) for row in rows]
            raise Invalid(lines) from None

    return Type(cls.__name__, check, lambda value: 3 if isinstance(value, cls) else 1)


def _secret(cls):
    """SecretStr, ours or pydantic's."""

    def check(value, info):
        if isinstance(value, cls):
            return value
        try:
            return cls(scalars.check_str(value, info))
        except Invalid:
            raise Invalid.one("string_type", value) from None

    return Type("function-plain[secret]", check, lambda value: 3 if isinstance(value, cls) else 1)


def _model(cls):
    def check(value, info):
        return cls.__validate__(value, info)

    def dump(value, how):
        return how.declared(value, cls)

    return Type(cls.__name__, check, lambda value: 3 if isinstance(value, cls) else 1, dump, cls, _instances(cls))


def _instances(cls):
    """An instance of a model passes as it is, unless a validator looks at it first."""
    looks = any(mark.role == "model" and mark.mode != "after" for mark in cls.__decorated__.values())
    return () if looks else (cls,)


def limited(inner, limits):
    """A type with the limits of its `Field`: sizes and bounds are checked after the type itself."""
    checks = [_LIMIT_CHECKS[key](limit, inner.name) for key, limit in limits.items()]
    check_type = inner.check

    def check(value, info):
        value = check_type(value, info)
        if value is not None:
            for problem in checks:
                problem(value)
        return value

    return Type(inner.name, check, inner.rank, inner.dump, inner.model)


def _bound_check(kind, key, holds):
    def make(limit, name):
        def problem(value):
            if not holds(value, limit):
                raise Invalid.one(kind, value, {key: limit})

        return problem

    return make


def _length_check(word, key, holds):
    def make(limit, name):
        of_text = name in ("str", "bytes", "nullable[str]")
        noun = {"l": "List", "s": "Set", "f": "Frozenset", "t": "Tuple", "d": "Dictionary"}

        def problem(value):
            if holds(len(value), limit):
                return
            ctx = {key: limit, "s": "" if limit == 1 else "s"}
            if of_text:
                raise Invalid.one(f"string_too_{word}", value, ctx)
            ctx = {"field_type": noun.get(type(value).__name__[0], "Value"), **ctx, "actual_length": len(value)}
            raise Invalid.one(f"too_{word}", value, ctx)

        return problem

    return make


def _pattern_check(pattern, name):
    import re

    compiled = re.compile(pattern)

    def problem(value):
        if not compiled.search(value):
            raise Invalid.one("string_pattern_mismatch", value, {"pattern": pattern})

    return problem


_LIMIT_CHECKS = {
    "gt": _bound_check("greater_than", "gt", lambda v, limit: v > limit),
    "ge": _bound_check("greater_than_equal", "ge", lambda v, limit: v >= limit),
    "lt": _bound_check("less_than", "lt", lambda v, limit: v < limit),
    "le": _bound_check("less_than_equal", "le", lambda v, limit: v <= limit),
    "multiple_of": _bound_check("multiple_of", "multiple_of", lambda v, limit: v % limit == 0),
    "min_length": _length_check("short", "min_length", lambda n, limit: n >= limit),
    "max_length": _length_check("long", "max_length", lambda n, limit: n <= limit),
    "pattern": _pattern_check,
}


class Scope:
    """Where the names in a class's annotations are looked up, and what its type parameters stand for."""

    __slots__ = ("owner", "globals", "locals", "parameters")

    def __init__(self, owner, global_names, local_names, parameters):
        self.owner = owner
        self.globals = global_names
        self.locals = local_names
        self.parameters = parameters

    def evaluate(self, text):
        """The object that annotation text means; NameError when a name is not (yet) there."""
        return eval(text, self.globals, _Names(self))  # noqa: S307 - the text is the plugin's own source

    def with_parameters(self, parameters):
        """The same names, other type parameters."""
        return Scope(self.owner, self.globals, self.locals, parameters)


class _Names(dict):
    """Names for `eval`: of the enclosing function, of the module (also its lazy ones), of `typing`."""

    def __init__(self, scope):
        super().__init__(scope.locals or {})
        self.scope = scope

    def __missing__(self, name):
        scope = self.scope
        if name in scope.globals:
            return scope.globals[name]
        if scope.owner is not None and name == scope.owner.__name__:
            return scope.owner
        if hasattr(builtins, name):
            raise KeyError(name)  # where eval looks next
        lazy = scope.globals.get("__getattr__")
        if lazy is not None:
            found = _try(lazy, name)
            if found is not MISSING:
                return found
        raise KeyError(name)


def _try(lazy, name):
    try:
        return lazy(name)
    except (AttributeError, ImportError):
        return MISSING
