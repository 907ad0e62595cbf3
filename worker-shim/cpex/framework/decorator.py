# SPDX-License-Identifier: Apache-2.0
"""`@hook`: marks a method as the handler of a hook whose name it does not bear."""

from __future__ import annotations

from . import _lazily

_HOOK_METADATA_ATTR = "_plugin_hook_metadata"

__getattr__ = _lazily(__name__)


class HookMetadata:
    """Which hooks a method handles, and with which types for hooks of the plugin's own."""

    def __init__(self, hook_types, payload_type=None, result_type=None):
        self.hook_types = hook_types
        self.payload_type = payload_type
        self.result_type = result_type

    @property
    def hook_type(self):
        """The first hook, "" if there is none."""
        return self.hook_types[0] if self.hook_types else ""

    def matches(self, hook_type):
        """Whether the method handles this hook."""
        return hook_type in self.hook_types


def hook(hook_type, payload_type=None, result_type=None):
    """Mark a method as handler of one hook or several."""

    def decorator(func):
        names = [hook_type] if isinstance(hook_type, str) else list(hook_type)
        setattr(func, _HOOK_METADATA_ATTR, HookMetadata(names, payload_type, result_type))
        return func

    return decorator


def get_hook_metadata(func):
    """The mark of a method, or None."""
    return getattr(func, _HOOK_METADATA_ATTR, None)


def has_hook_metadata(func):
    """Whether a method is marked."""
    return hasattr(func, _HOOK_METADATA_ATTR)
