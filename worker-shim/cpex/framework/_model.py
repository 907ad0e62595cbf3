# SPDX-License-Identifier: Apache-2.0
"""`BaseModel`: classes whose annotated attributes are checked fields.

It gives plugin code the manners of pydantic's models (construction, copying, dumping, equality, errors) at a fraction
of the start-up cost: a class only notes its annotations when it is defined; the first instance compiles them, once,
into a `Plan`, and construction is then one loop over tuples.
"""

from __future__ import annotations

import sys
from abc import ABCMeta

from _cpexd import Model, dump, fill

from ._fields import MISSING, Decorated, ModelPrivateAttr, ValidationInfo, adopt
from ._invalid import Invalid, Line, ModelUsageError, ValidationError
from ._old_names import OldNames
from ._types import Scope

_IGNORED_ATTRIBUTES = (type(lambda: 0), property, classmethod, staticmethod, type, Decorated)
_set = object.__setattr__


def _class_annotations(namespace):
    """The annotations of a class body, as written; from Python 3.14 on they are computed on demand."""
    found = namespace.get("__annotations__")
    if found is not None or sys.version_info < (3, 14):
        return found or {}
    import annotationlib

    compute = annotationlib.get_annotate_from_class_namespace(namespace)
    if compute is None:
        return {}
    return annotationlib.call_annotate_function(compute, annotationlib.Format.FORWARDREF)


def _is_class_variable(annotation):
    if isinstance(annotation, str):
        return annotation.split("[")[0].rpartition(".")[2] == "ClassVar"
    return "ClassVar" in str(getattr(annotation, "__origin__", annotation)) and "typing" in str(annotation)


class ModelMetaclass(ABCMeta):
    """Takes a class body apart: fields, private attributes, validators, configuration."""

    def __new__(mcs, name, bases, namespace, **kwargs):
        parents = [base for base in bases if isinstance(base, ModelMetaclass)]
        config = {}
        for parent in reversed(parents):
            config.update(parent.model_config)
        config.update(namespace.get("model_config") or {})
        for key in [
            key for key in kwargs if key in ("frozen", "extra", "validate_assignment", "arbitrary_types_allowed")
        ]:
            config[key] = kwargs.pop(key)
        annotations = _class_annotations(namespace)
        body = _Body(name, parents, namespace, annotations)
        namespace["model_config"] = config
        namespace["__plan__"] = None
        namespace["__private_attributes__"] = body.private
        namespace["__class_vars__"] = body.class_variables
        namespace["__decorated__"] = body.decorated
        if "__hash__" not in namespace and config.get("frozen") and "__eq__" not in namespace:
            namespace["__hash__"] = _hash_of_fields
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        frame = sys._getframe(1)
        local_names = None
        if frame.f_locals is not frame.f_globals and any(isinstance(value, str) for value in annotations.values()):
            local_names = dict(frame.f_locals)
        scope = Scope(cls, frame.f_globals, local_names, _parameters_of(parents))
        cls.__scope__ = scope
        cls.model_fields = body.fields(scope)
        return cls

    def __getattr__(cls, name):
        private = cls.__dict__.get("__private_attributes__")
        if private and name in private:
            return private[name]
        raise AttributeError(name)


def _parameters_of(parents):
    """What type parameters stand for, handed down from a parametrized base."""
    merged = {}
    for parent in parents:
        scope = parent.__dict__.get("__scope__")
        if scope is not None:
            merged.update(scope.parameters)
    return merged


