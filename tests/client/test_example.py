# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md says that a client is ten lines."""

import subprocess
import sys

import msgpack
from conftest import TOP

EXAMPLE = TOP / "client" / "python" / "examples" / "ten_lines.py"


def test_the_ten_lines_are_a_client(daemon):
    calls = []

    def serve(peer):
        calls.append(peer.receive())
        peer.answer(1, {"continue_processing": True, "modified_payload": msgpack.packb({"name": "search"})})

    path = daemon(serve).path
    done = subprocess.run([sys.executable, EXAMPLE, path], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "(True, {'name': 'search'})\n"
    assert calls[0][2] == "invoke" and calls[0][3][0]["context"] == {"request_id": "r1"}


def test_there_are_ten_of_them():
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10
