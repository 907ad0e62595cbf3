# SPDX-License-Identifier: Apache-2.0
"""Views of a message's parts for policies: the same questions for a text, a tool call or a resource.

A view holds no data of its own; every property looks into the part, its message or the extensions.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType

from .. import _lazily
from .message import Role

__getattr__ = _lazily(__name__)


class ViewKind(str, Enum):
    """What a part is; the same kinds as in the message format."""

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


class ViewAction(str, Enum):
    """What a part does."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    INVOKE = "invoke"
    SEND = "send"
    RECEIVE = "receive"
    GENERATE = "generate"


_TEXT = frozenset((ViewKind.TEXT, ViewKind.THINKING))
_TOOL = frozenset((ViewKind.TOOL_CALL, ViewKind.TOOL_RESULT))
_PROMPT = frozenset((ViewKind.PROMPT_REQUEST, ViewKind.PROMPT_RESULT))
_RESOURCE = frozenset((ViewKind.RESOURCE, ViewKind.RESOURCE_REF))
_MEDIA = frozenset((ViewKind.IMAGE, ViewKind.VIDEO, ViewKind.AUDIO, ViewKind.DOCUMENT))
_BEFORE = frozenset((ViewKind.TOOL_CALL, ViewKind.PROMPT_REQUEST, ViewKind.RESOURCE_REF))
_AFTER = frozenset((ViewKind.TOOL_RESULT, ViewKind.PROMPT_RESULT, ViewKind.RESOURCE))
_ACTIONS = {
    ViewKind.TOOL_CALL: ViewAction.EXECUTE,
    ViewKind.TOOL_RESULT: ViewAction.RECEIVE,
    ViewKind.RESOURCE: ViewAction.READ,
    ViewKind.RESOURCE_REF: ViewAction.READ,
    ViewKind.PROMPT_REQUEST: ViewAction.INVOKE,
    ViewKind.PROMPT_RESULT: ViewAction.RECEIVE,
}
_ACTION_OF_ROLE = {Role.ASSISTANT: ViewAction.GENERATE, Role.TOOL: ViewAction.RECEIVE}

# kind -> property -> how it is read from what the part is about
_PROPERTIES = {
    ViewKind.RESOURCE: {
        "resource_type": lambda about: about.resource_type.value,
        "version": lambda about: about.version,
        "annotations": lambda about: about.annotations,
    },
    ViewKind.TOOL_CALL: {
        "namespace": lambda about: about.namespace,
        "tool_id": lambda about: about.tool_call_id,
    },
    ViewKind.TOOL_RESULT: {
        "is_error": lambda about: about.is_error,
        "tool_name": lambda about: about.tool_name,
    },
    ViewKind.PROMPT_REQUEST: {"server_id": lambda about: about.server_id},
    ViewKind.PROMPT_RESULT: {
        "is_error": lambda about: about.is_error,
        "message_count": lambda about: len(about.messages or ()),
    },
}
_NAMES = {
    ViewKind.TOOL_CALL: "name",
    ViewKind.PROMPT_REQUEST: "name",
    ViewKind.RESOURCE: "name",
    ViewKind.RESOURCE_REF: "name",
    ViewKind.TOOL_RESULT: "tool_name",
    ViewKind.PROMPT_RESULT: "prompt_name",
}
_NO_HEADERS = MappingProxyType({})


def _as_text(value):
    """A value as JSON, or as Python shows it when JSON has no form for it."""
    import json

    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


