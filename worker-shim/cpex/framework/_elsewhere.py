# SPDX-License-Identifier: Apache-2.0
"""Names that a module of the SDK has although they are defined elsewhere.

In the real SDK a module also has what it imports for itself, and plugins do import it from there. Here those names are found when
somebody asks for one (`cpex.framework._lazily`).
"""

from __future__ import annotations

# module -> where its names are defined (a dot: in the SDK) -> the names
_BORROWED = {
    "": {"typing": "Optional"},
    "base": {
        ".models": "OnError PluginCondition PluginContext PluginMode PluginPayload PluginResult",
        "typing": "Awaitable Callable Optional Union",
    },
    "cmf.message": {".extensions.extensions": "Extensions", "typing": "Annotated Iterator Literal TYPE_CHECKING Union"},
    "cmf.view": {
        ".cmf.message": "ContentPart ContentType Message Resource",
        ".extensions.security": "DataPolicy ObjectSecurityProfile SubjectExtension",
        "typing": "Any Iterator Mapping",
        "logging": "logger",
    },
    "decorator": {
        "._model": "BaseModel",
        ".models": "PluginPayload PluginResult",
        "typing": "Callable Optional Sequence Type TypeVar Union",
    },
    "errors": {
        "._denial": "DenialExecutionRecord DenialOutcome",
        ".models": "ControlExecutionRecord PluginMode PluginViolation",
        "dataclasses": "dataclass",
        "types": "MappingProxyType",
        "typing": "Any Mapping Optional Union",
    },
    "extensions.completion": {"._fields": "Field"},
    "extensions.delegation": {"datetime": "UTC datetime"},
    "extensions.extensions": {
        "._fields": "Field",
        ".extensions": "AgentExtension CompletionExtension DelegationExtension FrameworkExtension HttpExtension LLMExtension MCPExtension "
        "MetaExtension ProvenanceExtension RequestExtension SecurityExtension",
    },
    "extensions.provenance": {"._fields": "Field"},
    "extensions.request": {"._fields": "Field"},
    "extensions.tiers": {
        ".extensions._tier_rules": "SlotPolicy filter_extensions merge_extensions validate_tier_constraints",
        ".extensions.constants": "FIELD_AGENT FIELD_CLAIMS FIELD_CLASSIFICATION FIELD_COMPLETION FIELD_CUSTOM FIELD_DATA FIELD_DELEGATION "
        "FIELD_FRAMEWORK FIELD_HTTP FIELD_LABELS FIELD_LLM FIELD_MCP FIELD_META FIELD_OBJECTS FIELD_PERMISSIONS FIELD_PROVENANCE "
        "FIELD_REQUEST FIELD_ROLES FIELD_SECURITY FIELD_SUBJECT FIELD_TEAMS SlotName",
        ".extensions": "Extensions SecurityExtension SubjectExtension",
        "dataclasses": "dataclass",
        "types": "MappingProxyType",
        "typing": "Any Mapping",
    },
    "hooks.agents": {
        ".hooks.http": "HttpHeaderPayload",
        ".protocols": "MessageLike",
        ".utils": "coerce_messages",
        "typing": "Dict List Optional",
    },
    "hooks.message": {"._fields": "Field"},
    "hooks.policies": {"typing": "Any Optional", "logging": "logger"},
    "hooks.prompts": {".protocols": "PromptResultLike", ".utils": "coerce_nested", "typing": "Optional"},
    "hooks.registry": {".models": "PluginPayload PluginResult", "typing": "Dict Optional Type Union"},
    "hooks.resources": {"typing": "Optional"},
    "hooks.tools": {".hooks.http": "HttpHeaderPayload", "typing": "Optional"},
    "memory": {"collections.abc": "Mapping", "typing": "Any TypeVar", "logging": "logger"},
    "models": {
        "._deployment": "AppliedTo BaseTemplate Config GRPCClientConfig GRPCClientTLSConfig GRPCServerConfig GRPCServerTLSConfig "
        "MCPClientConfig MCPClientTLSConfig MCPServerConfig MCPServerTLSConfig MCPTransportTLSConfigBase PromptTemplate ResourceTemplate "
        "ToolTemplate UnixSocketClientConfig UnixSocketServerConfig",
        ".constants": "CMD CWD ENV PYTHON_SUFFIX SCRIPT UDS URL",
        ".extensions.extensions": "Extensions",
        ".settings": "get_client_mtls_settings get_grpc_client_mtls_settings get_grpc_server_settings get_mcp_server_settings "
        "get_transport_settings",
        ".validators": "validate_plugin_url",
        "datetime": "datetime",
        "pathlib": "Path",
        "typing": "Generic List Optional Self TypeVar Union",
    },
    "observability": {"typing": "Any Dict Optional"},
    "settings": {"._fields": "Field field_validator", "typing": "Any Literal", "logging": "logger"},
    "utils": {
        ".models": "GlobalContext PluginCondition",
        "functools": "cache",
        "logging": "logger",
        "pathlib": "Path",
        "types": "ModuleType",
        "typing": "Any Optional",
    },
    "validators": {".settings": "get_ssrf_settings", "logging": "logger", "re": "Pattern"},
}
_HOST_ONLY = {
    "": "ConfigLoader ExternalPluginServer PluginLoader PluginManager TenantPluginManager get_plugin_manager",
    "models": "GitRepo InstalledPluginInfo InstalledPluginRegistry Monorepo PluginInstallationType PluginManifest PluginPackageInfo "
    "PluginVersionInfo PluginVersionRegistry PyPiRepo InvalidVersion Version",
    "settings": "AliasChoices BaseSettings SettingsConfigDict",
    "utils": "JSONResponse ORJSONResponse find_package_path manifest_filename_for_class",
    "cmf.message": "Discriminator Tag",
}


def find(module, name):
    """The value of a name that `module` has from elsewhere; else an ImportError that says where it lives, or an AttributeError."""
    place = module.removeprefix("cpex.framework").removeprefix(".")
    for source, names in _BORROWED.get(place, {}).items():
        if name not in names.split():
            continue
        if name == "logger":
            import logging

            return logging.getLogger(module)
        source = f"cpex.framework{source}" if source.startswith(".") else source
        return getattr(__import__(source, None, None, ("__name__",)), name)
    if name in _HOST_ONLY.get(place, "").split():
        from ._host import host_only

        raise host_only(module, name)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
