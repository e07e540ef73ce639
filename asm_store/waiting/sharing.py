"""What many tasks ask at the same time is read once.

An answer serves whoever was caused to ask before its reading began: it is as new as his own
would be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from .watching import Watch

if TYPE_CHECKING:
    from .polling import Ask

# Seconds for which a small answer is kept: those who wait are woken together.
KEPT = 1.0


@dataclass(slots=True, eq=False)
class Reading:
    began: float
    answer: asyncio.Task[Any]
    askers: int = 0


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
        reading = Reading(time.monotonic(), loop.create_task(_read(ask.read)))
        readings[key] = reading
        reading.answer.add_done_callback(partial(_answered, ask, readings, key, reading))
    reading.askers += 1
    watch.since = reading.began
    # Whoever asked first may be cancelled; the others still wait.
    answer = await asyncio.shield(reading.answer)
    return answer if ask.copy is None or reading.askers == 1 else ask.copy(answer)


def _readings_of(loop: asyncio.AbstractEventLoop) -> dict[Hashable, Reading]:
    if loop not in _readings:
        # Answers hold their event loop, and one that was closed calls nothing that forgets them.
        for kept in [loop() for loop in _readings.keyrefs()]:
            if kept is not None and kept.is_closed():
                _readings.pop(kept, None)
    return _readings.setdefault(loop, {})


def _read(read: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    return sync_to_async(read)()


def _answered(
    ask: Ask,
    readings: dict[Hashable, Reading],
    key: Hashable,
    reading: Reading,
    answer: asyncio.Task[Any],
) -> None:
    if not answer.cancelled():
        answer.exception()  # all who asked may be gone: then nobody else takes it
    if ask.is_kept:
        asyncio.get_running_loop().call_later(KEPT, _forget, readings, key, reading)
    else:
        _forget(readings, key, reading)


def _forget(readings: dict[Hashable, Reading], key: Hashable, reading: Reading) -> None:
    if readings.get(key) is reading:
        del readings[key]
