"""What a generator yields, on its way from the thread or the task that runs it.

Whoever takes it can stop waiting at any time, even when the generator blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
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


def yielded(value: Any) -> Yielded:
    """`value` as it is now: who yields it may go on with the same mapping before it is taken."""
    copied = getattr(value, "copied", None)  # of an Event
    return Yielded(copied() if callable(copied) else _own(value))


def _own(value: Any) -> Any:
    if type(value) is dict:
        return {name: _own(item) for name, item in value.items()}
    return [_own(item) for item in value] if type(value) is list else value


class OwnThread:
    """Where the ORM of async code runs: who waits for that code may keep the caller's busy."""

    def __init__(self) -> None:
        self._orm = ThreadSensitiveContext()

    def context(self) -> Context:
        """The caller's, but for that."""
        context = copy_context()
        context.run(SyncToAsync.thread_sensitive_context.set, self._orm)
        return context

    def leave(self, *, is_awaited: bool = False) -> None:
        """End the thread, if there is one, with its connections; when what it does is done."""
        executor = SyncToAsync.context_to_thread_executor.pop(self._orm, None)
        if executor is not None:
            executor.submit(connections.close_all)
            executor.shutdown(wait=is_awaited)


class ThreadFeed:
    """Iterates over what `make()` returns in a daemon thread, begun when the first is wanted.

    A blocked thread is told to stop by a method `stop()` of the iterator's, if it has one. Else it
    ends when what it waits for comes, and is heard no more.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make
        self._values: Iterable[Any] = ()
        self._arrivals: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._tell: Callable[[], Any] = lambda: None
        self._orm = OwnThread()

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
            values = self._values
        if callable(stop := getattr(values, "stop", None)):
            with suppress(Exception):  # it is heard no more, whatever it says
                stop()

    def _start(self) -> None:
        if self._thread is None:
            run = self._orm.context().run
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
        try:
            connections.close_all()  # this thread's own
            self._orm.leave(is_awaited=True)
        finally:
            self._put(Ended(error))

    def _iterate(self) -> None:
        values = self._make()
        with self._changed:
            self._values = () if self._is_stopped else values
        for value in self._values:
            if not self._put(yielded(value)):
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
    """Iterates over what `make()` returns in a task, begun when the first is wanted.

    Its ORM has a thread of its own: what blocks there keeps nobody else waiting.
    """

    def __init__(self, make: Callable[[], AsyncIterable[Any]]) -> None:
        self._make = make
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue(ROOM)
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._orm = OwnThread()

    async def get(self, seconds: float | None) -> Arrival | None:
        """The next, waiting so long for it, None is for ever; else None."""
        if self._task is None:
            self._task = asyncio.create_task(self._work(), context=self._orm.context())
        try:
            async with asyncio.timeout(seconds):
                return await self._arrivals.get()
        except TimeoutError:
            return None

    def cancel(self) -> None:
        """Cancel the generator: how it ends is the last arrival."""
        if self._task is not None:
            self._task.cancel()

    async def get_all(self, seconds: float) -> list[Arrival]:
        """All that has arrived, waiting so long for the next."""
        arrivals = []
        arrival = await self.get(seconds)
        while arrival is not None:
            arrivals.append(arrival)
            arrival = None if self._arrivals.empty() else self._arrivals.get_nowait()
        return arrivals

    async def stop(self, seconds: float | None) -> None:
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
        self._orm.leave()
        # Not raised, whatever it is: a KeyboardInterrupt would go through the event loop.
        if not self._is_stopped:
            await self._arrivals.put(Ended(error))

    async def _iterate(self) -> None:
        values = self._make()
        try:
            async for value in values:
                if self._is_stopped:
                    break  # it has not let itself be cancelled
                await self._arrivals.put(yielded(value))
        finally:
            if callable(close := getattr(values, "aclose", None)):
                await close()


class LoopIterator(Iterator[Any]):
    """Iterates over what `make()` returns in an event loop of its own, in the thread that asks.

    That is how an async provider is a sync one too: `execute()` returns it. `stop()`, from any
    thread, cancels the generator, whatever it waits for.
    """

    def __init__(self, make: Callable[[], AsyncIterable[Any]]) -> None:
        self._feed = TaskFeed(make)
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._is_stopped = False

    def __next__(self) -> Any:
        if self._loop.is_closed():
            raise StopIteration
        try:
            arrival = self._runner.run(self._get())
        except BaseException:
            self.close()
            raise
        if isinstance(arrival, Yielded):
            return arrival.value
        self.close()
        raise StopIteration if arrival is None or arrival.error is None else arrival.error

    def stop(self) -> None:
        self._is_stopped = True
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._feed.cancel)

    def close(self) -> None:
        """Cancel the generator, if it has not ended, and wait for it."""
        if not self._loop.is_closed():
            self._runner.run(self._feed.stop(None))
            self._runner.close()

    async def _get(self) -> Arrival | None:
        # Seen here or not: then the task exists when the loop comes to cancel it.
        return Ended(None) if self._is_stopped else await self._feed.get(None)
