# SPDX-License-Identifier: Apache-2.0
"""The HTTP request behind a call."""

from __future__ import annotations

from .._fields import ConfigDict, Field
from .._model import BaseModel


class HttpExtension(BaseModel):
    """Its headers."""

    model_config = ConfigDict(frozen=True)

    headers: dict[str, str] = Field(default_factory=dict)
