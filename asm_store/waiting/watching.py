"""One who waits for a session, in a thread or a task, and may be woken before his pause is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .hub import Hub


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
        self._alarm: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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

    def wake(self, at: float) -> None:
        """End the pause, or the next one, since something happened before `at`."""
        self._woken_at = at
        self._flag.set()
        # Set after the flag was found unset, or else the flag is looked at after this was set.
        if (alarm := self._alarm) is not None:
            alarm()

    def sleep(self, seconds: float) -> None:
        """Block this thread until it is woken, at most so long."""
        self._flag.wait(seconds)
        self._begin_look()

    async def asleep(self, seconds: float) -> None:
        """The same in a task."""
        loop = asyncio.get_running_loop()
        awake = asyncio.Event()

        def alarm() -> None:
            try:
                loop.call_soon_threadsafe(awake.set)
            except RuntimeError:  # the loop is closed, and the task was left in it
                self._alarm = None

        timer = loop.call_later(seconds, awake.set)
        self._alarm = alarm
        try:
            if not self._flag.is_set():
                await awake.wait()
        finally:
            self._alarm = None
            timer.cancel()
        self._begin_look()

    def _begin_look(self) -> None:
        # Cleared before anything is read: who wakes it from now on causes another look.
        is_woken = self._flag.is_set()
        self._flag.clear()
        self.since = self._woken_at if is_woken else time.monotonic()
