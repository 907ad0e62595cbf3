# SPDX-License-Identifier: Apache-2.0
"""The agent framework that made the call."""

from __future__ import annotations

from .._fields import Any, ConfigDict, Field
from .._model import BaseModel


class FrameworkExtension(BaseModel):
    """Its name, version, and where in its graph the call was made."""

    model_config = ConfigDict(frozen=True)

    framework: str | None = None
    framework_version: str | None = None
    node_id: str | None = None
    graph_id: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
