# SPDX-License-Identifier: Apache-2.0
"""Models of the configuration file that concern the host: transports of external plugins, `applied_to`.

They are here so that a whole entry of the file validates; the plugin itself hardly ever looks at them. Their names
belong to `cpex.framework.models`, which imports this module on demand.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._fields import Any, ConfigDict, Field, field_validator, model_validator
from ._model import BaseModel
from .models import PluginConfig, TransportType


class BaseTemplate(BaseModel):
    """What an `applied_to` entry reads besides its own fields."""

    context: list[str] | None = None
    extensions: dict[str, Any] | None = None


class ToolTemplate(BaseTemplate):
    """A tool that a plugin applies to."""

    tool_name: str
    fields: list[str] | None = None
    result: bool = False


class PromptTemplate(BaseTemplate):
    """A prompt that a plugin applies to."""

    prompt_name: str
    fields: list[str] | None = None
    result: bool = False


class ResourceTemplate(BaseTemplate):
    """A resource that a plugin applies to."""

    resource_uri: str
    fields: list[str] | None = None
    result: bool = False


class AppliedTo(BaseModel):
    """Tools, prompts and resources that a plugin applies to."""

    tools: list[ToolTemplate] | None = None
    prompts: list[PromptTemplate] | None = None
    resources: list[ResourceTemplate] | None = None


def _socket_path(value, what):
    """An absolute path in a folder that exists; folders that anybody can write to are worth a warning."""
    if value is None:
        return value
    if not value.strip():
        raise ValueError(f"{what}: a socket path is needed")
    path = Path(value).expanduser().resolve()
    if not path.parent.is_dir():
        raise ValueError(f"{what}: there is no folder {path.parent}")
    if path.parent.stat().st_mode & 0o002:
        import logging

        logging.getLogger("cpex.framework.models").warning("%s: anybody can write to %s", what, path.parent)
    return str(path)


def _set_fields(cls, found, prefix, **other_names):
    """The fields of a class that the environment sets; a setting's name is `prefix` and the field's name."""
    data = {}
    for name in cls.model_fields:
        value = getattr(found, other_names.get(name, prefix + name), None)
        if hasattr(value, "get_secret_value"):
            data[name] = value.get_secret_value()
        elif value is not None and value != "":
            data[name] = value
    return data


def _if_any(cls, data):
    return cls(**data) if data else None


class MCPTransportTLSConfigBase(BaseModel):
    """Certificates, for both ends."""

    certfile: str | None = None
    keyfile: str | None = None
    ca_bundle: str | None = None
    keyfile_password: str | None = None

    @field_validator("ca_bundle", "certfile", "keyfile")
    @classmethod
    def validate_path(cls, value):
        """The file has to exist."""
        if not value:
            return value
        path = Path(value).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {value}")
        return str(path)

    @model_validator(mode="after")
    def validate_cert_key(self):
        """A key is of no use alone."""
        if self.keyfile and not self.certfile:
            raise ValueError("a keyfile needs its certfile")
        return self


class MCPClientTLSConfig(MCPTransportTLSConfigBase):
    """TLS towards an MCP plugin server."""

    verify: bool = True
    check_hostname: bool = True

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_client_mtls_settings

        return _if_any(cls, _set_fields(cls, get_client_mtls_settings(), "client_mtls_"))


class MCPServerTLSConfig(MCPTransportTLSConfigBase):
    """TLS of an MCP plugin server."""

    ssl_cert_reqs: int = 2

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_mcp_server_settings

        return _if_any(cls, _set_fields(cls, get_mcp_server_settings(), "server_ssl_", ca_bundle="server_ssl_ca_certs", ssl_cert_reqs="server_ssl_cert_reqs"))


class GRPCClientTLSConfig(MCPTransportTLSConfigBase):
    """TLS towards a gRPC plugin server."""

    verify: bool = True

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_grpc_client_mtls_settings

        return _if_any(cls, _set_fields(cls, get_grpc_client_mtls_settings(), "grpc_client_mtls_"))


class GRPCServerTLSConfig(MCPTransportTLSConfigBase):
    """TLS of a gRPC plugin server."""

    client_auth: str = "require"

    @field_validator("client_auth")
    @classmethod
    def validate_client_auth(cls, value):
        """One of none, optional, require."""
        if value.lower() not in ("none", "optional", "require"):
            raise ValueError(f"client_auth is none, optional or require, not {value!r}")
        return value.lower()

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_grpc_server_settings

        return _if_any(cls, _set_fields(cls, get_grpc_server_settings(), "grpc_server_ssl_", ca_bundle="grpc_server_ssl_ca_certs"))


class MCPServerConfig(BaseModel):
    """Where an MCP plugin server listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    tls: MCPServerTLSConfig | None = None

    @field_validator("uds")
    @classmethod
    def validate_uds(cls, uds):
        """A usable socket path."""
        return _socket_path(uds, "MCP server uds")

    @model_validator(mode="after")
    def validate_uds_tls(self):
        """Sockets of the file system have no TLS."""
        if self.uds and self.tls:
            raise ValueError("a Unix socket has no TLS")
        return self

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_mcp_server_settings

        found = get_mcp_server_settings()
        data = _set_fields(cls, found, "server_")
        tls = MCPServerTLSConfig.from_env() if found.server_ssl_enabled else None
        return _if_any(cls, data | {"tls": tls} if tls else data)


