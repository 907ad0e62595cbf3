# SPDX-License-Identifier: Apache-2.0
"""What an MCP server says about the tool, resource or prompt of a call."""

from __future__ import annotations

from .._fields import Any, ConfigDict, Field
from .._model import BaseModel


class ToolMetadata(BaseModel):
    """A tool and its schemas."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    server_id: str | None = None
    namespace: str | None = None
    annotations: dict[str, Any] = Field(default_factory=dict)


class ResourceMetadata(BaseModel):
    """A resource."""

    model_config = ConfigDict(frozen=True)

    uri: str
    name: str | None = None
    description: str | None = None
    mime_type: str | None = None
    server_id: str | None = None
    annotations: dict[str, Any] = Field(default_factory=dict)


class PromptMetadata(BaseModel):
    """A prompt template and its arguments."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str | None = None
    arguments: list[dict[str, Any]] | None = None
    server_id: str | None = None
    annotations: dict[str, Any] = Field(default_factory=dict)


class MCPExtension(BaseModel):
    """One of the three."""

    model_config = ConfigDict(frozen=True)

    tool: ToolMetadata | None = None
    resource: ResourceMetadata | None = None
    prompt: PromptMetadata | None = None
