# SPDX-License-Identifier: Apache-2.0
"""Being somebody else than who runs cpexd: tests that need it are skipped where root does not run them."""

import json
import os
import traceback

import pytest

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


def as_nobody(act, groups=()):
    """What `act` returns when another user runs it, in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(write, json.dumps(act()).encode())
        except BaseException:
            os.write(write, json.dumps(traceback.format_exc()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def let_in(folder):
    """Anybody may go to this folder."""
    while folder != folder.parent:
        folder.chmod(folder.stat().st_mode | 0o011)
        folder = folder.parent
