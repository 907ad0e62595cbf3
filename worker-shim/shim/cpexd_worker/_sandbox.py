# SPDX-License-Identifier: Apache-2.0
"""Says what would allow what the sandbox may have denied. Imported when an error is one that it causes.

The kernel gives no reason with a refusal. So this is a guess, from the exceptions that come out of a plugin. Of system calls that are denied
the guard knows for sure, and logs them where the kernel lets it (worker-shim/launch/notify.c); then they are not logged here again.
"""

import errno
import os
import sys

from cpexd_worker._errors import text_of

_CHAIN_MAX = 10  # exceptions that led to one another
_TEXT_MAX = 500

_told = set()


def tell_of(exc):
    """Logs the settings that would allow it, each once. Returns the first, in a sentence, or None."""
    if not os.environ.get("CPEXD_SANDBOX"):
        return None
    first = None
    for each in _chain(exc):
        hint = _hint(each)
        if not hint:
            continue
        sentence = f"the sandbox may be the reason ({text_of(each)[:_TEXT_MAX]}); to allow it, give the plugin in its entry {hint}"
        first = first or sentence
        if hint not in _told and not (_is_of_a_call(each) and os.environ["CPEXD_SANDBOX"] == "calls are logged"):
            _told.add(hint)
            print(sentence, file=sys.stderr)
    return first


def _is_of_a_call(exc):
    return _is_gaierror(exc) or (exc.errno == errno.EPERM and exc.filename is None)


def _is_gaierror(exc):
    socket = sys.modules.get("socket")
    return bool(socket) and isinstance(exc, socket.gaierror)


def _chain(exc):
    for _ in range(_CHAIN_MAX):
        if exc is None:
            return
        yield exc
        exc = exc.__cause__ or exc.__context__


def _hint(exc):
    if _is_gaierror(exc):
        return "isolation: {sandbox: {network: all}}"
    if not isinstance(exc, OSError) or exc.errno not in (errno.EACCES, errno.EPERM) or exc.strerror != os.strerror(exc.errno):
        return None  # with words of its own it is the plugin's
    if exc.filename is None:
        return "isolation: {sandbox: {network: all}} if it uses the network, or another profile if it does not"
    path = os.path.abspath(os.fsdecode(exc.filename)) if isinstance(exc.filename, (str, bytes)) else exc.filename
    if isinstance(path, str) and path.startswith(("/proc/self/", f"/proc/{os.getpid()}/")) and "cpexd_worker._zygote" in sys.modules:
        return "isolation: {zygote: false}, since what was forked has no part of /proc of its own"
    if isinstance(path, str) and not os.path.lexists(path):
        return f"isolation: {{sandbox: {{write: [{os.path.dirname(path)}]}}}}, the folder in which it is to make that file"
    return (
        f"isolation: {{sandbox: {{read: [{path}]}}}}, or write: instead of read: if it changes it; "
        "if that stands there already, the file was replaced after this worker had started, and a reload finds the new one"
    )
