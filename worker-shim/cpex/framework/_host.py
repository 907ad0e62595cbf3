# SPDX-License-Identifier: Apache-2.0
"""The errors for what belongs to a host and not to a plugin."""

from __future__ import annotations


def host_only(module, name=None):
    """An ImportError that says where a name lives, or a whole module."""
    what = f"{module}.{name}" if name else module
    return ImportError(
        f"{what} is part of the host: it lives in PyPI's cpex, not in the SDK of a plugin worker. "
        "A plugin that needs it has to list cpex in its requirements.",
        name=module,
    )
