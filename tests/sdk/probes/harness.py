# SPDX-License-Identifier: Apache-2.0
"""What the probes share: named cases whose outcome is printed as one JSON object.

A probe is a script that runs under any interpreter that can import `cpex`. It calls `case(name, function)` for every
observation and `finish()` at the end. An outcome is the `repr` of what the function returned, or the error it raised:
for a validation error the list of (type, loc, msg), otherwise class and text.
"""

import json
import re
import sys

OUTCOMES = {}


def error_lines(exc):
    """The part of a validation error that both SDKs have to agree on."""
    return [(e["type"], list(e["loc"]), e["msg"]) for e in exc.errors()]


def outcome(function):
    """Run one observation and describe how it ended."""
    try:
        return stable(repr(function()))
    except Exception as exc:  # every error is an outcome
        if type(exc).__name__ == "ValidationError" and hasattr(exc, "errors"):
            return stable(repr(error_lines(exc)))
        return stable(f"{type(exc).__name__}: {exc}")


def stable(text):
    """Take out what may differ between two runs or two versions of pydantic."""
    text = re.sub(r"errors\.pydantic\.dev/[^/]+/", "errors.pydantic.dev/_/", text)
    return re.sub(r"0x[0-9a-f]+", "0xADDR", text)


def case(name, function):
    """Record one observation; names are unique within a probe."""
    assert name not in OUTCOMES, f"two cases are called {name!r}"
    OUTCOMES[name] = outcome(function)


def finish():
    """Print what was observed; the last line of a probe."""
    json.dump(OUTCOMES, sys.stdout, indent=1)
    sys.stdout.write("\n")
