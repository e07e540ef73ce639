"""Pauses of a thread whose connection failed."""

from __future__ import annotations

import random
import time

FIRST = 0.1
LONGEST = 5.0


class Backoff:
    """Pauses that grow, with jitter: all processes lose a server at the same moment."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """It works again."""
        self._next = FIRST
        self._since: float | None = None

    @property
    def is_first(self) -> bool:
        """Whether nothing has failed since it last worked."""
        return self._since is None

    @property
    def seconds(self) -> float:
        """For how long it has been failing."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def sleep(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
        time.sleep(self._next * random.uniform(0.5, 1.0))  # noqa: S311
        self._next = min(self._next * 2, LONGEST)
