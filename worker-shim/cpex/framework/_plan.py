# SPDX-License-Identifier: Apache-2.0
"""A model class compiled: what construction, validation and dumping loop over.

Built once for each class, at its first use, when every name in its annotations can be found.
"""

from __future__ import annotations

from ._containers import _hashable
from ._fields import MISSING, ValidationInfo
from ._invalid import Invalid, Line, ModelUsageError, ValidationError
from ._model import BaseModel, _set, _set_extra, _set_given, _set_private
from ._types import Type, compile_type, limited


class Plan:
    """The compiled form of one class."""

    __slots__ = ("cls", "fields", "types", "keys", "extra", "private", "before", "after", "root", "informed",
                 "serializers", "post_init", "by_name", "dumped", "custom_init", "plain", "plain_dumped")  # fmt: skip

    def __init__(self, cls):
        self.cls = cls
        config = cls.model_config
        self.extra = config.get("extra", "ignore")
        self.by_name = bool(config.get("populate_by_name"))
        self.private = cls.__private_attributes__
        self.root = _is_root(cls)
        self.custom_init = not self.root and cls.__init__ is not BaseModel.__init__
        self.informed = False
        self.post_init = getattr(cls, "model_post_init", None)
        decorated = [(name, mark) for name, mark in cls.__decorated__.items()]
        self.before = [
            _bound(cls, name, mark) for name, mark in decorated if mark.role == "model" and mark.mode != "after"
        ]
        self.after = [
            _bound(cls, name, mark) for name, mark in decorated if mark.role == "model" and mark.mode == "after"
        ]
        self.serializers = _serializers(cls, decorated)
        self.types = {}
        self.fields = [self._field(name, field, decorated) for name, field in cls.model_fields.items()]
        self.dumped = [
            (name, self.types[name].dump, self.serializers.get(name))
            for name, field in cls.model_fields.items()
            if not field.exclude
        ]
        self.keys = frozenset(entry[1] for entry in self.fields)
        self.plain = None if self._is_special() else _plain(map(self._plain_field, self.fields))
        self.plain_dumped = None if self.root or self.serializers else tuple(name for name, _, _ in self.dumped)

    def _is_special(self):
        """Whether instances are more than the values of their fields."""
        aliased = any(name != key for name, key, *_ in self.fields)
        special = self.root or self.before or self.after or self.private or self.post_init is not None
        return bool(aliased or special or self.extra != "ignore")

    def _plain_field(self, entry):
        """(name, types) or (name, types, default) of a field; the default `dict` or `list` is a new one."""
        name, _, _, default, factory = entry
        types = self.types[name].plain
        if factory is dict or factory is list:
            return (name, types, factory)
        if factory is None and default is not MISSING and default is not dict and default is not list:
            return (name, types, default)
        field = self.cls.model_fields[name]
        if field.default_factory is None and type(field.default) in (dict, list) and not field.default:
            return (name, types, type(field.default))
        return (name, types)

    def _field(self, name, field, decorated):
        """The tuple that `fill` works with: name, key, check, default, factory."""
        compiled = _compiled(self.cls, name, field)
        for method, mark in decorated:
            if mark.role == "field" and (name in mark.fields or "*" in mark.fields):
                if mark.parameters() > (3 if mark.mode == "wrap" else 2):
                    self.informed = True
                compiled = _validated(compiled, _bound(self.cls, method, mark), name)
        self.types[name] = compiled
        factory = field.default_factory
        default = field.default
        if factory is None and not _hashable(default):
            # Instances must not share what one of them could change.
            factory = field.get_default
        return (name, field.alias or name, compiled.check, default, factory)

    def fill(self, new, data, info):
        """Make an instance of `data` for `__init__`: also runs the validators of the whole model."""
        if self.before:
            data = self.mapping(self.prepared(data, info))
        if self.after:
            self._after(new, data, info)
        else:
            self._fill(new, data, info)

    def constructed(self, data):
        """An instance by way of a constructor that the class wrote itself."""
        try:
            return self.cls(**data)
        except ValidationError as problem:
            raise Invalid(list(problem._lines)) from None

    def finished(self, new, data, info):
        """The same for validation, where a validator may answer with another instance."""
        if self.after:
            return self._after(new, data, info)
        self._fill(new, data, info)
        return new

    def _fill(self, new, data, info):
        values = {}
        given = set()
        lines = None
        if self.informed:
            info = ValidationInfo(info.context if info is not None else None, values)
        for name, key, check, default, factory in self.fields:
            value = data.get(key, MISSING)
            if value is not MISSING:
                try:
                    values[name] = check(value, info)
                except Invalid as problem:
                    lines = (lines or []) + problem.under(key)
                given.add(name)
            elif self.by_name and key != name and name in data:
                lines = self._by_name(name, data, check, info, values, given, lines)
            elif factory is not None:
                values[name] = factory()
            elif default is not MISSING:
                values[name] = default
            else:
                lines = (lines or []) + [Line("missing", (key,), data)]
        extra = None
        if self.extra != "ignore" or len(given) != len(data):
            extra, lines = self._rest(data, given, lines)
        if lines:
            raise Invalid(lines)
        # Inlined `complete` for the common class without private attributes.
        if self.private or self.post_init is not None:
            self.complete(new, values, given, extra, info)
            return
        _set(new, "__dict__", values)
        _set_given(new, given)
        _set_extra(new, extra)
        _set_private(new, None)

    def _by_name(self, name, data, check, info, values, given, lines):
        try:
            values[name] = check(data[name], info)
        except Invalid as problem:
            lines = (lines or []) + problem.under(name)
        given.add(name)
        return lines

    def _rest(self, data, given, lines):
        """What to do with keys that are no fields."""
        lines = lines or []
        extra = {} if self.extra == "allow" else None
        for key, value in data.items():
            if key in self.keys or self.by_name and key in given:
                continue
            if not isinstance(key, str) and self.extra != "ignore":
                lines.append(Line("invalid_key", (int(key) if isinstance(key, int) else str(key),), key))
            elif self.extra == "forbid":
                lines.append(Line("extra_forbidden", (key,), value))
            elif extra is not None:
                extra[key] = value
                given.add(key)
        return extra, lines

    def complete(self, new, values, given, extra, info):
        """Give an instance its parts, and its private attributes their defaults."""
        _set(new, "__dict__", values)
        _set_given(new, given)
        _set_extra(new, extra)
        private = None
        if self.private:
            private = {}
            for name, declared in self.private.items():
                if declared.default is not MISSING or declared.default_factory is not None:
                    private[name] = declared.get_default()
        _set_private(new, private)
        if self.post_init is not None:
            self.post_init(new, info.context if info is not None else None)

    def fill_root(self, new, value, info):
        """Make an instance of a model that is one value."""
        name, _, check, default, factory = self.fields[0]
        given = {name}
        if value is MISSING:
            value, given = factory() if factory is not None else default, set()
        self.complete(new, {name: check(value, info)}, given, None, info)

    def prepared(self, value, info):
        """The input after the validators that run before all others."""
        for validator in self.before:
            value = _guarded(validator, value, value, info)
        return value

    def mapping(self, value):
        """The input as a dict, or Invalid."""
        if isinstance(value, dict):
            return value
        from ._containers import _is_mapping

        if _is_mapping(value):
            return dict(value)
        raise Invalid.one("model_type", value, {"class_name": self.cls.__name__})

    def _after(self, new, data, info):
        self._fill(new, data, info)
        for validator in self.after:
            new = _guarded(validator, new, data, info)
        return new


