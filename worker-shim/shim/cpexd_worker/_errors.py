# SPDX-License-Identifier: Apache-2.0
"""Exceptions as the error maps of docs/protocol.md."""

import sys

_TRACEBACK_BYTES = 8192

VIOLATION_FIELDS = ("reason", "description", "code", "details", "mcp_error_code", "http_status_code", "http_headers")


def protocol_error(code, message):
    """An error of the call, not of the plugin."""
    return {"code": code, "type": "ProtocolError", "message": message, "plugin_name": None, "details": {}}


def violation_map(violation):
    return {field: getattr(violation, field, None) for field in VIOLATION_FIELDS}


def plugin_error(sdk, exc):
    """What a hook raised."""
    if isinstance(exc, sdk.PluginViolationError):
        violation = exc.violation
        return {
            "code": "",
            "type": "PluginViolationError",
            "message": text_of(exc),
            "plugin_name": None,
            "details": {},
            "violation": None if violation is None else violation_map(violation),
        }
    if isinstance(exc, sdk.PluginError):
        error = exc.error
        return {
            "code": error.code,
            "type": "PluginError",
            "message": error.message,
            "plugin_name": error.plugin_name,
            "details": error.details,
            "mcp_error_code": error.mcp_error_code,
            "cause": "exception",
        }
    return exception_map(exc, repr_of(exc))


def note_lost(what, exc):
    """A denial must not become a failure because something beside it cannot be sent."""
    print(f"{what} was left out of an answer, it cannot be sent: {repr_of(exc)}", file=sys.stderr)


def exception_map(exc, message):
    """Any exception, with a sentence of the caller's choice."""
    details = {"traceback": traceback_of(exc)}
    if _may_be_sandbox(exc):
        from cpexd_worker import _sandbox

        if hint := _sandbox.tell_of(exc):
            details["sandbox"] = hint
    return {
        "code": "",
        "type": type(exc).__name__,
        "message": message,
        "plugin_name": None,
        "details": details,
        # The class may be the plugin's own child of TimeoutError, which CPEX treats as a timeout too.
        "cause": "timeout" if isinstance(exc, TimeoutError) else "exception",
    }


def _may_be_sandbox(exc):
    return isinstance(exc, OSError) or isinstance(exc.__cause__ or exc.__context__, OSError) or "onnect" in type(exc).__name__


def invalid_request(exc):
    """The request's data did not become a payload or a context."""
    errors = getattr(exc, "errors", None)
    if not callable(errors):
        return protocol_error("bad_request", text_of(exc) if isinstance(exc, (ValueError, LookupError)) else repr_of(exc))
    return {
        "code": "",
        "type": "ValidationError",
        "message": text_of(exc),
        "plugin_name": None,
        "details": {},
        "stage": "request",
        # Not the whole of each entry: `input` is what the host sent, secrets included.
        "errors": [{"loc": list(error["loc"]), "type": error["type"], "msg": error["msg"]} for error in errors()],
    }


def load_error(exc):
    """What stopped a plugin from starting: the text that CPEX logs, without values of the configuration that a validation error quotes;
    SystemExit and its like have no text that says anything."""
    from cpexd_worker._secrets import without_inputs

    return exception_map(exc, without_inputs(text_of(exc) if isinstance(exc, Exception) else repr_of(exc)))


def repr_of(exc):
    try:
        return repr(exc)
    except BaseException as again:
        return f"<{type(exc).__name__}, whose repr raised {type(again).__name__}>"


def text_of(exc):
    try:
        return str(exc)
    except BaseException:
        return repr_of(exc)


def traceback_of(exc):
    """The end of the traceback, where the reason stands. It is for logs, so it quotes no input of a validation error."""
    import traceback

    from cpexd_worker._secrets import without_inputs

    try:
        text = without_inputs("".join(traceback.format_exception(exc)))
    except Exception as again:
        return f"<no traceback: {type(again).__name__}>"
    data = text.encode("utf-8", "backslashreplace")
    return text if len(data) <= _TRACEBACK_BYTES else data[-_TRACEBACK_BYTES:].decode("utf-8", "ignore")
