# SPDX-License-Identifier: Apache-2.0
"""Every observation of the probes has the same outcome under the bundled SDK and under PyPI's cpex."""

import json
import os

import pytest
from conftest import probe

PROBES = ("field_types", "models", "hooks", "plugin", "extensions", "settings_memory")


def differences(expected, found):
    """A readable list of the cases that came out differently."""
    return [
        f"{name}\n  cpex:    {expected.get(name)}\n  bundled: {found.get(name)}"
        for name in {**expected, **found}
        if expected.get(name) != found.get(name)
    ]


@pytest.mark.parametrize("name", PROBES)
def test_probe_runs(name):
    assert len(probe(name)) > 100


@pytest.mark.parametrize("name", PROBES)
def test_same(name, real_python):
    found = differences(probe(name, bundled=False, interpreter=real_python), probe(name))
    assert not found, "\n".join(found[:20])


# Type variables, which stand for nothing where no type checker reads them.
NOT_THERE = {"decorator.P", "decorator.R", "memory.T", "models.T"}


def test_every_name_is_the_same_or_says_where_it_lives(real_python, tmp_path):
    expected = probe("surface", bundled=False, interpreter=real_python)
    names = {}
    for name in expected:
        module, _, attribute = name.rpartition(".")
        if name.removeprefix("cpex.framework.") not in NOT_THERE:
            names.setdefault(module, []).append(attribute)
    (tmp_path / "names.json").write_text(json.dumps(names))
    found = probe("surface", str(tmp_path / "names.json"))
    host = {name for name, how in found.items() if "it lives in PyPI's cpex" in how}
    there = {name for name, how in expected.items() if how == "'there'" and not found.get(name, "").startswith("ImportError")}
    compared = found.keys() - host - there
    assert len(expected) > 700 and len(compared) > 400
    wrong = differences({name: expected[name] for name in compared}, {name: found[name] for name in compared})
    assert not wrong, "\n".join(wrong)


def test_same_with_random_values(real_python):
    draw = (os.environ.get("CPEXD_TEST_SEED", "1"), os.environ.get("CPEXD_TEST_VALUES", "15"))
    expected = probe("random_values", *draw, bundled=False, interpreter=real_python)
    assert len(expected) > 500 * int(draw[1])
    found = differences(expected, probe("random_values", *draw))
    assert not found, "\n".join(found[:20])


def test_same_with_pydantic_mixed_in(real_python):
    expected = probe("mixing", bundled=False, interpreter=real_python)
    # The real interpreter has pydantic too; the path puts the bundled SDK in front of the real one.
    found = differences(expected, probe("mixing", bundled=True, interpreter=real_python))
    assert not found, "\n".join(found)
