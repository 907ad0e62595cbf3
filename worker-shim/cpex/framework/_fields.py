# SPDX-License-Identifier: Apache-2.0
"""How a model class declares itself: `Field`, `PrivateAttr`, `ConfigDict` and the validator decorators.

Plugin authors reach these through `cpex.framework.models`, where the real SDK has (pydantic's) namesakes too; a plugin
that imports them from there runs under both.
"""

from __future__ import annotations

# Shown in errors where there was no input at all, under pydantic's name.
MISSING = type("PydanticUndefinedType", (), {"__repr__": lambda self: "PydanticUndefined", "__slots__": ()})()


class Any:
    """Stands for `typing.Any` in the SDK's own annotations, so that they do not cost an import of `typing`."""


class Parameter:
    """Base of what stands for a type parameter in the SDK's own generic models, for the same reason."""


def ConfigDict(**settings):  # noqa: N802 - the name is pydantic's
    """The settings of a model class; the SDK heeds extra, frozen, validate_assignment and populate_by_name."""
    return settings


class FieldInfo:
    """What is known about one field of a model."""

    __slots__ = (
        "_raw", "scope", "default", "default_factory", "alias", "title", "description", "exclude", "repr", "frozen",
        "limits", "init", "extra_info",
    )  # fmt: skip

    def __init__(self, default=MISSING, *, default_factory=None, alias=None, title=None, description=None, exclude=None,
                 repr=True, frozen=None, init=None, limits=None, extra_info=None):  # fmt: skip
        self._raw = None
        self.scope = None
        self.default = default
        self.default_factory = default_factory
        self.alias = alias
        self.title = title
        self.description = description
        self.exclude = exclude
        self.repr = repr
        self.frozen = frozen
        self.init = init
        self.limits = limits or {}
        self.extra_info = extra_info or {}

    @property
    def annotation(self):
        """The declared type; text is looked up when somebody asks."""
        found = self.scope.evaluate(self._raw) if isinstance(self._raw, str) else self._raw
        if hasattr(found, "resolve"):
            return found.resolve() | None if found.optional else found.resolve()
        return found

    def is_required(self):
        """Whether a caller has to give this field."""
        return self.default is MISSING and self.default_factory is None

    def get_default(self, *, call_default_factory=False, validated_data=None):
        """The default; mutable ones are copied so that instances do not share them."""
        if self.default_factory is not None:
            return self.default_factory() if call_default_factory else None
        return copied_default(self.default)

    def bound(self, raw, scope):
        """A copy of this declaration for one class, with its annotation."""
        copy = FieldInfo.__new__(FieldInfo)
        for slot in FieldInfo.__slots__:
            setattr(copy, slot, getattr(self, slot))
        copy._raw = raw
        copy.scope = scope
        return copy

    def __repr__(self):
        shown = getattr(self.annotation, "__name__", None) if isinstance(self.annotation, type) else self.annotation
        parts = [f"annotation={shown}", f"required={self.is_required()}"]
        if self.default is not MISSING:
            parts.append(f"default={self.default!r}")
        if self.default_factory is not None:
            parts.append(f"default_factory={self.default_factory.__name__}")
        return f"FieldInfo({', '.join(parts)})"


_IMMUTABLE = (str, int, float, bool, bytes, type(None), tuple, frozenset, type)


def copied_default(value):
    """A default as a new instance may have it."""
    if isinstance(value, _IMMUTABLE):
        return value
    if not value and type(value) in (list, dict, set):
        return type(value)()
    import copy

    return copy.deepcopy(value)


_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")


def Field(default=MISSING, *, default_factory=None, alias=None, title=None, description=None, exclude=None,  # noqa: N802
          repr=True, frozen=None, init=None, **more):  # fmt: skip
    """Declare a field: its default, limits (gt, ge, lt, le, min_length, max_length, pattern) and description."""
    if default is ...:
        default = MISSING
    limits = {key: more.pop(key) for key in _LIMITS if more.get(key) is not None}
    if alias is None:
        alias = more.pop("validation_alias", None)
    return FieldInfo(default, default_factory=default_factory, alias=alias, title=title, description=description,
                     exclude=exclude, repr=repr, frozen=frozen, init=init, limits=limits, extra_info=more)  # fmt: skip


