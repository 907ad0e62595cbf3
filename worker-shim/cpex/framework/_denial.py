# SPDX-License-Identifier: Apache-2.0
"""The safe summary of a denial that hosts attach to a PluginViolationError: numbers and short labels, no payload."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Mapping, Optional

from .errors import _is_label
from .models import PluginMode


def _label(value):
    return value if _is_label(value) else None


def _integer(value, low, high):
    return value if type(value) is int and low <= value <= high else None


@dataclass(frozen=True)
class DenialExecutionRecord:
    """The fields of an execution record that hold no free text."""

    plugin_id: str
    plugin_name: str
    plugin_kind: str
    hook_name: str
    mode: PluginMode
    status: str
    requested_allow: Optional[bool]
    effective_allow: bool
    matched: Optional[bool]
    applied: bool
    payload_modified: bool
    extensions_modified: bool
    duration_ns: int
    error_code: Optional[str]

    @classmethod
    def from_execution(cls, execution):
        """Copy the safe fields of a record."""
        names = [name for name in cls.__dataclass_fields__ if name not in ("status", "error_code")]
        values = {name: getattr(execution, name) for name in names}
        return cls(status=execution.status.value, error_code=_label(execution.error_code), **values)


@dataclass(frozen=True)
class DenialOutcome:
    """Who denied, and with which codes."""

    execution: DenialExecutionRecord
    violation_code: Optional[str]
    mcp_error_code: Optional[int]
    http_status_code: Optional[int]
    metadata: Mapping[str, Any]

    @classmethod
    def from_execution(cls, execution, violation, metadata):
        """Summarize a denial."""
        return cls(
            execution=DenialExecutionRecord.from_execution(execution),
            violation_code=_label(violation.code) if violation else None,
            mcp_error_code=_integer(violation.mcp_error_code, -(2**31), 2**31 - 1) if violation else None,
            http_status_code=_integer(violation.http_status_code, 100, 599) if violation else None,
            metadata=MappingProxyType(dict(metadata or {})),
        )


for _cls in (DenialExecutionRecord, DenialOutcome):
    _cls.__module__ = "cpex.framework.errors"
