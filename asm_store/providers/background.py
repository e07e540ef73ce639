"""One event loop for all the sync runs of a process whose agent is async.

An async client's open connections belong to the loop that opened them: with a loop for each run,
the second of two runs finds connections of a loop that is closed, or that is another thread's.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from .feeds import TaskFeed, Yielded

T = TypeVar("T")

# How long a generator may clean up when it is closed, in seconds.
GRACE_SECONDS = 5.0


class _Background:
    """A loop in a daemon thread, begun when it is first wanted."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new: also for a child process, which has not the thread of its parent."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                thread.name = "asm_store.providers"
                thread.start()
            return self._loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns, for a caller in another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


background = _Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.reset)


class BackgroundIterator(Iterator[Any]):
    """Iterates over what `make()` returns, in the background loop. To be closed.

    In the loop of a `LoopIterator` what blocks holds up its own run only; here, all of them.
    """

    def __init__(self, make: Callable[[], AsyncIterable[Any]]) -> None:
        self._feed = TaskFeed(make)
        self._is_stopped = False

    def __next__(self) -> Any:
        arrival = background.run(self._get())
        if isinstance(arrival, Yielded):
            return arrival.value
        self._is_stopped = True
        raise StopIteration if arrival is None or arrival.error is None else arrival.error

    def stop(self) -> None:
        """Cancel the generator, whatever it waits for; from any thread."""
        self._is_stopped = True
        background.loop.call_soon_threadsafe(self._feed.cancel)

    def close(self) -> None:
        """Cancel the generator, if it has not ended, and wait for it."""
        background.run(self._feed.stop(GRACE_SECONDS))

    async def _get(self) -> Any:
        # Seen here or not: then the task exists when the loop comes to cancel it.
        return None if self._is_stopped else await self._feed.get(None)
