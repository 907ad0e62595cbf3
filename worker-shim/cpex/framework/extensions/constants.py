# SPDX-License-Identifier: Apache-2.0
"""Names of extension slots, their fields, and the capabilities that open them."""

from __future__ import annotations

from enum import Enum

CAPABILITY_NAMES = frozenset(
    (
        "read_subject", "read_roles", "read_teams", "read_claims", "read_permissions", "read_agent", "read_headers",
        "write_headers", "read_labels", "append_labels", "read_delegation", "append_delegation",
    )
)  # fmt: skip


class SlotName(str, Enum):
    """Where in the extensions something stands."""

    REQUEST = "request"
    PROVENANCE = "provenance"
    COMPLETION = "completion"
    LLM = "llm"
    FRAMEWORK = "framework"
    MCP = "mcp"
    AGENT = "agent"
    HTTP = "http"
    META = "meta"
    DELEGATION = "delegation"
    CUSTOM = "custom"
    SECURITY_SUBJECT = "security.subject"
    SECURITY_SUBJECT_ROLES = "security.subject.roles"
    SECURITY_SUBJECT_TEAMS = "security.subject.teams"
    SECURITY_SUBJECT_CLAIMS = "security.subject.claims"
    SECURITY_SUBJECT_PERMISSIONS = "security.subject.permissions"
    SECURITY_OBJECTS = "security.objects"
    SECURITY_DATA = "security.data"
    SECURITY_LABELS = "security.labels"

    def __str__(self) -> str:
        return self.value


FIELD_REQUEST = "request"
FIELD_PROVENANCE = "provenance"
FIELD_COMPLETION = "completion"
FIELD_LLM = "llm"
FIELD_FRAMEWORK = "framework"
FIELD_MCP = "mcp"
FIELD_AGENT = "agent"
FIELD_HTTP = "http"
FIELD_META = "meta"
FIELD_DELEGATION = "delegation"
FIELD_CUSTOM = "custom"
FIELD_SECURITY = "security"
FIELD_LABELS = "labels"
FIELD_CLASSIFICATION = "classification"
FIELD_SUBJECT = "subject"
FIELD_OBJECTS = "objects"
FIELD_DATA = "data"
FIELD_ROLES = "roles"
FIELD_TEAMS = "teams"
FIELD_CLAIMS = "claims"
FIELD_PERMISSIONS = "permissions"