class MCPClientConfig(BaseModel):
    """How an MCP plugin server is reached."""

    proto: TransportType
    url: str | None = None
    script: str | None = None
    cmd: list[str] | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    uds: str | None = None
    tls: MCPClientTLSConfig | None = None
    reconnect_attempts: int = 3
    reconnect_delay: float = 0.1

    @field_validator("url")
    @classmethod
    def validate_url(cls, url):
        """A plain web address."""
        if not url:
            return url
        from .validators import validate_plugin_url

        return validate_plugin_url(url)

    @field_validator("script")
    @classmethod
    def validate_script(cls, script):
        """An absolute path has to be a program."""
        path = Path(script).expanduser() if script else None
        if path is not None and path.is_absolute():
            if not path.is_file():
                raise ValueError(f"there is no script {script}")
            if path.suffix not in (".py", ".sh") and not os.access(path, os.X_OK):
                raise ValueError(f"the script {script} cannot be executed")
        return script

    @field_validator("cmd")
    @classmethod
    def validate_cmd(cls, cmd):
        """A program and its arguments, none of them empty."""
        if cmd is not None and not cmd:
            raise ValueError("cmd is empty")
        if cmd is not None and not all(part.strip() for part in cmd):
            raise ValueError("cmd has an empty entry")
        return cmd

    @field_validator("env")
    @classmethod
    def validate_env(cls, env):
        """Variables have names."""
        if env is not None and not env:
            raise ValueError("env is empty")
        if env is not None and not all(key.strip() for key in env):
            raise ValueError("env has a variable without a name")
        return env

    @field_validator("cwd")
    @classmethod
    def validate_cwd(cls, cwd):
        """A folder that exists."""
        if not cwd:
            return cwd
        path = Path(cwd).expanduser().resolve()
        if not path.is_dir():
            raise ValueError(f"cwd: there is no folder {cwd}")
        return str(path)

    @field_validator("uds")
    @classmethod
    def validate_uds(cls, uds):
        """A usable socket path."""
        return _socket_path(uds, "MCP client uds")

    @model_validator(mode="after")
    def validate_tls_usage(self):
        """TLS only over HTTP, and not on sockets of the file system."""
        if self.tls and self.proto not in (TransportType.SSE, TransportType.STREAMABLEHTTP):
            raise ValueError("tls goes with SSE and STREAMABLEHTTP only")
        if self.uds and self.tls:
            raise ValueError("a Unix socket has no TLS")
        return self

    @model_validator(mode="after")
    def validate_transport_fields(self):
        """Each transport has its own settings."""
        if self.proto == TransportType.STDIO and self.url:
            raise ValueError("url does not go with STDIO")
        if self.proto != TransportType.STDIO and (self.script or self.cmd or self.env or self.cwd):
            raise ValueError("script, cmd, env and cwd go with STDIO only")
        if self.proto != TransportType.STREAMABLEHTTP and self.uds:
            raise ValueError("uds goes with STREAMABLEHTTP only")
        return self


class GRPCClientConfig(BaseModel):
    """How a gRPC plugin server is reached."""

    target: str | None = None
    uds: str | None = None
    tls: GRPCClientTLSConfig | None = None

    @field_validator("target")
    @classmethod
    def validate_target(cls, target):
        """host:port"""
        if target is not None and not target:
            raise ValueError("target is empty")
        if target is not None and ":" not in target:
            raise ValueError(f"target is written host:port, not {target!r}")
        return target

    @field_validator("uds")
    @classmethod
    def validate_uds(cls, uds):
        """A usable socket path."""
        return _socket_path(uds, "gRPC client uds")

    @model_validator(mode="after")
    def validate_target_or_uds(self):
        """One address, not two."""
        if self.target is None and self.uds is None:
            raise ValueError("one of target and uds is needed")
        if self.target is not None and self.uds is not None:
            raise ValueError("target and uds exclude each other")
        if self.uds is not None and self.tls:
            raise ValueError("a Unix socket has no TLS")
        return self

    def get_target(self):
        """The address as gRPC writes it."""
        return f"unix://{self.uds}" if self.uds else self.target or ""


