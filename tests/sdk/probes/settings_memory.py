# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B023 - cases run at once, so their lambdas may use the loop variables
"""Settings from the environment, transports that are configured by it, and the copies that know what was changed in them."""

import copy
import json
import os
import pickle
import random
import threading
import weakref

from cpex.framework import HttpHeaderPayload, PromptPosthookPayload, ToolPostInvokePayload, ToolPreInvokePayload
from cpex.framework import settings as module
from cpex.framework.memory import CopyOnWriteDict, CopyOnWriteList, copyonwrite, wrap_payload_for_isolation
from cpex.framework.models import (
    GRPCClientTLSConfig,
    GRPCServerConfig,
    GRPCServerTLSConfig,
    MCPClientTLSConfig,
    MCPServerConfig,
    MCPServerTLSConfig,
    UnixSocketServerConfig,
)
from cpex.framework.validators import validate_plugin_url
from harness import case, finish

FILE = __file__
ENVIRONMENTS = {
    "none": {},
    "simple": {"PLUGINS_ENABLED": "true", "PLUGINS_PLUGIN_TIMEOUT": "60", "PLUGINS_EXECUTION_POOL": " 5 ", "PLUGINS_LOG_LEVEL": ""},
    "case": {"plugins_enabled": "Yes", "Plugins_Httpx_Connect_Timeout": "1.5", "PLUGINS_CLI_MARKUP_MODE": "rich"},
    "wrong": {"PLUGINS_PLUGIN_TIMEOUT": "soon", "PLUGINS_SKIP_SSL_VERIFY": "maybe", "PLUGINS_DEFAULT_HOOK_POLICY": "Deny", "PLUGINS_ENABLED": "sure"},
    "empty": {"PLUGINS_SERVER_PORT": " ", "PLUGINS_SERVER_SSL_ENABLED": "", "PLUGINS_CLIENT_MTLS_VERIFY": "", "PLUGINS_SERVER_HOST": ""},
    "transport": {"UNIX_SOCKET_PATH": "/x/y", "PLUGINS_TRANSPORT": "http", "PLUGINS_CONFIG_PATH": "a.yaml"},
    "own path": {"PLUGINS_UNIX_SOCKET_PATH": "/z", "PLUGINS_SSRF_PROTECTION_ENABLED": "off"},
    "client": {"PLUGINS_CLIENT_MTLS_CERTFILE": FILE, "PLUGINS_CLIENT_MTLS_KEYFILE": FILE, "PLUGINS_CLIENT_MTLS_KEYFILE_PASSWORD": "s",
               "PLUGINS_CLIENT_MTLS_VERIFY": "0", "PLUGINS_GRPC_CLIENT_MTLS_CA_BUNDLE": FILE, "PLUGINS_GRPC_CLIENT_MTLS_VERIFY": "no"},
    "server": {"PLUGINS_SERVER_HOST": "h", "PLUGINS_SERVER_PORT": "1", "PLUGINS_SERVER_SSL_ENABLED": "1", "PLUGINS_SERVER_SSL_CERTFILE": FILE,
               "PLUGINS_SERVER_SSL_CERT_REQS": "0", "PLUGINS_SERVER_SSL_CA_CERTS": FILE, "PLUGINS_GRPC_SERVER_SSL_ENABLED": "1",
               "PLUGINS_GRPC_SERVER_HOST": "g", "PLUGINS_GRPC_SERVER_SSL_CLIENT_AUTH": "Optional", "PLUGINS_GRPC_SERVER_SSL_CA_CERTS": FILE},
    "server without TLS": {"PLUGINS_SERVER_PORT": "7", "PLUGINS_SERVER_SSL_CERTFILE": FILE, "PLUGINS_GRPC_SERVER_PORT": "0"},
}  # fmt: skip
GETTERS = [name for name in dir(module) if name.startswith("get_")]
LAZY = ["enabled", "config_file", "plugin_timeout", "execution_pool", "default_hook_policy", "ssrf_protection_enabled", "transport",
        "unix_socket_path", "cli_markup_mode", "httpx_read_timeout", "nonsense"]  # fmt: skip
FROM_ENV = (MCPClientTLSConfig, MCPServerTLSConfig, MCPServerConfig, GRPCClientTLSConfig, GRPCServerTLSConfig, GRPCServerConfig, UnixSocketServerConfig)



def takes(address):
    try:
        return validate_plugin_url(address)
    except ValueError:
        return "refused"


for label, variables in ENVIRONMENTS.items():
    os.environ.update(variables)
    module.settings.cache_clear()
    for name in GETTERS:
        case(f"{label} {name}", lambda: getattr(module, name)())
        case(f"{label} {name} again", lambda: getattr(module, name)() is getattr(module, name)())
    for name in LAZY:
        case(f"{label} lazy {name}", lambda: getattr(module.settings, name))
    for cls in FROM_ENV:
        case(f"{label} {cls.__name__}", lambda: cls.from_env())
    case(f"{label} private address", lambda: takes("http://10.0.0.1/"))
    for name in variables:
        del os.environ[name]
