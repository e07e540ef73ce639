"""Hears what a database tells, and wakes those who wait for it: one connection for all of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import closing, suppress

from .. import conf, signals
from ..db import Channel, get_operations
from .backoff import Backoff
from .watching import Watch, wake_all

logger = logging.getLogger("asm_store")

NAME = "asm_store listen"
# Seconds that the connection is kept after the last one left: others mostly come soon.
LINGER = 1.5
# Seconds between two looks whether anybody is left, and between two signs of life.
STEP = 0.25
HEARTBEAT = 10.0
# A number of the database has fewer; Python refuses to read thousands.
MOST_DIGITS = 20


class PoolerError(Exception):
    """What is listened to on this connection would be another's to hear."""


class Hub:
    """The subscribers of one database alias in this process, and the thread that wakes them."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.reset()

    def reset(self) -> None:
        """As new: also for a child process, which has neither the thread nor its connection."""
        self._lock = threading.Lock()
        self._watches: dict[str, set[Watch]] = {}
        self._left: deque[Watch] = deque()
        self._alone_since: float | None = None
        self._thread: threading.Thread | None = None
        # The alias that was found to be a pooler's.
        self._refused: str | None = None
        self.is_listening = self._announced = False

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._all())

    def add(self, watch: Watch) -> bool:
        """False when it was there already."""
        with self._lock:
            self._let_go()
            watches = self._watches.setdefault(watch.session_id, set())
            is_new = watch not in watches
            watches.add(watch)
            self._alone_since = None
            if self._thread is None and self._alias() not in {None, self._refused}:
                self._start()
            return is_new

    def remove(self, watch: Watch) -> None:
        # The garbage collector may call this anywhere, also while this thread has the lock.
        self._left.append(watch)

    def _let_go(self) -> None:
        while self._left:
            watch = self._left.popleft()
            watches = self._watches.get(watch.session_id, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(watch.session_id, None)

    def _all(self) -> list[Watch]:
        with self._lock:
            self._let_go()
            return [watch for watches in self._watches.values() for watch in watches]

    def _alias(self) -> str | None:
        return conf.listen_aliases().get(self.using, self.using)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        with suppress(RuntimeError):  # no thread can be had: the next pause tries again
            thread.start()
            self._thread = thread

    # In the thread

    def _run(self) -> None:
        try:
            self._listen()
        finally:
            # However it ended: the next who waits starts another.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread, self.is_listening = None, False
            self._announce(None)

    def _listen(self) -> None:
        backoff = Backoff()
        while self._is_wanted():
            alias: str | None = None
            try:
                alias = self._alias()
                with closing(self._opened(alias)) as channel:
                    if not backoff.is_first:
                        logger.info("hearing notifications of %r again", self.using)
                    self._hear(channel, backoff)
                    return
            except PoolerError:
                self._refuse(alias)
                return
            except Exception as error:
                is_news = backoff.is_first or self.is_listening
                self._tell_listening(False, error)
                if is_news:
                    logger.warning("notifications of %r are not heard: %r", self.using, error)
                backoff.sleep()

    def _is_wanted(self) -> bool:
        """Whether anybody waits, or left only just; else the thread is none of the hub's."""
        with self._lock:
            self._let_go()
            now = time.monotonic()
            if self._watches:
                self._alone_since = None
            elif self._alone_since is None:
                self._alone_since = now
            elif now - self._alone_since > LINGER:
                self._thread, self.is_listening = None, False
                return False
            return True

    def _opened(self, alias: str | None) -> Channel:
        if alias is None:
            raise PoolerError
        channel = get_operations(alias).open_channel(NAME)
        try:
            # Who has named the alias knows.
            if self.using not in conf.listen_aliases() and not channel.is_direct():
                raise PoolerError
            channel.listen()
        except BaseException:
            channel.close()
            raise
        return channel

    def _refuse(self, alias: str | None) -> None:
        with self._lock:
            self._refused, self._thread = alias, None
        if alias is not None:
            logger.warning(
                "the database %r is behind a pooler, which cannot LISTEN: who waits there polls. "
                "Set ASM_STORE_LISTEN_ALIASES to an alias that goes to the server itself, or to "
                "None: docs/connections.md.",
                alias,
            )

    def _hear(self, channel: Channel, backoff: Backoff) -> None:
        self._tell_listening(True)
        beat = time.monotonic()
        while self._is_wanted():
            payloads = channel.hear(STEP)
            now = time.monotonic()
            for payload in payloads:
                self._spread(payload, now)
            if now - beat > HEARTBEAT:
                # It has lasted: what only opens and fails again is tried after growing pauses.
                backoff.reset()
                channel.ask_for_a_sign()
                beat = now

    def _announce(self, error: Exception | None) -> None:
        """Tell others what has changed since it was told last."""
        if self.is_listening != self._announced:
            self._announced = self.is_listening
            signals.listening_changed.send_robust(
                sender=None, using=self.using, is_listening=self._announced, error=error
            )

    def _tell_listening(self, is_listening: bool, error: Exception | None = None) -> None:
        """All look at once: what came before was not heard, or what comes will not be."""
        self.is_listening = is_listening
        wake_all(self._all(), time.monotonic())
        self._announce(error)

    def _spread(self, payload: str, now: float) -> None:
        number, session_id = parsed(payload)
        with self._lock:
            watches = list(self._watches.get(session_id, ()))
        wake_all((watch for watch in watches if not number or number > watch.seen), now)


# What is told: a session's latest number, and 0 when something else of it has changed.


def payload_of(session_id: str, number: int) -> str:
    return f"{number} {session_id}"


def parsed(payload: str) -> tuple[int, str]:
    """Number and session id; of what others sent on the channel, something harmless."""
    number, _, session_id = payload.partition(" ")
    is_number = number.isdecimal() and len(number) < MOST_DIGITS
    return (int(number) if is_number else 0), session_id
