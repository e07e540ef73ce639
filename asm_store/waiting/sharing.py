"""What many tasks ask at the same time is read once.

An answer serves whoever was caused to ask before its reading began: it is as new as his own
would be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from .watching import Watch

if TYPE_CHECKING:
    from .polling import Ask

# Seconds for which an answer is kept: those who wait are woken together. A large one is kept for
# those alone whom its asker leads: they ask at once.
KEPT = 1.0
KEPT_FOR_LED = 0.1


@dataclass(slots=True, eq=False)
class Reading:
    began: float
    answer: asyncio.Task[Any]
    kept_seconds: float
    askers: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


# A task belongs to its event loop.
_readings: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Reading]] = (
    WeakKeyDictionary()
)


async def read_once(ask: Ask, watch: Watch) -> Any:
    """The answer to `ask`, or to another's with the same key that is as new.

    What is read next for the watch is as new as this.
    """
    loop = asyncio.get_running_loop()
    key = watch.hub, ask.key
    readings = _readings_of(loop)
    reading = readings.get(key)
    if reading is None or reading.began <= watch.since:
        kept_seconds = KEPT if ask.is_kept else KEPT_FOR_LED * watch.is_leading
        reading = Reading(time.monotonic(), loop.create_task(_read(ask.read)), kept_seconds)
        readings[key] = reading
        reading.answer.add_done_callback(partial(_answered, readings, key, reading))
    reading.askers += 1
    watch.since = reading.began
    if not reading.answer.done():
        # Not for the task itself: whoever asked first may be cancelled, and the others still wait.
        waiting = loop.create_future()
        reading.waiting.append(waiting)
        await waiting
    answer = reading.answer.result()
    is_own = reading.askers == 1 and not reading.kept_seconds
    return answer if ask.copy is None or is_own else ask.copy(answer)


def _readings_of(loop: asyncio.AbstractEventLoop) -> dict[Hashable, Reading]:
    if (readings := _readings.get(loop)) is None:
        # Answers hold their event loop, and one that was closed calls nothing that forgets them.
        for kept in [loop() for loop in _readings.keyrefs()]:
            if kept is not None and kept.is_closed():
                _readings.pop(kept, None)
        readings = _readings.setdefault(loop, {})
    return readings


def _read(read: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    return sync_to_async(read)()


def _answered(
    readings: dict[Hashable, Reading], key: Hashable, reading: Reading, answer: asyncio.Task[Any]
) -> None:
    for waiting in reading.waiting:
        if not waiting.done():
            waiting.set_result(None)
    if not answer.cancelled():
        answer.exception()  # all who asked may be gone: then nobody else takes it
    if reading.kept_seconds:
        loop = asyncio.get_running_loop()
        loop.call_later(reading.kept_seconds, _forget, readings, key, reading)
    else:
        _forget(readings, key, reading)


def _forget(readings: dict[Hashable, Reading], key: Hashable, reading: Reading) -> None:
    if readings.get(key) is reading:
        del readings[key]
