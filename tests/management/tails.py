"""`asm_tail` in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.management.terminals import SECONDS, read_until
from tests.processes import start_command


@contextmanager
def tail(*args: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    with start_command("asm_tail", *args, **streams) as process:
        try:
            yield process
        finally:
            process.kill()  # it has ended, unless something went wrong


def shown(process: subprocess.Popen[bytes], text: str) -> str:
    """What the process writes, as soon as it has written `text`."""
    assert process.stdout is not None
    return read_until(process.stdout.fileno(), text)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """The exit code, and what else the process writes."""
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, (out or b"").decode(), err.decode()
