# SPDX-License-Identifier: Apache-2.0
"""The names of `cpex.framework` that the runner itself uses, from the SDK that the plugin gets."""

import sys

import _cpexd

from cpexd_worker._values import plain


class Sdk:
    """Imports the SDK: the real one where the venv has it, else the bundled one under `folder`."""

    def __init__(self, folder):
        import cpex.framework as framework

        self.PluginConfig = framework.PluginConfig
        self.GlobalContext = framework.GlobalContext
        self.PluginContext = framework.PluginContext
        self.PluginError = framework.PluginError
        self.PluginViolationError = framework.PluginViolationError
        self.registry = framework.get_hook_registry()
        self._framework = framework
        if framework.__file__.startswith(folder + "/"):
            from cpex.framework._secret import SecretStr

            self.name = "bundled"
        else:
            from cpex.framework.hooks import identity, message  # noqa: F401 - they register hooks; nothing else imports them
            from pydantic import SecretStr

            self.name = _version()
        _cpexd.configure(SecretStr, plain)

    def warm_up(self, hooks):
        """Has the models compiled that calls of these hooks need, which is done at their first use. A plugin's own are left alone."""
        self.PluginConfig(name="none", kind="none")
        self.PluginContext(global_context=self.GlobalContext(request_id="none"))
        for find in (self.registry.get_payload_type, self.registry.get_result_type):
            for cls in filter(_is_model, map(find, hooks)):
                try:
                    if cls.__module__.startswith("cpex.framework."):
                        cls.model_validate({})
                except ValueError:
                    pass  # it has been compiled for saying so

    def contexts(self):
        """The classes of contexts with their fields, as Quick() takes them."""
        self.PluginContext(global_context=self.GlobalContext(request_id="none"))
        return tuple((cls, cls.__plan__.plain) for cls in (self.GlobalContext, self.PluginContext))

    def plain(self, cls):
        """(fields, names) by which the extension makes and encodes instances of a payload class, None where it cannot."""
        if self.name != "bundled" or cls is None:
            return None
        from cpex.framework._model import BaseModel, plan_of

        below = cls.__mro__[: cls.__mro__.index(BaseModel)] if issubclass(cls, BaseModel) else None
        if below is None or any(name in vars(base) for base in below for name in _MAKING):
            return None
        plan = cls.__plan__ or plan_of(cls)
        if plan.plain is None or plan.plain_dumped is None:
            return None
        _, types, _, required = plan.plain
        return (plan.plain, plan.plain_dumped) if all(types[name] for name in required) else None

    def extensions(self, data):
        """The extensions of a call as their object."""
        from cpex.framework.extensions import Extensions

        return Extensions.model_validate(data)

    def class_name(self, cls):
        """`module:Class` of a payload's class, "" where nobody could find it again by that name."""
        name = f"{cls.__module__}:{cls.__qualname__}"
        return name if self._find(name) is cls else ""

    def class_named(self, name):
        """The class of `class_name()`. A class of another venv's module is the one registered here under its name."""
        cls = self._find(name)
        if cls is None:
            raise LookupError(f"payload_type {name!r} is no payload class in this plugin's process")
        return cls

    def _find(self, name):
        module, _, path = name.partition(":")
        if module.startswith("cpex.framework."):
            __import__(module)
        # Of others only what is loaded already: a name that a host sends shall import nothing.
        cls = sys.modules.get(module)
        for part in path.split("."):
            cls = getattr(cls, part, None)
        if _is_model(cls):
            return cls
        registered = map(self.registry.get_payload_type, self.registry.get_registered_hooks())
        by_name = {cls.__name__: cls for cls in registered if _is_model(cls)}
        return by_name.get(path)


# Methods of a class of its own that would have to be called.
_MAKING = ("__validate__", "__init__", "__new__", "__setattr__", "__getattribute__", "model_validate", "model_dump")


def _is_model(cls):
    return isinstance(cls, type) and hasattr(cls, "model_validate")


def _version():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"cpex {version('cpex')}"
    except PackageNotFoundError:
        return "cpex"
