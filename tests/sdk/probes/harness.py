# SPDX-License-Identifier: Apache-2.0
"""What the probes share: named cases whose outcome is printed as one JSON object.

A probe is a script that runs under any interpreter that can import `cpex`. It calls `case(name, function)` for every
observation and `finish()` at the end. An outcome is the `repr` of what the function returned, or the error it raised:
for a validation error the list of (type, loc, msg), otherwise class and text.
"""

import json
import re
import sys
import time

OUTCOMES = {}
YEAR = time.gmtime().tm_year  # the values of the probes are older


def error_lines(exc):
    """The part of a validation error that both SDKs have to agree on."""
    return [(e["type"], list(e["loc"]), e["msg"]) for e in exc.errors()]


def canonical(value):
    """The value with sets in a fixed order, wherever they stand in lists, tuples and dicts."""
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted((canonical(item) for item in value), key=repr))
    if type(value).__name__ == "OrderedDict":  # its repr changed in Python 3.12
        return ("OrderedDict", list(value.items()))
    if type(value) in (list, tuple):
        return type(value)(canonical(item) for item in value)
    if type(value) is dict:
        return {key: canonical(item) for key, item in value.items()}
    return value


def outcome(function):
    """Run one observation and describe how it ended."""
    try:
        return stable(repr(canonical(function())))
    except Exception as exc:  # every error is an outcome
        if type(exc).__name__ == "ValidationError" and hasattr(exc, "errors"):
            return stable(repr(error_lines(exc)))
        return stable(f"{type(exc).__name__.removeprefix('Pydantic')}: {exc}")


def stable(text):
    """Take out what may differ between two runs, two versions of pydantic, or pydantic's own helper classes."""
    text = re.sub(r"errors\.pydantic\.dev/[^/]+/", "errors.pydantic.dev/_/", text)
    text = text.replace("TzInfo(0)", "datetime.timezone.utc").replace("TzInfo(UTC)", "datetime.timezone.utc")
    text = re.sub(r"TzInfo\((-?\d+)\)", r"datetime.timezone(datetime.timedelta(seconds=\1))", text)
    text = re.sub(rf"datetime\.datetime\({YEAR}, [^)]*\(?\)?|{YEAR}-[\d-]+T[\d:.]+Z", "NOW", text)
    return re.sub(r"0x[0-9a-f]+", "0xADDR", text)


def case(name, function):
    """Record one observation; names are unique within a probe."""
    assert name not in OUTCOMES, f"two cases are called {name!r}"
    OUTCOMES[name] = outcome(function)


def finish():
    """Print what was observed; the last line of a probe."""
    import cpex

    json.dump({"sdk": cpex.__file__, "outcomes": OUTCOMES}, sys.stdout, indent=1)
    sys.stdout.write("\n")
