# SPDX-License-Identifier: Apache-2.0
"""Which fields of a payload plugins may change; hosts apply these policies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .. import _lazily
from .._fields import MISSING
from .._model import BaseModel

__getattr__ = _lazily(__name__)


class DefaultHookPolicy(str, Enum):
    """What holds for a hook without a policy of its own."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True)
class HookPayloadPolicy:
    """The fields that may be changed."""

    writable_fields: frozenset[str]


def _same(old, new):
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        return old.model_dump() == new.model_dump()
    return new == old


def apply_policy(original, modified, policy, *, apply_to=None):
    """The payload with the changes that the policy allows; None when there are none."""
    changed = {}
    refused = []
    for name in type(modified).model_fields:
        new = getattr(modified, name, MISSING)
        if new is MISSING or _same(getattr(original, name, MISSING), new):
            continue
        if name in policy.writable_fields:
            changed[name] = new
        else:
            refused.append(name)
    if refused:
        import logging

        logging.getLogger(__name__).warning("the policy keeps these fields as they were: %s", refused)
    target = original if apply_to is None else apply_to
    return target.model_copy(update=changed) if changed else None
