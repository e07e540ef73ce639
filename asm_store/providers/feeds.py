"""What a generator yields, on its way from the thread or the task that runs it.

Whoever takes it can stop waiting at any time, even when the generator blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import connections

# A producer may be so many values ahead of who takes them.
ROOM = 16


@dataclass(frozen=True, slots=True)
class Yielded:
    """A value that was yielded."""

    value: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes; `error` is what was raised."""

    error: BaseException | None


Arrival: TypeAlias = Yielded | Ended


class ThreadFeed:
    """Iterates over what `make()` returns in a daemon thread, begun when the first is wanted.

    A blocked thread cannot be stopped: it ends when what it waits for comes, and is heard no more.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make
        self._arrivals: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._tell: Callable[[], Any] = lambda: None

    def get(self, seconds: float) -> Arrival | None:
        """The next, waiting so long for it; else None."""
        self._start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrivals, seconds):
                return None
            self._changed.notify_all()
            return self._arrivals.popleft()

    async def aget(self) -> Arrival:
        """The next, from one event loop."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(news.set)

        self._tell = tell
        while (arrival := self.get(0)) is None:
            await news.wait()
            news.clear()
        return arrival

    def stop(self) -> None:
        """Take no more: the generator is closed when it yields the next time."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            run = copy_context().run
            thread = threading.Thread(target=run, args=(self._work,), daemon=True)
            thread.name = "asm_store.provider"
            self._thread = thread
            thread.start()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            self._iterate()
        except BaseException as raised:
            error = raised
        finally:
            connections.close_all()  # this thread's own
        self._put(Ended(error))

    def _iterate(self) -> None:
        values = self._make()
        for value in values:
            if not self._put(Yielded(value)):
                break
        if callable(close := getattr(values, "close", None)):
            close()

    def _put(self, arrival: Arrival) -> bool:
        """False when nobody takes it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or len(self._arrivals) < ROOM)
            if self._is_stopped:
                return False
            self._arrivals.append(arrival)
            self._changed.notify_all()
        self._tell()
        return True


class TaskFeed:
    """Iterates over what `make()` returns in a task, begun when the first is wanted."""

    def __init__(self, make: Callable[[], AsyncIterable[Any]]) -> None:
        self._make = make
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue(ROOM)
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None

    async def get(self, seconds: float) -> Arrival | None:
        """The next, waiting so long for it; else None."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(seconds):
                return await self._arrivals.get()
        except TimeoutError:
            return None

    async def stop(self, seconds: float) -> None:
        """Take no more: cancel the generator, and give it so long to clean up."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=seconds)

    async def _work(self) -> None:
        error: BaseException | None = None
        try:
            await self._iterate()
        except BaseException as raised:
            error = raised
        # Not raised, whatever it is: a KeyboardInterrupt would go through the event loop.
        if not self._is_stopped:
            await self._arrivals.put(Ended(error))

    async def _iterate(self) -> None:
        values = self._make()
        try:
            async for value in values:
                await self._arrivals.put(Yielded(value))
        finally:
            if callable(close := getattr(values, "aclose", None)):
                await close()
