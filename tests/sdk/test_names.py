# SPDX-License-Identifier: Apache-2.0
"""Every public name of the real SDK can be imported, or says that it belongs to the host."""

import json
import re

HOST_ONLY = (
    "ConfigLoader",
    "ExternalPluginServer",
    "PluginLoader",
    "PluginManager",
    "TenantPluginManager",
    "get_plugin_manager",
)

# `cpex.framework.__all__` of cpex 0.1.4.
ALL = """
AgentHookType AgentPostInvokePayload AgentPostInvokeResult AgentPreInvokePayload AgentPreInvokeResult ConfigLoader
ControlExecutionRecord ControlExecutionStatus DenialExecutionRecord DenialOutcome ExternalPluginServer get_attr
get_hook_registry get_plugin_manager GlobalContext hook HookRegistry HttpAuthCheckPermissionPayload
HttpAuthCheckPermissionResult HttpAuthCheckPermissionResultPayload HttpAuthResolveUserPayload HttpAuthResolveUserResult
HttpHeaderPayload HttpHookType HttpPostRequestPayload HttpPostRequestResult HttpPreRequestPayload HttpPreRequestResult
MCPClientConfig MCPServerConfig ObservabilityProvider OnError Plugin PluginCondition PluginConfig PluginContext
PluginContextTable PluginError PluginErrorModel PluginLoader PluginManager PluginMode PluginPayload PluginResult
PluginViolation PluginViolationError PromptHookType PromptPosthookPayload PromptPosthookResult PromptPrehookPayload
PromptPrehookResult ResourceHookType ResourcePostFetchPayload ResourcePostFetchResult ResourcePreFetchPayload
ResourcePreFetchResult TenantPluginManager ToolHookType ToolPostInvokePayload ToolPostInvokeResult ToolPreInvokePayload
ToolPreInvokeResult TransportType UserContext
""".split()

