# SPDX-License-Identifier: Apache-2.0
"""The spans that CPEX's executor opens around a hook and its plugins, for the host's ObservabilityProvider.

The plugins run elsewhere, so theirs are opened and closed when the answer is there; `plugin.duration_ns` says how long they took. No
fault of a provider disturbs a call.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from cpex.framework import ControlExecutionRecord, PluginResult
from cpex.framework.observability import current_trace_id
from cpex.framework.registry import PluginInstanceRegistry

logger = logging.getLogger(__name__)


class HookSpan:
    def __init__(self, provider: Any, registry: PluginInstanceRegistry, hook: str, timeout: float) -> None:
        self._provider = provider
        self._registry = registry
        self._timeout = timeout
        self._trace = current_trace_id.get() if provider else None
        self._length = len(registry.get_hook_refs_for_hook(hook))
        attributes = {"plugin.hook.type": hook, "plugin.chain.length": self._length}
        self._id = self._start(name="plugin.hook.invoke", attributes=attributes) if self._length else None

    def _start(self, **more: Any) -> str | None:
        if not self._trace:
            return None
        with _no_fault():
            span: str | None = self._provider.start_span(trace_id=self._trace, kind="internal", **more)
            return span
        return None

    def _end(self, span: str | None, failed: bool, attributes: dict[str, Any]) -> None:
        if span is not None:
            with _no_fault():
                self._provider.end_span(span_id=span, status="error" if failed else "ok", attributes=attributes)

    def end(self, executions: list[ControlExecutionRecord], result: PluginResult | None) -> None:
        """`result`: None after an error."""
        if self._id is None:
            return
        ran = [record for record in executions if record.mode != "fire_and_forget"]
        for record in ran:
            self._plugin(record)
        blocked = result is not None and not result.continue_processing
        blocker = next((record.plugin_name for record in ran if not record.effective_allow), "") if blocked else ""
        self._end(
            self._id,
            result is None,
            {
                "plugin.executed_count": len(ran),
                "plugin.skipped_count": self._length - len(executions),
                "plugin.chain.stopped": blocked,
                "plugin.chain.stopped_by": blocker,
            },
        )

    def _plugin(self, record: ControlExecutionRecord) -> None:
        ref = self._registry.get_plugin(record.plugin_name)
        span = self._start(
            name=f"plugin.execute.{record.plugin_name}",
            resource_type="plugin",
            resource_name=record.plugin_name,
            attributes={
                "plugin.name": record.plugin_name,
                "plugin.uuid": ref.uuid if ref else record.plugin_id,
                "plugin.mode": record.mode.value,
                "plugin.priority": ref.priority if ref else 0,
                "plugin.timeout": self._timeout,
            },
        )
        done = {
            "plugin.had_violation": record.requested_allow is False,
            "plugin.modified_payload": record.payload_modified,
            "plugin.duration_ns": record.duration_ns,
        }
        self._end(span, record.status in ("error", "timeout"), done)


@contextlib.contextmanager
def _no_fault() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.debug("The observability provider failed: %s", error)
