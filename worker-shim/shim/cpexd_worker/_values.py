# SPDX-License-Identifier: Apache-2.0
"""What msgpack has no type for.

The codec writes Python's own types by itself and asks `plain` about every other value. A value gets the form it has
in the JSON of a pydantic model, so that an answer reads the same whether it passed through the daemon or not.
"""

import sys

# (module, class) -> the form. The modules are looked up, not imported: a value of a class exists only if its module does.
_FORMS = (
    ("enum", "Enum", lambda value: value.value),
    ("datetime", "date", lambda value: value.isoformat()),  # and datetime
    ("datetime", "time", lambda value: value.isoformat()),
    ("datetime", "timedelta", lambda value: _duration(value)),
    ("uuid", "UUID", str),
    ("decimal", "Decimal", str),
    ("pathlib", "PurePath", str),
    ("collections", "deque", list),
    ("numpy", "generic", lambda value: value.item()),
    ("numpy", "ndarray", lambda value: value.tolist()),
    ("collections.abc", "Mapping", dict),
    ("collections.abc", "Set", list),
)


def plain(value):
    """A value that the codec knows in place of one that it does not; TypeError where there is none."""
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, warnings=False)  # pydantic's warnings quote fields that hold what they should not
    for module, name, form in _FORMS:
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None and isinstance(value, cls):
            return form(value)
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}
    cls = type(value)
    raise TypeError(f"a value of type {cls.__module__}.{cls.__qualname__} cannot be sent to another process")


def _duration(delta):
    """ISO 8601, as pydantic writes it: P1DT2H3M4.5S."""
    sign = "-" if delta.days < 0 else ""
    delta = abs(delta)
    minutes, seconds = divmod(delta.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{delta.microseconds:06d}".rstrip("0") if delta.microseconds else ""
    date = f"{delta.days}D" if delta.days else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction:
        time += f"{seconds}{fraction}S"
    if not date and not time:
        time = "0S"
    return f"{sign}P{date}" + (f"T{time}" if time else "")
