# SPDX-License-Identifier: Apache-2.0
"""Whose output it is: plugins of a group have standard output and error in common, but each its own log.

A line that is written while a plugin's code runs, also in tasks that it has started, begins with its number; the daemon takes that off. What
comes from threads, child processes and C code bears none.
"""

import sys
from contextvars import ContextVar

_MARK = "\x1e"  # as daemon/pool/process.c has it
_PIECE = 2000  # characters of a long line, which the daemon would cut after 2048 bytes; of one that is not ASCII a tenth

member = ContextVar("member", default=None)


class _Marked:
    """A text stream that marks the lines of each plugin, and is that stream in all else."""

    def __init__(self, stream):
        self._stream = stream
        self._begun = {}

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        number = member.get()
        if number is None:
            return self._stream.write(text)
        *lines, rest = (self._begun.pop(number, "") + text).split("\n")
        if len(rest) > _PIECE:
            lines, rest = [*lines, rest], ""
        if rest:
            self._begun[number] = rest
        self._put(number, lines)
        return len(text)

    def _put(self, number, lines):
        for line in lines:
            size = _PIECE if line.isascii() else _PIECE // 10
            for at in range(0, len(line) or 1, size):
                self._stream.write(f"{_MARK}{number} {line[at:at + size]}\n")

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def end(self):
        """Writes the lines that were begun."""
        for number, rest in self._begun.items():
            self._put(number, [rest])
        self._begun.clear()


def mark():
    sys.stdout, sys.stderr = _Marked(sys.stdout), _Marked(sys.stderr)


def end():
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Marked):
            stream.end()