class MessageView:
    """One part of a message."""

    __slots__ = ("_part", "_kind", "_message", "_extensions", "_hook")

    def __init__(self, part, kind, message, hook=None, extensions=None):
        self._part = part
        self._kind = kind
        self._message = message
        self._extensions = extensions
        self._hook = hook

    # -- the part ----------------------------------------------------------------------------------------------------

    @property
    def _about(self):
        """What the part is about; a text part is its own subject."""
        return self._part if self._kind in _TEXT else self._part.content

    @property
    def kind(self):
        """What the part is."""
        return self._kind

    @property
    def role(self):
        """Who speaks."""
        return self._message.role

    @property
    def hook(self):
        """Where the message was met, if the caller said so."""
        return self._hook

    @property
    def raw(self):
        """The part itself."""
        return self._part

    @property
    def content(self):
        """The text of the part, None when it has none."""
        about = self._about
        if self._kind in _TEXT:
            return about.text
        if self._kind in (ViewKind.TOOL_CALL, ViewKind.PROMPT_REQUEST):
            return _as_text(about.arguments)
        if self._kind in (ViewKind.RESOURCE, ViewKind.PROMPT_RESULT):
            return about.content
        if self._kind == ViewKind.TOOL_RESULT and about.content is not None:
            return about.content if isinstance(about.content, str) else _as_text(about.content)
        return None

    @property
    def uri(self):
        """An address to match patterns against; tools and prompts get one made up from their names."""
        about = self._about
        if self._kind in _RESOURCE:
            return about.uri
        if self._kind == ViewKind.TOOL_CALL:
            return f"tool://{about.namespace or '_'}/{about.name}"
        if self._kind == ViewKind.TOOL_RESULT:
            return f"tool_result://{about.tool_name}"
        if self._kind == ViewKind.PROMPT_REQUEST:
            return f"prompt://{about.server_id or '_'}/{about.name}"
        if self._kind == ViewKind.PROMPT_RESULT:
            return f"prompt_result://{about.prompt_name}"
        return None

    @property
    def name(self):
        """The name of the tool, resource or prompt."""
        attribute = _NAMES.get(self._kind)
        return getattr(self._about, attribute) if attribute else None

    @property
    def action(self):
        """What the part does; texts and media do what their speaker does."""
        return _ACTIONS.get(self._kind) or _ACTION_OF_ROLE.get(self._message.role, ViewAction.SEND)

    @property
    def args(self):
        """The arguments of a tool call or prompt request."""
        return self._about.arguments if self._kind in (ViewKind.TOOL_CALL, ViewKind.PROMPT_REQUEST) else None

    @property
    def mime_type(self):
        """The MIME type of a resource or medium."""
        if self._kind == ViewKind.RESOURCE:
            return self._about.mime_type
        return self._about.media_type if self._kind in _MEDIA else None

    @property
    def size_bytes(self):
        """The size of the content, as declared or as counted."""
        if self._kind == ViewKind.RESOURCE:
            return _resource_size(self._about)
        text = self.content
        return None if text is None else len(text.encode())

    @property
    def properties(self):
        """What only parts of this kind have."""
        about = self._about
        return {name: read(about) for name, read in _PROPERTIES.get(self._kind, {}).items()}

    def get_property(self, name, default=None):
        """One of the properties."""
        read = _PROPERTIES.get(self._kind, {}).get(name)
        return read(self._about) if read else default

    def get_arg(self, name, default=None):
        """One of the arguments."""
        return (self.args or {}).get(name, default)

    def has_arg(self, name):
        """Whether there is such an argument."""
        return name in (self.args or {})

    def has_content(self):
        """Whether there is text."""
        return self.content is not None

    def matches_uri_pattern(self, pattern):
        """Whether the address matches; `*` stays within a path segment, `**` does not."""
        import re

        address = self.uri
        if not address:
            return False
        wide = ["[^/]*".join(re.escape(literal) for literal in narrow.split("*")) for narrow in pattern.split("**")]
        return re.match(f"^{'.*'.join(wide)}$", address) is not None

    # -- direction and kind ------------------------------------------------------------------------------------------

    @property
    def is_pre(self):
        """Whether the part is on its way to something that has not happened yet."""
        if self._kind in _BEFORE or self._kind in _AFTER:
            return self._kind in _BEFORE
        return self._message.role in (Role.USER, Role.SYSTEM, Role.DEVELOPER)

    @property
    def is_post(self):
        """Whether the part is the outcome of something."""
        if self._kind in _BEFORE or self._kind in _AFTER:
            return self._kind in _AFTER
        return self._message.role in (Role.ASSISTANT, Role.TOOL)

    @property
    def is_tool(self):
        """A tool call or its result."""
        return self._kind in _TOOL

    @property
    def is_prompt(self):
        """A prompt request or its result."""
        return self._kind in _PROMPT

    @property
    def is_resource(self):
        """A resource or a reference to one."""
        return self._kind in _RESOURCE

    @property
    def is_text(self):
        """Text or thinking."""
        return self._kind in _TEXT

    @property
    def is_media(self):
        """Image, video, audio or document."""
        return self._kind in _MEDIA

    # -- extensions --------------------------------------------------------------------------------------------------

    def _slot(self, slot, attribute, default=None):
        """An attribute of one slot of the extensions."""
        extension = getattr(self._extensions, slot, None) if self._extensions else None
        return getattr(extension, attribute) if extension else default

    @property
    def environment(self):
        """The environment the request runs in."""
        return self._slot("request", "environment")

    @property
    def request_id(self):
        """The id of the request."""
        return self._slot("request", "request_id")

    @property
    def subject(self):
        """The authenticated caller."""
        return self._slot("security", "subject")

    @property
    def roles(self):
        """The caller's roles."""
        subject = self.subject
        return subject.roles if subject else frozenset()

    @property
    def permissions(self):
        """The caller's permissions."""
        subject = self.subject
        return subject.permissions if subject else frozenset()

    @property
    def teams(self):
        """The caller's teams."""
        subject = self.subject
        return subject.teams if subject else frozenset()

    @property
    def headers(self):
        """The headers of the request, read-only."""
        headers = self._slot("http", "headers")
        return _NO_HEADERS if headers is None else MappingProxyType(headers)

    @property
    def labels(self):
        """The security labels."""
        return self._slot("security", "labels", frozenset())

    @property
    def agent_input(self):
        """What the user asked the agent."""
        return self._slot("agent", "input")

    @property
    def session_id(self):
        """The agent's session."""
        return self._slot("agent", "session_id")

    @property
    def conversation_id(self):
        """The conversation within the session."""
        return self._slot("agent", "conversation_id")

    @property
    def turn(self):
        """The turn within the conversation."""
        return self._slot("agent", "turn")

    @property
    def agent_id(self):
        """The agent."""
        return self._slot("agent", "agent_id")

    @property
    def parent_agent_id(self):
        """The agent that started this one."""
        return self._slot("agent", "parent_agent_id")

    @property
    def object(self):
        """What the tool, resource or prompt asks of its callers."""
        return (self._slot("security", "objects") or {}).get(self.name) if self.name else None

    @property
    def data_policy(self):
        """What may be done with its data."""
        return (self._slot("security", "data") or {}).get(self.name) if self.name else None

    def has_role(self, role):
        """Whether the caller has a role."""
        return role in self.roles

    def has_permission(self, perm):
        """Whether the caller has a permission."""
        return perm in self.permissions

    def has_label(self, label):
        """Whether the data bears a label."""
        return label in self.labels

    def get_header(self, name, default=None):
        """A header; case does not matter."""
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), default)

    def has_header(self, name):
        """Whether there is such a header."""
        return self.get_header(name) is not None

    # -- as data -----------------------------------------------------------------------------------------------------

    def to_dict(self, include_content=True, include_context=True):
        """The view as plain data, without sensitive headers."""
        from ._view_data import view_data

        return view_data(self, include_content, include_context)

    def to_opa_input(self, include_content=True):
        """The view as Open Policy Agent takes it."""
        return {"input": self.to_dict(include_content=include_content)}

    def __repr__(self):
        parts = [f"kind={self._kind.value}", f"role={self._message.role.value}"]
        parts.append("pre" if self.is_pre else "post" if self.is_post else "?")
        if self.uri:
            parts.append(f"uri={self.uri}")
        if self._hook:
            parts.append(f"hook={self._hook}")
        return f"MessageView({', '.join(parts)})"


def _resource_size(resource):
    if resource.size_bytes is not None:
        return resource.size_bytes
    if resource.content:
        return len(resource.content.encode())
    return len(resource.blob) if resource.blob else None


def iter_views(message, hook=None, extensions=None):
    """A view of each part."""
    for part in message.content:
        try:
            kind = ViewKind(part.content_type)
        except ValueError:
            raise ValueError(f"Unknown content type: {part.content_type!r}") from None
        yield MessageView(part, kind, message, hook=hook, extensions=extensions)