class _Body:
    """One class body under inspection."""

    def __init__(self, name, parents, namespace, annotations):
        self.name = name
        self.parents = parents
        self.own = {}
        self.private = {}
        self.class_variables = set()
        self.decorated = {}
        for parent in reversed(parents):
            self.private.update(parent.__private_attributes__)
            self.class_variables |= parent.__class_vars__
            self.decorated.update(parent.__decorated__)
        for key, annotation in annotations.items():
            self._annotated(key, annotation, namespace)
        for key in list(namespace):
            self._unannotated(key, namespace, annotations)

    def _annotated(self, key, annotation, namespace):
        if _is_class_variable(annotation):
            self.class_variables.add(key)
        elif key.startswith("__") or key == "model_config":
            return
        elif key.startswith("_"):
            default = namespace.pop(key, MISSING)
            default = adopt(default)
            self.private[key] = default if isinstance(default, ModelPrivateAttr) else ModelPrivateAttr(default.default)
        else:
            declared = adopt(namespace.pop(key, MISSING))
            self.own[key] = (declared, annotation)

    def _unannotated(self, key, namespace, annotations):
        value = namespace[key]
        if type(value).__module__.startswith("pydantic."):
            value = adopt(value)
        if isinstance(value, Decorated):
            self.decorated[key] = value
            namespace[key] = value.function
        elif key in annotations or key.startswith("__") or key == "model_config":
            return
        elif isinstance(value, ModelPrivateAttr):
            self.private[key] = value
            del namespace[key]
        elif isinstance(value, _IGNORED_ATTRIBUTES) or hasattr(type(value), "__get__"):
            self.decorated.pop(key, None)
        elif key.startswith("_"):
            self.private[key] = ModelPrivateAttr(namespace.pop(key))
        elif any(key in parent.model_fields for parent in self.parents):
            raise ModelUsageError(
                f"Field {key!r} of a base class is overridden in {self.name} without a type annotation"
            )
        elif self.parents and key not in self.class_variables:
            raise ModelUsageError(
                f"{self.name}.{key} = {value!r} has no type annotation: annotate it to make it a field, "
                "or annotate it as ClassVar"
            )

    def fields(self, scope):
        """Fields of all bases and then the own ones; an override keeps its place."""
        fields = {}
        for parent in reversed(self.parents):
            fields.update(parent.model_fields)
        for key, (declared, annotation) in self.own.items():
            fields[key] = declared.bound(annotation, scope)
        return fields


def _hash_of_fields(self):
    values = self.__dict__
    return hash(tuple([values.get(name) for name in type(self).model_fields]))


