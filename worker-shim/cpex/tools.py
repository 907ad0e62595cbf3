# SPDX-License-Identifier: Apache-2.0
"""The command line of the framework. A host has it, a worker does not."""

from .framework._host import host_only

raise host_only(__name__)
