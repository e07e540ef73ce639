"""What a command writes to a terminal, real or not, or into a pipe."""

from __future__ import annotations

import io
import os
import select

# After which a process that has not done its part has failed.
SECONDS = 60


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def read_until(terminal: int, text: str) -> str:
    read = b""
    while text.encode() not in read:
        assert select.select([terminal], [], [], SECONDS)[0], f"no {text!r} after {read!r}"
        read += os.read(terminal, 1024)
    return read.decode().replace("\r\n", "\n")