class BaseModel(OldNames, Model, metaclass=ModelMetaclass):
    """Base of all models of the SDK."""

    __slots__ = ("__dict__",)

    __type_parameters__ = ()

    def __construct__(self, data):
        """The constructor, where the extension's (`Model`) has found that it takes more."""
        plan = type(self).__plan__ or plan_of(type(self))
        if plan.plain is not None and fill(self, plan.plain, data):
            return
        try:
            plan.fill(self, data, None)
        except Invalid as problem:
            raise ValidationError(type(self).__name__, problem.lines) from None

    # -- validation --------------------------------------------------------------------------------------------------

    @classmethod
    def __validate__(cls, value, info):
        """An instance from a value, for fields of this type; raises Invalid."""
        plan = cls.__plan__ or plan_of(cls)
        if plan.before:
            value = plan.prepared(value, info)
        if isinstance(value, cls):
            return value
        new = cls.__new__(cls)
        if plan.root:
            plan.fill_root(new, value, info)
            return new
        if type(value) is not dict:
            value = plan.mapping(value)
        elif plan.plain is not None and not plan.custom_init and fill(new, plan.plain, value):
            return new
        return plan.constructed(value) if plan.custom_init else plan.finished(new, value, info)

    @classmethod
    def model_validate(cls, obj, *, strict=None, from_attributes=None, context=None, by_alias=None, by_name=None):
        """An instance from a mapping (or an instance, which is returned as it is)."""
        try:
            return cls.__validate__(obj, ValidationInfo(context) if context is not None else None)
        except Invalid as problem:
            raise ValidationError(cls.__name__, problem.lines) from None

    @classmethod
    def model_validate_json(cls, json_data, *, strict=None, context=None, by_alias=None, by_name=None):
        """An instance from JSON text."""
        import json

        try:
            data = json.loads(json_data)
        except ValueError as problem:
            message = str(getattr(problem, "msg", problem))
            where = f" at line {problem.lineno} column {problem.colno}" if hasattr(problem, "lineno") else ""
            line = Line("json_invalid", (), json_data, {"error": message + where})
            raise ValidationError(cls.__name__, [line]) from None
        return cls.model_validate(data, context=context)

    @classmethod
    def model_construct(cls, _fields_set=None, **values):
        """An instance without any check; defaults are filled in."""
        new = cls.__new__(cls)
        plan = cls.__plan__ or plan_of(cls)
        filled = {}
        for name, field in cls.model_fields.items():
            if name in values:
                filled[name] = values[name]
            elif not field.is_required():
                filled[name] = field.get_default(call_default_factory=True)
        extra = {k: v for k, v in values.items() if k not in filled} if plan.extra == "allow" else None
        given = set(_fields_set) if _fields_set is not None else {k for k in values if k in filled or extra}
        plan.complete(new, filled, given, extra, None)
        return new

    @classmethod
    def model_rebuild(cls, **ignored):
        """Look annotations up again; only useful after a forward reference could not be found."""
        cls.__plan__ = None
        return True

    # -- generics ----------------------------------------------------------------------------------------------------

    def __class_getitem__(cls, args):
        from ._generics import parametrized

        return parametrized(cls, args)

    # -- attributes --------------------------------------------------------------------------------------------------

    @property
    def model_fields_set(self):
        """Names of the fields that were given (not defaulted)."""
        return self.__model_set__

    @property
    def model_extra(self):
        """Values of keys that are no fields, where the class allows them."""
        return self.__model_extra__

    def __getattr__(self, name):
        # Only reached when normal lookup fails: private attributes, then extra values.
        private = self.__model_private__
        if private is not None and name in private:
            return private[name]
        extra = self.__model_extra__
        if extra is not None and name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        cls = type(self)
        if name[0] == "_":
            private = self.__model_private__
            if private is None or name not in cls.__private_attributes__:
                _set(self, name, value)
            else:
                private[name] = value
            return
        if name in cls.__class_vars__:
            raise AttributeError(f"{name!r} is a ClassVar of `{cls.__name__}` and cannot be set on an instance")
        _refuse_frozen(self, name, value)
        attribute = getattr(cls, name, None)
        if isinstance(attribute, property):
            attribute.__set__(self, value)
        elif name in cls.model_fields:
            if cls.model_config.get("validate_assignment"):
                value = _assigned(cls, name, value)
            self.__dict__[name] = value
            self.__model_set__.add(name)
        elif cls.model_config.get("extra") == "allow":
            self.__model_extra__[name] = value
        else:
            raise ValueError(f'"{cls.__name__}" object has no field "{name}"')

    def __delattr__(self, name):
        private = self.__model_private__
        if private is not None and name in private:
            del private[name]
            return
        if name[0] != "_":
            _refuse_frozen(self, name, None)
        extra = self.__model_extra__
        if extra is not None and name in extra:
            del extra[name]
        else:
            object.__delattr__(self, name)

    # -- copies ------------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo=None):
        from copy import deepcopy

        new = self.__class__.__new__(self.__class__)
        _set(new, "__dict__", deepcopy(self.__dict__, memo))
        _set_given(new, self.__model_set__.copy())
        _set_extra(new, deepcopy(self.__model_extra__, memo))
        _set_private(new, deepcopy(self.__model_private__, memo))
        return new

    def model_copy(self, *, update=None, deep=False):
        """A copy, with some values replaced; replacements are not checked."""
        new = self.__deepcopy__() if deep else self.__copy__()
        if update:
            extra = new.__model_extra__
            if extra is None:
                new.__dict__.update(update)
            else:
                fields = type(self).model_fields
                for name, value in update.items():
                    (new.__dict__ if name in fields else extra)[name] = value
            new.__model_set__.update(update)
        return new

    def __getstate__(self):
        return (self.__dict__, self.__model_set__, self.__model_extra__, self.__model_private__)

    def __setstate__(self, state):
        values, given, extra, private = state
        _set(self, "__dict__", values)
        _set_given(self, given)
        _set_extra(self, extra)
        _set_private(self, private)

    # -- dumping -----------------------------------------------------------------------------------------------------

    def model_dump(self, *, mode="python", include=None, exclude=None, context=None, by_alias=None, exclude_unset=False,
                   exclude_defaults=False, exclude_none=False, **ignored):  # fmt: skip
        """The fields as plain dicts, lists and values; mode "json" leaves only what JSON has."""
        json = mode == "json"
        if not (json or by_alias or exclude_unset or exclude_defaults or exclude_none) and include is exclude is None:
            names = (type(self).__plan__ or plan_of(type(self))).plain_dumped
            found = dump(self.__dict__, names) if names is not None and not self.__model_extra__ else None
            if found is not None:
                return found
        from ._dump import How

        how = How(json, by_alias, exclude_unset, exclude_defaults, exclude_none)
        return how.start(self, include, exclude)

    def model_dump_json(self, *, indent=None, include=None, exclude=None, context=None, by_alias=None,
                        exclude_unset=False, exclude_defaults=False, exclude_none=False, **ignored):  # fmt: skip
        """The same as compact JSON text."""
        from ._dump import How, json_text

        how = How(True, by_alias, exclude_unset, exclude_defaults, exclude_none)
        return json_text(how, self, include, exclude, indent)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def __eq__(self, other):
        if not isinstance(other, BaseModel):
            return NotImplemented
        if _unparametrized(type(self)) is not _unparametrized(type(other)):
            return False
        if self.__model_private__ != other.__model_private__ or self.__model_extra__ != other.__model_extra__:
            return False
        mine = self.__dict__
        theirs = other.__dict__
        if mine == theirs:
            return True
        names = type(self).model_fields
        return all(mine.get(name, MISSING) == theirs.get(name, MISSING) for name in names)

    __hash__ = None

    def __iter__(self):
        yield from [(name, value) for name, value in self.__dict__.items() if name[0] != "_"]
        extra = self.__model_extra__
        if extra:
            yield from extra.items()

    def __repr_args__(self):
        """(name, value) of everything that `repr` shows."""
        fields = type(self).model_fields
        for name, value in self.__dict__.items():
            field = fields.get(name)
            if field is not None and field.repr:
                yield name, value if value is not self else _Recursion(self)
        extra = self.__model_extra__
        if extra:
            yield from extra.items()

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__repr_args__())})"

    def __str__(self):
        return " ".join(f"{name}={value!r}" for name, value in self.__repr_args__())


