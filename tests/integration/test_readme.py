# SPDX-License-Identifier: Apache-2.0
"""What the README says is so: its commands run, its example is read, its tables are true."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from daemon import BUILD, ROOT

pytestmark = [pytest.mark.newcomer, pytest.mark.xdist_group("newcomer")]  # one at a time in build/

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_commands(tmp_path):
    """Runs the `sh` blocks from top to bottom, in the project's folder. A block that starts cpexd runs beside those after it. What
    the README has the reader type here for the tests is what is running now."""
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    daemons, ran = [], []
    try:
        for block in blocks("sh"):
            commands = "\n".join(line for line in block.splitlines() if not line.startswith("tests/run"))
            command = ["bash", "-euo", "pipefail", "-c", commands]
            if re.search(r"^build/cpexd ", commands, re.MULTILINE):
                daemons.append(subprocess.Popen(["bash", "-euc", "exec " + commands], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True))
                for line in daemons[-1].stderr:
                    if " ready: " in line:
                        break
                continue
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
            ran.append(done.stdout)
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.stderr.read()
            assert daemon.wait(20) == 0
    assert daemons and any("[REDACTED]" in text for text in ran)


def test_plugins_yaml_example_is_valid(tmp_path):
    example, _ = blocks("yaml")  # tests/client/test_remote.py tries the other one, and the other import
    (tmp_path / "plugins.yaml").write_text(example)
    shutil.copytree(ROOT / "conf" / "plugins", tmp_path / "plugins")
    (tmp_path / "cpexd.yaml").write_text("plugins: plugins.yaml\nsocket: {path: s}\n")
    done = subprocess.run([BUILD / "cpexd", "-c", tmp_path / "cpexd.yaml", "--check"], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and not re.search(r"\.yaml:\d+:", said), said


def test_python_example(cpexd):
    example, _ = blocks("python")
    daemon = cpexd([], settings={"plugins": str(ROOT / "conf" / "plugins.yaml")})
    code = re.sub(r'"[^"\n]*cpexd\.sock"', repr(str(daemon.socket)), example)
    assert code != example
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PYTHONPATH": str(ROOT / "client" / "python")})
    assert done.returncode == 0, done.stderr
    assert "[REDACTED]" in done.stdout


def test_folders_are_there():
    folders = re.findall(r"^\| `([\w./-]+/)` \|", README, re.MULTILINE)
    assert len(folders) >= 6
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder
    tracked = {entry.name + "/" for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith((".", "build"))}
    assert tracked - {"__pycache__/"} == {folder.split("/")[0] + "/" for folder in folders}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_exit_statuses():
    """The table names each status that test_daemon.py and test_invoke.py see."""
    rows = re.findall(r"^\| (\d) \| ", README, re.MULTILINE)
    assert rows[:5] == ["0", "1", "2", "3", "4"]