class GRPCServerConfig(BaseModel):
    """Where a gRPC plugin server listens."""

    host: str = "127.0.0.1"
    port: int = 50051
    uds: str | None = None
    tls: GRPCServerTLSConfig | None = None

    @field_validator("uds")
    @classmethod
    def validate_uds(cls, uds):
        """A usable socket path."""
        return _socket_path(uds, "gRPC server uds")

    @model_validator(mode="after")
    def validate_uds_tls(self):
        """Sockets of the file system have no TLS."""
        if self.uds and self.tls:
            raise ValueError("a Unix socket has no TLS")
        return self

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_grpc_server_settings

        found = get_grpc_server_settings()
        data = _set_fields(cls, found, "grpc_server_")
        tls = GRPCServerTLSConfig.from_env() if found.grpc_server_ssl_enabled else None
        return _if_any(cls, data | {"tls": tls} if tls else data)

    def get_bind_address(self):
        """The address as gRPC writes it."""
        return f"unix://{self.uds}" if self.uds else f"{self.host}:{self.port}"


class UnixSocketClientConfig(BaseModel):
    """How a plugin server on a Unix socket is reached."""

    path: str
    reconnect_attempts: int = 3
    reconnect_delay: float = 0.1
    timeout: float = 30.0

    @field_validator("path")
    @classmethod
    def validate_path(cls, path):
        """An absolute path."""
        if not path:
            raise ValueError("path is empty")
        if not path.startswith("/"):
            raise ValueError(f"path is not absolute: {path!r}")
        return path


class UnixSocketServerConfig(BaseModel):
    """Where a plugin server on a Unix socket listens."""

    path: str = "/tmp/mcpgateway-plugins.sock"  # noqa: S108 - the default of the format

    @classmethod
    def from_env(cls):
        """What the environment says, None where it says nothing."""
        from .settings import get_transport_settings

        return _if_any(cls, _set_fields(cls, get_transport_settings(), "unix_socket_"))


class Config(BaseModel):
    """The whole configuration file."""

    model_config = ConfigDict(extra="ignore")

    plugins: list[PluginConfig] | None = Field(default_factory=list)
    plugin_dirs: list[str] = Field(default_factory=list)
    server_settings: MCPServerConfig | None = None
    grpc_server_settings: GRPCServerConfig | None = None
    unix_socket_server_settings: UnixSocketServerConfig | None = None


def check_mcp_transport(name, mcp):
    """What each MCP transport needs."""
    proto = mcp.proto
    if proto == TransportType.STDIO and not (mcp.script or mcp.cmd):
        raise ValueError(f"plugin {name}: STDIO needs script or cmd")
    if proto == TransportType.STDIO and mcp.script and mcp.cmd:
        raise ValueError(f"plugin {name}: script and cmd exclude each other")
    if proto in (TransportType.STREAMABLEHTTP, TransportType.SSE) and not mcp.url:
        raise ValueError(f"plugin {name}: {proto.value} needs a url")
    if proto not in (TransportType.SSE, TransportType.STREAMABLEHTTP, TransportType.STDIO):
        raise ValueError(f"plugin {name}: proto is SSE, STREAMABLEHTTP or STDIO, not {proto.value}")


def check_external(entry, config_is_fine):
    """What an external plugin needs."""
    name = entry.name
    if entry.config and not config_is_fine:
        raise ValueError(f"plugin {name}: an external plugin is configured on its own server, not under 'config'")
    count = sum(transport is not None for transport in (entry.mcp, entry.grpc, entry.unix_socket))
    if count == 0:
        raise ValueError(f"plugin {name}: an external plugin needs mcp, grpc or unix_socket")
    if count > 1:
        raise ValueError(f"plugin {name}: mcp, grpc and unix_socket exclude each other")


for _cls in list(globals().values()):
    if isinstance(_cls, type) and _cls.__module__ == __name__:
        _cls.__module__ = "cpex.framework.models"
