# SPDX-License-Identifier: Apache-2.0
"""The client as a package: its source distribution has all that the extension is built from, and does without a compiler."""

import os
import shutil
import subprocess
import sys
import tarfile

import pytest
from conftest import TOP

pytest.importorskip("setuptools")


def run_setup(folder, *arguments, **env):
    subprocess.run([sys.executable, "setup.py", "-q", *arguments], cwd=folder, env=os.environ | env, check=True, capture_output=True)


@pytest.mark.parametrize("compiler, module", [("cc", "_cpexd_client"), ("false", "cpexd_client.codec")])
def test_built_from_the_source_distribution(tmp_path, compiler, module):
    for folder in ("client/python", "worker-shim/shim"):  # links and what they lead to; setuptools writes beside its sources
        shutil.copytree(TOP / folder, tmp_path / folder, symlinks=True)
    run_setup(tmp_path / "client/python", "sdist", "--dist-dir", tmp_path)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        assert not any(member.issym() or member.islnk() for member in tar)
        tar.extractall(tmp_path)
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")

    run_setup(unpacked, "build_ext", "--inplace", CC=compiler)
    code = "from cpexd_client import codec; print(codec.__file__, codec.Reader.__module__)"
    env = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run([sys.executable, "-c", code], cwd="/", env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(unpacked / "cpexd_client/codec.py"), module]
