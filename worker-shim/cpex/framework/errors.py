# SPDX-License-Identifier: Apache-2.0
"""The exceptions plugins raise, and what a host attaches to a denial."""

from __future__ import annotations

from . import _lazily
from .models import PluginErrorModel

DenialMetadataValue = bool | int | float
_LABEL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")

__getattr__ = _lazily(__name__)


def _is_label(value):
    """Short identifiers may go into metrics, free text may not."""
    return type(value) is str and 0 < len(value) <= 64 and _LABEL_CHARACTERS.issuperset(value)


def sanitize_denial_metadata(metadata):
    """The entries that may be shown beside a denial: at most 16, named like metrics, finite numbers or booleans."""
    from collections.abc import Mapping

    if not isinstance(metadata, Mapping) or len(metadata) > 16:
        return {}
    return {key: value for key, value in metadata.items() if _is_label(key) and _is_measure(value)}


def _is_measure(value):
    kind = type(value)
    if kind is bool:
        return True
    if kind is int:
        return -(2**63) <= value < 2**63
    return kind is float and value - value == 0


class PluginViolationError(Exception):
    """A plugin (or the host, for it) stops the call with an exception."""

    def __init__(self, message, violation=None):
        self.message = message
        self.violation = violation
        self.executions = None
        self.denial_outcome = None
        self._denial_metadata = None
        super().__init__(message)

    @classmethod
    def _from_framework_denial(cls, message, violation, denial_metadata):
        """For the host: the exception of a result that denies."""
        error = cls(message, violation)
        error._denial_metadata = sanitize_denial_metadata(denial_metadata)
        return error

    def attach_denial_outcome(self, execution):
        """For the host: keep what the record of the denial says, once."""
        if self._denial_metadata is None or self.denial_outcome is not None:
            return
        from ._denial import DenialOutcome

        self.denial_outcome = DenialOutcome.from_execution(execution, self.violation, self._denial_metadata)


class PluginError(Exception):
    """Something went wrong inside a plugin; `error` has the details."""

    def __init__(self, error):
        self.error = error
        super().__init__(error.message)


def convert_exception_to_error(exception, plugin_name):
    """Any exception as the error a host is told."""
    return PluginErrorModel(message=repr(exception), plugin_name=plugin_name)
