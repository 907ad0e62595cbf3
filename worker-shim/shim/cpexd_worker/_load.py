# SPDX-License-Identifier: Apache-2.0
"""A plugin from its class's name and its configuration, and its hooks; with the rules and sentences of CPEX's loader."""

import sys
from _frozen_importlib_external import PathFinder
from _functools import partial
from importlib import import_module
from types import FunctionType, MethodType

# CPEX refuses to load a "plugin" from these.
_BLOCKED = (
    "os", "sys", "subprocess", "shutil", "socket", "http.server", "ctypes", "importlib", "builtins", "code", "codeop",
    "compileall", "runpy",
)  # fmt: skip

_COROUTINE = 0x80  # of a code object's flags: async def
_VARARGS, _VARKEYWORDS = 0x04, 0x08


def plugin_class(name):
    """The class of a dotted path."""
    module, _, cls = name.rpartition(".")
    if ".." in module or "/" in module or "\\" in module:
        raise ImportError(f"Plugin module name '{module}' contains invalid characters.")
    for blocked in _BLOCKED:
        if module == blocked or module.startswith(blocked + "."):
            raise ImportError(f"Plugin module '{module}' is blocked for security reasons.")
    return getattr(import_module(module), cls)


def check_module(name, paths):
    """Of a further plugin of this worker: ImportError where another one has brought another module of the same name."""
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    spec = PathFinder.find_spec(top, paths) if loaded is not None else None
    if spec is None:
        return
    ours = spec.origin or list(spec.submodule_search_locations)[0]
    theirs = getattr(loaded, "__file__", None) or list(getattr(loaded, "__path__", [None]))[0]
    if ours != theirs:
        raise ImportError(f"another plugin of its group has a module '{top}', too: {theirs}; plugins of a group need different names")


def find_method(plugin, hook, error):
    """The plugin's method for a hook and how many parameters it takes. `error` makes an exception of a sentence."""
    any_hook = getattr(plugin, "invoke_hook", None)
    if callable(any_hook):
        return partial(any_hook, hook), 2
    method = getattr(plugin, hook, None)
    if method is None:
        method = _decorated(plugin, hook)
    if not method:
        raise error(
            f"Plugin '{plugin.name}' has no hook: '{hook}'. "
            f"Method must either be named '{hook}' or decorated with @hook('{hook}')"
        )
    names, is_async = _signature(method)
    if len(names) not in (2, 3):
        raise error(
            f"Plugin '{plugin.name}' hook '{hook}' has invalid signature. "
            f"Expected 2 or 3 parameters (payload, context[, extensions]), got {len(names)}: {names}. "
            f"Correct signature: async def {hook}(self, payload: PayloadType, "
            "context: PluginContext[, extensions: Extensions]) -> ResultType"
        )
    if not is_async:
        name = method.__name__
        raise error(
            f"Plugin '{plugin.name}' hook '{hook}' must be async. Method '{name}' is not a coroutine function. "
            f"Use 'async def {name}(...)' instead of 'def {name}(...)'."
        )
    return method, len(names)


def decorated_payload_type(method):
    """The payload class that a method's @hook names."""
    return getattr(getattr(method, "_plugin_hook_metadata", None), "payload_type", None)


def _decorated(plugin, hook):
    for name in sorted(dir(plugin)):
        if name.startswith("_"):
            continue
        try:
            method = getattr(plugin, name)
        except AttributeError:
            continue
        if isinstance(method, MethodType):
            metadata = getattr(method, "_plugin_hook_metadata", None)
            if metadata and metadata.matches(hook):
                return method
    return None


def _signature(method):
    """Names of the parameters, and whether it is `async def`."""
    function = method.__func__ if type(method) is MethodType else method
    if type(function) is FunctionType and not function.__dict__.keys() & {"__wrapped__", "__signature__", "_is_coroutine_mark"}:
        # What inspect would say, without its import of a third of the standard library.
        code = function.__code__
        n = code.co_argcount + code.co_kwonlyargcount
        names = list(code.co_varnames[:n])
        if code.co_flags & _VARARGS:
            names.insert(code.co_argcount, code.co_varnames[n])
        if code.co_flags & _VARKEYWORDS:
            names.append(code.co_varnames[n + bool(code.co_flags & _VARARGS)])
        if function is not method and code.co_argcount > 0:
            del names[0]
        return names, bool(code.co_flags & _COROUTINE)

    import inspect

    return list(inspect.signature(method).parameters), inspect.iscoroutinefunction(method)


def entry_of(config):
    """What the daemon goes by in a plugin's entry, from its PluginConfig."""
    lists = {"hooks", "tags", "capabilities", "conditions"}
    entry = config.model_dump(mode="json", include=lists | {"mode", "on_error", "priority", "version", "description", "author"})
    return entry | {"config_keys": list(config.config or {})}


def put_paths(first, last):
    """Lets the folders `first` win over everything, and everything over `last`."""
    sys.path[:0] = first
    sys.path += [path for path in last if path not in sys.path]
