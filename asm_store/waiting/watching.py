"""One who waits for a session, in a thread or a task, and may be woken before his pause is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from .hub import Hub

Alarm: TypeAlias = asyncio.Future[None]

# So many tasks are woken one after the other: first one, then the rest.
CROWD = 20


class Watch:
    """A context manager: it belongs to a hub from its first pause on, and no longer at the end.

    Without a hub nothing wakes it. One thread or task waits at a time; `wake()` is anybody's.
    """

    def __init__(self, session_id: str, hub: Hub | None = None) -> None:
        self.session_id = session_id
        # The latest number that was seen; news of it, and of earlier ones, are none.
        self.seen = 0
        # When the look that is under way was caused: what was read since then may be shared.
        self.since = time.monotonic()
        # Whether what others of the hub read is what this one would.
        self.may_share = False
        self.hub = hub
        self._has_joined = False
        self._woken_at = self.since
        self._flag = threading.Event()
        self._alarm: Alarm | None = None
        # Of tasks that are woken when this one has read.
        self._led: list[Alarm] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.has_read()
        if self.hub is not None and self._has_joined:
            self.hub.remove(self)

    def join(self) -> bool:
        """Belong to the hub from now on; whether this is new, so that one must look once more."""
        if self.hub is None:
            return False
        self._has_joined = True
        return self.hub.add(self)

    @property
    def is_heard(self) -> bool:
        """Whether the hub would wake it."""
        return self.hub is not None and self.hub.is_listening

    @property
    def is_leading(self) -> bool:
        """Whether others are woken once this one has read."""
        return bool(self._led)

    def wake(self, at: float) -> None:
        """End the pause, or the next one, since something happened before `at`."""
        wake_all([self], at)

    def has_read(self) -> None:
        """What others wait for is there: call it before the caller goes on to something else."""
        led, self._led = self._led, []
        if led:
            _call(led[0].get_loop(), _ring, led)

    def sleep(self, seconds: float) -> None:
        """Block this thread until it is woken, at most so long."""
        self._flag.wait(seconds)
        self._begin_look()

    async def asleep(self, seconds: float) -> None:
        """The same in a task."""
        self.has_read()
        loop = asyncio.get_running_loop()
        self._alarm = alarm = loop.create_future()
        timer = loop.call_later(seconds, _ring, [alarm])
        try:
            if not self._flag.is_set():
                await alarm
        finally:
            self._alarm = None
            timer.cancel()
        self._begin_look()

    def _begin_look(self) -> None:
        # Cleared before anything is read: who wakes it from now on causes another look.
        is_woken = self._flag.is_set()
        self._flag.clear()
        self.since = self._woken_at if is_woken else time.monotonic()


def wake_all(watches: Iterable[Watch], at: float) -> None:
    """`wake()` them all: an event loop is told once, however many of its tasks wait."""
    asleep: dict[asyncio.AbstractEventLoop, list[Watch]] = defaultdict(list)
    for watch in watches:
        watch._woken_at = at
        watch._flag.set()
        # Set after the flag was found unset, or else the flag is looked at after this was set.
        if (alarm := watch._alarm) is not None:
            asleep[alarm.get_loop()].append(watch)
    for loop, those in asleep.items():
        _call(loop, _ring_crowd, those)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    with suppress(RuntimeError):  # the loop is closed, and its tasks were left in it
        loop.call_soon_threadsafe(function, *args)


def _ring_crowd(watches: Iterable[Watch]) -> None:
    alarms = [(watch, watch._alarm) for watch in watches if watch._alarm is not None]
    if len(alarms) >= CROWD:
        # The others will find what the first has read. All at once, each of them would wait for
        # it: twice, and it for them.
        alarms[0][0]._led = [alarm for _watch, alarm in alarms[1:]]
        del alarms[1:]
    _ring(alarm for _watch, alarm in alarms)


def _ring(alarms: Iterable[Alarm]) -> None:
    for alarm in alarms:
        if not alarm.done():
            alarm.set_result(None)
