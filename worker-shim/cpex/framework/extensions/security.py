# SPDX-License-Identifier: Apache-2.0
"""Who is calling, what is asked of callers, and what may be done with the data."""

from __future__ import annotations

from enum import Enum

from .._fields import ConfigDict, Field
from .._model import BaseModel


class SubjectType(str, Enum):
    """What kind of caller."""

    USER = "user"
    AGENT = "agent"
    SERVICE = "service"
    SYSTEM = "system"


class SubjectExtension(BaseModel):
    """The authenticated caller."""

    model_config = ConfigDict(frozen=True)

    id: str
    type: SubjectType
    roles: frozenset[str] = Field(default_factory=frozenset)
    permissions: frozenset[str] = Field(default_factory=frozenset)
    teams: frozenset[str] = Field(default_factory=frozenset)
    claims: dict[str, str] = Field(default_factory=dict)


class ObjectSecurityProfile(BaseModel):
    """What a tool, resource or prompt asks of its callers."""

    model_config = ConfigDict(frozen=True)

    managed_by: str = "host"
    permissions: list[str] = Field(default_factory=list)
    trust_domain: str | None = None
    data_scope: list[str] = Field(default_factory=list)


class RetentionPolicy(BaseModel):
    """How long data may be kept."""

    model_config = ConfigDict(frozen=True)

    max_age_seconds: int | None = None
    policy: str = "persistent"
    delete_after: str | None = None


class DataPolicy(BaseModel):
    """Labels that output gets, and what may be done with it."""

    model_config = ConfigDict(frozen=True)

    apply_labels: list[str] = Field(default_factory=list)
    allowed_actions: list[str] | None = None
    denied_actions: list[str] = Field(default_factory=list)
    retention: RetentionPolicy | None = None


class SecurityExtension(BaseModel):
    """Labels, classification, caller, and the policies by name of the object."""

    model_config = ConfigDict(frozen=True)

    labels: frozenset[str] = Field(default_factory=frozenset)
    classification: str | None = None
    subject: SubjectExtension | None = None
    objects: dict[str, ObjectSecurityProfile] = Field(default_factory=dict)
    data: dict[str, DataPolicy] = Field(default_factory=dict)