_set_given = Model.__model_set__.__set__
_set_extra = Model.__model_extra__.__set__
_set_private = Model.__model_private__.__set__


class _Recursion:
    def __init__(self, model):
        self.text = f"<Recursion on {type(model).__name__} with id={id(model)}>"

    def __repr__(self):
        return self.text


def _unparametrized(cls):
    return cls.__dict__.get("__generic_origin__") or cls


def _refuse_frozen(model, name, value):
    cls = type(model)
    if cls.model_config.get("frozen"):
        raise ValidationError(cls.__name__, [Line("frozen_instance", (name,), value)])
    field = cls.model_fields.get(name)
    if field is not None and field.frozen:
        raise ValidationError(cls.__name__, [Line("frozen_field", (name,), value)])


def _assigned(cls, name, value):
    """A value for validate_assignment."""
    plan = cls.__plan__ or plan_of(cls)
    try:
        return plan.types[name].check(value, None)
    except Invalid as problem:
        raise ValidationError(cls.__name__, problem.under(name)) from None


class RootModel(BaseModel):
    """A model that is one value, called `root`, instead of a mapping of fields."""

    __slots__ = ()

    def __init__(self, /, root=MISSING, **data):
        if data:
            if root is not MISSING:
                raise ValueError(f"{type(self).__name__} takes one positional argument or keyword arguments, not both")
            root = data
        plan = type(self).__plan__ or plan_of(type(self))
        try:
            plan.fill_root(self, root, None)
        except Invalid as problem:
            raise ValidationError(type(self).__name__, problem.lines) from None

    @classmethod
    def model_construct(cls, root, _fields_set=None):
        """An instance without any check."""
        return super().model_construct(_fields_set, root=root)


def plan_of(cls):
    """Compile a class at its first use."""
    from ._plan import Plan

    plan = Plan(cls)
    cls.__plan__ = plan
    return plan
