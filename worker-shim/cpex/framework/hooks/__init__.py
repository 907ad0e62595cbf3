# SPDX-License-Identifier: Apache-2.0
"""The hooks, by what they are about."""