# What plugins import from the modules below the root.
MODULES = {
    "base": "HookRef OnError Plugin PluginCondition PluginConfig PluginContext PluginError PluginErrorModel PluginMode PluginPayload PluginRef PluginResult",
    "cmf.message": "AudioContentPart AudioSource Channel ContentPart ContentPartUnion ContentType DocumentContentPart DocumentSource ImageContentPart ImageSource Message PromptRequest PromptRequestContentPart PromptResult PromptResultContentPart Resource ResourceContentPart ResourceRefContentPart ResourceReference ResourceType Role TextContent ThinkingContent ToolCall ToolCallContentPart ToolResult ToolResultContentPart VideoContentPart VideoSource",
    "cmf.view": "MessageView ViewAction ViewKind iter_views",
    "constants": "BUILTIN_PLUGIN_TYPE CMD CONTEXT CWD ENV ERROR EXTERNAL_PLUGIN_TYPE GATEWAY_METADATA GET_PLUGIN_CONFIG GET_PLUGIN_CONFIGS HOOK_TYPE IGNORE_CONFIG_EXTERNAL INVOKE_HOOK ISOLATED_VENV_PLUGIN_TYPE KNOWN_PLUGIN_KINDS MCP_SERVER_INSTRUCTIONS MCP_SERVER_NAME NAME NATIVE_PLUGIN_TYPE PAYLOAD PDP_PLUGIN_TYPE PLUGIN_NAME PYTHON_SUFFIX RESULT SCRIPT TOOL_METADATA UDS URL WASM_PLUGIN_TYPE",
    "decorator": "HookMetadata get_hook_metadata has_hook_metadata hook",
    "errors": "ControlExecutionRecord DenialExecutionRecord DenialMetadataValue DenialOutcome PluginError PluginErrorModel PluginMode PluginViolation PluginViolationError convert_exception_to_error sanitize_denial_metadata",
    "extensions": "AccessPolicy AgentExtension Capability CompletionExtension ConversationContext DataPolicy DelegationExtension DelegationHop Extensions FrameworkExtension HttpExtension LLMExtension MCPExtension MetaExtension MutabilityTier ObjectSecurityProfile PromptMetadata ProvenanceExtension RequestExtension ResourceMetadata RetentionPolicy SecurityExtension SlotName StopReason SubjectExtension SubjectType TierViolationError TokenUsage ToolMetadata",
    "extensions.agent": "AgentExtension ConversationContext",
    "extensions.completion": "CompletionExtension StopReason TokenUsage",
    "extensions.constants": "FIELD_AGENT FIELD_LABELS FIELD_SECURITY SlotName",
    "extensions.delegation": "DelegationExtension DelegationHop",
    "extensions.extensions": "Extensions",
    "extensions.framework": "FrameworkExtension",
    "extensions.http": "HttpExtension",
    "extensions.llm": "LLMExtension",
    "extensions.mcp": "MCPExtension PromptMetadata ResourceMetadata ToolMetadata",
    "extensions.meta": "MetaExtension",
    "extensions.provenance": "ProvenanceExtension",
    "extensions.request": "RequestExtension",
    "extensions.security": "DataPolicy ObjectSecurityProfile RetentionPolicy SecurityExtension SubjectExtension SubjectType",
    "extensions.tiers": "AccessPolicy Capability MutabilityTier SlotPolicy TierViolationError filter_extensions merge_extensions validate_tier_constraints",
    "hooks.agents": "AgentHookType AgentPostInvokePayload AgentPostInvokeResult AgentPreInvokePayload AgentPreInvokeResult HttpHeaderPayload",
    "hooks.http": "HttpAuthCheckPermissionPayload HttpAuthCheckPermissionResult HttpAuthCheckPermissionResultPayload HttpAuthResolveUserPayload HttpAuthResolveUserResult HttpHeaderPayload HttpHeaderPayloadResult HttpHookType HttpPostRequestPayload HttpPostRequestResult HttpPreRequestPayload HttpPreRequestResult",
    "hooks.identity": "AttenuationConfig DelegationPayload DelegationResult IdentityHookType IdentityPayload IdentityResolveResult IdentityResult SecretStr TokenDelegateResult",
    "hooks.message": "CmfHookType MessageHookType MessagePayload MessageResult",
    "hooks.policies": "DefaultHookPolicy HookPayloadPolicy apply_policy",
    "hooks.prompts": "PromptHookType PromptPosthookPayload PromptPosthookResult PromptPrehookPayload PromptPrehookResult",
    "hooks.registry": "HookRegistry get_hook_registry",
    "hooks.resources": "ResourceHookType ResourcePostFetchPayload ResourcePostFetchResult ResourcePreFetchPayload ResourcePreFetchResult",
    "hooks.tools": "HttpHeaderPayload ToolHookType ToolPostInvokePayload ToolPostInvokeResult ToolPreInvokePayload ToolPreInvokeResult",
    "memory": "CopyOnWriteDict CopyOnWriteList copyonwrite wrap_payload_for_isolation",
    "models": "AppliedTo BaseModel BaseTemplate Config ConfigDict ControlExecutionRecord ControlExecutionStatus Extensions Field GRPCClientConfig GRPCClientTLSConfig GRPCServerConfig GRPCServerTLSConfig GlobalContext MCPClientConfig MCPClientTLSConfig MCPServerConfig MCPServerTLSConfig MCPTransportTLSConfigBase OnError PluginCondition PluginConfig PluginContext PluginContextTable PluginErrorModel PluginMode PluginPayload PluginResult PluginViolation PrivateAttr PromptTemplate ResourceTemplate ToolTemplate TransportType UnixSocketClientConfig UnixSocketServerConfig UserContext ValidationInfo field_serializer field_validator model_validator",
    "observability": "NullObservability ObservabilityProvider current_trace_id",
    "protocols": "MessageLike PromptResultLike",
    "settings": "LazySettingsWrapper PluginsSettings get_settings settings",
    "utils": "GlobalContext PluginCondition StructuredData coerce_messages coerce_nested get_attr get_matchable_value import_module logger matches normalize_content_type parse_class_name payload_matches",
    "validators": "SecurityValidator validate_plugin_url",
}
HOST_ONLY_MODULES = ("manager", "registry", "loader.plugin", "external.mcp", "isolated.client", "pdp")
HOST_ONLY_IN_MODULES = {
    "models": "GitRepo InstalledPluginInfo InstalledPluginRegistry Monorepo PluginInstallationType PluginManifest PluginPackageInfo PluginVersionInfo PluginVersionRegistry PyPiRepo",
    "utils": "ORJSONResponse find_package_path manifest_filename_for_class",
}

