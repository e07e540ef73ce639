"""How far a long command is, told on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.core.management.base import OutputWrapper

SHOWN_EVERY = 0.2
T = TypeVar("T")


@contextmanager
def progress_line(
    stderr: OutputWrapper, describe: Callable[[T], str], *, shown: bool
) -> Iterator[Callable[[T], None]]:
    """A line on the terminal that is written over; nothing where nobody would see it."""
    on_terminal = shown and stderr.isatty()
    shown_at = time.monotonic()

    def show(report: T) -> None:
        nonlocal shown_at
        if on_terminal and time.monotonic() - shown_at >= SHOWN_EVERY:
            shown_at = time.monotonic()
            _overwrite(describe(report))

    try:
        yield show
    finally:
        if on_terminal:
            _overwrite("")


def _overwrite(line: str) -> None:
    sys.stderr.write(f"\r{line[:78]:<78}\r{line[:78]}")
    sys.stderr.flush()
