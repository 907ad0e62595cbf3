# SPDX-License-Identifier: Apache-2.0
"""The settings of the framework: environment variables `PLUGINS_…`, checked like fields of a model.

`get_settings()` reads all of them; the other functions read a part, which a mistake in a variable of another part does not disturb.
The `.env` file of the real SDK is not read: a worker gets its environment from the daemon.
"""

from __future__ import annotations

import os
from functools import lru_cache

from . import _lazily
from ._fields import model_validator
from ._model import BaseModel
from ._secret import SecretStr  # noqa: F401 - in annotations
from ._types import OneOf  # noqa: F401

__getattr__ = _lazily(__name__)


class _Settings(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _from_environment(cls, data):
        variables = {name.lower(): value for name, value in os.environ.items()}
        found = {}
        for name, field in cls.model_fields.items():
            value = variables.get(f"plugins_{name}", variables.get(name) if name == "unix_socket_path" else None)
            if value is not None and not value.strip() and field._raw in ("bool | None", "int | None"):
                value = None
            if value is not None:
                found[name] = value
        return {**found, **data}


class PluginsSettings(_Settings):
    """All of them."""

    enabled: bool = False
    default_hook_policy: OneOf("allow", "deny") = "allow"  # noqa: F821 - values, not names
    config_file: str = "plugins/config.yaml"
    log_level: str = "INFO"
    skip_ssl_verify: bool = False
    ssrf_protection_enabled: bool = True

    plugin_timeout: int = 30
    fail_on_plugin_error: bool = False
    execution_pool: int = 10

    httpx_max_connections: int = 200
    httpx_max_keepalive_connections: int = 100
    httpx_keepalive_expiry: float = 30.0
    httpx_connect_timeout: float = 5.0
    httpx_read_timeout: float = 120.0
    httpx_write_timeout: float = 30.0
    httpx_pool_timeout: float = 10.0

    cli_completion: bool = False
    cli_markup_mode: OneOf("rich", "markdown", "disabled", None) = None  # noqa: F821

    client_mtls_certfile: str | None = None
    client_mtls_keyfile: str | None = None
    client_mtls_ca_bundle: str | None = None
    client_mtls_keyfile_password: SecretStr | None = None
    client_mtls_verify: bool | None = None
    client_mtls_check_hostname: bool | None = None

    server_ssl_keyfile: str | None = None
    server_ssl_certfile: str | None = None
    server_ssl_ca_certs: str | None = None
    server_ssl_keyfile_password: SecretStr | None = None
    server_ssl_cert_reqs: int | None = None
    server_host: str | None = None
    server_port: int | None = None
    server_uds: str | None = None
    server_ssl_enabled: bool | None = None

    config_path: str | None = None
    transport: str | None = None

    grpc_client_mtls_certfile: str | None = None
    grpc_client_mtls_keyfile: str | None = None
    grpc_client_mtls_ca_bundle: str | None = None
    grpc_client_mtls_keyfile_password: SecretStr | None = None
    grpc_client_mtls_verify: bool | None = None

    grpc_server_ssl_keyfile: str | None = None
    grpc_server_ssl_certfile: str | None = None
    grpc_server_ssl_ca_certs: str | None = None
    grpc_server_ssl_keyfile_password: SecretStr | None = None
    grpc_server_ssl_client_auth: str | None = None
    grpc_server_host: str | None = None
    grpc_server_port: int | None = None
    grpc_server_uds: str | None = None
    grpc_server_ssl_enabled: bool | None = None

    unix_socket_path: str | None = None


def _part(name, *prefixes):
    """A class of those settings whose names begin with one of `prefixes`, and the function that reads them once."""
    fields = {key: field for key, field in PluginsSettings.model_fields.items() if key.startswith(prefixes)}
    namespace = {"__module__": __name__, "__qualname__": name, "__annotations__": {key: field._raw for key, field in fields.items()}}
    part = type(_Settings)(name, (_Settings,), namespace | {key: field.default for key, field in fields.items()})
    return part, lru_cache(lambda: part())


PluginsEnabledSettings, get_enabled_settings = _part("PluginsEnabledSettings", "enabled")
PluginsConfigPathSettings, get_config_path_settings = _part("PluginsConfigPathSettings", "config_path")
PluginsStartupSettings, get_startup_settings = _part("PluginsStartupSettings", "config_file", "plugin_timeout", "fail_on_", "execution_pool")
PluginsPolicySettings, get_policy_settings = _part("PluginsPolicySettings", "default_hook_policy")
PluginsSsrfSettings, get_ssrf_settings = _part("PluginsSsrfSettings", "ssrf_")
PluginsTransportSettings, get_transport_settings = _part("PluginsTransportSettings", "transport", "unix_socket_path")
PluginsClientMtlsSettings, get_client_mtls_settings = _part("PluginsClientMtlsSettings", "client_mtls_")
PluginsMcpServerSettings, get_mcp_server_settings = _part("PluginsMcpServerSettings", "server_")
PluginsGrpcClientMtlsSettings, get_grpc_client_mtls_settings = _part("PluginsGrpcClientMtlsSettings", "grpc_client_")
PluginsHttpClientSettings, get_http_client_settings = _part("PluginsHttpClientSettings", "skip_ssl_verify", "httpx_")
PluginsCliSettings, get_cli_settings = _part("PluginsCliSettings", "cli_")
PluginsGrpcServerSettings, get_grpc_server_settings = _part("PluginsGrpcServerSettings", "grpc_server_")


@lru_cache
def get_settings():
    """All settings, read once."""
    return PluginsSettings()


class LazySettingsWrapper:
    """Reads a setting when somebody asks for it, and with it only its part."""

    @property
    def enabled(self):
        """Whether the host uses plugins."""
        value = os.environ.get("PLUGINS_ENABLED")
        return get_enabled_settings().enabled if value is None else value.strip().lower() in ("1", "true", "yes", "on")

    @staticmethod
    def cache_clear():
        """Have everything read anew."""
        for name, value in globals().items():
            if name.startswith("get_"):
                value.cache_clear()

    def __getattr__(self, key):
        return getattr(get_settings(), key)


def _read_by(get, *names):
    for name in names:
        setattr(LazySettingsWrapper, name, property(lambda self, name=name: getattr(get(), name)))


_read_by(get_startup_settings, "config_file", "plugin_timeout", "fail_on_plugin_error", "execution_pool")
_read_by(get_config_path_settings, "config_path")
_read_by(get_policy_settings, "default_hook_policy")
_read_by(get_ssrf_settings, "ssrf_protection_enabled")
_read_by(get_transport_settings, "transport", "unix_socket_path")
_read_by(get_cli_settings, "cli_completion", "cli_markup_mode")

settings = LazySettingsWrapper()
