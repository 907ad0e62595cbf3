# SPDX-License-Identifier: Apache-2.0
"""Running probes under the bundled SDK and, where it is installed, under PyPI's cpex.

`CPEXD_TEST_CPEX_PYTHON` names an interpreter that has the real package; without it comparisons are skipped.
`CPEXD_TEST_PYTHON` names the interpreter for the bundled SDK; without it that is the one that runs pytest.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHIM = HERE.parent.parent / "worker-shim"
EXT = Path(os.environ.get("CPEXD_BUILD", HERE.parent.parent / "build")) / "worker-shim"
SDK_PYTHON = os.environ.get("CPEXD_TEST_PYTHON", sys.executable)
REAL_PYTHON = os.environ.get("CPEXD_TEST_CPEX_PYTHON")


def run_python(arguments, bundled=True, interpreter=None):
    """Run an interpreter that sees the bundled SDK (or only what it has itself); answers what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment.update(PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1", PYTHONWARNINGS="ignore")
    if bundled:
        environment["PYTHONPATH"] = f"{SHIM}:{EXT}"
    command = [interpreter or SDK_PYTHON, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def probe(name, *arguments, bundled=True, interpreter=None):
    """The outcomes of one probe."""
    report = json.loads(run_python([str(HERE / "probes" / f"{name}.py"), *arguments], bundled, interpreter))
    assert report["sdk"].startswith(str(SHIM)) is bundled
    return report["outcomes"]


@pytest.fixture
def snippet():
    """Runs a piece of code under the bundled SDK and gives what it printed."""
    return lambda code: run_python(["-c", code]).strip()


@pytest.fixture
def real_python():
    """The interpreter with the real cpex; skips without one."""
    if not REAL_PYTHON:
        pytest.skip("CPEXD_TEST_CPEX_PYTHON is not set: nothing to compare with")
    return REAL_PYTHON
