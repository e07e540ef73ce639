"""Ctrl-C and SIGTERM, which end a command where nothing is half done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody wants the command to end.

    The first of the `SIGNALS` is only noted while work goes on that asks for it (`deferred()`).
    Every other is a KeyboardInterrupt, SIGTERM too.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._is_deferred = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """For the main thread of a process of its own. What is ignored stays ignored."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        own = [number for number, handler in before.items() if handler != signal.SIG_IGN]
        for number in own:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number in own:
                signal.signal(number, before[number])

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_first = self.signal is None
        self.signal = signal.Signals(number)
        if not (is_first and self._is_deferred):
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """What a shell says of a program that such a signal has ended."""
        return 128 + (self.signal or 0)
