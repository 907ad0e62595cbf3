# SPDX-License-Identifier: Apache-2.0
"""Errors of validation: how they are collected and how they read.

Inside the SDK a check raises `Invalid`, which holds one `Line` for each thing wrong; containers put their key in front
of the location and merge. Only the outermost model turns it into a `ValidationError`, whose text and `errors()` have
the shape of pydantic's, since hosts and logs show that text.
"""

from __future__ import annotations

URL = "https://errors.pydantic.dev/2/v/"

MESSAGES = {
    "missing": "Field required",
    "extra_forbidden": "Extra inputs are not permitted",
    "invalid_key": "Keys should be strings",
    "frozen_instance": "Instance is frozen",
    "frozen_field": "Field is frozen",
    "model_type": "Input should be a valid dictionary or instance of {class_name}",
    "none_required": "Input should be None",
    "string_type": "Input should be a valid string",
    "string_unicode": "Input should be a valid string, unable to parse raw data as a unicode string",
    "string_too_short": "String should have at least {min_length} character{s}",
    "string_too_long": "String should have at most {max_length} character{s}",
    "string_pattern_mismatch": "String should match pattern '{pattern}'",
    "int_type": "Input should be a valid integer",
    "int_parsing": "Input should be a valid integer, unable to parse string as an integer",
    "int_parsing_size": "Unable to parse input string as an integer, exceeded maximum size",
    "int_from_float": "Input should be a valid integer, got a number with a fractional part",
    "finite_number": "Input should be a finite number",
    "float_type": "Input should be a valid number",
    "float_parsing": "Input should be a valid number, unable to parse string as a number",
    "bool_type": "Input should be a valid boolean",
    "bool_parsing": "Input should be a valid boolean, unable to interpret input",
    "bytes_type": "Input should be a valid bytes",
    "dict_type": "Input should be a valid dictionary",
    "list_type": "Input should be a valid list",
    "set_type": "Input should be a valid set",
    "set_item_not_hashable": "Set items should be hashable",
    "frozen_set_type": "Input should be a valid frozenset",
    "tuple_type": "Input should be a valid tuple",
    "sequence_str": "'{type_name}' instances are not allowed as a Sequence value",
    "too_short": "{field_type} should have at least {min_length} item{s} after validation, not {actual_length}",
    "too_long": "{field_type} should have at most {max_length} item{s} after validation, not {actual_length}",
    "greater_than": "Input should be greater than {gt}",
    "greater_than_equal": "Input should be greater than or equal to {ge}",
    "less_than": "Input should be less than {lt}",
    "less_than_equal": "Input should be less than or equal to {le}",
    "multiple_of": "Input should be a multiple of {multiple_of}",
    "enum": "Input should be {expected}",
    "literal_error": "Input should be {expected}",
    "union_tag_invalid": "Input tag '{tag}' found using {discriminator} does not match any of the expected tags: "
    "{expected_tags}",
    "union_tag_not_found": "Unable to extract tag using discriminator {discriminator}",
    "callable_type": "Input should be callable",
    "is_instance_of": "Input should be an instance of {class}",
    "is_type": "Input should be a type",
    "is_subclass_of": "Input should be a subclass of {class}",
    "datetime_type": "Input should be a valid datetime",
    "datetime_parsing": "Input should be a valid datetime, {error}",
    "datetime_from_date_parsing": "Input should be a valid datetime or date, {error}",
    "date_type": "Input should be a valid date",
    "date_from_datetime_parsing": "Input should be a valid date or datetime, {error}",
    "date_from_datetime_inexact": "Datetimes provided to dates should have zero time - e.g. be exact dates",
    "decimal_type": "Decimal input should be an integer, float, string or Decimal object",
    "decimal_parsing": "Input should be a valid decimal",
    "value_error": "Value error, {error}",
    "assertion_error": "Assertion failed, {error}",
    "json_invalid": "Invalid JSON: {error}",
}

# Words that only complete a message; `errors()` does not show them.
_WORDING_ONLY = ("s",)


class Line:
    """One thing wrong: its type, where, with what input."""

    __slots__ = ("type", "loc", "input", "ctx", "message")

    def __init__(self, kind, loc, value, ctx=None, message=None):
        self.type = kind
        self.loc = loc
        self.input = value
        self.ctx = ctx
        self.message = message or MESSAGES[kind].format_map(ctx or {})

    def under(self, key):
        """The same complaint as seen from the container that holds the value at `key`."""
        return Line(self.type, (key, *self.loc), self.input, self.ctx, self.message)


class Invalid(Exception):
    """Raised by checks; never leaves the SDK."""

    def __init__(self, lines):
        self.lines = lines

    @classmethod
    def one(cls, kind, value, ctx=None, message=None):
        """The usual case: one complaint about the value itself."""
        return cls([Line(kind, (), value, ctx, message)])

    def under(self, key):
        """All lines, as seen from the container."""
        return [line.under(key) for line in self.lines]


def _shown(value):
    """The `repr` of an input, cut in the middle when it is longer than 50 bytes."""
    try:
        text = repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__} object>"
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= 50:
        return text
    return raw[:25].decode("utf-8", "ignore") + "..." + raw[-24:].decode("utf-8", "ignore")


class ValidationError(ValueError):
    """What a model raises when its input does not fit; reads and answers `errors()` as pydantic's does."""

    def __init__(self, title, lines):
        super().__init__()
        self.title = title
        self._lines = lines

    def __reduce__(self):
        return (_rebuild, (self.title, [(x.type, x.loc, x.input, x.ctx, x.message) for x in self._lines]))

    def error_count(self):
        """How many things are wrong."""
        return len(self._lines)

    def errors(self, *, include_url=True, include_context=True, include_input=True):
        """One mapping for each thing wrong: type, loc, msg, input, ctx (if any), url."""
        result = []
        for line in self._lines:
            entry = {"type": line.type, "loc": line.loc, "msg": line.message}
            if include_input:
                entry["input"] = line.input
            ctx = {k: v for k, v in (line.ctx or {}).items() if k not in _WORDING_ONLY}
            if include_context and ctx:
                entry["ctx"] = ctx
            if include_url:
                entry["url"] = URL + line.type
            result.append(entry)
        return result

    def json(self, *, indent=None, include_url=True, include_context=True, include_input=True):
        """`errors()` as JSON text; what JSON has no form for is shown as text."""
        import json

        entries = self.errors(include_url=include_url, include_context=include_context, include_input=include_input)
        separators = (",", ":") if indent is None else None
        return json.dumps(entries, indent=indent, separators=separators, default=str, ensure_ascii=False)

    def __str__(self):
        count = len(self._lines)
        parts = [f"{count} validation error{'' if count == 1 else 's'} for {self.title}"]
        for line in self._lines:
            if line.loc:
                parts.append(".".join(f"`{key}`" if "." in str(key) else str(key) for key in line.loc))
            about = f"type={line.type}, input_value={_shown(line.input)}, input_type={type(line.input).__name__}"
            parts.append(f"  {line.message} [{about}]")
            parts.append(f"    For further information visit {URL}{line.type}")
        return "\n".join(parts)

    __repr__ = __str__


def _rebuild(title, rows):
    return ValidationError(title, [Line(*row) for row in rows])


class SerializationError(ValueError):
    """A value that has no JSON form was to be dumped as JSON."""


class ModelUsageError(RuntimeError):
    """A model class is written in a way that cannot work; the text says what to change."""
