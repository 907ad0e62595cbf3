# SPDX-License-Identifier: Apache-2.0
"""Copies that know what was changed in them: dicts, lists, and payloads made of them.

A host hands such copies to plugins whose changes it wants to see; in a worker a plugin's payload is its own anyway.
"""

from __future__ import annotations

from . import _lazily
from ._model import BaseModel, RootModel

_SHARED = (str, int, float, bool, bytes, type(None), BaseException)

__getattr__ = _lazily(__name__)


def _deepcopy(value, memo=None):
    from copy import deepcopy

    return deepcopy(value, memo)


class CopyOnWriteDict(dict):
    """A copy of a dict that keeps account of the keys that were written and deleted in it."""

    __hash__ = None

    def __init__(self, original):
        super().__init__(original)
        self._modified = {}  # for the order
        self._deleted = set()

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._modified[key] = None
        self._deleted.discard(key)

    def __delitem__(self, key):
        super().__delitem__(key)
        self._deleted.add(key)
        self._modified.pop(key, None)

    def __repr__(self):
        return f"CopyOnWriteDict({dict(self)})"

    def __eq__(self, other):
        from collections.abc import Mapping

        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ne__(self, other):
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    def __ior__(self, other):
        self.update(other)
        return self

    def __copy__(self):
        new = type(self)(self)
        new._modified, new._deleted = self._modified.copy(), self._deleted.copy()
        return new

    def __deepcopy__(self, memo):
        new = memo[id(self)] = type(self)({})
        dict.update(new, {_deepcopy(key, memo): _deepcopy(value, memo) for key, value in self.items()})
        new._modified, new._deleted = _deepcopy(self._modified, memo), _deepcopy(self._deleted, memo)
        return new

    def copy(self):
        """A plain dict."""
        return dict(self)

    def update(self, other=None, **kwargs):
        """As a dict's."""
        for key, value in {**dict(other or ()), **kwargs}.items():
            self[key] = value

    def pop(self, key, *args):
        """As a dict's."""
        if len(args) > 1:
            raise TypeError(f"pop() accepts 1 or 2 arguments ({len(args) + 1} given)")
        if args and key not in self:
            return args[0]
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """As a dict's."""
        key, value = super().popitem()
        self._deleted.add(key)
        self._modified.pop(key, None)
        return key, value

    def setdefault(self, key, default=None):
        """As a dict's."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self):
        """As a dict's."""
        self._deleted.update(self)
        self._modified.clear()
        super().clear()

    def get_modifications(self):
        """What was added or changed, in the order of the first writing."""
        return {key: self[key] for key in self._modified if key in self}

    def get_deleted(self):
        """The keys that were deleted."""
        return self._deleted.copy()

    def has_modifications(self):
        """Whether anything was written or deleted."""
        return bool(self._modified or self._deleted)


class CopyOnWriteList(list):
    """A copy of a list that knows whether it was written to."""

    __hash__ = None

    def __init__(self, original):
        super().__init__(original)
        self._modified = False

    def __repr__(self):
        return f"CopyOnWriteList({list(self)})"

    def __eq__(self, other):
        return list(self) == list(other) if isinstance(other, list) else NotImplemented

    def __ne__(self, other):
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    def __copy__(self):
        new = type(self)(self)
        new._modified = self._modified
        return new

    def __deepcopy__(self, memo):
        new = memo[id(self)] = type(self)([])
        list.extend(new, [_deepcopy(item, memo) for item in self])
        new._modified = self._modified
        return new

    def __setitem__(self, index, value):
        self._modified = True
        super().__setitem__(index, value)

    def __delitem__(self, index):
        self._modified = True
        super().__delitem__(index)

    def __iadd__(self, values):
        self._modified = True
        return super().__iadd__(values)

    def __imul__(self, count):
        self._modified = True
        return super().__imul__(count)

    def append(self, value):
        """As a list's, like all that follow."""
        self._modified = True
        super().append(value)

    def extend(self, values):
        self._modified = True
        super().extend(values)

    def insert(self, index, value):
        self._modified = True
        super().insert(index, value)

    def remove(self, value):
        self._modified = True
        super().remove(value)

    def pop(self, index=-1):
        self._modified = True
        return super().pop(index)

    def clear(self):
        self._modified = True
        super().clear()

    def sort(self, *, key=None, reverse=False):
        self._modified = True
        super().sort(key=key, reverse=reverse)

    def reverse(self):
        self._modified = True
        super().reverse()

    def copy(self):
        """A plain list."""
        return list(self)

    def has_modifications(self):
        """Whether anything was tried that would have changed it."""
        return self._modified


def copyonwrite(o):
    """The tracking copy of a dict or a list."""
    if isinstance(o, dict):
        return CopyOnWriteDict(o)
    if isinstance(o, list):
        return CopyOnWriteList(o)
    raise TypeError(f"No copy-on-write wrapper available for {type(o)}")


def _is_proxy(value):
    import weakref

    return isinstance(value, weakref.ProxyTypes)


def _isolated(value):
    """A copy of one value, tracking where there is such a copy; what cannot be copied is shared."""
    if _is_proxy(value) or isinstance(value, _SHARED):
        return value
    if isinstance(value, (dict, list)):
        return copyonwrite(value)
    if isinstance(value, BaseModel):
        return wrap_payload_for_isolation(value)
    try:
        return _deepcopy(value)
    except Exception as exc:
        import logging

        logging.getLogger(__name__).warning("a value of type %s is shared, it cannot be copied: %s", type(value).__qualname__, exc)
        return value


def wrap_payload_for_isolation(payload):
    """A payload with tracking copies in place of its dicts and lists, at the top level and in the models inside."""
    if isinstance(payload, RootModel):
        return payload.model_construct(root=_isolated(payload.root))
    values = {name: getattr(payload, name, None) for name in type(payload).model_fields}
    update = {name: _isolated(value) for name, value in values.items() if not _is_proxy(value) and not isinstance(value, _SHARED[:-1])}
    return payload.model_copy(update=update) if update else payload
