# SPDX-License-Identifier: Apache-2.0
"""What plugins import. Every name is looked up in its module at first use (PEP 562), so importing this costs little.

Names of the host side raise an ImportError that says where they live.
"""

_MODULES = {
    "base": ("Plugin",),
    "decorator": ("hook",),
    "errors": ("DenialExecutionRecord", "DenialOutcome", "PluginError", "PluginViolationError"),
    "hooks.agents": (
        "AgentHookType", "AgentPostInvokePayload", "AgentPostInvokeResult", "AgentPreInvokePayload",
        "AgentPreInvokeResult",
    ),
    "hooks.http": (
        "HttpAuthCheckPermissionPayload", "HttpAuthCheckPermissionResult", "HttpAuthCheckPermissionResultPayload",
        "HttpAuthResolveUserPayload", "HttpAuthResolveUserResult", "HttpHeaderPayload", "HttpHookType",
        "HttpPostRequestPayload", "HttpPostRequestResult", "HttpPreRequestPayload", "HttpPreRequestResult",
    ),
    "hooks.policies": ("HookPayloadPolicy",),
    "hooks.prompts": (
        "PromptHookType", "PromptPosthookPayload", "PromptPosthookResult", "PromptPrehookPayload",
        "PromptPrehookResult",
    ),
    "hooks.registry": ("HookRegistry", "get_hook_registry"),
    "hooks.resources": (
        "ResourceHookType", "ResourcePostFetchPayload", "ResourcePostFetchResult", "ResourcePreFetchPayload",
        "ResourcePreFetchResult",
    ),
    "hooks.tools": (
        "ToolHookType", "ToolPostInvokePayload", "ToolPostInvokeResult", "ToolPreInvokePayload",
        "ToolPreInvokeResult",
    ),
    "models": (
        "ControlExecutionRecord", "ControlExecutionStatus", "GlobalContext", "MCPClientConfig", "MCPServerConfig",
        "OnError", "PluginCondition", "PluginConfig", "PluginContext", "PluginContextTable", "PluginErrorModel",
        "PluginMode", "PluginPayload", "PluginResult", "PluginViolation", "TransportType", "UserContext",
    ),
    "observability": ("ObservabilityProvider",),
    "utils": ("get_attr",),
}  # fmt: skip
# Reachable as attributes without an import of their own, as under the real SDK.
_SUBMODULES = (
    "base", "constants", "decorator", "errors", "extensions", "hooks", "memory", "models", "observability", "protocols",
    "settings", "utils", "validators",
)  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

# Host-side names are left out here, so that a star import gives a plugin all it can use.
__all__ = sorted(name for name in _WHERE if name != "HookPayloadPolicy")


def _lazily(module):
    """The `__getattr__` of a module: names that are defined elsewhere are looked for when somebody asks."""

    def find(name):
        if name.startswith("_"):  # the import system asks for __path__ and for submodules
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        from ._elsewhere import find

        return find(module, name)

    return find


_find_elsewhere = _lazily(__name__)


def __getattr__(name):
    module = _WHERE.get(name)
    if module is not None:
        # The builtin, for importlib itself is not loaded in a bare interpreter.
        value = getattr(__import__(f"{__name__}.{module}", None, None, ("__name__",)), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return __import__(f"{__name__}.{name}", None, None, ("__name__",))
    return _find_elsewhere(name)


def __dir__():
    return sorted({*globals(), *__all__})
