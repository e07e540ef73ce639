"""Adaptive polling, as steps: what was found, and pauses in between.

The steps are one sync generator that only asks the database; who drives it decides how a pause is
slept. So a waiting task leaves the event loop, and the thread that Django's ORM runs in, to others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")

# What is awaited is mostly there soon (the next token), or not for long (a person types).
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing new: ask again after so many `seconds`."""

    seconds: float


Steps: TypeAlias = Iterator[Pause | Sequence[T]]


class Polling:
    """Pauses that double while nothing happens, until `timeout` seconds are over (None: never)."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.restart()

    def restart(self) -> None:
        """Something happened: begin anew."""
        self._since = time.monotonic()
        self._next = SHORTEST_PAUSE

    @property
    def is_over(self) -> bool:
        return self._left() <= 0

    def pause(self) -> Pause:
        """The next pause; the last one ends with the timeout."""
        # With jitter: those who wait for the same session should not all ask at once.
        seconds = self._next * random.uniform(0.75, 1.25)  # noqa: S311
        self._next = min(self._next * 2, LONGEST_PAUSE)
        return Pause(max(0.0, min(seconds, self._left())))

    def _left(self) -> float:
        if self.timeout is None:
            return float("inf")
        return self.timeout - (time.monotonic() - self._since)


def drive(steps: Steps[T]) -> Iterator[T]:
    """What the steps find, one by one; pauses block this thread."""
    for step in steps:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        else:
            yield from step


async def adrive(steps: Steps[T]) -> AsyncIterator[T]:
    """What the steps find, one by one; pauses leave the event loop and Django's thread free."""
    while (step := await sync_to_async(_next)(steps)) is not None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            for item in step:
                yield item


def _next(steps: Steps[T]) -> Pause | Sequence[T] | None:
    return next(steps, None)
