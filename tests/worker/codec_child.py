# SPDX-License-Identifier: Apache-2.0
"""Run by test_codec.py in each interpreter: decodes and encodes again what it gets, line by line, in hexadecimal."""

import sys

sys.path.append(sys.argv[1])
import _cpexd  # noqa: E402


class Secret:
    def __init__(self, value):
        self.value = value

    def get_secret_value(self):
        return self.value


_cpexd.configure(Secret, None)
for line in sys.stdin:
    try:
        print(_cpexd.encode(_cpexd.decode(bytes.fromhex(line))).hex())
    except ValueError as exc:
        print("refused:", exc)