TRY = """
import importlib, json, sys
found = {{}}
for module, names in json.loads({spec!r}).items():
    for name in names:
        try:
            exec(f"from {{module}} import {{name}} as value", {{}})
            found[f"{{module}}.{{name}}"] = "imported"
        except Exception as exc:
            found[f"{{module}}.{{name}}"] = f"{{type(exc).__name__}}: {{exc}}"
print(json.dumps(found))
"""


def attempt(snippet, spec):
    """module.name -> "imported" or the error."""
    return json.loads(snippet(TRY.format(spec=json.dumps(spec))))


def test_names_of_the_root(snippet):
    found = attempt(snippet, {"cpex.framework": [name for name in ALL if name not in HOST_ONLY]})
    assert {name: how for name, how in found.items() if how != "imported"} == {}


def test_names_of_the_modules(snippet):
    found = attempt(snippet, {f"cpex.framework.{module}": names.split() for module, names in MODULES.items()})
    assert {name: how for name, how in found.items() if how != "imported"} == {}


def test_names_of_the_host(snippet):
    spec = {"cpex.framework": HOST_ONLY}
    spec.update((f"cpex.framework.{module}", names.split()) for module, names in HOST_ONLY_IN_MODULES.items())
    for name, how in attempt(snippet, spec).items():
        assert how.startswith(f"ImportError: {name} is part of the host"), how
        assert "PyPI's cpex" in how


def test_modules_of_the_host(snippet):
    for module in ("cpex.tools.cli", *(f"cpex.framework.{name}" for name in HOST_ONLY_MODULES)):
        found = snippet(f"try:\n    import {module}\nexcept ImportError as exc:\n    print(exc)")
        assert re.match(r"cpex\.\S+ is part of the host: it lives in PyPI's cpex", found), found


def test_unknown_names(snippet):
    for how in attempt(snippet, {"cpex.framework": ["Nonsense"], "cpex.framework.models": ["Nonsense"]}).values():
        assert how.startswith("ImportError: cannot import name 'Nonsense'")


def test_submodules_are_attributes(snippet):
    code = "import cpex.framework as f\nprint(f.hooks.__name__, f.models.PluginPayload.__name__, f.extensions.__name__)"
    assert snippet(code) == "cpex.framework.hooks PluginPayload cpex.framework.extensions"


def test_star_import(snippet):
    code = "from cpex.framework import *\nprint(sorted(name for name in globals() if name[0] != '_'))"
    assert sorted(set(ALL) - set(HOST_ONLY)) == eval(snippet(code))


def test_the_list_is_the_real_one(real_python):
    from conftest import run_python

    real = run_python(["-c", "import cpex.framework as f; print(sorted(f.__all__))"], False, real_python)
    assert eval(real) == sorted(ALL)


def test_the_module_names_are_real_ones(real_python):
    from conftest import run_python

    spec = {f"cpex.framework.{module}": names.split() for module, names in MODULES.items()}
    found = json.loads(run_python(["-c", TRY.format(spec=json.dumps(spec))], False, real_python))
    assert {name: how for name, how in found.items() if how != "imported"} == {}
