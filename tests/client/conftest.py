# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CPEXD_BUILD", TOP / "build")).resolve()
PURE = "CPEXD_TEST_PURE" in os.environ  # without the extension

CLIENT_PATHS = [str(TOP / "client" / "python")] + ([] if PURE else [str(BUILD / "client")])
sys.path[:0] = CLIENT_PATHS

import fake  # noqa: E402


@pytest.fixture
def daemon(tmp_path):
    """Starts a fake daemon with the given serve()."""
    running = []

    def start(serve=fake.echo, name="cpexd.sock"):
        running.append(fake.FakeDaemon(tmp_path / name, serve))
        return running[-1]

    yield start
    for one in running:
        one.stop()
