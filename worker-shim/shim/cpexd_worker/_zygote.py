# SPDX-License-Identifier: Apache-2.0
"""What a process is before workers are forked off it, and what of it each of them must not share. The fork itself is in C (fork.c)."""

import gc
import os
import sys

_OURS = {0, 1, 2, 4}  # descriptors, beside the connection's


def become(driver, connection, sdk, hooks):
    """Return: why no worker can be forked off this process with the plugin's class loaded, None if it can."""
    sdk.warm_up(hooks)
    obstacle = driver.drop() or _threads() or _processes() or _open_files(connection.fileno())
    if obstacle is None:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()  # the collector writes to each object that it looks at
    return obstacle


def renew():
    """In a worker, first of all. Python's own generator has seeded itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def move_to(folder):
    """A temporary folder of this worker's own."""
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None and tempfile.tempdir == os.environ.get("TMPDIR"):
        tempfile.tempdir = None
    for name in ("TMPDIR", "TMP", "TEMP"):
        os.environ[name] = folder


def _threads():
    n = len(os.listdir("/proc/self/task"))
    return None if n == 1 else f"it has {n} threads when its class is loaded"


def _processes():
    path = f"/proc/self/task/{os.getpid()}/children"
    if os.path.exists(path):  # a kernel may lack it
        with open(path) as file:
            return "it has started a process when its class is loaded" if file.read() else None


def _open_files(connection):
    """Workers would share where they are in a file, and what comes over a socket."""
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the list itself
        if int(name) not in _OURS and int(name) != connection:
            return f"it holds {path} open when its class is loaded"
    return None
