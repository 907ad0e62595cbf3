# SPDX-License-Identifier: Apache-2.0
"""What both clients share: where the daemon listens, and the parameters of a call."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping
from typing import Any, TypedDict

from . import codec
from .errors import ProtocolError

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


def hello_params(name: str) -> dict[str, Any]:
    return {"client": name, "version": 1}


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


def invoke_params(hook: str, payload: Any, timeout: float | None, options: Options) -> dict[str, Any]:
    if unknown := options.keys() - Options.__optional_keys__:
        raise TypeError(f"invoke() got an unexpected keyword argument {unknown.pop()!r}")
    params = {key: value for key, value in options.items() if value is not None and value is not False}
    params["hook"] = hook
    params["payload"] = codec.pack(payload)
    params["context"] = context = dict(options.get("context") or {})
    if "request_id" not in context:
        context["request_id"] = uuid.uuid4().hex
    if timeout is not None:
        params["timeout_ms"] = max(1, math.ceil(timeout * 1000))
    return params


def wait_for(timeout: float | None) -> float | None:
    """How long the client waits for a call whose budget is `timeout`; both in seconds."""
    return None if timeout is None else timeout + GRACE


def result_map(result: Any) -> dict[str, Any]:
    if result is None:
        return {}
    if type(result) is not dict:
        raise ProtocolError("the result is not a map")
    return result
