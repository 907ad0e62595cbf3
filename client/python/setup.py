# SPDX-License-Identifier: Apache-2.0
"""The extension: the client works without, and installs where it cannot be built. The rest is in pyproject.toml."""

import glob
import platform
import sys
import sysconfig

from setuptools import Extension, setup

extension = Extension(
    "_cpexd_client",
    sorted(glob.glob("src/*.c")),
    define_macros=[("_GNU_SOURCE", None), ("Py_LIMITED_API", "0x030b0000")],
    extra_compile_args=["-std=gnu17", "-fvisibility=hidden"],
    py_limited_api=True,
    optional=True,
)
fits = (
    sys.version_info >= (3, 11)
    and sys.platform == "linux"
    and platform.python_implementation() == "CPython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")  # which has no stable ABI
)
setup(
    ext_modules=[extension] if fits else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if fits else {},
)
