# SPDX-License-Identifier: Apache-2.0
"""How a model's answer came about."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import ConfigDict
from .._model import BaseModel

__getattr__ = _lazily(__name__)


class StopReason(str, Enum):
    """Why the model stopped."""

    END = "end"
    RETURN = "return"
    CALL = "call"
    MAX_TOKENS = "max_tokens"
    STOP_SEQUENCE = "stop_sequence"


class TokenUsage(BaseModel):
    """Tokens read, written, and both."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int
    output_tokens: int
    total_tokens: int


class CompletionExtension(BaseModel):
    """Model, wire format, time and tokens of an answer."""

    model_config = ConfigDict(frozen=True)

    stop_reason: StopReason | None = None
    tokens: TokenUsage | None = None
    model: str | None = None
    raw_format: str | None = None
    created_at: str | None = None
    latency_ms: int | None = None
