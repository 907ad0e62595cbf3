# SPDX-License-Identifier: Apache-2.0
"""Says what would allow what the sandbox may have denied. Imported when an error is one that it causes.

The kernel gives no reason with a refusal, and tells nobody else of it without privileges. So this is a guess, from the exceptions that
come out of a plugin; what a plugin catches itself is not seen.
"""

import errno
import os
import sys

_CHAIN_MAX = 10  # exceptions that led to one another

_told = set()


def tell_of(exc):
    """Logs the setting that would allow it, each once."""
    if not os.environ.get("CPEXD_SANDBOX"):
        return
    for each in _chain(exc):
        hint = _hint(each)
        if hint and hint not in _told:
            _told.add(hint)
            print(f"the sandbox may be the reason ({each}); to allow it, give the plugin in its entry {hint}", file=sys.stderr)


def _chain(exc):
    for _ in range(_CHAIN_MAX):
        if exc is None:
            return
        yield exc
        exc = exc.__cause__ or exc.__context__


def _hint(exc):
    socket = sys.modules.get("socket")
    if socket and isinstance(exc, socket.gaierror):
        return "isolation: {sandbox: {network: all}}"
    if not isinstance(exc, OSError) or exc.errno not in (errno.EACCES, errno.EPERM):
        return None
    if exc.filename is None:
        return "isolation: {sandbox: {network: all}} if it uses the network, or another profile if it does not"
    path = os.path.abspath(os.fsdecode(exc.filename)) if isinstance(exc.filename, (str, bytes)) else exc.filename
    if isinstance(path, str) and not os.path.lexists(path):
        return f"isolation: {{sandbox: {{write: [{os.path.dirname(path)}]}}}}, the folder in which it is to make that file"
    return (
        f"isolation: {{sandbox: {{read: [{path}]}}}}, or write: instead of read: if it changes it; "
        "if that stands there already, the file was replaced after this worker had started, and a reload finds the new one"
    )
