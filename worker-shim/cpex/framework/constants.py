# SPDX-License-Identifier: Apache-2.0
"""Names that configuration files and the plugin protocol use."""

NATIVE_PLUGIN_TYPE = "native"
BUILTIN_PLUGIN_TYPE = "builtin"
WASM_PLUGIN_TYPE = "wasm"
EXTERNAL_PLUGIN_TYPE = "external"
ISOLATED_VENV_PLUGIN_TYPE = "isolated_venv"
PDP_PLUGIN_TYPE = "PDP"
KNOWN_PLUGIN_KINDS = frozenset(
    (
        BUILTIN_PLUGIN_TYPE,
        NATIVE_PLUGIN_TYPE,
        WASM_PLUGIN_TYPE,
        EXTERNAL_PLUGIN_TYPE,
        ISOLATED_VENV_PLUGIN_TYPE,
        PDP_PLUGIN_TYPE,
    )
)

PYTHON_SUFFIX = ".py"
URL = "url"
SCRIPT = "script"
CMD = "cmd"
ENV = "env"
CWD = "cwd"
UDS = "uds"

NAME = "name"
PLUGIN_NAME = "plugin_name"
PAYLOAD = "payload"
CONTEXT = "context"
RESULT = "result"
ERROR = "error"
IGNORE_CONFIG_EXTERNAL = "ignore_config_external"

TOOL_METADATA = "tool"
GATEWAY_METADATA = "gateway"

MCP_SERVER_NAME = "MCP Plugin Server"
MCP_SERVER_INSTRUCTIONS = "External plugin server for ContextForge"
GET_PLUGIN_CONFIGS = "get_plugin_configs"
GET_PLUGIN_CONFIG = "get_plugin_config"
HOOK_TYPE = "hook_type"
INVOKE_HOOK = "invoke_hook"
