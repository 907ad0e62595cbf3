# SPDX-License-Identifier: Apache-2.0
"""Dates, decimals, paths and UUIDs: checked and dumped like pydantic's, imported only by models that have them."""

from __future__ import annotations

from ._fields import MISSING
from ._invalid import Invalid
from ._scalars import _is_decimal

_TOO_SHORT = "input is too short"
_AFTER_9999 = "dates after 9999 are not supported as unix timestamps"
# Numbers beyond this count as milliseconds.
_WATERSHED = 20_000_000_000


def type_of(cls, make):
    """The type of one of these classes, or None when it has no rule of its own."""
    check = _CHECKS.get(cls.__name__)
    if check is None:
        return None
    return make(cls.__name__.lower(), check, lambda value: 3 if isinstance(value, cls) else 1)


def _number(value):
    """A value as a number of seconds, or None."""
    if type(value).__name__ == "bool":
        return None
    if isinstance(value, (int, float)) or _is_decimal(value):
        return value
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode("ascii", "replace")
        try:
            return float(text) if _looks_numeric(text) else None
        except ValueError:
            return None
    return None


def _looks_numeric(text):
    return bool(text) and all(c in "0123456789.+-" for c in text) and not ("-" in text[1:] or "+" in text[1:])


def _from_timestamp(number, value, kind):
    from datetime import datetime, timedelta, timezone

    if number != number:
        raise Invalid.one(kind, value, {"error": "NaN values not permitted"})
    if abs(number) > _WATERSHED:
        number = number / 1000 if abs(number) < float("inf") else number
    try:
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=float(number))
    except (OverflowError, ValueError):
        raise Invalid.one(kind, value, {"error": _AFTER_9999}) from None


def _parsed(value, cls, kind):
    text = value if isinstance(value, str) else value.decode("ascii", "replace")
    try:
        return cls.fromisoformat(str.__str__(text).strip())
    except ValueError as problem:
        error = _TOO_SHORT if len(text) < 10 else str(problem)
        raise Invalid.one(kind, value, {"error": error}) from None


def check_datetime(value, info):
    import datetime

    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    number = _number(value)
    if number is not None:
        return _from_timestamp(number, value, "datetime_parsing")
    if isinstance(value, (str, bytes)):
        return _parsed(value, datetime.datetime, "datetime_from_date_parsing")
    raise Invalid.one("datetime_type", value)


def check_date(value, info):
    import datetime

    if type(value) is datetime.date:
        return value
    if isinstance(value, datetime.datetime):
        moment = value
    else:
        number = _number(value)
        if number is not None:
            moment = _from_timestamp(number, value, "date_from_datetime_parsing")
        elif isinstance(value, (str, bytes)):
            moment = _parsed(value, datetime.datetime, "date_from_datetime_parsing")
        else:
            raise Invalid.one("date_type", value)
    if moment.hour or moment.minute or moment.second or moment.microsecond:
        raise Invalid.one("date_from_datetime_inexact", value)
    return moment.date()


def check_decimal(value, info):
    from decimal import Decimal, InvalidOperation

    if isinstance(value, bool) or not isinstance(value, (Decimal, int, float, str)):
        raise Invalid.one("decimal_type", value)
    try:
        number = Decimal(str(value).strip()) if not isinstance(value, int) else Decimal(int(value))
    except InvalidOperation:
        raise Invalid.one("decimal_parsing", value) from None
    if not number.is_finite():
        raise Invalid.one("finite_number", value)
    return number


def check_uuid(value, info):
    from uuid import UUID

    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        message = "UUID input should be a string, bytes or UUID object"
        raise Invalid.one("uuid_type", value, None, message)
    try:
        return UUID(value)
    except ValueError as problem:
        message = f"Input should be a valid UUID, {problem}"
        raise Invalid.one("uuid_parsing", value, {"error": str(problem)}, message) from None


def check_path(value, info):
    from os import PathLike
    from pathlib import Path

    if isinstance(value, (str, PathLike)):
        return Path(value)
    raise Invalid.one("path_type", value, None, "Input is not a valid path")


_CHECKS = {
    "datetime": check_datetime,
    "date": check_date,
    "Decimal": check_decimal,
    "UUID": check_uuid,
    "Path": check_path,
}


def json_form(value, how):
    """The JSON form of a value of the standard library, or MISSING."""
    kind = type(value).__name__
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return text[:-6] + "Z" if text.endswith("+00:00") else text
    if kind in ("Decimal", "UUID") or hasattr(value, "__fspath__"):
        return str(value)
    if kind == "timedelta":
        return _duration(value)
    if kind in ("deque", "generator", "dict_keys", "dict_values", "range"):
        return [how.any(item) for item in value]
    from collections.abc import Mapping

    if isinstance(value, Mapping):
        return how.any(dict(value))
    return MISSING


def _duration(value):
    """ISO 8601, the way pydantic writes durations."""
    seconds = value.total_seconds()
    sign = "-" if seconds < 0 else ""
    days, rest = divmod(abs(seconds), 86400)
    text = f"{int(days)}D" if days else ""
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    time = (f"{int(hours)}H" if hours else "") + (f"{int(minutes)}M" if minutes else "")
    if rest or not (text or time):
        time += f"{rest:g}S"
    return f"{sign}P{text}" + (f"T{time}" if time else "")
