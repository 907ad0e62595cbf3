# SPDX-License-Identifier: Apache-2.0
"""The answer of a hook."""

from __future__ import annotations

from typing import Any

from . import codec

_UNREAD = object()


class Answer:
    """What the plugins of a hook made of a call.

    Every field has a neutral value where the daemon left it out. ``raw`` is the answer's map as it came, with
    documents as bytes, or as memoryviews where they are large.
    """

    __slots__ = ("raw", "_payload")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self._payload: Any = _UNREAD

    @property
    def continue_processing(self) -> bool:
        """False: blocked, and ``violation`` says why."""
        value = self.raw.get("continue_processing")
        return True if value is None else value

    @property
    def modified_payload(self) -> Any:
        """The payload after all changes, mostly a dict; None where nobody changed it. Decoded at the first use.

        Raises ProtocolError where it is not one msgpack value.
        """
        if self._payload is _UNREAD:
            document = self.raw.get("modified_payload")
            self._payload = None if document is None else codec.unpack(document)
        return self._payload

    @property
    def payload_type(self) -> str | None:
        """The class of ``modified_payload`` where it is not the hook's own; "" for a plain value."""
        return self.raw.get("payload_type")

    @property
    def violation(self) -> dict[str, Any] | None:
        """{reason, description, code, details, mcp_error_code, http_status_code, http_headers, plugin_name} or None."""
        return self.raw.get("violation")

    @property
    def metadata(self) -> dict[str, Any]:
        """The plugins' metadata, later plugins over earlier ones."""
        return self.raw.get("metadata") or {}

    @property
    def retry_delay_ms(self) -> int:
        """Milliseconds to wait before another try; 0: none."""
        return self.raw.get("retry_delay_ms") or 0

    @property
    def modified_extensions(self) -> dict[str, Any] | None:
        return self.raw.get("modified_extensions")

    @property
    def http_headers(self) -> dict[str, str] | None:
        return self.raw.get("http_headers")

    @property
    def contexts(self) -> bytes | None:
        """Opaque: hand it to the next ``invoke`` of the same request."""
        contexts = self.raw.get("contexts")
        return bytes(contexts) if type(contexts) is memoryview else contexts

    @property
    def state(self) -> dict[str, Any]:
        """The shared state as the plugins left it."""
        return self.raw.get("state") or {}

    @property
    def global_metadata(self) -> dict[str, Any]:
        """The shared metadata as the plugins left it."""
        return self.raw.get("global_metadata") or {}

    @property
    def executions(self) -> list[dict[str, Any]]:
        """One record for each plugin that ran."""
        return self.raw.get("executions") or []

    @property
    def timing(self) -> dict[str, Any] | None:
        """Where the time went, for a call with ``timing``: {total_usec, wait_usec, run_usec, plugins}."""
        return self.raw.get("timing")

    @property
    def generation(self) -> int:
        """The daemon's configuration that gave this answer."""
        return self.raw.get("generation") or 0

    def __repr__(self) -> str:
        changed = self.raw.get("modified_payload") is not None
        return f"Answer(continue_processing={self.continue_processing}, changed={changed}, violation={self.violation!r})"
