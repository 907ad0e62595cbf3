# SPDX-License-Identifier: Apache-2.0
"""`SecretStr`: a string that prints, logs and serializes as asterisks."""

from __future__ import annotations

_MASK = "**********"


class SecretStr:
    """Keeps a credential out of logs; `get_secret_value()` gives it back."""

    __slots__ = ("_secret_value",)

    def __init__(self, secret_value):
        self._secret_value = secret_value

    def get_secret_value(self):
        """The real string."""
        return self._secret_value

    def _display(self):
        return _MASK if self._secret_value else ""

    def __str__(self):
        return self._display()

    def __repr__(self):
        return f"SecretStr({self._display()!r})"

    def __len__(self):
        return len(self._secret_value)

    def __eq__(self, other):
        return isinstance(other, SecretStr) and self._secret_value == other._secret_value

    def __hash__(self):
        return hash(self._secret_value)

    def __reduce__(self):
        return (SecretStr, (self._secret_value,))
