# SPDX-License-Identifier: Apache-2.0
"""`cpexd` starts daemons; after the test each passes the leak gate (daemon.py)."""

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from daemon import BUILD, Daemon  # noqa: E402


def pytest_sessionstart(session):
    if not (BUILD / "cpexd").exists():
        raise pytest.UsageError(f"there is no {BUILD}/cpexd; build first (ninja -C build), or say where it is with CPEXD_BUILD")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(scope="session")
def venv_cache(tmp_path_factory):
    """One cache for all tests: most plugins need the same empty venv."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def kept_cache():
    """The cache of the conformance cases, which stays in the build folder: for venvs that come from PyPI."""
    folder = BUILD / "conformance-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def cpexd(request, tmp_path, venv_cache):
    """cpexd(plugins, …) starts a daemon in a folder of its own; the options are those of Daemon and of its start()."""
    daemons = []

    def start(plugins, ready=True, cache=venv_cache, sockets=None, **options):
        folder = tmp_path / f"d{len(daemons)}"
        folder.mkdir()
        daemon = Daemon(folder, cache, plugins, **options)
        daemons.append(daemon)
        return daemon.start(ready, sockets)

    yield start
    report = getattr(request.node, "report_call", None)
    if report and report.passed:
        try:
            for daemon in reversed(daemons):
                daemon.gate()
        finally:
            for daemon in daemons:
                daemon.kill()
    else:
        for daemon in daemons:
            print(f"---- log of {daemon.folder.name}:\n{daemon.log()}")
            daemon.kill()


@pytest.fixture(scope="session")
def pypi(tmp_path_factory):
    """Skips the test where pip, with the configuration it has here, gets nothing from PyPI."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", tmp_path_factory.mktemp("pypi"), "idna==3.7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"PyPI cannot be reached: {done.stderr.strip().splitlines()[-1]}")
