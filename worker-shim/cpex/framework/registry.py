# SPDX-License-Identifier: Apache-2.0
"""The registry of loaded plugins. A host has it, a worker does not."""

from ._host import host_only

raise host_only(__name__)
