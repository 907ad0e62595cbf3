# SPDX-License-Identifier: Apache-2.0
"""Messages and the parts they consist of.

What a part is about (a tool call, an image) is a model of its own; the part adds the `content_type` by which parts are
told apart. All are frozen: a changed message is a copy.
"""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import Any, ConfigDict, Field, model_validator
from .._model import BaseModel
from .._types import OneOf, Tagged

__getattr__ = _lazily(__name__)


class Role(str, Enum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Channel(str, Enum):
    """What kind of output a message is."""

    ANALYSIS = "analysis"
    COMMENTARY = "commentary"
    FINAL = "final"


class ContentType(str, Enum):
    """The kinds of parts."""

    TEXT = "text"
    THINKING = "thinking"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    RESOURCE = "resource"
    RESOURCE_REF = "resource_ref"
    PROMPT_REQUEST = "prompt_request"
    PROMPT_RESULT = "prompt_result"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"


class ResourceType(str, Enum):
    """The kinds of resources."""

    FILE = "file"
    BLOB = "blob"
    URI = "uri"
    DATABASE = "database"
    API = "api"
    MEMORY = "memory"
    ARTIFACT = "artifact"


class ToolCall(BaseModel):
    """A tool is to be called."""

    model_config = ConfigDict(frozen=True)

    tool_call_id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    namespace: str | None = None


class ToolResult(BaseModel):
    """What a tool answered."""

    model_config = ConfigDict(frozen=True)

    tool_call_id: str
    tool_name: str
    content: Any = None
    is_error: bool = False


class Resource(BaseModel):
    """A resource with its content: text or bytes."""

    model_config = ConfigDict(frozen=True)

    resource_request_id: str
    uri: str
    name: str | None = None
    description: str | None = None
    resource_type: ResourceType
    content: str | None = None
    blob: bytes | None = None
    mime_type: str | None = None
    size_bytes: int | None = None
    annotations: dict[str, Any] = Field(default_factory=dict)
    version: str | None = None

    @model_validator(mode="after")
    def _check_content_blob_exclusion(self):
        if self.content is not None and self.blob is not None:
            raise ValueError("Resource cannot have both 'content' and 'blob' set")
        return self


class ResourceReference(BaseModel):
    """A resource, or a part of one, without its content."""

    model_config = ConfigDict(frozen=True)

    resource_request_id: str
    uri: str
    name: str | None = None
    resource_type: ResourceType
    range_start: int | None = None
    range_end: int | None = None
    selector: str | None = None

    @model_validator(mode="after")
    def _check_range_consistency(self):
        start, end = self.range_start, self.range_end
        if start is not None and end is not None and end < start:
            raise ValueError(f"range_end ({end}) must be >= range_start ({start})")
        return self


class PromptRequest(BaseModel):
    """A prompt template is to be filled in."""

    model_config = ConfigDict(frozen=True)

    prompt_request_id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    server_id: str | None = None


class PromptResult(BaseModel):
    """A rendered prompt: messages, or one text."""

    model_config = ConfigDict(frozen=True)

    prompt_request_id: str
    prompt_name: str
    messages: list[Message] = Field(default_factory=list)
    content: str | None = None
    is_error: bool = False
    error_message: str | None = None


class ImageSource(BaseModel):
    """An image, by address or as base64."""

    model_config = ConfigDict(frozen=True)

    type: OneOf("url", "base64")  # noqa: F821 - values, not names
    data: str
    media_type: str | None = None


class VideoSource(BaseModel):
    """A video, by address or as base64."""

    model_config = ConfigDict(frozen=True)

    type: OneOf("url", "base64")  # noqa: F821
    data: str
    media_type: str | None = None
    duration_ms: int | None = None


class AudioSource(BaseModel):
    """A recording, by address or as base64."""

    model_config = ConfigDict(frozen=True)

    type: OneOf("url", "base64")  # noqa: F821
    data: str
    media_type: str | None = None
    duration_ms: int | None = None


class DocumentSource(BaseModel):
    """A document, by address or as base64."""

    model_config = ConfigDict(frozen=True)

    type: OneOf("url", "base64")  # noqa: F821
    data: str
    media_type: str | None = None
    title: str | None = None


class ContentPart(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(frozen=True)

    content_type: ContentType


class TextContent(ContentPart):
    """Text."""

    content_type: OneOf(ContentType.TEXT) = ContentType.TEXT
    text: str


class ThinkingContent(ContentPart):
    """What the model thought on the way."""

    content_type: OneOf(ContentType.THINKING) = ContentType.THINKING
    text: str


class ToolCallContentPart(ContentPart):
    """A tool call."""

    content_type: OneOf(ContentType.TOOL_CALL) = ContentType.TOOL_CALL
    content: ToolCall


class ToolResultContentPart(ContentPart):
    """A tool's answer."""

    content_type: OneOf(ContentType.TOOL_RESULT) = ContentType.TOOL_RESULT
    content: ToolResult


class ResourceContentPart(ContentPart):
    """A resource with its content."""

    content_type: OneOf(ContentType.RESOURCE) = ContentType.RESOURCE
    content: Resource


class ResourceRefContentPart(ContentPart):
    """A resource by reference."""

    content_type: OneOf(ContentType.RESOURCE_REF) = ContentType.RESOURCE_REF
    content: ResourceReference


class PromptRequestContentPart(ContentPart):
    """A request for a prompt."""

    content_type: OneOf(ContentType.PROMPT_REQUEST) = ContentType.PROMPT_REQUEST
    content: PromptRequest


class PromptResultContentPart(ContentPart):
    """A rendered prompt."""

    content_type: OneOf(ContentType.PROMPT_RESULT) = ContentType.PROMPT_RESULT
    content: PromptResult


class ImageContentPart(ContentPart):
    """An image."""

    content_type: OneOf(ContentType.IMAGE) = ContentType.IMAGE
    content: ImageSource


class VideoContentPart(ContentPart):
    """A video."""

    content_type: OneOf(ContentType.VIDEO) = ContentType.VIDEO
    content: VideoSource


class AudioContentPart(ContentPart):
    """A recording."""

    content_type: OneOf(ContentType.AUDIO) = ContentType.AUDIO
    content: AudioSource


class DocumentContentPart(ContentPart):
    """A document."""

    content_type: OneOf(ContentType.DOCUMENT) = ContentType.DOCUMENT
    content: DocumentSource


def _content_type_discriminator(part):
    """The kind of a part, whether it came as JSON or as a model."""
    if isinstance(part, dict):
        kind = part.get("content_type")
        if kind is None:
            raise ValueError("Missing 'content_type' discriminator in content part dict")
        return kind
    if not hasattr(part, "content_type"):
        raise ValueError(f"Content part {type(part).__name__} missing 'content_type' attribute")
    return part.content_type.value


ContentPartUnion = Tagged(
    _content_type_discriminator,
    {
        "text": TextContent,
        "thinking": ThinkingContent,
        "tool_call": ToolCallContentPart,
        "tool_result": ToolResultContentPart,
        "resource": ResourceContentPart,
        "resource_ref": ResourceRefContentPart,
        "prompt_request": PromptRequestContentPart,
        "prompt_result": PromptResultContentPart,
        "image": ImageContentPart,
        "video": VideoContentPart,
        "audio": AudioContentPart,
        "document": DocumentContentPart,
    },
)


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: str = "2.0"
    role: Role
    content: list[ContentPartUnion] = Field(default_factory=list)
    channel: Channel | None = None

    def iter_views(self, hook=None, extensions=None):
        """The parts one by one, each with the same properties whatever its kind."""
        from .view import iter_views

        return iter_views(self, hook=hook, extensions=extensions)
