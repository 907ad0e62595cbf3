# SPDX-License-Identifier: Apache-2.0
"""Every observation of the probes has the same outcome under the bundled SDK and under PyPI's cpex."""

import pytest
from conftest import probe

PROBES = ("field_types", "models", "hooks", "plugin", "extensions")


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


def test_same_with_pydantic_mixed_in(real_python):
    expected = probe("mixing", bundled=False, interpreter=real_python)
    # The real interpreter has pydantic too; the path puts the bundled SDK in front of the real one.
    found = differences(expected, probe("mixing", bundled=True, interpreter=real_python))
    assert not found, "\n".join(found)
