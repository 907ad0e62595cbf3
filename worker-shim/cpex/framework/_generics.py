# SPDX-License-Identifier: Apache-2.0
"""Models with type parameters: `PluginResult[ToolPreInvokePayload]`.

A parametrized model is a subclass that knows what its parameters stand for; each combination is made once.
"""

from __future__ import annotations

import sys

from ._model import ModelMetaclass

_made = {}


def _shown(arg):
    """An argument as it appears in the class's name."""
    if arg is None or arg is type(None):
        return "NoneType"
    if isinstance(arg, type) and not hasattr(arg, "__args__"):
        return arg.__name__
    text = repr(arg)
    if " | " in text or text.startswith(("typing.Union[", "typing.Optional[")):
        return f"Union[{', '.join(_shown(part) for part in arg.__args__)}]"
    return text.replace("typing.", "")


def _open_parameters(cls):
    """The type parameters of a class that are still to be given."""
    own = cls.__dict__.get("__type_parameters__")
    if own:
        return own
    return tuple(cls.__dict__.get("__parameters__", ()))


def _is_open(arg):
    return type(arg).__name__ == "TypeVar"


def parametrized(cls, args):
    """The class for these arguments."""
    args = args if isinstance(args, tuple) else (args,)
    parameters = _open_parameters(cls)
    if not parameters:
        if cls.__dict__.get("__generic_origin__"):
            raise TypeError(f"{cls} is not a generic class")
        raise TypeError(f"{cls} cannot be parametrized because it does not inherit from typing.Generic")
    if len(args) > len(parameters):
        raise TypeError(f"Too many arguments for {cls}; actual {len(args)}, expected {len(parameters)}")
    if len(args) < len(parameters):
        raise TypeError(f"Too few arguments for {cls}; actual {len(args)}, expected {len(parameters)}")
    if args == parameters or all(_is_open(arg) for arg in args):
        return cls
    key = (cls, args)
    try:
        found = _made.get(key)
    except TypeError:  # an argument that cannot be hashed
        return _make(cls, parameters, args)
    if found is None:
        found = _made[key] = _make(cls, parameters, args)
    return found


def _make(cls, parameters, args):
    name = f"{cls.__name__}[{', '.join(_shown(arg) for arg in args)}]"
    frame = sys._getframe(3)
    at_top = frame.f_locals is frame.f_globals
    module = frame.f_globals.get("__name__", cls.__module__) if at_top else cls.__module__
    namespace = {"__module__": module, "__qualname__": name, "__generic_origin__": cls, "__generic_args__": args,
                 "__slots__": (), "__doc__": cls.__doc__}  # fmt: skip
    made = ModelMetaclass.__new__(ModelMetaclass, name, (cls,), namespace)
    scope = made.__scope__.with_parameters({**cls.__scope__.parameters, **dict(zip(parameters, args, strict=True))})
    made.__scope__ = scope
    made.__reduce_ex__ = _reduce
    return made


def _reduce(self, protocol):
    """Parametrized classes have no importable name: pickle them by origin and arguments."""
    cls = type(self)
    return (_restore, (cls.__generic_origin__, cls.__generic_args__), self.__getstate__())


def _restore(origin, args):
    cls = parametrized(origin, args)
    return cls.__new__(cls)
