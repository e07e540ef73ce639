"""Tells what was committed, over a connection beside Django's: never in an append's transaction.

PostgreSQL takes a global lock at the commit of a transaction that notified, and a statement after
each commit would cost its round trip. So the thread that committed only sends the statement, when
nothing is in the way, and waits for nothing: that is cheaper than to wake another thread. What it
cannot send at once is told by a thread, which also connects, and is there for what goes wrong.
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
# Seconds between two statements; what is committed meanwhile goes together, once a session. They
# are more in a process that commits so often meanwhile: telling it all would slow it down.
INTERVAL = 0.01
BUSY_INTERVAL = 0.02
BUSY = 3
# Seconds without anything to tell, after which the connection is closed: before the five that
# DROP DATABASE waits for others to go.
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
        # What was sent and is not answered yet.
        self._sent: dict[str, int] = {}
        self._sent_at = 0.0
        self._interval = INTERVAL
        self._commits = 0
        # None while the thread uses it.
        self._channel: Channel | None = None
        self._thread: threading.Thread | None = None
        self._is_due = threading.Event()
        self._has_told = threading.Event()
        self._has_told.set()

    def put(self, numbers: Mapping[str, int]) -> None:
        """Tell it soon: the latest numbers of sessions, 0 where something else has changed."""
        with self._lock:
            self._commits += 1
            self._merge(numbers)
            if self._thread is None:
                self._start()
            elif self._is_sent_at_once():
                return
        if not self._is_due.is_set():  # which is cheaper than to set it once more
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

    def _is_sent_at_once(self) -> bool:
        channel = self._channel
        if channel is None or self._pause_left() > 0 or len(self._pending) > MOST_AT_ONCE:
            return False
        try:
            if not channel.has_answered():
                return False
            # A signal's handler that appends now finds that nothing is left to send.
            self._sent, self._pending = self._pending, {}
            self._note_sending()
            channel.send(_payloads(self._sent))
        except Exception:  # the thread meets the same, and knows what to do
            self._merge(self._sent)
            self._sent = {}
            return False
        return True

    def _note_sending(self) -> None:
        self._sent_at = time.monotonic()
        self._interval = BUSY_INTERVAL if self._commits >= BUSY else INTERVAL
        self._commits = 0

    def _pause_left(self) -> float:
        return self._sent_at + self._interval - time.monotonic()

    def flush(self, seconds: float) -> None:
        """Wait until all is told, at most so long."""
        if self._thread is not None:
            self._is_due.set()
            self._has_told.wait(seconds)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        with suppress(RuntimeError):  # no thread can be had: readers look for themselves
            thread.start()
            self._thread = thread

    # In the thread

    def _run(self) -> None:
        backoff = Backoff()
        try:
            while self._is_wanted():
                time.sleep(max(0.0, self._pause_left()))
                channel, batch = self._taken()
                try:
                    channel = channel or get_operations(self.using).open_channel(NAME)
                    channel.notify(_payloads(batch))
                except Exception as error:
                    _close(channel)
                    self._fail(batch, error, backoff)
                else:
                    self._succeed(channel, batch, backoff)
        finally:
            # However it ended: the next commit starts another.
            self._end()

    def _is_wanted(self) -> bool:
        """Waits until there is something to do; if that takes long the thread is over."""
        while not self._is_due.wait(max(0.0, self._idle_left())):
            with self._lock:
                is_idle = self._idle_left() <= 0
                if self._pending or (is_idle and self._sent):
                    break
                if is_idle:
                    self._end()
                    return False
        self._is_due.clear()
        return True

    def _idle_left(self) -> float:
        return self._sent_at + IDLE - time.monotonic()

    def _end(self) -> None:
        with self._lock:
            if self._thread is threading.current_thread():
                channel, self._channel, self._thread = self._channel, None, None
                _close(channel)

    def _taken(self) -> tuple[Channel | None, dict[str, int]]:
        """The connection, of this thread alone now, and what is to be told over it."""
        with self._lock:
            channel, self._channel = self._channel, None
            if len(self._pending) <= MOST_AT_ONCE:
                batch, self._pending = self._pending, {}
            else:
                batch = dict(islice(self._pending.items(), MOST_AT_ONCE))
                for session_id in batch:
                    del self._pending[session_id]
                self._is_due.set()
            return channel, batch

    def _succeed(self, channel: Channel, batch: dict[str, int], backoff: Backoff) -> None:
        if not backoff.is_first:
            logger.info("who waits on %r is told again", self.using)
        backoff.reset()
        with self._lock:
            self._channel, self._sent = channel, {}
            if batch:
                self._note_sending()
            if not self._pending:
                self._has_told.set()

    def _fail(self, batch: dict[str, int], error: Exception, backoff: Backoff) -> None:
        if backoff.is_first:
            logger.warning("who waits on %r is not told, and polls: %r", self.using, error)
        backoff.sleep()
        with self._lock:
            if backoff.seconds < STALE:
                self._merge(batch)
                self._merge(self._sent)
                self._is_due.set()
            elif not self._pending:
                self._has_told.set()
            self._sent = {}


def _payloads(numbers: Mapping[str, int]) -> list[str]:
    return [payload_of(*item) for item in numbers.items()]


def _close(channel: Channel | None) -> None:
    if channel is not None:
        channel.close()
