# SPDX-License-Identifier: Apache-2.0
"""What a host tells plugins beside the payload: request, identity, security labels, provenance, model, and so on.

Names are looked up in their modules at first use.
"""

_MODULES = {
    "agent": ("AgentExtension", "ConversationContext"),
    "completion": ("CompletionExtension", "StopReason", "TokenUsage"),
    "constants": ("SlotName",),
    "delegation": ("DelegationExtension", "DelegationHop"),
    "extensions": ("Extensions",),
    "framework": ("FrameworkExtension",),
    "http": ("HttpExtension",),
    "llm": ("LLMExtension",),
    "mcp": ("MCPExtension", "PromptMetadata", "ResourceMetadata", "ToolMetadata"),
    "meta": ("MetaExtension",),
    "provenance": ("ProvenanceExtension",),
    "request": ("RequestExtension",),
    "security": (
        "DataPolicy", "ObjectSecurityProfile", "RetentionPolicy", "SecurityExtension", "SubjectExtension",
        "SubjectType",
    ),
    "tiers": ("AccessPolicy", "Capability", "MutabilityTier", "TierViolationError"),
}  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_WHERE)


def __getattr__(name):
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{module}", None, None, ("__name__",)), name)
    globals()[name] = value
    return value
