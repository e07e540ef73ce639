"""Tells what was committed, in the background: never in an append's transaction or its thread.

PostgreSQL takes a global lock at the commit of a transaction that notified, and a statement after
each commit would cost its round trip.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

from ..db import Channel, get_operations
from .backoff import Backoff
from .hub import payload_of

logger = logging.getLogger("asm_store")

NAME = "asm_store notify"
# Seconds between two statements; what is committed meanwhile goes together, once a session.
INTERVAL = 0.005
# Seconds without anything to tell, after which the connection is closed.
IDLE = 3.0
# Seconds after which nobody needs to be told any more: they have looked for themselves.
STALE = 15.0
# Seconds that the end of the process waits for what is still to be told.
LAST_WORDS = 1.0
# Sessions that are kept while the server cannot be told, and that one statement tells of.
MOST = 10_000
MOST_AT_ONCE = 1_000


class Sender:
    """What is to be told of one database alias, and the thread that does."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.reset()

    def reset(self) -> None:
        """As new: also for a child process, whose parent goes on to tell what it has."""
        # Reentrant: a signal's handler may append in a thread that has the lock.
        self._lock = threading.RLock()
        self._pending: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._is_due = threading.Event()
        self._has_told = threading.Event()
        self._has_told.set()

    def put(self, numbers: Mapping[str, int]) -> None:
        """Tell it soon: the latest numbers of sessions, 0 where something else has changed."""
        with self._lock:
            self._merge(numbers)
            if self._thread is None:
                self._start()
        self._is_due.set()

    def _merge(self, numbers: Mapping[str, int]) -> None:
        pending = self._pending
        for session_id, number in numbers.items():
            if session_id in pending:
                # 0 is for all who wait, whatever they have seen.
                before = pending[session_id]
                pending[session_id] = max(before, number) if before and number else 0
            elif len(pending) < MOST:  # else it costs who waits the rest of his pause
                pending[session_id] = number
        self._has_told.clear()

    def flush(self, seconds: float) -> None:
        """Wait until all is told, at most so long."""
        if self._thread is not None:
            self._has_told.wait(seconds)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        with suppress(RuntimeError):  # no thread can be had: readers look for themselves
            thread.start()
            self._thread = thread

    # In the thread

    def _run(self) -> None:
        backoff = Backoff()
        channel: Channel | None = None
        try:
            while self._is_wanted():
                batch = self._taken()
                try:
                    channel = channel or get_operations(self.using).open_channel(NAME)
                    channel.notify([payload_of(*item) for item in batch.items()])
                except Exception as error:
                    _close(channel)
                    channel = None
                    self._fail(batch, error, backoff)
                else:
                    self._succeed(backoff)
        finally:
            _close(channel)
            # However it ended: the next commit starts another.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _is_wanted(self) -> bool:
        """Waits until there is something to tell; if that takes long the thread is over."""
        if self._is_due.wait(IDLE):
            self._is_due.clear()
            return True
        with self._lock:
            if not self._pending:
                self._thread = None
            return bool(self._pending)

    def _taken(self) -> dict[str, int]:
        with self._lock:
            if len(self._pending) <= MOST_AT_ONCE:
                batch, self._pending = self._pending, {}
            else:
                batch = dict(islice(self._pending.items(), MOST_AT_ONCE))
                for session_id in batch:
                    del self._pending[session_id]
                self._is_due.set()
            return batch

    def _succeed(self, backoff: Backoff) -> None:
        if not backoff.is_first:
            logger.info("who waits on %r is told again", self.using)
        backoff.reset()
        with self._lock:
            if not self._pending:
                self._has_told.set()
        time.sleep(INTERVAL)

    def _fail(self, batch: dict[str, int], error: Exception, backoff: Backoff) -> None:
        if backoff.is_first:
            logger.warning("who waits on %r is not told, and polls: %r", self.using, error)
        backoff.sleep()
        with self._lock:
            if backoff.seconds < STALE:
                self._merge(batch)
                self._is_due.set()
            elif not self._pending:
                self._has_told.set()


def _close(channel: Channel | None) -> None:
    if channel is not None:
        channel.close()
