# SPDX-License-Identifier: Apache-2.0
"""What the host itself attaches for routing and policies."""

from __future__ import annotations

from .._fields import ConfigDict, Field
from .._model import BaseModel


class MetaExtension(BaseModel):
    """Tags, scope and properties."""

    model_config = ConfigDict(frozen=True)

    tags: frozenset[str] = Field(default_factory=frozenset)
    scope: str | None = None
    properties: dict[str, str] = Field(default_factory=dict)
