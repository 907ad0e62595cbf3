# SPDX-License-Identifier: Apache-2.0
"""Checks of values without parts: strings, numbers, booleans, bytes.

Each check returns the value a field gets or raises `Invalid`. The rules are those of pydantic's lax mode, because
plugins written against the real SDK rely on them: "7" is a number, 1 is true, bytes are text. The usual case, a value
that already has the exact type, is the first line of every check.
"""

from __future__ import annotations

from enum import Enum

from ._invalid import Invalid

_TRUE = frozenset(("1", "on", "t", "true", "y", "yes"))
_FALSE = frozenset(("0", "off", "f", "false", "n", "no"))
_MAX_DIGITS = 4300
_FLOAT_LIMIT = 2.0**63  # integers may be larger, floats that stand for one may not


def check_any(value, info):
    """Everything fits."""
    return value


def check_none(value, info):
    if value is None:
        return None
    raise Invalid.one("none_required", value)


def check_str(value, info):
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        # Members of mixed-in types count as their plain value.
        inner = value.value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(inner, str) or isinstance(value, int):
            return str(inner)
    elif isinstance(value, str):
        return str.__str__(value)
    elif isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise Invalid.one("string_unicode", value) from None
    raise Invalid.one("string_type", value)


def _text_number(value):
    """The text of a value that is to be read as a number, or None."""
    if isinstance(value, Enum) and not isinstance(value, str):
        return None
    if isinstance(value, str):
        return str.__str__(value).strip()
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip()
    return None


def _int_from_text(text, value):
    """An integer in the spellings that count as one: sign, single underscores, a fraction of zeros."""
    whole, dot, fraction = text.partition(".")
    if dot and (not fraction or fraction.strip("0")):
        raise Invalid.one("int_parsing", value)
    if not whole.isascii() or " " in whole:
        raise Invalid.one("int_parsing", value)
    if len(whole) > _MAX_DIGITS:
        raise Invalid.one("int_parsing_size", value)
    try:
        return int(whole)
    except ValueError:
        raise Invalid.one("int_parsing", value) from None


def _int_from_number(number, value):
    if number != number or number in (float("inf"), float("-inf")):
        raise Invalid.one("finite_number", value)
    if number != int(number):
        raise Invalid.one("int_from_float", value)
    if isinstance(number, float) and not -_FLOAT_LIMIT < number < _FLOAT_LIMIT:
        raise Invalid.one("int_parsing_size", value)
    return int(number)


def check_int(value, info):
    if type(value) is int:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) or _is_decimal(value):
        return _int_from_number(value, value)
    text = _text_number(value)
    if text is not None:
        return _int_from_text(text, value)
    if isinstance(value, Enum):
        return value.value
    raise Invalid.one("int_type", value)


def _is_decimal(value):
    return type(value).__name__ == "Decimal" and type(value).__module__ in ("decimal", "_pydecimal")


def check_float(value, info):
    if type(value) is float:
        return value
    if isinstance(value, (int, float)) or _is_decimal(value):
        return float(value)
    text = _text_number(value)
    if text is not None:
        try:
            return float(text)
        except ValueError:
            raise Invalid.one("float_parsing", value) from None
    if not isinstance(value, Enum) and hasattr(type(value), "__float__"):
        return float(value)
    raise Invalid.one("float_type", value)


def dump_float(value, how):
    """A field that is declared to be a number keeps inf and nan even where JSON is wanted; the text has null."""
    return value if type(value) is float else how.any(value)


def _bool_from_number(number, value):
    if number == 0 or number == 1:
        return number == 1
    raise Invalid.one("bool_parsing", value)


def check_bool(value, info):
    if value is True or value is False:
        return value
    if isinstance(value, (str, bytes)):
        text = str.__str__(value) if isinstance(value, str) else value.decode("ascii", "replace")
        text = text.lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise Invalid.one("bool_parsing", value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _bool_from_number(value, value)
    if isinstance(value, float) or _is_decimal(value):
        if -_FLOAT_LIMIT < value < _FLOAT_LIMIT and value == int(value):
            return _bool_from_number(value, value)
    raise Invalid.one("bool_type", value)


def check_bytes(value, info):
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return str.__str__(value).encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise Invalid.one("bytes_type", value)


def check_callable(value, info):
    if callable(value):
        return value
    raise Invalid.one("callable_type", value)


# How well a value fits before any coercion, for unions: 3 exactly, 2 as a subtype, 1 only (if at all) by coercion.


def rank_str(value):
    return 3 if type(value) is str else 2 if isinstance(value, str) and not isinstance(value, Enum) else 1


def rank_int(value):
    return 3 if type(value) is int else 2 if isinstance(value, int) and type(value) is not bool else 1


def rank_float(value):
    if type(value) is float:
        return 3
    return 2 if isinstance(value, (int, float)) and type(value) is not bool or _is_decimal(value) else 1


def rank_bool(value):
    return 3 if type(value) is bool else 1


def rank_bytes(value):
    return 3 if type(value) is bytes else 1


def rank_none(value):
    return 3 if value is None else 1