class ModelPrivateAttr:
    """The declaration of an attribute that belongs to an instance but is no field."""

    __slots__ = ("default", "default_factory")

    def __init__(self, default=MISSING, default_factory=None):
        self.default = default
        self.default_factory = default_factory

    def get_default(self):
        """A fresh default for one instance."""
        return self.default_factory() if self.default_factory is not None else copied_default(self.default)

    def __repr__(self):
        return f"ModelPrivateAttr(default={self.default!r})"


def PrivateAttr(default=MISSING, *, default_factory=None, init=False):  # noqa: N802
    """Declare a private attribute; its name starts with an underscore."""
    return ModelPrivateAttr(default, default_factory)


class ValidationInfo:
    """What a validator may ask for besides the value: fields validated so far, the caller's context."""

    __slots__ = ("context", "data", "field_name", "mode", "config")

    def __init__(self, context=None, data=None, field_name=None):
        self.context = context
        self.data = data
        self.field_name = field_name
        self.mode = "python"
        self.config = None


class Decorated:
    """A method of a model class that takes part in validation or serialization."""

    __slots__ = ("function", "role", "mode", "fields")

    def __init__(self, function, role, mode, fields=()):
        self.function = function
        self.role = role
        self.mode = mode
        self.fields = fields

    def __get__(self, instance, owner=None):
        """Such a method stays callable by its name."""
        return self.function.__get__(instance, owner)

    def plain(self):
        """The function under `classmethod` or `staticmethod`."""
        return getattr(self.function, "__func__", self.function)

    def parameters(self):
        """How many positional parameters the function takes."""
        return self.plain().__code__.co_argcount


def field_validator(*fields, mode="after", check_fields=None):
    """Mark a class method as validator of the named fields ("*" is all); mode is before, after, wrap or plain."""
    return lambda function: Decorated(function, "field", mode, fields)


def model_validator(*, mode):
    """Mark a method as validator of the whole model: before (class method on the input) or after (on the instance)."""
    return lambda function: Decorated(function, "model", mode)


def field_serializer(*fields, mode="plain", when_used="always", check_fields=None, return_type=None):
    """Mark a method as the one that gives the dumped form of the named fields."""
    return lambda function: Decorated(function, "serializer", when_used if mode == "plain" else mode, fields)


def adopt(value):
    """What a class body has on the right-hand side, in the SDK's terms: a declaration of ours stays, one of pydantic's
    (a plugin may mix them) is translated, anything else is a default."""
    if isinstance(value, (FieldInfo, ModelPrivateAttr)):
        return value
    kind = type(value)
    if kind.__module__.startswith("pydantic."):
        translate = _TRANSLATIONS.get(kind.__name__)
        if translate is not None:
            return translate(value)
    return FieldInfo(value)


def _known(default):
    return MISSING if type(default).__name__ == "PydanticUndefinedType" else default


def limits_of(rules):
    """The limits among the extras of a field: ours, pydantic's, or those of annotated_types."""
    limits = {}
    for rule in rules:
        rule = adopt(rule) if type(rule).__name__ == "FieldInfo" else rule
        if isinstance(rule, FieldInfo):
            limits.update(rule.limits)
        else:
            limits.update((key, getattr(rule, key)) for key in _LIMITS if getattr(rule, key, None) is not None)
    return limits


def _from_field(field):
    limits = limits_of(field.metadata)
    return FieldInfo(_known(field.default), default_factory=field.default_factory, alias=field.alias, title=field.title,
                     description=field.description, exclude=field.exclude, repr=field.repr, limits=limits)  # fmt: skip


def _from_private(attribute):
    return ModelPrivateAttr(_known(attribute.default), attribute.default_factory)


def _from_decorated(proxy):
    info = proxy.decorator_info
    kind = type(info).__name__
    role = "model" if kind == "ModelValidatorDecoratorInfo" else "serializer" if "Serializer" in kind else "field"
    return Decorated(proxy.wrapped, role, info.mode, getattr(info, "fields", ()))


_TRANSLATIONS = {
    "FieldInfo": _from_field,
    "ModelPrivateAttr": _from_private,
    "PydanticDescriptorProxy": _from_decorated,
}
