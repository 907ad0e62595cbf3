# SPDX-License-Identifier: Apache-2.0
"""The common message format: one shape for the messages of users, models and tools."""
