# SPDX-License-Identifier: Apache-2.0
"""What a call can raise. Everything is a ``CpexdError``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CpexdError(Exception):
    """An error that the daemon answered with, or the loss of the daemon.

    Attributes:
        message: one sentence.
        code: the daemon's code, or the plugin's own (mostly "").
        plugin_name: the plugin that caused it, or None.
        details: a dict, may be empty.
        data: the whole error map of the answer; empty where there was none.
    """

    def __init__(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data: Mapping[str, Any] = data or {}
        self.code: str = self.data.get("code") or ""
        self.plugin_name: str | None = self.data.get("plugin_name")
        self.details: dict[str, Any] = self.data.get("details") or {}

    @property
    def executions(self) -> list[dict[str, Any]]:
        """The records of the plugins that ran before the error."""
        return self.data.get("executions") or []

    @property
    def timing(self) -> dict[str, Any] | None:
        """Where the time went, for a call with ``timing`` and for one whose time was over."""
        return self.data.get("timing") or self.details.get("timing")

    @property
    def state(self) -> dict[str, Any] | None:
        """The shared state as merged before the error, or None."""
        return self.data.get("state")

    @property
    def global_metadata(self) -> dict[str, Any] | None:
        """The shared metadata as merged before the error, or None."""
        return self.data.get("global_metadata")


class PluginError(CpexdError):
    """A plugin failed and its ``on_error`` is ``fail``.

    ``cause`` says how: exception, timeout, crash, malformed, oversize, queue_full, start_failed or stopped.
    """

    @property
    def cause(self) -> str | None:
        return self.data.get("cause")

    @property
    def mcp_error_code(self) -> int:
        code = self.data.get("mcp_error_code")
        return -32603 if code is None else code


class PluginViolationError(CpexdError):
    """A plugin denied a call that was made with ``violations_as_exceptions``."""

    @property
    def violation(self) -> dict[str, Any] | None:
        return self.data.get("violation")


class PayloadSizeError(CpexdError):
    """A payload is larger than CPEX allows."""


class ValidationError(CpexdError):
    """A payload or a context does not have the shape that the hook needs."""

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Dicts of ``loc``, ``type`` and ``msg``."""
        return self.data.get("errors") or []


class ProtocolError(CpexdError):
    """The daemon refused the request as such (``code`` says why), or bytes arrived that are not the protocol."""


class ConnectionLost(CpexdError, ConnectionError):
    """The connection was lost while the call was under way: it may or may not have run. The next call connects anew."""


class CallTimeout(CpexdError, TimeoutError):
    """No answer came in time. The daemon was told to cancel the call."""


_TYPES: dict[str, type[CpexdError]] = {
    cls.__name__: cls for cls in (PluginError, PluginViolationError, PayloadSizeError, ValidationError, ProtocolError)
}


def from_wire(data: Mapping[str, Any]) -> CpexdError:
    """The exception for the error map of a response."""
    return _TYPES.get(data.get("type") or "", CpexdError)(data.get("message") or "", data)
