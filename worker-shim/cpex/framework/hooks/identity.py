# SPDX-License-Identifier: Apache-2.0
"""Hooks around identity: who calls (inbound), with which token to call on (outbound)."""

from __future__ import annotations

from enum import Enum

from .._fields import Any, ConfigDict, Field
from .._model import BaseModel
from .._secret import SecretStr
from ..extensions.delegation import DelegationExtension
from ..extensions.security import SubjectExtension
from ..models import PluginPayload, PluginResult


class IdentityHookType(str, Enum):
    """Hook points of identity."""

    IDENTITY_RESOLVE = "identity_resolve"
    TOKEN_DELEGATE = "token_delegate"  # noqa: S105 - the name of a hook


class IdentityPayload(PluginPayload):
    """A credential of which the owner is wanted."""

    raw_token: SecretStr
    source: str = "bearer"
    headers: dict[str, str] = Field(default_factory=dict)
    client_host: str | None = None
    client_port: int | None = None


class IdentityResult(PluginPayload):
    """Whose credential it is, or why it is refused."""

    subject: SubjectExtension | None = None
    delegation: DelegationExtension | None = None
    rejected: bool = False
    reject_status: int = 401
    reject_reason: str = ""
    raw_claims: dict[str, Any] = Field(default_factory=dict)


class AttenuationConfig(BaseModel):
    """How much less a passed-on token may do."""

    model_config = ConfigDict(frozen=True)

    capabilities: list[str] = Field(default_factory=list)
    resource_template: str | None = None
    actions: list[str] = Field(default_factory=list)
    ttl_seconds: int | None = None


class DelegationPayload(PluginPayload):
    """A target for which a token is wanted."""

    target_name: str
    target_type: str = "tool"
    target_audience: str | None = None
    required_permissions: list[str] = Field(default_factory=list)
    trust_domain: str | None = None
    auth_enforced_by: str = "caller"
    route_attenuation: AttenuationConfig | None = None
    bearer_token: SecretStr | None = None


class DelegationResult(PluginPayload):
    """The token, and how long it may be reused."""

    delegated_token: str | None = None
    delegation_update: DelegationExtension = Field(default_factory=DelegationExtension)
    forwarded_headers: dict[str, str] = Field(default_factory=dict)
    cache_key: str | None = None
    cache_ttl: int | None = None


IdentityResolveResult = PluginResult[IdentityResult]
TokenDelegateResult = PluginResult[DelegationResult]
