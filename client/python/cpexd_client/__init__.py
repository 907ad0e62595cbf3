# SPDX-License-Identifier: Apache-2.0
"""Calls CPEX hooks on a running cpexd.

``Client`` is for threads, ``AsyncClient`` for asyncio; both keep one connection with many calls in flight on it.
"""

from .aio import AsyncClient
from .answer import Answer
from .client import Client
from .codec import Secret
from .errors import (
    CallTimeout,
    ConnectionLost,
    CpexdError,
    PayloadSizeError,
    PluginError,
    PluginViolationError,
    ProtocolError,
    ValidationError,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "CallTimeout",
    "Client",
    "ConnectionLost",
    "CpexdError",
    "PayloadSizeError",
    "PluginError",
    "PluginViolationError",
    "ProtocolError",
    "Secret",
    "ValidationError",
]
