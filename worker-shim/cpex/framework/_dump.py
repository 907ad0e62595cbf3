# SPDX-License-Identifier: Apache-2.0
"""Models as plain data, for `model_dump` and `model_dump_json`.

A field typed as a model is dumped with the fields of that model; everything else by what it is. Values that JSON has
no form for stay as they are in Python mode and are refused in JSON mode.
"""

from __future__ import annotations

from enum import Enum

from ._fields import MISSING
from ._invalid import SerializationError
from ._model import BaseModel, _set, _set_given, plan_of

_EXACT = frozenset((str, int, bool, type(None)))
_PLAIN = _EXACT | {float}


class How:
    """One dump: its mode and what it leaves out."""

    __slots__ = ("json", "by_alias", "skip_unset", "skip_defaults", "skip_none", "whole", "plain")

    def __init__(self, json, by_alias, skip_unset, skip_defaults, skip_none):
        self.json = json
        self.by_alias = by_alias
        self.skip_unset = skip_unset
        self.skip_defaults = skip_defaults
        self.skip_none = skip_none
        self.whole = not (by_alias or skip_unset or skip_defaults or skip_none)
        self.plain = _EXACT if json else _PLAIN  # classes whose values are their own dumped form

    def start(self, model, include, exclude):
        """Dump a model; the place where endless nesting is noticed."""
        try:
            return self.model(model, type(model), include, exclude)
        except RecursionError:
            raise SerializationError("Circular reference detected (id repeated)") from None

    # -- models ------------------------------------------------------------------------------------------------------

    def model(self, model, cls, include=None, exclude=None):
        """A model with the fields of `cls`, which is its class or a base of it."""
        plan = cls.__plan__ or plan_of(cls)
        if plan.root:
            dump = plan.types["root"].dump
            value = model.__dict__.get("root")
            plain = dump is None or include is not None or exclude is not None
            return self.any(value, include, exclude) if plain else dump(value, self)
        if self.whole and include is None and exclude is None:
            return self._whole(plan, model)
        result = {}
        values = model.__dict__
        for name, field in cls.model_fields.items():
            value = values.get(name, MISSING)
            if value is MISSING or self._left_out(plan, model, name, field, value):
                continue
            wanted, inside, outside = _selected(name, include, exclude)
            if wanted:
                key = field.alias if self.by_alias and field.alias else name
                result[key] = self._field(plan, model, name, value, inside, outside)
        extra = model.__model_extra__
        if extra:
            self._extra(extra, result, include, exclude)
        return result

    def declared(self, value, cls, include=None, exclude=None):
        """The value of a field that is declared to be a model. Of another object the attributes that bear the names of fields."""
        if isinstance(value, cls):
            return self.model(value, cls, include, exclude)
        found = getattr(value, "__dict__", None)
        if type(found) is not dict or (cls.__plan__ or plan_of(cls)).root:
            return self.any(value, include, exclude)
        likeness = cls.__new__(cls)
        _set(likeness, "__dict__", {name: found[name] for name in cls.model_fields if name in found})
        _set_given(likeness, set(likeness.__dict__))
        return self.model(likeness, cls, include, exclude)

    def _whole(self, plan, model):
        """All fields: the usual case, without questions."""
        result = {}
        values = model.__dict__
        for name, dump, serializer in plan.dumped:
            value = values.get(name, MISSING)
            if value is MISSING:
                continue
            if serializer is not None:
                result[name] = self.any(_serialized(serializer, model, value))
            elif type(value) in self.plain:
                result[name] = value
            else:
                result[name] = self.any(value) if dump is None else dump(value, self)
        if model.__model_extra__:
            for name, value in model.__model_extra__.items():
                result[name] = self.any(value)
        return result

    def _left_out(self, plan, model, name, field, value):
        if field.exclude:
            return True
        if self.skip_none and value is None:
            return True
        if self.skip_unset and name not in model.__model_set__:
            return True
        if self.skip_defaults and name not in plan.serializers and not field.is_required():
            return value == field.get_default(call_default_factory=True)
        return False

    def _field(self, plan, model, name, value, inside, outside):
        serializer = plan.serializers.get(name)
        if serializer is not None:
            return self.any(_serialized(serializer, model, value))
        declared = plan.types[name].model
        if declared is not None:
            return self.declared(value, declared, inside, outside)
        if inside is not None or outside is not None:
            return self.any(value, inside, outside)
        dump = plan.types[name].dump
        return dump(value, self) if dump is not None else self.any(value)

    def _extra(self, extra, result, include, exclude):
        for name, value in extra.items():
            if self.skip_none and value is None:
                continue
            wanted, inside, outside = _selected(name, include, exclude)
            if wanted:
                result[name] = self.any(value, inside, outside)

    # -- other values ------------------------------------------------------------------------------------------------

    def any(self, value, include=None, exclude=None):
        """A value by what it is."""
        kind = type(value)
        if kind in self.plain:
            return value
        if kind is dict or isinstance(value, dict):
            return self._dict(value, include, exclude)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._sequence(value, include, exclude)
        if isinstance(value, BaseModel):
            return self.model(value, kind, include, exclude)
        return self._other(value, kind)

    def mapping(self, pairs):
        """A dict of values that are dumped already."""
        return {self._key(key): value for key, value in pairs}

    def container(self, value, items):
        """Dumped items in the kind of container they came in."""
        if self.json:
            return list(items)
        return tuple(items) if isinstance(value, tuple) else list(items)

    def _dict(self, value, include, exclude):
        if include is None and exclude is None:
            if self.json:
                return {self._key(key): self.any(item) for key, item in value.items()}
            return {key: item if type(item) in self.plain else self.any(item) for key, item in value.items()}
        result = {}
        for key, item in value.items():
            wanted, inside, outside = _selected(key, include, exclude)
            if wanted:
                result[self._key(key)] = self.any(item, inside, outside)
        return result

    def _sequence(self, value, include, exclude):
        if isinstance(value, (set, frozenset)):  # which has no places
            include = exclude = None
        if include is None and exclude is None and (self.json or type(value) is list):
            return [item if type(item) in self.plain else self.any(item) for item in value]
        items = []
        for place, item in enumerate(value):
            wanted, inside, outside = _selected(place, include, exclude, len(value))
            if wanted:
                items.append(self.any(item, inside, outside))
        if self.json or isinstance(value, list):
            return items
        if isinstance(value, tuple):
            return tuple(items)
        return frozenset(items) if isinstance(value, frozenset) else set(items)

    def _key(self, key):
        """A key; JSON has only text."""
        if not self.json or type(key) is str:
            return key
        if isinstance(key, Enum):
            key = key.value
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, float):
            key = self.any(key)
        if isinstance(key, (str, int, float)) or key is None:
            return str(key)
        if isinstance(key, tuple):
            return ",".join(str(self._key(part)) for part in key)
        return str(self._other(key, type(key)))

    def _other(self, value, kind):
        """What is no plain value, container or model."""
        if hasattr(kind, "model_dump") and not isinstance(value, type):
            # A pydantic model among our values.
            return value.model_dump(mode="json" if self.json else "python")
        if hasattr(kind, "__dataclass_fields__") and not isinstance(value, type):
            return {name: self.any(getattr(value, name)) for name in kind.__dataclass_fields__}
        if not self.json:
            return value
        if isinstance(value, Enum):
            return self.any(value.value)
        if isinstance(value, float):
            return value if value - value == 0 else None  # JSON has no inf and no nan
        if isinstance(value, (str, int)):
            return value
        if hasattr(value, "get_secret_value"):
            return str(value)
        if isinstance(value, (bytes, bytearray)):
            return _utf8(value)
        from ._rare import json_form

        form = json_form(value, self)
        if form is MISSING:
            raise SerializationError(f"Unable to serialize unknown type: {kind}")
        return form


