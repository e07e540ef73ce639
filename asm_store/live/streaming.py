"""A session as Server-Sent Events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import Error

from ..backends.arguments import EventFilter
from ..backends.reading import Progress
from ..events.sanitizing import ENCODER
from ..exceptions import SessionNotFound, StorageError
from ..models import Session
from .answers import Refusal

if TYPE_CHECKING:
    from ..backends.base import BaseSessionStore

logger = logging.getLogger("asm_store")

# How long a browser waits before it connects anew, in milliseconds.
RETRY = b"retry: 3000\n\n"
HEARTBEAT = b": still here\n\n"
# Seconds that a round lasts at least: without events each costs queries.
SHORTEST_ROUND = 0.05


@dataclass
class EventStream:
    """The frames of one stream, with what it does between the events.

    It follows the session in rounds: each ends when nothing came for as long as until the next
    heartbeat, or when it is time to ask for the permission again.
    """

    store: BaseSessionStore
    wanted: EventFilter
    progress: Progress  # as it was before the round
    ask: Callable[[], Awaitable[bool]]  # may payloads be seen? `Refusal`: nothing any more
    heartbeat_seconds: float
    permission_seconds: float
    _sent_at: float = field(default_factory=time.monotonic)
    _asked_at: float = field(default_factory=time.monotonic)
    _was_broken_off: bool = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """When the database fails they break off, without `end`: the browser connects anew.

        Nothing is raised then, since Django would not finish the request, and its connection
        would stay open.
        """
        try:
            async with aclosing(self._frames()) as frames:
                async for frame in frames:
                    yield frame
        except (StorageError, Error):
            logger.exception("The database failed in a stream of %r.", self.wanted.session_id)

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        yield RETRY
        while True:
            with suppress(SessionNotFound):  # deleted: that is asked next
                async with aclosing(self._round()) as frames:
                    async for frame in frames:
                        yield frame
                        self._sent_at = time.monotonic()
            if (reason := await self._reason_to_end()) is not None:
                break
            if self._left(self._sent_at, self.heartbeat_seconds) <= 0:
                yield HEARTBEAT
                self._sent_at = time.monotonic()
        yield self._end(reason)

    async def _round(self) -> AsyncGenerator[bytes, None]:
        left = min(
            self._left(self._sent_at, self.heartbeat_seconds),
            self._left(self._asked_at, self.permission_seconds),
        )
        idle = max(SHORTEST_ROUND, left)
        self._was_broken_off = False
        async with aclosing(self.store._afollow_lines(self.wanted, idle)) as lines:
            async for number, line in lines:
                yield _frame(number, line)
                self.wanted = replace(self.wanted, after=number)
                if self._must_ask:
                    self._was_broken_off = True
                    return

    async def _reason_to_end(self) -> str | None:
        had_ended = self.progress.has_ended and not self._was_broken_off
        if not self._was_broken_off:
            # All up to there has been looked at.
            after = max(self.wanted.after or 0, self.progress.latest_sequence)
            self.wanted = replace(self.wanted, after=after)
        try:
            await self._look_again()
        except SessionNotFound:
            return "deleted"
        except Refusal:
            return "forbidden"
        # It may have been opened again, or deleted, during the round.
        is_all = self.progress.latest_sequence == self.wanted.after
        if not (had_ended and is_all and self.progress.has_ended):
            return None
        return "ended" if self.progress.status in Session.TERMINAL_STATUSES else "deleted"

    async def _look_again(self) -> None:
        session_id = self.wanted.session_id
        progress = await sync_to_async(self.store._get_progress)(session_id)
        if progress is None or progress.latest_sequence < (self.wanted.after or 0):
            raise SessionNotFound(f"session {session_id} is gone, or another one by now.")
        self.progress = progress
        if self._must_ask:
            self.wanted = replace(self.wanted, payloads=await self.ask())
            self._asked_at = time.monotonic()

    @property
    def _must_ask(self) -> bool:
        return self._left(self._asked_at, self.permission_seconds) <= 0

    @staticmethod
    def _left(since: float, seconds: float) -> float:
        return since + seconds - time.monotonic()

    def _end(self, reason: str) -> bytes:
        """The browser shall close; one that connects anew with this number is told again."""
        said = {"reason": reason, "status": self.progress.status}
        number = b"id: %d\n" % (self.wanted.after or 0) if self.progress.has_ended else b""
        return b"%bevent: end\ndata: %b\n\n" % (number, ENCODER.encode(said).encode())


def _frame(number: int, line: bytes) -> bytes:
    # A carriage return would end the line too; within JSON it is white space.
    return b"id: %d\ndata: %b\n\n" % (number, line.rstrip().replace(b"\r", b" "))
