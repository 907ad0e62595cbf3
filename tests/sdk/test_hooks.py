# SPDX-License-Identifier: Apache-2.0
"""The case that calls every hook knows all of them."""

import json
from pathlib import Path

CALLS = Path(__file__).parent.parent / "conformance" / "cases" / "hooks-every-one" / "calls.json"
HOOKS = "import json; from cpex.framework.hooks import identity, message; from cpex.framework import get_hook_registry; " \
        "print(json.dumps([getattr(hook, 'value', hook) for hook in get_hook_registry().get_registered_hooks()]))"


def test_every_hook_is_called(snippet):
    hooks = json.loads(snippet(HOOKS))
    assert [call["hook"] for call in json.loads(CALLS.read_text())] == [*hooks, "audit.done", "shop.shipped"]


def test_none_is_missing_from_the_sdk(snippet, real_python):
    from conftest import run_python

    assert sorted(json.loads(run_python(["-c", HOOKS], bundled=False, interpreter=real_python))) == sorted(json.loads(snippet(HOOKS)))
