# SPDX-License-Identifier: Apache-2.0
"""The error for names that belong to a host and not to a plugin."""

from __future__ import annotations


def host_only(module, name):
    """An ImportError that says where the name lives."""
    return ImportError(
        f"{module}.{name} is part of the host: it lives in PyPI's cpex, not in the SDK of a plugin worker. "
        "A plugin that needs it has to list cpex in its requirements.",
        name=module,
    )
