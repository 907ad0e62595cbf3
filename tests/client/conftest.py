# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "client" / "python"))

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
