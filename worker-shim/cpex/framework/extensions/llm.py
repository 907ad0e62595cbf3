# SPDX-License-Identifier: Apache-2.0
"""The language model of a call."""

from __future__ import annotations

from .._fields import ConfigDict, Field
from .._model import BaseModel


class LLMExtension(BaseModel):
    """Which model, whose, and what it can do."""

    model_config = ConfigDict(frozen=True)

    model_id: str | None = None
    provider: str | None = None
    capabilities: list[str] = Field(default_factory=list)
