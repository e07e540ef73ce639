"""Reading and waiting, as steps: what is to be read, what was found, and pauses in between.

The steps are one generator that touches no database; who drives it decides where a question is
asked and how a pause is slept. So a waiting task leaves the event loop, and the thread that
Django's ORM runs in, to others.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from asgiref.sync import sync_to_async

from .sharing import read_once
from .watching import Watch

T = TypeVar("T")

# What is awaited is mostly there soon (the next token), or not for long (a person types).
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.5
# Who will be woken still looks: a notification can be lost.
HEARD_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing new: ask again after so many `seconds`, or when the watch is woken."""

    seconds: float
    watch: Watch


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the database, whose answer the steps are sent.

    With a `watch` that may share, tasks of its hub that ask the same, by `key`, get the same
    answer object, or what `copy` makes of it. A small one is kept for those who ask soon after.
    """

    read: Callable[[], Any]
    key: Hashable = None
    watch: Watch | None = None
    copy: Callable[[Any], Any] | None = None
    is_kept: bool = False


Step: TypeAlias = Ask | Pause | Sequence[T]
Steps: TypeAlias = Generator[Step[T], Any, None]


class Polling:
    """Pauses of `watch` until `timeout` seconds are over (None: never).

    They double while nothing happens; they are long at once for whom a hub will wake.
    """

    def __init__(self, timeout: float | None, watch: Watch) -> None:
        self.timeout = timeout
        self.watch = watch
        # Whether the last pause was the watch's first of a hub's.
        self.has_joined = False
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
        # What came before it joined is found by a look soon after it.
        self.has_joined = self.watch.join()
        if self.watch.is_heard and not self.has_joined:
            seconds = HEARD_PAUSE
        else:
            seconds = self._next
            self._next = min(self._next * 2, LONGEST_PAUSE)
        # With jitter: those who wait for the same session should not all ask at once.
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311
        return Pause(max(0.0, min(seconds, self._left())), self.watch)

    def _left(self) -> float:
        if self.timeout is None:
            return float("inf")
        return self.timeout - (time.monotonic() - self._since)


def drive(steps: Steps[T]) -> Iterator[T]:
    """What the steps find, one by one; questions and pauses block this thread."""
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Ask):
                answer = step.read()
            elif isinstance(step, Pause):
                step.watch.sleep(step.seconds)
            else:
                yield from step
    except StopIteration:
        return
    finally:
        steps.close()


async def adrive(steps: Steps[T]) -> AsyncIterator[T]:
    """What the steps find, one by one; pauses leave the event loop and Django's thread free."""
    answer: Any = None
    try:
        while (step := _next(steps, answer)) is not None:
            answer = None
            if isinstance(step, Ask):
                answer = await _asked(step)
            elif isinstance(step, Pause):
                await step.watch.asleep(step.seconds)
            else:
                for item in step:
                    yield item
    finally:
        steps.close()


def _next(steps: Steps[T], answer: Any) -> Step[T] | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


async def _asked(ask: Ask) -> Any:
    if ask.watch is None or not ask.watch.may_share:
        return await sync_to_async(ask.read)()
    return await read_once(ask, ask.watch)
