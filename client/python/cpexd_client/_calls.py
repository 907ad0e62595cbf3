# SPDX-License-Identifier: Apache-2.0
"""What both clients share: where the daemon listens, and the parameters of a call."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, TypedDict

from . import codec, errors

MAX_FRAME_BYTES = 256 << 20

# The daemon keeps the timeout of a call itself and answers in time; the client waits this much longer before it gives up on
# the daemon. In seconds.
GRACE = 1.0


def default_path() -> str:
    """$CPEXD_SOCKET, else that of a daemon that the user has started, if there is one, else that of the system's."""
    path = os.environ.get("CPEXD_SOCKET")
    if path:
        return path
    runtime = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() else None
    own = os.path.join(runtime, "cpexd", "cpexd.sock") if runtime else None
    return own if own and os.path.exists(own) else "/run/cpexd/cpexd.sock"


NAME = "cpexd-client (Python)"


def hello_params(name: str, *notifications: str) -> dict[str, Any]:
    params: dict[str, Any] = {"client": name, "version": 1}
    return params | {"notifications": notifications} if notifications else params


class Options(TypedDict, total=False):
    """The parameters of `invoke` that may be left out; None and False count as left out."""

    context: Mapping[str, Any] | None
    contexts: bytes | None
    extensions: Mapping[str, Any] | None
    plugin: str | None
    direct: bool
    payload_type: str | None
    violations_as_exceptions: bool
    timing: bool


_OPTIONS = Options.__optional_keys__


def invoke_params(hook: str, payload: Any, timeout: float | None, options: Options) -> dict[str, Any]:
    params: dict[str, Any] = {"hook": hook, "payload": codec.document(payload)}
    for key, value in options.items():
        if key not in _OPTIONS:
            raise TypeError(f"invoke() got an unexpected keyword argument {key!r}")
        if value is not None and value is not False:
            params[key] = value
    context = params.get("context")
    if type(context) is not dict or "request_id" not in context:
        params["context"] = {"request_id": os.urandom(16).hex(), **(context or {})}
    if timeout is not None:
        params["timeout_ms"] = max(1, math.ceil(timeout * 1000))
    return params


def wait_for(timeout: float | None) -> float | None:
    """How long the client waits for a call whose budget is `timeout`; both in seconds."""
    return None if timeout is None else timeout + GRACE


def result(response: codec.Message) -> dict[str, Any]:
    """Raises what the error of the response says."""
    _, _, error, value = response
    if error is not None:
        raise errors.from_wire(error)
    if value is None:
        return {}
    if type(value) is not dict:
        raise errors.ProtocolError("the result is not a map")
    return value
