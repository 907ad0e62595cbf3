# SPDX-License-Identifier: Apache-2.0
"""Plugins in processes of their own, as a host starts them. A host has it, a worker does not."""

from ._host import host_only

raise host_only(__name__)
