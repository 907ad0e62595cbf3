# SPDX-License-Identifier: Apache-2.0
"""What importing the SDK pulls in, counted in modules: times and sizes depend on the machine, these do not."""

from conftest import run_python

FORBIDDEN = {
    "asyncio", "copy", "dataclasses", "datetime", "decimal", "importlib", "inspect", "ipaddress", "json", "logging",
    "pathlib", "pickle", "re", "socket", "ssl", "threading", "traceback", "typing", "urllib", "urllib.parse", "uuid",
    "warnings", "weakref",
}  # fmt: skip

COUNT = """
import sys
before = set(sys.modules)
{code}
print(sorted(set(sys.modules) - before))
"""

TOOL_PLUGIN = """
from cpex.framework import Plugin, PluginConfig, PluginContext, PluginViolation, ToolPreInvokePayload, ToolPreInvokeResult
payload = ToolPreInvokePayload(name="t", args={"a": [1]})
result = ToolPreInvokeResult(modified_payload=payload.model_copy(update={"args": {}}), metadata={"a": 1})
config = PluginConfig(name="n", kind="k", mode="audit", hooks=["tool_pre_invoke"], config={"a": 1})
context = PluginContext(global_context={"request_id": "1", "user": "u"})
result.model_dump(), payload.model_dump()
"""


def imported(code):
    """The modules that a piece of code adds to those of a bare interpreter, without what its site-packages bring."""
    return set(eval(run_python(["-S", "-c", COUNT.format(code=code)])))


def test_root_imports_nothing():
    assert imported("import cpex.framework") <= {"cpex", "cpex.framework"}


def test_tool_plugin_imports_little():
    found = imported(TOOL_PLUGIN)
    assert not found & FORBIDDEN
    assert not {name for name in found if name.startswith(("cpex.framework.extensions", "cpex.framework.cmf"))}
    assert "cpex.framework._elsewhere" not in found
    assert len([name for name in found if name.startswith("cpex.")]) <= 20


def test_other_hooks_import_no_more():
    code = "from cpex.framework import PromptPrehookPayload, ResourcePreFetchPayload, AgentPreInvokePayload, HttpPreRequestPayload"
    assert not imported(code) & FORBIDDEN


def test_registry_imports_what_is_asked_for():
    code = "from cpex.framework import get_hook_registry\nassert get_hook_registry().is_registered('identity_resolve')"
    assert "cpex.framework.hooks.identity" not in imported(code)
    code += "\nassert get_hook_registry().get_payload_type('identity_resolve').__name__ == 'IdentityPayload'"
    found = imported(code)
    assert "cpex.framework.hooks.identity" in found
    assert "cpex.framework.hooks.message" not in found


def test_extensions_import_the_slots_that_are_filled():
    code = (
        "from cpex.framework.extensions import Extensions\nExtensions.model_validate({'http': {'headers': {'a': 'b'}}})"
    )
    found = imported(code)
    assert "cpex.framework.extensions.http" in found
    assert "cpex.framework.extensions.security" not in found
    assert not found & FORBIDDEN
