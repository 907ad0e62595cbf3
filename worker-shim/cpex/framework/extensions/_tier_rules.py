# SPDX-License-Identifier: Apache-2.0
"""What a plugin sees of the extensions, and what of its changes counts."""

from __future__ import annotations

from dataclasses import dataclass

from .constants import SlotName
from .extensions import Extensions
from .tiers import AccessPolicy, Capability, MutabilityTier, TierViolationError


@dataclass(frozen=True)
class SlotPolicy:
    """How one slot may be used."""

    tier: MutabilityTier
    access: AccessPolicy = AccessPolicy.UNRESTRICTED
    read_cap: Capability | None = None
    write_cap: Capability | None = None


def _gated(read, write=None, tier=MutabilityTier.IMMUTABLE):
    return SlotPolicy(tier, AccessPolicy.CAPABILITY_GATED, read, write)


_OPEN = SlotPolicy(MutabilityTier.IMMUTABLE)
_POLICIES = {
    SlotName.REQUEST: _OPEN,
    SlotName.PROVENANCE: _OPEN,
    SlotName.COMPLETION: _OPEN,
    SlotName.LLM: _OPEN,
    SlotName.FRAMEWORK: _OPEN,
    SlotName.MCP: _OPEN,
    SlotName.META: _OPEN,
    SlotName.AGENT: _gated(Capability.READ_AGENT),
    SlotName.SECURITY_SUBJECT: _gated(Capability.READ_SUBJECT),
    SlotName.SECURITY_SUBJECT_ROLES: _gated(Capability.READ_ROLES),
    SlotName.SECURITY_SUBJECT_TEAMS: _gated(Capability.READ_TEAMS),
    SlotName.SECURITY_SUBJECT_CLAIMS: _gated(Capability.READ_CLAIMS),
    SlotName.SECURITY_SUBJECT_PERMISSIONS: _gated(Capability.READ_PERMISSIONS),
    SlotName.SECURITY_OBJECTS: _OPEN,
    SlotName.SECURITY_DATA: _OPEN,
    SlotName.SECURITY_LABELS: _gated(Capability.READ_LABELS, Capability.APPEND_LABELS, MutabilityTier.MONOTONIC),
    SlotName.HTTP: _gated(Capability.READ_HEADERS, Capability.WRITE_HEADERS),
    SlotName.DELEGATION: _gated(Capability.READ_DELEGATION, Capability.APPEND_DELEGATION, MutabilityTier.MONOTONIC),
    SlotName.CUSTOM: SlotPolicy(MutabilityTier.MUTABLE),
}
# A capability that opens a slot which another capability names.
_IMPLIED = {
    Capability.READ_HEADERS: (Capability.WRITE_HEADERS,),
    Capability.READ_LABELS: (Capability.APPEND_LABELS,),
    Capability.READ_DELEGATION: (Capability.APPEND_DELEGATION,),
    Capability.READ_SUBJECT: (
        Capability.READ_ROLES,
        Capability.READ_TEAMS,
        Capability.READ_CLAIMS,
        Capability.READ_PERMISSIONS,
    ),
}
_TOP_LEVEL = (
    "request", "provenance", "completion", "llm", "framework", "mcp", "meta", "delegation", "custom", "agent", "http",
)  # fmt: skip


def _may_read(capability, held):
    """Whether one of the held capabilities opens what this one names."""
    return capability is None or any(one.value in held for one in (capability, *_IMPLIED.get(capability, ())))


def filter_extensions(extensions, capabilities):
    """The extensions as a plugin with these capabilities sees them."""
    if extensions is None:
        return None
    visible = {}
    for name in _TOP_LEVEL:
        value = getattr(extensions, name)
        if value is not None and _may_read(_POLICIES[SlotName(name)].read_cap, capabilities):
            visible[name] = value
    if extensions.security is not None:
        visible["security"] = _visible_security(extensions.security, capabilities)
    return Extensions(**visible)


def _visible_security(security, held):
    subject = security.subject if _may_read(Capability.READ_SUBJECT, held) else None
    return security.model_copy(
        update={
            "labels": security.labels if _may_read(Capability.READ_LABELS, held) else frozenset(),
            "subject": None if subject is None else _visible_subject(subject, held),
        }
    )


def _visible_subject(subject, held):
    hidden = {}
    for name in ("roles", "teams", "permissions"):
        if f"read_{name}" not in held:
            hidden[name] = frozenset()
    if "read_claims" not in held:
        hidden["claims"] = {}
    return subject.model_copy(update=hidden)


def _slot(extensions, path):
    value = extensions
    for part in path.split("."):
        value = getattr(value, part, None) if value is not None else None
    return value


def _only_added(before, after):
    """Whether nothing was taken away."""
    if before is None or before == frozenset():
        return True
    if isinstance(before, frozenset) and isinstance(after, frozenset):
        return before <= after
    return before == after


def validate_tier_constraints(before, after, capabilities, plugin_name):
    """Refuse changes that the slots' policies do not allow."""
    for name, policy in _POLICIES.items():
        old = _slot(before, name.value)
        new = _slot(after, name.value)
        if old == new or policy.tier == MutabilityTier.MUTABLE and policy.write_cap is None:
            continue
        problem = _change_problem(policy, old, new, capabilities)
        if problem:
            raise TierViolationError(plugin_name, name, policy.tier, problem)


def _change_problem(policy, old, new, held):
    if policy.write_cap is None:
        return "slot has no write capability and cannot be modified"
    if policy.write_cap.value not in held:
        return f"plugin lacks '{policy.write_cap.value}' capability"
    if policy.tier == MutabilityTier.MONOTONIC and not _only_added(old, new):
        return "monotonic slot had elements removed"
    return None


def merge_extensions(original, plugin_output, capabilities, plugin_name):
    """The original with those of a plugin's changes that count; the original itself when none does."""
    if original is None or plugin_output is None:
        return original
    changed = {}
    http = plugin_output.http
    if "write_headers" in capabilities and http is not None and http != original.http:
        changed["http"] = http
    security = _merged_security(original.security, plugin_output.security, capabilities, plugin_name)
    if security is not None:
        changed["security"] = security
    delegation = plugin_output.delegation
    if "append_delegation" in capabilities and delegation is not None and delegation != original.delegation:
        _check_chain(original.delegation, delegation, plugin_name)
        changed["delegation"] = delegation
    if plugin_output.custom != original.custom:
        changed["custom"] = plugin_output.custom
    return original.model_copy(update=changed) if changed else original


def _merged_security(original, given, held, plugin_name):
    """The security slot with added labels, None without a change that counts."""
    if original is None or given is None or "append_labels" not in held or given.labels == original.labels:
        return None
    if not _only_added(original.labels, given.labels):
        raise TierViolationError(
            plugin_name, SlotName.SECURITY_LABELS, MutabilityTier.MONOTONIC, "monotonic slot had elements removed"
        )
    return original.model_copy(update={"labels": given.labels})


def _check_chain(original, given, plugin_name):
    """A chain of delegations only grows."""
    if original is None:
        return
    old, new = original.chain, given.chain
    problem = None
    if len(new) < len(old):
        problem = f"shrank delegation chain (was {len(old)} hops, now {len(new)})"
    elif new[: len(old)] != old:
        problem = "modified existing delegation chain hops"
    if problem:
        raise TierViolationError(plugin_name, "delegation", MutabilityTier.MONOTONIC, problem)


for _cls in (SlotPolicy, filter_extensions, merge_extensions, validate_tier_constraints):
    _cls.__module__ = "cpex.framework.extensions.tiers"
