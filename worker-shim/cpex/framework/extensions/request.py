# SPDX-License-Identifier: Apache-2.0
"""The request behind a call, for correlation."""

from __future__ import annotations

from .. import _lazily
from .._fields import ConfigDict
from .._model import BaseModel

__getattr__ = _lazily(__name__)


class RequestExtension(BaseModel):
    """Its id, time, environment and trace."""

    model_config = ConfigDict(frozen=True)

    environment: str | None = None
    request_id: str | None = None
    timestamp: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
