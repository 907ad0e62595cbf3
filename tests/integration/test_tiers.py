# SPDX-License-Identifier: Apache-2.0
"""extension_tiers: what plugins may change of the extensions, as in CPEX 0.2 (enforce) and as in CPEX 0.1 (off)."""

import pytest
from daemon import PREAMBLE, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}
IMPORTS = PREAMBLE + """
from cpex.framework import PluginResult
from cpex.framework.extensions import (
    AgentExtension, DelegationExtension, DelegationHop, Extensions, HttpExtension, MetaExtension, RequestExtension, SecurityExtension)
"""
HOP = {"subject_id": "ann", "subject_type": "user", "scopes_granted": ["read"]}
GIVEN = {
    "request": {"environment": "test"},
    "http": {"headers": {"x": "1"}},
    "agent": {"session_id": "s"},
    "security": {"labels": ["PII"], "classification": "c", "subject": {"id": "u1", "type": "user", "roles": ["r"]}},
    "delegation": {"chain": [HOP], "depth": 1, "origin_subject_id": "ann"},
    "custom": {"k": 1},
}


def writer(name, made, *capabilities, **entry):
    """A plugin that returns what the expression `made` makes of the extensions `e` that it sees; it notes the labels that it saw."""
    return plugin(name, f"""
        async def tool_pre_invoke(self, payload, context, e):
            seen = sorted(e.security.labels) if e is not None and e.security else None
            return PluginResult(modified_extensions={made}, metadata={{"{name}": seen}})
    """, preamble=IMPORTS, capabilities=list(capabilities), **entry)


def set_in(slot, **fields):
    inner = ", ".join(f"'{key}': {value}" for key, value in fields.items())
    return f"e.model_copy(update={{'{slot}': e.{slot}.model_copy(update={{{inner}}})}})"


LABEL = set_in("security", labels="e.security.labels | {'NEW'}")
NO_LABELS = set_in("security", labels="frozenset()")
CUSTOM = "e.model_copy(update={'custom': {'mine': True}})"
MORE_HOPS = set_in("delegation", chain="e.delegation.chain + (DelegationHop(subject_id='bot', subject_type='agent'),)", depth="99",
                   actor_subject_id="'bot'", origin_subject_id="'mallory'", age_seconds="5.0")


def changed(answer):
    """The answer's extensions where they differ from the caller's; hops without their time."""
    extensions = answer["modified_extensions"]
    if extensions is None:
        return None
    for hop in extensions.get("delegation", {}).get("chain", []):
        hop.pop("timestamp", None)
    return {slot: value for slot, value in extensions.items() if value != GIVEN.get(slot)}


def warned(daemon, text):
    pattern = f"the extensions that it returned count without that: .*{text}"
    daemon.expect(pattern)
    daemon.wait_log(pattern)


@pytest.fixture
def enforced(cpexd):
    return lambda *plugins: cpexd(list(plugins), settings={"extension_tiers": "enforce"})


def test_off_takes_all_and_the_last_writer_wins(cpexd):
    daemon = cpexd([writer("a", CUSTOM), writer("b", "Extensions(request=RequestExtension(environment='forged'))")],
                   settings={"extension_tiers": "off"})
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    extensions = answer["modified_extensions"]
    assert extensions["request"]["environment"] == "forged" and extensions["custom"] is None and extensions["security"] is None
    assert [each["extensions_modified"] for each in answer["executions"]] == [True, True]


def test_custom_is_anybodys(enforced):
    daemon = enforced(writer("a", CUSTOM), writer("b", "Extensions(custom={'other': 2})"))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert changed(answer) == {"custom": {"other": 2}}
    assert answer["modified_extensions"]["security"] == GIVEN["security"], "what the plugin cannot see is not lost"


@pytest.mark.parametrize("made", [
    "Extensions(request=RequestExtension(environment='forged'), meta=MetaExtension(scope='forged'))",
    set_in("agent", session_id="'forged'"),
    set_in("security", classification="'low'", subject="None"),
    "e",
])
def test_the_rest_is_nobodys(enforced, made):
    daemon = enforced(writer("a", made, "read_agent", "read_subject", "read_roles"))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert answer["modified_extensions"] is None
    assert answer["executions"][0]["extensions_modified"] is False and answer["executions"][0]["matched"] is False


