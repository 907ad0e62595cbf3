# SPDX-License-Identifier: Apache-2.0
"""Keeps secrets out of errors. Imported when there is one.

An error goes into the daemon's log and from the host into others, and exceptions quote what they stumble over: a token that
cannot be parsed, the input of a validation error. So the secrets of a call are replaced in every text of its error.
"""

import re

from _cpexd import decode

_MASK = "**********"
_LENGTH_MIN = 12  # of what is looked for (CPEX's number): a shorter text is part of others by chance
_LEVELS = 3  # of maps in a payload or in extensions, where headers may stand
_FRAGMENT = 4  # characters of a secret that betray it in an input, which is shown cut in the middle
_ODD_MAX = 4096  # characters of a secret that is looked for in its escaped forms, too
_QUOTES = frozenset("'\"\\")
_HEADERS = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")
_INPUT = re.compile(r"input_value=(.*), input_type=")


def of_call(params, payload_class):
    """The secrets in the parameters of an invoke: what is one by its type, and what credentials are called elsewhere."""
    found = set()
    try:
        payload = decode(params["payload"])
    except Exception:
        payload = None
    if isinstance(payload, dict):
        fields = getattr(payload_class, "model_fields", {})
        for name, value in payload.items():
            if "SecretStr" in str(getattr(fields.get(name), "annotation", "")):
                _add(found, value)
    _collect(found, payload, _LEVELS)
    _collect(found, params.get("extensions"), _LEVELS)
    return sorted(found, key=len, reverse=True)


def hide(value, secrets):
    """`value` with the secrets replaced in all its texts."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _MASK)
            if len(secret) <= _ODD_MAX and not (secret.isprintable() and _QUOTES.isdisjoint(secret)):
                value = _escaped(secret).sub(_MASK, value)
        return _INPUT.sub(lambda match: _input(match, secrets), value)
    if isinstance(value, dict):
        return {hide(key, secrets): hide(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(item, secrets) for item in value]
    return value


def without_inputs(text):
    """A text without what validation errors in it quote: any of it may be a secret where a configuration is validated."""
    return _INPUT.sub("input_type=", text)


def _collect(found, value, levels):
    if hasattr(value, "get_secret_value"):
        _add(found, value)
    elif levels and isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and (key.lower() in _HEADERS or key == "credentials") and isinstance(item, str):
                _add(found, item)
                _add(found, item.partition(" ")[2])  # without "Bearer"
            else:
                _collect(found, item, levels - 1)


def _add(found, value):
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    text = value if isinstance(value, str) else str(value)
    if len(text) >= _LENGTH_MIN:
        found.add(text)


def _escaped(secret):
    """A pattern of the secret as repr() shows it, alone or inside of other texts, which escape it again."""
    parts = []
    for char in secret:
        behind_backslash = parts and parts[-1] == r"\\+"
        if char == "\\":
            parts += [] if behind_backslash else [r"\\+"]  # never twice: that would take for ever to fail
        elif char in _QUOTES:
            parts.append(char if behind_backslash else rf"\\*{char}")
        elif char.isprintable():
            parts.append(re.escape(char))
        else:
            parts.append(rf"(?:{re.escape(char)}|\\+{re.escape(repr(char)[2:-1])})")
    return re.compile("".join(parts))


def _input(match, secrets):
    shown = match[1]
    for at in range(len(shown) - _FRAGMENT + 1):
        if any(shown[at : at + _FRAGMENT] in secret for secret in secrets):
            return f"input_value={_MASK}, input_type="
    return match[0]