def _utf8(value):
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as problem:
        problem.reason = "invalid utf-8"
        raise


def _serialized(serializer, model, value):
    """What a serializer of the class makes of a value."""
    try:
        return serializer(model, value)
    except Exception as problem:
        about = f"Error calling function `{serializer.__name__}`: {type(problem).__name__}: {problem}"
        raise SerializationError(about) from problem


def _selected(key, include, exclude, length=None):
    """Whether a key is wanted, and what of `include` and `exclude` applies inside it."""
    inside = outside = None
    if include is not None:
        inside = _rule(key, include, length)
        if inside is MISSING or inside is False:
            return False, None, None
        if inside is True or inside is ...:
            inside = None
    if exclude is not None:
        outside = _rule(key, exclude, length)
        if outside is True or outside is ...:
            return False, None, None
        if outside is MISSING or outside is False:
            outside = None
    return True, inside, outside


def _rule(key, rules, length):
    """What a set or mapping of rules says about one key; for places in a list also negative ones and __all__."""
    if length is not None and isinstance(key, int) and key not in rules and key - length in rules:
        key -= length
    if isinstance(rules, dict) or hasattr(rules, "keys"):
        return rules[key] if key in rules else rules.get("__all__", MISSING)
    return True if key in rules or "__all__" in rules else MISSING


def json_text(how, model, include, exclude, indent):
    """JSON as pydantic writes it: compact, text as it is, no NaN."""
    import json

    try:
        value = how.start(model, include, exclude)
    except UnicodeDecodeError as problem:
        about = f"invalid utf-8 sequence of 1 bytes from index {problem.start}"
        raise SerializationError(f"Error serializing to JSON: {about}") from None
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, separators=separators, indent=indent)


def _finite(value):
    """The same value with null for numbers that JSON does not have."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
