"""What a writer has taken and not yet stored; decides without waiting or storing anything."""

from __future__ import annotations

import math
import time
from typing import Any, cast

from ..exceptions import ValidationError
from ..models import Event
from . import arguments

# So many batches, or bytes of JSON, may be unflushed before `write` blocks. So many bytes are a
# batch even when they are fewer events.
MAX_BATCHES = 10
MAX_UNFLUSHED_BYTES = 32 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024


class Buffer:
    """The events of one session on their way to the store, oldest first.

    Whoever takes a batch stores it and then settles it. No other is due meanwhile, so that the
    order stays.
    """

    def __init__(self, session_id: str, max_events: int, max_delay: float) -> None:
        self.session_id = session_id
        self.max_events = max_events
        self.max_delay = max_delay
        self.is_open = False
        self._was_open = False
        self.waiting: list[Event] = []
        self.taken: list[Event] = []
        self._bytes = self._taken_bytes = 0
        self._since = 0.0
        self._failure: tuple[Exception, list[Event]] | None = None

    def open(self) -> None:
        if self._was_open:
            raise ValidationError("a writer is for one `with` block: make another one.")
        self.is_open = self._was_open = True

    def checked(self, event: Event) -> Event:
        """A storable copy of `event`, or `ValidationError`; the buffer is unchanged."""
        if not self.is_open:
            raise ValidationError("the writer is closed: write within its `with` block.")
        record = arguments.prepared(event, Event)
        if record.session_id != self.session_id:
            raise ValidationError(f"session_id: the writer is of session {self.session_id}.")
        return record

    def add(self, event: Event) -> bool:
        """Whether who waits for `seconds_left()` must look again. Raises what has failed."""
        self.raise_failure(event)
        self.waiting.append(event)
        self._bytes += event.json_bytes
        if len(self.waiting) == 1:
            self._since = time.monotonic()
            return True
        return self._is_batch

    @property
    def is_full(self) -> bool:
        """Whether a `write` has to wait; never after a failure, which it has to raise."""
        count = len(self.waiting) + len(self.taken)
        size = self._bytes + self._taken_bytes
        too_much = count >= MAX_BATCHES * self.max_events or size >= MAX_UNFLUSHED_BYTES
        return too_much and self._failure is None

    @property
    def _is_batch(self) -> bool:
        return len(self.waiting) >= self.max_events or self._bytes >= MAX_BATCH_BYTES

    def seconds_left(self) -> float:
        """How long the next batch may wait: 0 when it is due, infinity when there is none."""
        if self.taken or self._failure is not None:
            return math.inf
        return self._seconds_left()

    @property
    def is_due(self) -> bool:
        """Whether a batch should be stored, even though another may be under way."""
        return self._seconds_left() == 0

    def _seconds_left(self) -> float:
        if not self.waiting:
            return math.inf
        age = time.monotonic() - self._since
        return 0.0 if self._is_batch else max(0.0, self.max_delay - age)

    def take(self) -> list[Event]:
        """All that is not stored, also what another has taken: storing twice is harmless."""
        self.taken = [*self.taken, *self.waiting]
        self.waiting = []
        self._taken_bytes, self._bytes = self._taken_bytes + self._bytes, 0
        return self.taken

    def settle(self, batch: list[Event], error: BaseException | None) -> None:
        """Tell that `batch` is stored, or why not. What was only interrupted waits once more."""
        if self.taken is batch:
            self.taken, self._taken_bytes = [], 0
        if isinstance(error, Exception):
            self._failure = (error, batch)
        elif error is not None:
            self.waiting[:0] = batch

    def raise_failure(self, *more: Event) -> None:
        """Raise what has failed, once, with all that is not stored: the caller's from now on."""
        if self._failure is None:
            return
        error, batch = self._failure
        cast("Any", error).unwritten_events = [*batch, *self.waiting, *more]
        self._failure, self.waiting, self._bytes = None, [], 0
        raise error
