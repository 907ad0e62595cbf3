# SPDX-License-Identifier: Apache-2.0
"""Which Pythons the worker is tested in.

CPEXD_TEST_PYTHONS: interpreters, separated by colons; else those of 3.11, 3.12, 3.13 and python3 that run here.
CPEXD_TEST_CPEX_PYTHON: an interpreter that has the real cpex; without it the bundled SDK is tested alone.
"""

import os
import subprocess

import pytest
from worker import Worker

_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))"


def _version(python):
    try:
        done = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, timeout=30)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _pythons():
    named = os.environ.get("CPEXD_TEST_PYTHONS")
    found = {}
    for python in named.split(":") if named else ("python3.11", "python3.12", "python3.13", "python3", "/usr/bin/python3"):
        version = _version(python)
        if version is None and named:
            raise pytest.UsageError(f"CPEXD_TEST_PYTHONS: {python} is no Python of at least 3.11 that runs")
        if version is not None:
            where = subprocess.run([python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
            found.setdefault(version, where.stdout.strip())
    return found


_PYTHONS = _pythons()
_VARIANTS = [pytest.param(path, id=f"bundled-{version}") for version, path in _PYTHONS.items()]
if os.environ.get("CPEXD_TEST_CPEX_PYTHON"):
    _VARIANTS.append(pytest.param(os.environ["CPEXD_TEST_CPEX_PYTHON"], id="cpex"))


@pytest.fixture(scope="session", params=[pytest.param(path, id=version) for version, path in _PYTHONS.items()])
def python(request):
    """Each interpreter."""
    return request.param


@pytest.fixture(scope="session")
def any_python():
    """One interpreter, where it does not matter which."""
    return next(iter(_PYTHONS.values()))


@pytest.fixture(scope="session", params=_VARIANTS)
def variant(request):
    """Each interpreter with the bundled SDK, and the one with the real cpex."""
    return request.param


@pytest.fixture
def worker(variant):
    with Worker(variant) as it:
        yield it