module.settings.cache_clear()
case("given", lambda: module.PluginsSettings(plugin_timeout="5", unknown=1).plugin_timeout)

KEYS = ["a", "b", "c", 1]


def state(value):
    if isinstance(value, CopyOnWriteDict):
        return repr(value), value.get_modifications(), sorted(value.get_deleted(), key=str), value.has_modifications()
    return repr(value), value.has_modifications()


def dict_step(rng, tracked):
    key, value = rng.choice(KEYS), rng.choice([0, "x", [1], None])
    return rng.choice([
        lambda: tracked.__setitem__(key, value), lambda: tracked.__delitem__(key), lambda: tracked.pop(key), lambda: tracked.pop(key, value),
        lambda: tracked.pop(key, 1, 2), lambda: tracked.setdefault(key, value), tracked.popitem, tracked.clear, lambda: tracked.update({key: value}),
        lambda: tracked.update([(key, value)], d=1), lambda: tracked.__ior__({key: value}), lambda: tracked.get(key), lambda: key in tracked,
        tracked.copy, lambda: state(copy.copy(tracked)), lambda: state(copy.deepcopy(tracked)), lambda: tracked == dict(tracked), lambda: tracked != {},
        lambda: tracked == 5, lambda: json.dumps(tracked), lambda: type(tracked | {}).__name__, lambda: hash(tracked), lambda: tracked.update(None),
    ])  # fmt: skip


def list_step(rng, tracked):
    index, value = rng.randrange(-2, 4), rng.choice([0, 2, [1]])
    return rng.choice([
        lambda: tracked.__setitem__(index, value), lambda: tracked.__delitem__(index), lambda: tracked.append(value), lambda: tracked.extend([value]),
        lambda: tracked.insert(index, value), lambda: tracked.remove(value), tracked.pop, lambda: tracked.pop(index), tracked.clear, tracked.sort,
        lambda: tracked.sort(key=str, reverse=True), tracked.reverse, lambda: tracked.__iadd__([value]), lambda: tracked.__imul__(2), tracked.copy,
        lambda: state(copy.copy(tracked)), lambda: state(copy.deepcopy(tracked)), lambda: tracked == list(tracked), lambda: tracked == (), lambda: tracked[1:],
        lambda: type(tracked + []).__name__, lambda: hash(tracked), lambda: tracked != [],
    ])  # fmt: skip


for number in range(60):
    rng = random.Random(number)
    for kind, original, step in (("dict", {"a": 1, "b": [2]}, dict_step), ("list", [3, 1, 2], list_step)):
        tracked = copyonwrite(original)
        for turn in range(6):
            act = step(rng, tracked)
            case(f"{kind} {number}.{turn}", act)
            case(f"{kind} {number}.{turn} after", lambda: (state(tracked), original))
case("no copy", lambda: copyonwrite("text"))
case("pickled", lambda: pickle.loads(pickle.dumps(copyonwrite([1]))))


class Uncopied:
    def __init__(self):
        self.lock = threading.Lock()


class Target:
    pass


KEPT, TARGET = Uncopied(), Target()
TOOL = ToolPreInvokePayload(name="t", args={"a": [1], "deep": {"b": 1}}, headers={"h": "v"})
WRAPPED = wrap_payload_for_isolation(TOOL)
case("wrapped", lambda: (WRAPPED, type(WRAPPED.args).__name__, type(WRAPPED.args["deep"]).__name__, type(WRAPPED.headers.root).__name__))
case("wrapped changes", lambda: (WRAPPED.args.__setitem__("x", 1), WRAPPED.args.get_modifications(), TOOL.args))
case("wrapped set", lambda: sorted(WRAPPED.model_fields_set))
case("wrapped dump", lambda: WRAPPED.model_dump())
case("nothing to wrap", lambda: (lambda payload: wrap_payload_for_isolation(payload) is payload)(ToolPostInvokePayload(name="t", result="x")))
case("wrapped headers", lambda: type(wrap_payload_for_isolation(HttpHeaderPayload({"a": "b"})).root).__name__)
case("wrapped list", lambda: type(wrap_payload_for_isolation(ToolPostInvokePayload(name="t", result=[1])).result).__name__)
case("wrapped model", lambda: type(wrap_payload_for_isolation(PromptPosthookPayload(prompt_id="p", result={"m": [1]})).result).__name__)
case("wrapped uncopied", lambda: wrap_payload_for_isolation(ToolPostInvokePayload(name="t", result=KEPT)).result is KEPT)
case("wrapped error", lambda: (lambda exc: wrap_payload_for_isolation(ToolPostInvokePayload(name="t", result=exc)).result is exc)(ValueError("x")))
case("wrapped proxy", lambda: type(wrap_payload_for_isolation(ToolPostInvokePayload(name="t", result=weakref.proxy(TARGET))).result).__name__)
case("wrapped set value", lambda: (lambda held: wrap_payload_for_isolation(ToolPostInvokePayload(name="t", result=held)).result is held)({1}))

finish()
