# SPDX-License-Identifier: Apache-2.0
"""Plain expectations that need no real cpex: what a plugin author would check first."""

import pytest

CASES = [
    ("ToolPreInvokePayload(name='t')", "ToolPreInvokePayload(name='t', args={}, headers=None)"),
    ("ToolPreInvokePayload(name='t', args={'a': 1}).model_copy(update={'name': 'u'}).model_dump()",
     "{'name': 'u', 'args': {'a': 1}, 'headers': None}"),
    ("ToolPreInvokeResult(modified_payload={'name': 't'}).modified_payload.args", "{}"),
    ("ToolPreInvokeResult().model_dump_json()",
     '\'{"continue_processing":true,"modified_payload":null,"modified_extensions":null,"violation":null,"metadata":{},'
     '"denial_metadata":null,"http_headers":null,"retry_delay_ms":0,"executions":[]}\''),
    ("PluginResult[ToolPreInvokePayload] is ToolPreInvokeResult", "True"),
    ("PluginViolation(reason='r', description='d', code='c').plugin_name", "''"),
    ("PluginConfig(name='n', kind='k', mode='permissive').mode", "<PluginMode.TRANSFORM: 'transform'>"),
    ("PluginConfig(name='n', kind='k', priority='7').priority", "7"),
    ("PluginContext(global_context={'request_id': '1'}).get_state('k', 5)", "5"),
    ("HttpHeaderPayload({'a': 'b'})['a']", "'b'"),
    ("AgentPreInvokePayload(agent_id='a', messages=[{'role': 'user'}]).messages[0].role", "'user'"),
    ("get_hook_registry().get_payload_type('cmf.llm_input').__name__", "'MessagePayload'"),
    ("get_hook_registry().json_to_payload('identity_resolve', {'raw_token': 's'}).raw_token", "SecretStr('**********')"),
    ("Extensions(security={'labels': ['a']}).security.labels", "frozenset({'a'})"),
]  # fmt: skip

ERRORS = [
    ("ToolPreInvokePayload()", "missing", "name\n  Field required"),
    ("ToolPreInvokePayload(name=1)", "string_type", "name\n  Input should be a valid string"),
    ("ToolPreInvokePayload(name='t', args=[])", "dict_type", "args\n  Input should be a valid dictionary"),
    ("setattr(ToolPreInvokePayload(name='t'), 'name', 'u')", "frozen_instance", "name\n  Instance is frozen"),
    ("PluginConfig(name='n', kind='k', mode='transfrom')", "enum", "mode\n  Input should be 'fire_and_forget', "),
    ("PluginResult(continue_processing='maybe')", "bool_parsing", "continue_processing\n  Input should be a valid boolean"),
    ("PluginResult(retry_delay_ms='x')", "int_parsing", "retry_delay_ms\n  Input should be a valid integer"),
    ("ToolPreInvokeResult(modified_payload=5)", "model_type", "modified_payload\n  Input should be a valid dictionary or instance of"),
]  # fmt: skip

HEADER = "from cpex.framework import *\nfrom cpex.framework.extensions import Extensions\n"


@pytest.fixture(scope="module")
def printed():
    """All cases in one interpreter."""
    from conftest import run_python

    lines = [f"print(repr({code}))" for code, _ in CASES]
    for code, _, _ in ERRORS:
        lines += [
            "try:",
            f"    {code}",
            "except ValueError as exc:",
            "    print(repr([exc.errors()[0]['type'], str(exc)]))",
        ]
    return run_python(["-c", HEADER + "\n".join(lines)]).splitlines()


@pytest.mark.parametrize("number", range(len(CASES)), ids=[code for code, _ in CASES])
def test_value(number, printed):
    assert printed[number] == CASES[number][1]


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=[code for code, _, _ in ERRORS])
def test_error(number, printed):
    _, kind, text = ERRORS[number]
    found_kind, found_text = eval(printed[len(CASES) + number])
    assert found_kind == kind
    assert text in found_text
    assert f"[type={kind}, input_value=" in found_text
    assert found_text.startswith("1 validation error for ")
    assert found_text.endswith(f"/v/{kind}")
