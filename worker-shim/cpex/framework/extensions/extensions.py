# SPDX-License-Identifier: Apache-2.0
"""`Extensions`, the container of all slots; a slot's module is imported when the slot is first filled."""

from __future__ import annotations

from .. import _lazily
from .._fields import Any, ConfigDict
from .._model import BaseModel
from .._types import LazyModel

__getattr__ = _lazily(__name__)


def _slot(module, name):
    return LazyModel(f"cpex.framework.extensions.{module}", name)


_Request = _slot("request", "RequestExtension")
_Agent = _slot("agent", "AgentExtension")
_Http = _slot("http", "HttpExtension")
_Security = _slot("security", "SecurityExtension")
_Delegation = _slot("delegation", "DelegationExtension")
_MCP = _slot("mcp", "MCPExtension")
_Completion = _slot("completion", "CompletionExtension")
_Provenance = _slot("provenance", "ProvenanceExtension")
_LLM = _slot("llm", "LLMExtension")
_Framework = _slot("framework", "FrameworkExtension")
_Meta = _slot("meta", "MetaExtension")


class Extensions(BaseModel):
    """Everything a host tells beside the payload; a plugin sees the slots that its capabilities open."""

    model_config = ConfigDict(frozen=True)

    request: _Request | None = None
    agent: _Agent | None = None
    http: _Http | None = None
    security: _Security | None = None
    delegation: _Delegation | None = None
    mcp: _MCP | None = None
    completion: _Completion | None = None
    provenance: _Provenance | None = None
    llm: _LLM | None = None
    framework: _Framework | None = None
    meta: _Meta | None = None
    custom: dict[str, Any] | None = None
