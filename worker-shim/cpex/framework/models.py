# SPDX-License-Identifier: Apache-2.0
"""The models every plugin meets: its configuration, the contexts of a call, payloads, results, violations, errors.

Models of transports and of the `applied_to` section are rare in plugins and are imported when somebody asks for them
(`_deployment`). Plugins that define models of their own find what they need (`BaseModel`, `Field`, `field_validator`,
...) here too, under the names the real SDK has in this module.
"""

from __future__ import annotations

from enum import Enum, StrEnum

from . import _lazily
from ._fields import (  # noqa: F401 - also for plugins
    Any,
    ConfigDict,
    Field,
    Parameter,
    PrivateAttr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from ._model import BaseModel
from ._types import LazyClass, LazyModel
from .constants import EXTERNAL_PLUGIN_TYPE, IGNORE_CONFIG_EXTERNAL

__getattr__ = _lazily(__name__)


class T(Parameter):
    """The payload type of a `PluginResult`."""


_Task = LazyClass("asyncio", "Task")
_Extensions = LazyModel("cpex.framework.extensions.extensions", "Extensions")
_AppliedTo = LazyModel("cpex.framework._deployment", "AppliedTo")
_MCPClientConfig = LazyModel("cpex.framework._deployment", "MCPClientConfig")
_GRPCClientConfig = LazyModel("cpex.framework._deployment", "GRPCClientConfig")
_UnixSocketClientConfig = LazyModel("cpex.framework._deployment", "UnixSocketClientConfig")


class TransportType(str, Enum):
    """How an external plugin is reached."""

    SSE = "SSE"
    HTTP = "HTTP"
    STDIO = "STDIO"
    STREAMABLEHTTP = "STREAMABLEHTTP"
    GRPC = "GRPC"


class PluginMode(StrEnum):
    """In which phase of a hook call a plugin runs, and with that whether it may block or change the payload."""

    FIRE_AND_FORGET = "fire_and_forget"
    CONCURRENT = "concurrent"
    SEQUENTIAL = "sequential"
    TRANSFORM = "transform"
    AUDIT = "audit"
    DISABLED = "disabled"


class OnError(StrEnum):
    """What an exception of a plugin does to the call: stop it, nothing, or nothing but switch the plugin off."""

    FAIL = "fail"
    IGNORE = "ignore"
    DISABLE = "disable"


class ControlExecutionStatus(StrEnum):
    """How one run of a plugin ended."""

    COMPLETED = "completed"
    ERROR = "error"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    DISABLED = "disabled"


class PluginCondition(BaseModel):
    """When a plugin runs: all fields that are given have to match."""

    server_ids: set[str] | None = None
    tenant_ids: set[str] | None = None
    tools: set[str] | None = None
    prompts: set[str] | None = None
    resources: set[str] | None = None
    agents: set[str] | None = None
    user_patterns: list[str] | None = None
    content_types: list[str] | None = None

    @field_validator("content_types")
    @classmethod
    def normalize_content_types(cls, value):
        """Types are compared without parameters and in lower case."""
        return [kind.split(";", 1)[0].strip().lower() for kind in value] if value else value

    @field_serializer("server_ids", "tenant_ids", "tools", "prompts", "resources", "agents")
    def serialize_set(self, value):
        """Sets travel as lists, empty ones as null."""
        return list(value) if value else None


_LEGACY_MODES = {"enforce": "sequential", "enforce_ignore_error": "sequential", "permissive": "transform"}


class PluginConfig(BaseModel):
    """One entry of the plugin configuration file, as the plugin sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str | None = None
    author: str | None = None
    kind: str
    namespace: str | None = None
    version: str | None = None
    hooks: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    mode: PluginMode = PluginMode.SEQUENTIAL
    on_error: OnError = OnError.FAIL
    priority: int = 100
    max_content_size: int = 10000000
    conditions: list[PluginCondition] = Field(default_factory=list)
    applied_to: _AppliedTo | None = None
    capabilities: frozenset[str] = Field(default_factory=frozenset)
    config: dict[str, Any] | None = None
    mcp: _MCPClientConfig | None = None
    grpc: _GRPCClientConfig | None = None
    unix_socket: _UnixSocketClientConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _migrate_legacy_modes(cls, data):
        """Files from before the present modes say enforce, permissive or enforce_ignore_error."""
        mode = data.get("mode") if isinstance(data, dict) else None
        if type(mode) is str and mode in _LEGACY_MODES:
            data["mode"] = _LEGACY_MODES[mode]
            if mode == "enforce_ignore_error":
                data.setdefault("on_error", "ignore")
        return data

    @field_validator("capabilities", mode="before")
    @classmethod
    def _validate_capabilities(cls, value):
        """Unknown capabilities are refused; what is no list counts as none."""
        if not isinstance(value, (list, set, frozenset)):
            return frozenset()
        from .extensions.constants import CAPABILITY_NAMES

        for capability in value:
            if capability not in CAPABILITY_NAMES:
                raise ValueError(f"Unknown capability: {capability!r}. Known: {sorted(CAPABILITY_NAMES)}")
        return frozenset(value)

    @field_serializer("capabilities")
    def serialize_capabilities(self, value):
        """In a fixed order."""
        return sorted(value)

    @model_validator(mode="after")
    def check_url_or_script_filled(self):
        """The transport of an MCP server needs its own setting."""
        if self.mcp:
            from ._deployment import check_mcp_transport

            check_mcp_transport(self.name, self.mcp)
        return self

    @model_validator(mode="after")
    def check_config_and_external(self, info: ValidationInfo):
        """An external plugin has one transport, and its settings stand on its own server."""
        if self.kind == EXTERNAL_PLUGIN_TYPE:
            from ._deployment import check_external

            check_external(self, bool((info.context or {}).get(IGNORE_CONFIG_EXTERNAL)))
        return self

    def get_safe_config(self) -> str:
        """The configuration as JSON text."""
        return self.model_dump_json()

    def to_json(self):
        """The configuration as values that JSON has."""
        return self.model_dump(mode="json")


class ControlExecutionRecord(BaseModel):
    """What one plugin did in one hook call."""

    plugin_id: str
    plugin_name: str
    plugin_kind: str
    hook_name: str
    mode: PluginMode
    status: ControlExecutionStatus
    requested_allow: bool | None = None
    effective_allow: bool = True
    matched: bool | None = None
    applied: bool = False
    payload_modified: bool = False
    extensions_modified: bool = False
    duration_ns: int = 0
    reason: str | None = None
    error_code: str | None = None
    config_keys: list[str] = Field(default_factory=list)


class PluginErrorModel(BaseModel):
    """What went wrong inside a plugin."""

    message: str
    plugin_name: str
    code: str | None = ""
    details: dict[str, Any] | None = Field(default_factory=dict)
    mcp_error_code: int = -32603


class PluginViolation(BaseModel):
    """Why a plugin stops a call."""

    reason: str
    description: str
    code: str
    details: dict[str, Any] | None = Field(default_factory=dict)
    _plugin_name: str = PrivateAttr(default="")
    mcp_error_code: int | None = None
    http_status_code: int | None = None
    http_headers: dict[str, str] | None = None

    @property
    def plugin_name(self) -> str:
        """Who stopped the call; set by the host."""
        return self._plugin_name

    @plugin_name.setter
    def plugin_name(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError("Name must be a non-empty string.")
        self._plugin_name = name


class UserContext(BaseModel):
    """Who is calling, as far as the host knows."""

    user_id: str
    email: str | None = None
    full_name: str | None = None
    is_admin: bool = False
    groups: list[str] = Field(default_factory=list)
    roles: list[str] = Field(default_factory=list)
    team_id: str | None = None
    teams: list[str] | None = None
    department: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)
    auth_method: str | None = None
    authenticated_at: datetime | None = None  # noqa: F821 - found through the module's __getattr__
    service_account: str | None = None
    delegation_chain: list[str] = Field(default_factory=list)


class PluginPayload(BaseModel):
    """Base of all payloads; a changed payload is a copy: `payload.model_copy(update={...})`."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class PluginResult(BaseModel):
    """What a hook answers. `PluginResult[SomePayload]` checks the type of `modified_payload`."""

    __type_parameters__ = (T,)
    model_config = ConfigDict(arbitrary_types_allowed=True)

    continue_processing: bool = True
    modified_payload: T | None = None
    modified_extensions: _Extensions | None = None
    violation: PluginViolation | None = None
    metadata: dict[str, Any] | None = Field(default_factory=dict)
    denial_metadata: dict[str, Any] | None = None
    background_tasks: list[_Task] = Field(default_factory=list, exclude=True)
    http_headers: dict[str, str] | None = None
    retry_delay_ms: int = 0
    executions: list[ControlExecutionRecord] = Field(default_factory=list)

    async def wait_for_background_tasks(self):
        """Wait for the plugins that run in the background; answers their errors."""
        if not self.background_tasks:
            return []
        import asyncio

        ended = await asyncio.gather(*self.background_tasks, return_exceptions=True)
        return [result for result in ended if isinstance(result, PluginErrorModel)]


class GlobalContext(BaseModel):
    """What all plugins of a request share."""

    request_id: str
    user: str | dict[str, Any] | None = None
    user_context: UserContext | None = None
    tenant_id: str | None = None
    server_id: str | None = None
    content_type: str | None = None
    state: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("content_type")
    @classmethod
    def validate_content_type(cls, value):
        """Header values from outside are bounded and printable."""
        if value is not None and len(value) > 200:
            raise ValueError("Content-Type header too long")
        if value is not None and not value.isprintable():
            raise ValueError("Content-Type contains invalid characters")
        return value


class PluginContext(BaseModel):
    """What one plugin keeps from hook to hook of a request, and the shared context."""

    state: dict[str, Any] = Field(default_factory=dict)
    global_context: GlobalContext
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def user_context(self):
        """The calling user's details, or None."""
        return self.global_context.user_context

    @property
    def user_email(self):
        """The calling user's address: from the details, else from the plain `user`."""
        details = self.global_context.user_context
        if details:
            return details.email
        user = self.global_context.user
        if isinstance(user, dict):
            return user.get("email")
        return user if isinstance(user, str) else None

    @property
    def user_groups(self):
        """The calling user's groups."""
        details = self.global_context.user_context
        return details.groups if details else []

    def get_state(self, key, default=None):
        """A value of this plugin's own state."""
        return self.state.get(key, default)

    def set_state(self, key, value) -> None:
        """Keep a value for this plugin's later hooks of the same request."""
        self.state[key] = value

    async def cleanup(self) -> None:
        """Forget state and metadata."""
        self.state.clear()
        self.metadata.clear()

    def is_empty(self) -> bool:
        """Whether neither this plugin nor the request has any state."""
        return not (self.state or self.metadata or self.global_context.state)


PluginContextTable = dict[str, PluginContext]
