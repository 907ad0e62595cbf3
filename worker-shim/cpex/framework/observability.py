# SPDX-License-Identifier: Apache-2.0
"""The tracing interface between host and plugins."""

from contextvars import ContextVar
from typing import Protocol

from . import _lazily

current_trace_id = ContextVar("current_trace_id", default=None)

__getattr__ = _lazily(__name__)


class ObservabilityProvider(Protocol):
    """Whatever records spans."""

    def start_span(self, trace_id, name, kind="internal", resource_type=None, resource_name=None, attributes=None):
        """Begin a span; answers its id or None."""
        ...

    def end_span(self, span_id, status="ok", attributes=None):
        """End a span."""
        ...


class NullObservability:
    """Records nothing."""

    def start_span(self, trace_id, name, kind="internal", resource_type=None, resource_name=None, attributes=None):
        """No span."""
        return None

    def end_span(self, span_id, status="ok", attributes=None):
        """Nothing to end."""
