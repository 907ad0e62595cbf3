# SPDX-License-Identifier: Apache-2.0
"""Run by cpexd-launch as `python -s -P …/cpexd_worker/__main__.py PLUGIN EXT SDK`."""

import faulthandler
import os
import sys

_STACKS = 4  # the daemon reads there where the threads are
_STACKS_SIGNAL = 63  # SIGRTMAX - 1; launch/launch.h has it too


def _main():
    ext, sdk = sys.argv[2:]
    shim = __file__.rpartition("/cpexd_worker/")[0]
    # Last, so that a plugin's venv wins wherever it has a module of the same name; above all the real cpex.
    sys.path += [shim, ext, sdk]
    sys.argv[1:] = []
    # A plugin's output is its log: whole lines, at once, whatever is in them.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")

    os.set_inheritable(_STACKS, False)
    faulthandler.enable(_STACKS)
    faulthandler.register(_STACKS_SIGNAL, _STACKS)

    from cpexd_worker._worker import run

    run(sdk)


# Not in the processes of multiprocessing, which import the main module again under another name.
if __name__ == "__main__":
    _main()