def test_headers_need_write_headers(enforced):
    made = set_in("http", headers="{**e.http.headers, 'y': '2'}")
    daemon = enforced(writer("reads", made, "read_headers"), writer("writes", made, "write_headers", priority=200))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert changed(answer) == {"http": {"headers": {"x": "1", "y": "2"}}}
    assert [each["extensions_modified"] for each in answer["executions"]] == [False, True]
    warned(daemon, "write_headers")


def test_headers_out_of_nothing(enforced):
    daemon = enforced(writer("a", "Extensions(http=HttpExtension(headers={'x': 'forged'}))"))
    assert daemon.invoke(HOOK, CALL, extensions=GIVEN)["modified_extensions"] is None
    warned(daemon, "write_headers")


def test_labels_only_grow(enforced):
    daemon = enforced(writer("takes", NO_LABELS, "append_labels"), writer("adds", LABEL, "append_labels"), writer("looks", "None", "read_labels"))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert changed(answer) == {"security": GIVEN["security"] | {"labels": ["PII", "NEW"]}}
    assert answer["metadata"]["looks"] == ["NEW", "PII"], "a later plugin sees what an earlier one added"
    warned(daemon, "a security label is taken away")


def test_labels_need_append_labels(enforced):
    daemon = enforced(writer("blind", LABEL), writer("sees", LABEL, "read_labels"), writer("honest", CUSTOM))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert changed(answer) == {"custom": {"mine": True}}
    warned(daemon, "append_labels")


def test_the_first_label(enforced):
    daemon = enforced(writer("a", "Extensions(security=SecurityExtension(labels={'NEW'}))", "append_labels"))
    assert changed(daemon.invoke(HOOK, CALL, extensions={}))["security"] == {"labels": ["NEW"]}
    assert daemon.invoke(HOOK, CALL, extensions=None)["modified_extensions"] == {"security": {"labels": ["NEW"]}}


def test_hops_are_added(enforced):
    daemon = enforced(writer("a", MORE_HOPS, "append_delegation"))
    delegation = changed(daemon.invoke(HOOK, CALL, extensions=GIVEN))["delegation"]
    assert delegation["chain"][0] == HOP and delegation["chain"][1]["subject_id"] == "bot" and len(delegation["chain"]) == 2
    assert (delegation["depth"], delegation["delegated"], delegation["age_seconds"]) == (2, True, 5.0), "the depth is what the chain is"
    assert (delegation["origin_subject_id"], delegation["actor_subject_id"]) == ("ann", "bot")


@pytest.mark.parametrize("made, capability, text", [
    (MORE_HOPS, "read_delegation", "append_delegation"),
    (set_in("delegation", chain="()"), "append_delegation", "taken away"),
    (set_in("delegation", chain="(e.delegation.chain[0].model_copy(update={'scopes_granted': ('all',)}),)"), "append_delegation", "is changed"),
    ("Extensions(delegation=DelegationExtension(actor_subject_id='mallory'))", "read_agent", "append_delegation"),
])
def test_hops_stay(enforced, made, capability, text):
    daemon = enforced(writer("a", made, capability))
    assert daemon.invoke(HOOK, CALL, extensions=GIVEN)["modified_extensions"] is None
    warned(daemon, text)


def test_the_phases_are_what_they_are(enforced):
    daemon = enforced(writer("audit", CUSTOM, mode="audit"), writer("concurrent", CUSTOM, mode="concurrent"),
                      writer("transform", LABEL, "append_labels", mode="transform"))
    answer = daemon.invoke(HOOK, CALL, extensions=GIVEN)
    assert changed(answer) == {"security": GIVEN["security"] | {"labels": ["PII", "NEW"]}}
    assert answer["metadata"]["audit"] == []


def test_what_is_no_extensions(enforced):
    forged = "Extensions.model_construct(custom={'k': 2}, security=SecurityExtension.model_construct(labels=[1]))"
    daemon = enforced(writer("a", forged, "append_labels"))
    assert daemon.invoke(HOOK, CALL, extensions=GIVEN)["modified_extensions"] is None
    warned(daemon, "they are none")