def _plain(fields):
    """What `_cpexd.fill` works with: the values of an instance of which nothing is given, the types of each field, those that an
    instance has a container of its own of, and those without which it is not plain."""
    values, types, made, required = {}, {}, [], []
    for name, kinds, *default in fields:
        types[name] = kinds
        values[name] = None
        if not default:
            required.append(name)
        elif default[0] is dict or default[0] is list:
            made.append((name, default[0]))
        else:
            values[name] = default[0]
    return values, types, tuple(made), tuple(required)


def _is_root(cls):
    from ._model import RootModel

    return issubclass(cls, RootModel)


def _compiled(cls, name, field):
    """The type of a field, in the scope of the class that declared it and with the parameters of this one."""
    scope = field.scope
    parameters = cls.__scope__.parameters
    if parameters is not scope.parameters:
        scope = scope.with_parameters(parameters)
    try:
        compiled = compile_type(field._raw, scope)
    except NameError as problem:
        missing = getattr(problem, "name", None) or str(problem)
        raise ModelUsageError(
            f"`{cls.__name__}` is not fully defined: its annotations name `{missing}`, which cannot be found. "
            f"Define it and call `{cls.__name__}.model_rebuild()`."
        ) from None
    return limited(compiled, field.limits) if field.limits else compiled


def _bound(cls, name, mark):
    """A validator as `call(subject, info)`, with or without the info parameter it declares."""
    wants_info = mark.parameters() > (
        3 if mark.mode == "wrap" else 2 if mark.role == "field" or mark.mode != "after" else 1
    )
    if mark.role == "model" and mark.mode == "after":
        method = getattr(cls, name)
        call = (lambda new, info: method(new, info)) if wants_info else (lambda new, info: method(new))
    elif isinstance(mark.function, staticmethod):
        wants_info = mark.parameters() > (2 if mark.mode == "wrap" else 1)
        call = _call(getattr(cls, name), wants_info)
    else:
        bound = (
            mark.function.__get__(None, cls) if isinstance(mark.function, classmethod) else mark.function.__get__(cls)
        )
        call = _call(bound, wants_info)
    call.mode = mark.mode
    return call


def _call(method, wants_info):
    if wants_info:
        return lambda *args: method(*args)
    return lambda *args: method(*args[:-1])


def _guarded(validator, subject, shown, info):
    """Run a validator of a model; what it raises becomes a line about the whole input."""
    try:
        return validator(subject, info if info is not None else ValidationInfo())
    except ValidationError as problem:
        raise Invalid(list(problem._lines)) from None
    except ValueError as problem:
        raise Invalid.one("value_error", shown, {"error": problem}) from None
    except AssertionError as problem:
        raise Invalid.one("assertion_error", shown, {"error": problem}) from None


def _validated(compiled, validator, name):
    """A field's type with one validator around it."""
    inner = compiled.check
    mode = validator.mode

    def field_info(info):
        if info is None:
            return ValidationInfo(None, {}, name)
        return ValidationInfo(info.context, info.data, name)

    def before(value, info):
        return inner(_guarded(validator, value, value, field_info(info)), info)

    def after(value, info):
        return _guarded(validator, inner(value, info), value, field_info(info))

    def plain(value, info):
        return _guarded(validator, value, value, field_info(info))

    def wrap(value, info):
        def with_handler(subject, about):
            return validator(subject, lambda item: inner(item, info), about)

        return _guarded(with_handler, value, value, field_info(info))

    check = {"before": before, "after": after, "plain": plain, "wrap": wrap}[mode]
    return Type(f"function-{mode}[{compiled.name}]", check, compiled.rank, compiled.dump, compiled.model)


def _serializers(cls, decorated):
    """Field name -> function(instance, value) that gives the dumped form."""
    found = {}
    for _, mark in decorated:
        if mark.role != "serializer":
            continue
        function = mark.plain()
        for field in cls.model_fields if "*" in mark.fields else mark.fields:
            found[field] = function
    return found
