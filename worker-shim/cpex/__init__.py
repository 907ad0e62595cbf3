# SPDX-License-Identifier: Apache-2.0
"""The bundled CPEX SDK: what a plugin imports, on the standard library alone.

A worker finds this package last on its path, so a venv that brings PyPI's `cpex` uses that one instead.
"""
