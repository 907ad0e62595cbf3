# SPDX-License-Identifier: Apache-2.0
"""Which extension slots may be seen and changed with which capability.

The rules themselves, which hosts apply, are imported on demand (`_tier_rules`).
"""

from __future__ import annotations

from enum import Enum

from .. import _lazily

__getattr__ = _lazily(__name__)


class MutabilityTier(str, Enum):
    """What plugins may do to a slot: nothing, add, or anything."""

    IMMUTABLE = "immutable"
    MONOTONIC = "monotonic"
    MUTABLE = "mutable"


class Capability(str, Enum):
    """What a plugin's configuration entry may ask for."""

    READ_SUBJECT = "read_subject"
    READ_ROLES = "read_roles"
    READ_TEAMS = "read_teams"
    READ_CLAIMS = "read_claims"
    READ_PERMISSIONS = "read_permissions"
    READ_AGENT = "read_agent"
    READ_HEADERS = "read_headers"
    WRITE_HEADERS = "write_headers"
    READ_LABELS = "read_labels"
    APPEND_LABELS = "append_labels"
    READ_DELEGATION = "read_delegation"
    APPEND_DELEGATION = "append_delegation"


class AccessPolicy(str, Enum):
    """Whether a slot is open to all plugins."""

    UNRESTRICTED = "unrestricted"
    CAPABILITY_GATED = "capability_gated"


class TierViolationError(Exception):
    """A plugin changed a slot in a way that it may not."""

    def __init__(self, plugin_name, slot, tier, detail):
        self.plugin_name = plugin_name
        self.slot = slot
        self.tier = tier
        self.detail = detail
        super().__init__(f"Plugin '{plugin_name}' violated {tier.value} tier on '{slot}': {detail}")
