# SPDX-License-Identifier: Apache-2.0
"""Where a message comes from."""

from __future__ import annotations

from .. import _lazily
from .._fields import ConfigDict
from .._model import BaseModel

__getattr__ = _lazily(__name__)


class ProvenanceExtension(BaseModel):
    """Its source, its id, and the message it answers."""

    model_config = ConfigDict(frozen=True)

    source: str | None = None
    message_id: str | None = None
    parent_id: str | None = None
