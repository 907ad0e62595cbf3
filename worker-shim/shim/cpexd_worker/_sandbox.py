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

_ALLOWED_BY = "; to allow it, add to isolation.sandbox in the plugin's entry: "  # as the guard says it
_FAMILIES = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_BLUETOOTH", "AF_ALG", "AF_VSOCK")

_told = set()


def tell_of(exc):
    """Logs the settings that would allow it, each once. Returns the first, in a sentence, or None."""
    box = os.environ.get("CPEXD_SANDBOX", "").split(", ")  # see launch/sandbox.c
    if "on" not in box:
        return None
    first = None
    for each in _chain(exc):
        sentence = _of_socket(each, box) or _guess(each, box)
        if not sentence:
            continue
        first = first or sentence
        hint = sentence.rpartition("; to allow it, ")[2]
        if hint not in _told and not (_is_of_a_call(each) and "calls are logged" in box):
            _told.add(hint)
            print(sentence, file=sys.stderr)
    return first


def _is_of_a_call(exc):
    return _is_gaierror(exc) or (exc.errno == errno.EPERM and exc.filename is None)


def _is_gaierror(exc):
    socket = sys.modules.get("socket")
    return bool(socket) and isinstance(exc, socket.gaierror)


def _is_denial(exc):
    """With words of its own it is the plugin's."""
    return isinstance(exc, OSError) and exc.errno in (errno.EACCES, errno.EPERM) and exc.strerror == os.strerror(exc.errno)


def _chain(exc):
    for _ in range(_CHAIN_MAX):
        if exc is None:
            return
        yield exc
        exc = exc.__cause__ or exc.__context__


def _frames(exc):
    """The innermost first."""
    frames, tb = [], exc.__traceback__
    while tb:
        frames.append(tb.tb_frame)
        tb = tb.tb_next
    return reversed(frames)


def _of_socket(exc, box):
    """What the guard says of a socket that Python's own module was to make, or None."""
    if not _is_denial(exc) or exc.errno != errno.EPERM or exc.filename is not None:
        return None
    frame = next(_frames(exc), None)
    if frame is None or frame.f_code.co_name != "__init__" or frame.f_globals.get("__name__") != "socket":
        return None
    socket, family, kind = sys.modules["socket"], frame.f_locals.get("family"), frame.f_locals.get("type")
    family = socket.AF_INET if family == -1 else family
    kind = socket.SOCK_STREAM if kind == -1 else kind & 15
    name = next((name for name in _FAMILIES if getattr(socket, name, None) == family), None)
    denied = f"the sandbox has denied {f'socket({name})' if name else f'socket() of family {int(family)}'}"
    if name in ("AF_INET", "AF_INET6") and kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        return denied + _ALLOWED_BY + ("network: [HOST:PORT] or [all]" if _in_list(box) else "network: [HOST:PORT] or all")
    if name == "AF_UNIX":
        return denied + _ALLOWED_BY + ("network: [unix]" if _in_list(box) else "network: unix")
    return denied + "; nothing less than profile: off in isolation.sandbox allows it, which is no sandbox"


def _in_list(box):
    return bool({"network", "ports", "unix"}.intersection(box))


def _guess(exc, box):
    hint = _hint(exc, box)
    return f"the sandbox may be the reason ({text_of(exc)[:_TEXT_MAX]}); to allow it, {hint}" if hint else None


def _hint(exc, box):
    add = "add to isolation.sandbox in the plugin's entry: "
    if _is_gaierror(exc):
        if "network" in box or "ports" in box:
            return None  # names can be looked up then
        return add + ("network: [HOST:PORT] or [all]" if _in_list(box) else "network: [HOST:PORT] or all")
    if not _is_denial(exc):
        return None
    if exc.filename is None:
        if exc.errno == errno.EACCES and "ports" in box:
            return f"{add}network: [{_port(exc)}], beside what stands there, or [all]"
        return add + "network: all if it uses the network, or another profile if it does not"
    path = os.path.abspath(os.fsdecode(exc.filename)) if isinstance(exc.filename, (str, bytes)) else exc.filename
    if isinstance(path, str) and path.startswith(("/proc/self/", f"/proc/{os.getpid()}/")) and "cpexd_worker._zygote" in sys.modules:
        return "give the plugin in its entry isolation: {zygote: false}, since what was forked has no part of /proc of its own"
    if isinstance(path, str) and not os.path.lexists(path):
        return f"{add}write: [{os.path.dirname(path)}], the folder in which it is to make that file"
    return (
        f"{add}read: [{path}], or write: instead of read: if it changes it; "
        "if that stands there already, the file was replaced after this worker had started, and a reload finds the new one"
    )


def _port(exc):
    """The one that it was to connect to, as far as the usual libraries' variables say it."""
    for frame in _frames(exc):
        for name in ("sa", "address", "sockaddr"):
            at = frame.f_locals.get(name)
            if isinstance(at, tuple) and len(at) >= 2 and isinstance(at[0], str) and type(at[1]) is int:
                return f'"[{at[0]}]:{at[1]}"' if ":" in at[0] else f"{at[0]}:{at[1]}"
    return "HOST:PORT"
