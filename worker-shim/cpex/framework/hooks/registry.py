# SPDX-License-Identifier: Apache-2.0
"""Which payload and result types a hook has.

The hooks of the SDK are listed by name and their modules imported at the first question, so that a worker pays only
for the hooks it serves.
"""

from __future__ import annotations

from .. import _lazily

_TYPES = {
    "tool_pre_invoke": ("tools", "ToolPreInvokePayload", "ToolPreInvokeResult"),
    "tool_post_invoke": ("tools", "ToolPostInvokePayload", "ToolPostInvokeResult"),
    "prompt_pre_fetch": ("prompts", "PromptPrehookPayload", "PromptPrehookResult"),
    "prompt_post_fetch": ("prompts", "PromptPosthookPayload", "PromptPosthookResult"),
    "resource_pre_fetch": ("resources", "ResourcePreFetchPayload", "ResourcePreFetchResult"),
    "resource_post_fetch": ("resources", "ResourcePostFetchPayload", "ResourcePostFetchResult"),
    "agent_pre_invoke": ("agents", "AgentPreInvokePayload", "AgentPreInvokeResult"),
    "agent_post_invoke": ("agents", "AgentPostInvokePayload", "AgentPostInvokeResult"),
    "http_pre_request": ("http", "HttpPreRequestPayload", "HttpPreRequestResult"),
    "http_post_request": ("http", "HttpPostRequestPayload", "HttpPostRequestResult"),
    "http_auth_resolve_user": ("http", "HttpAuthResolveUserPayload", "HttpAuthResolveUserResult"),
    "http_auth_check_permission": ("http", "HttpAuthCheckPermissionPayload", "HttpAuthCheckPermissionResult"),
    "identity_resolve": ("identity", "IdentityPayload", "IdentityResolveResult"),
    "token_delegate": ("identity", "DelegationPayload", "TokenDelegateResult"),
    "evaluate": ("message", "MessagePayload", "MessageResult"),
    "cmf.tool_pre_invoke": ("message", "MessagePayload", "MessageResult"),
    "cmf.tool_post_invoke": ("message", "MessagePayload", "MessageResult"),
    "cmf.llm_input": ("message", "MessagePayload", "MessageResult"),
    "cmf.llm_output": ("message", "MessagePayload", "MessageResult"),
    "cmf.resource_pre_fetch": ("message", "MessagePayload", "MessageResult"),
    "cmf.resource_post_fetch": ("message", "MessagePayload", "MessageResult"),
    "cmf.prompt_pre_fetch": ("message", "MessagePayload", "MessageResult"),
    "cmf.prompt_post_fetch": ("message", "MessagePayload", "MessageResult"),
}

__getattr__ = _lazily(__name__)


class HookRegistry:
    """The one registry of a process."""

    _instance = None
    _hook_payloads = {}
    _hook_results = {}

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def register_hook(self, hook_type, payload_class, result_class):
        """Make a hook known, or give a known one other types."""
        self._hook_payloads[hook_type] = payload_class
        self._hook_results[hook_type] = result_class

    def get_payload_type(self, hook_type):
        """The payload class of a hook, None for an unknown one."""
        return self._hook_payloads.get(hook_type) or self._bundled(hook_type, self._hook_payloads)

    def get_result_type(self, hook_type):
        """The result class of a hook, None for an unknown one."""
        return self._hook_results.get(hook_type) or self._bundled(hook_type, self._hook_results)

    def _bundled(self, hook_type, which):
        """Import what a hook of the SDK needs."""
        if hook_type not in _TYPES:
            return None
        module, payload, result = _TYPES[hook_type]
        module = __import__(f"cpex.framework.hooks.{module}", None, None, ("__name__",))
        self._hook_payloads.setdefault(hook_type, getattr(module, payload))
        self._hook_results.setdefault(hook_type, getattr(module, result))
        return which[hook_type]

    def json_to_payload(self, hook_type, payload):
        """A payload of the hook's type from JSON text or a dict."""
        return _converted(self.get_payload_type(hook_type), "payload", hook_type, payload)

    def json_to_result(self, hook_type, result):
        """A result of the hook's type from JSON text or a dict."""
        return _converted(self.get_result_type(hook_type), "result", hook_type, result)

    def is_registered(self, hook_type):
        """Whether the hook is known."""
        return hook_type in _TYPES or hook_type in self._hook_payloads and hook_type in self._hook_results

    def get_registered_hooks(self):
        """All known hooks: those of the SDK and those that plugins registered."""
        return list(dict.fromkeys((*_TYPES, *self._hook_payloads)))


def _converted(model, what, hook_type, data):
    if not model:
        raise ValueError(f"No {what} type registered for hook: {hook_type}")
    return model.model_validate_json(data) if isinstance(data, str) else model.model_validate(data)


_registry = HookRegistry()


def get_hook_registry():
    """The one registry of this process."""
    return _registry
