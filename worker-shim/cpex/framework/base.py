# SPDX-License-Identifier: Apache-2.0
"""`Plugin`, the base class of plugins, and the references by which a host keeps one and its hooks."""

from __future__ import annotations

from abc import ABC

from . import _lazily
from .errors import PluginError
from .models import PluginConfig, PluginErrorModel  # noqa: F401 - PluginConfig for plugins that import it from here

__getattr__ = _lazily(__name__)


class Plugin(ABC):
    """Base class of plugins: hooks are async methods named like the hook, or marked with `@hook`."""

    def __init__(self, config, hook_payloads=None, hook_results=None):
        self._config = config
        self._hook_payloads = hook_payloads
        self._hook_results = hook_results

    @property
    def priority(self):
        """Position among the plugins of a phase; lower runs earlier."""
        return self._config.priority

    @property
    def config(self):
        """The plugin's entry of the configuration file."""
        return self._config

    @property
    def mode(self):
        """The phase the plugin runs in."""
        return self._config.mode

    @property
    def name(self):
        """The configured name."""
        return self._config.name

    @property
    def hooks(self):
        """The configured hooks."""
        return self._config.hooks

    @property
    def tags(self):
        """The configured tags."""
        return self._config.tags

    @property
    def conditions(self):
        """When the plugin runs."""
        return self._config.conditions

    async def initialize(self):
        """Called once, before the first hook."""

    async def shutdown(self):
        """Called once, after the last hook."""

    def json_to_payload(self, hook, payload):
        """A payload of the hook's type from JSON text or a dict."""
        known = (self._hook_payloads or {}).get(hook) or _registry().get_payload_type(hook)
        return self._converted(known, "payload", hook, payload)

    def json_to_result(self, hook, result):
        """A result of the hook's type from JSON text or a dict."""
        known = (self._hook_results or {}).get(hook) or _registry().get_result_type(hook)
        return self._converted(known, "result", hook, result)

    def _converted(self, model, what, hook, data):
        if not model:
            raise PluginError(
                error=PluginErrorModel(message=f"No {what} defined for hook {hook}.", plugin_name=self.name)
            )
        return model.model_validate_json(data) if isinstance(data, str) else model.model_validate(data)


def _registry():
    from .hooks.registry import get_hook_registry

    return get_hook_registry()


class PluginRef:
    """A plugin, the configuration its host trusts, and an id of its own."""

    def __init__(self, plugin, trusted_config=None):
        import uuid

        self._plugin = plugin
        self._trusted_config = trusted_config or plugin.config
        self._uuid = uuid.uuid4()

    @property
    def plugin(self):
        """The plugin."""
        return self._plugin

    @property
    def trusted_config(self):
        """The configuration that counts, whatever the plugin does to its own."""
        return self._trusted_config

    @property
    def uuid(self):
        """32 hexadecimal digits."""
        return self._uuid.hex

    @property
    def priority(self):
        """The trusted priority."""
        return self._trusted_config.priority

    @property
    def name(self):
        """The trusted name."""
        return self._trusted_config.name

    @property
    def hooks(self):
        """The trusted hooks."""
        return self._trusted_config.hooks

    @property
    def tags(self):
        """The trusted tags."""
        return self._trusted_config.tags

    @property
    def conditions(self):
        """The trusted conditions."""
        return self._trusted_config.conditions

    @property
    def mode(self):
        """The trusted mode."""
        return self._trusted_config.mode

    @property
    def on_error(self):
        """The trusted error handling."""
        return self._trusted_config.on_error

    @property
    def capabilities(self):
        """The trusted capabilities."""
        return self._trusted_config.capabilities


class HookRef:
    """A plugin's handler of one hook, found and checked."""

    def __init__(self, hook, plugin_ref):
        self._plugin_ref = plugin_ref
        self._hook = hook
        plugin = plugin_ref.plugin
        self._func = getattr(plugin, hook, None) or _marked_method(plugin, hook)
        if not self._func:
            raise _refusal(
                plugin,
                f"Plugin '{plugin.name}' has no hook: '{hook}'. "
                f"Method must either be named '{hook}' or decorated with @hook('{hook}')",
            )
        self._accepts_extensions = _parameter_count(plugin, hook, self._func) == 3

    @property
    def plugin_ref(self):
        """The plugin's reference."""
        return self._plugin_ref

    @property
    def name(self):
        """The hook's name."""
        return self._hook

    @property
    def accepts_extensions(self):
        """Whether the handler takes extensions as a third argument."""
        return self._accepts_extensions

    @property
    def hook(self):
        """The handler."""
        return self._func


def _refusal(plugin, message):
    return PluginError(error=PluginErrorModel(message=message, plugin_name=plugin.name))


def _marked_method(plugin, hook):
    """The alphabetically first public method whose mark names the hook."""
    import inspect

    from .decorator import get_hook_metadata

    for name, method in inspect.getmembers(plugin, predicate=inspect.ismethod):
        mark = None if name.startswith("_") else get_hook_metadata(method)
        if mark and mark.matches(hook):
            return method
    return None


def _parameter_count(plugin, hook, func):
    """How many parameters a handler takes; refuses what cannot be called as one."""
    import inspect

    names = list(inspect.signature(func).parameters)
    if len(names) not in (2, 3):
        raise _refusal(
            plugin,
            f"Plugin '{plugin.name}' hook '{hook}' has invalid signature. "
            f"Expected 2 or 3 parameters (payload, context[, extensions]), got {len(names)}: {names}. "
            f"Correct signature: async def {hook}(self, payload: PayloadType, context: PluginContext"
            "[, extensions: Extensions]) -> ResultType",
        )
    if not inspect.iscoroutinefunction(func):
        method = func.__name__
        raise _refusal(
            plugin,
            f"Plugin '{plugin.name}' hook '{hook}' must be async. Method '{method}' is not a coroutine function. "
            f"Use 'async def {method}(...)' instead of 'def {method}(...)'.",
        )
    return len(names)
