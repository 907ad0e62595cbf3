# SPDX-License-Identifier: Apache-2.0
"""Packages for venvs, made where they are needed."""

import base64
import hashlib
import zipfile


def wheel(folder, name, version, files, scripts=()):
    """A wheel that needs no tool to build. `scripts`: console scripts, as NAME=MODULE:FUNCTION."""
    info = f"{name}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\n" + "\n".join(scripts) + "\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for at, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{at},sha256={digest},{len(text.encode())}\n"
            archive.writestr(at, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path
