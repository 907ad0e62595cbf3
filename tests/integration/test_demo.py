# SPDX-License-Identifier: Apache-2.0
"""packaging/demo, as a newcomer runs it."""

import os
import re
import signal
import subprocess
import time

import pytest
from daemon import ROOT, all_pids, eventually

pytestmark = [pytest.mark.newcomer, pytest.mark.xdist_group("newcomer")]  # one at a time in build/


def processes():
    found = {}
    for pid in all_pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found[pid] = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            pass
    return {pid: text for pid, text in found.items() if "cpexd-demo" in text or "demo-cache" in text}


def temporary(folder):
    return [name for name in os.listdir(folder) if name.startswith("cpexd-demo")]


def run(tmp_path):
    began = time.monotonic()
    done = subprocess.run([ROOT / "packaging" / "demo"], capture_output=True, text=True, timeout=300, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"before: .*123-45-6789", done.stdout)
    assert re.search(r"after: .*\[REDACTED\]", done.stdout)
    assert "123-45-6789" not in done.stdout.split("after:")[1]
    assert [line[:5] for line in done.stdout.splitlines() if line.startswith("[")] == [f"[{n}/5]" for n in range(1, 6)]
    return time.monotonic() - began


def test_twice_and_nothing_stays_behind(tmp_path):
    run(tmp_path)
    assert run(tmp_path) < 10
    assert not processes() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, number):
    for _ in range(3):  # one may be through before the signal comes
        if interrupt_demo(tmp_path, number) != 0:
            return
    pytest.fail("it ended as if nothing had been")


def interrupt_demo(tmp_path, number):
    """Return: its exit status."""
    demo = subprocess.Popen([ROOT / "packaging" / "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True)
    for line in demo.stdout:
        if line.startswith("[3/5]"):
            break
    eventually(processes)
    os.killpg(demo.pid, number)
    demo.stdout.read()
    status = demo.wait(20)
    eventually(lambda: not processes())
    assert not list(tmp_path.iterdir())
    return status
