# SPDX-License-Identifier: Apache-2.0
"""No error of a worker quotes a secret of its call, however careless the plugin."""

import msgpack
import pytest
from worker import SECRET, Failed, Worker

HOOKS = ["identity_resolve", "token_delegate", "http_auth_resolve_user", "tool_pre_invoke"]
TOKEN = "eyJ-canary'\\-0123456789"  # its repr is another text
MASK = "**********"


@pytest.fixture(scope="module")
def careless(variant):
    with Worker(variant) as worker:
        worker.init("careless.Careless", HOOKS, {"api_key": TOKEN})
        yield worker


def identity(source, **more):
    return {"raw_token": TOKEN, "source": source, **more}


def quotes(error):
    text = str(error)
    return "canary" in text or "0123456789" in text


@pytest.mark.parametrize(("source", "message"), [
    ("exception", f"ValueError('\"{MASK}\" is no token')"), ("chained", f'OSError("{MASK}")'), ("plugin_error", f"m {MASK}"),
    ("denial", f"no {MASK}"), ("no_result", f'AttributeError("{MASK}")'),
])
def test_exceptions(careless, source, message):
    error = careless.fail("identity_resolve", identity(source), extensions={})
    assert error["message"] == message
    assert not quotes(error)


def test_what_is_masked_keeps_its_form(careless):
    error = careless.fail("identity_resolve", identity("plugin_error"), extensions={})
    assert error["code"] == "c" and error["details"] == {MASK: [{"t": MASK}]}
    error = careless.fail("identity_resolve", identity("denial"), extensions={})
    assert error["type"] == "PluginViolationError"
    assert error["violation"]["reason"] == MASK and error["violation"]["details"] == {"token": MASK}


def test_a_denial_stays_one(careless):
    error = careless.fail("identity_resolve", identity("cyclic_denial"), extensions={})
    assert error["type"] == "PluginViolationError" and error["violation"]["reason"] == "r"


def test_a_token_of_any_form(careless):
    for token in (TOKEN, msgpack.ExtType(SECRET, TOKEN.encode())):
        assert careless.fail("token_delegate", {"target_name": "t", "bearer_token": token})["message"] == f'LookupError("{MASK}")'


@pytest.mark.parametrize("token", ["new\nline\x00-0123456789", "\\" * 40 + "-0123456789", "'\"'\"\\'-0123456789", "\ue000ü-0123456789"])
def test_a_token_with_odd_characters(careless, token):
    error = careless.fail("identity_resolve", identity("exception", raw_token=token), extensions={})
    assert MASK in error["message"] and not quotes(error)


def test_a_short_token_is_no_needle(careless):
    error = careless.fail("token_delegate", {"target_name": "t", "bearer_token": "Error"})
    assert error["message"] == "LookupError('Error')"


def test_inputs_of_validation_errors(careless):
    error = careless.fail("identity_resolve", identity("invalid"), extensions={})
    assert f"input_value={MASK}, input_type=dict" in error["message"] and not quotes(error)
    error = careless.fail("identity_resolve", identity("other_invalid"), extensions={})
    assert "input_value='eighty', input_type=str" in error["message"]


def test_requests_that_do_not_validate(careless):
    error = careless.fail("token_delegate", {"bearer_token": TOKEN})
    assert error["stage"] == "request" and error["errors"][0]["loc"] == ["target_name"]
    assert MASK in error["message"] and not quotes(error)
    error = careless.fail("identity_resolve", identity("exception", raw_token=[TOKEN]))
    assert error["errors"][0]["loc"] == ["raw_token"] and not quotes(error)
    error = careless.fail("token_delegate", {})
    assert "input_value={}" in error["message"]


def test_credentials_that_are_plain_text(careless):
    payload = {"credentials": {"scheme": "Bearer", "credentials": TOKEN}, "headers": {}}
    assert careless.fail("http_auth_resolve_user", payload)["message"] == f'PermissionError("who is {MASK}?")'
    payload = {"name": "t", "args": {"a": 1}, "headers": {"authorization": f"Bearer {TOKEN}"}}
    assert careless.fail("tool_pre_invoke", payload)["message"] == f'ValueError("{MASK}", {{\'a\': 1}})'
    extensions = {"http": {"headers": {"Cookie": TOKEN}}}
    assert careless.fail("identity_resolve", identity("header", raw_token="x"), extensions=extensions)["message"] == f"ValueError(\"{MASK}\")"


def test_nothing_of_it_is_printed(careless):
    answer = careless.invoke("identity_resolve", identity("wrong_extensions"), extensions={})
    assert answer["modified_extensions"]["http"]["headers"] == [["Cookie", TOKEN]]
    assert "canary" not in careless.read_output()


def test_a_configuration_is_not_quoted(worker):
    with pytest.raises(Failed) as raised:
        worker.init("careless.Careless", HOOKS, {"api_key": TOKEN, "broken": True})
    error = raised.value.error
    assert error["type"] == "ValidationError" and "input_type=dict" in error["message"] and not quotes(error)
