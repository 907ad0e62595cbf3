# SPDX-License-Identifier: Apache-2.0
"""The names that models' methods had in pydantic 1 and still have in pydantic 2, with a warning."""

from __future__ import annotations


def _warn(old, new):
    import warnings

    warnings.warn(f"`{old}` has been renamed to `{new}`", DeprecationWarning, stacklevel=3)


class OldNames:
    """Mixed into every model."""

    __slots__ = ()

    def dict(self, **options):
        """model_dump"""
        _warn("dict", "model_dump")
        return self.model_dump(**options)

    def json(self, **options):
        """model_dump_json"""
        _warn("json", "model_dump_json")
        return self.model_dump_json(**options)

    def copy(self, *, update=None, deep=False):
        """model_copy"""
        _warn("copy", "model_copy")
        return self.model_copy(update=update, deep=deep)

    @classmethod
    def parse_obj(cls, obj):
        """model_validate"""
        _warn("parse_obj", "model_validate")
        return cls.model_validate(obj)

    @classmethod
    def parse_raw(cls, text):
        """model_validate_json"""
        _warn("parse_raw", "model_validate_json")
        return cls.model_validate_json(text)
