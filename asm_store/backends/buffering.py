"""What a writer was given and has not stored: when it is due, who stores it, what has failed."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

from ..exceptions import ValidationError
from ..models import Event
from . import arguments

# So many batches, or bytes of JSON, may be unflushed before `write` blocks. So many bytes are a
# batch even when they are fewer events.
MAX_BATCHES = 10
MAX_UNFLUSHED_BYTES = 32 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024

Append = Callable[[list[Event]], Any]


class Buffer:
    """The events of one session on their way to the store, oldest first; threads may share it.

    An event leaves it when it is stored, or given back on an error: whatever interrupts a store,
    nothing is lost, and to store an event twice is harmless.
    """

    def __init__(self, session_id: str, max_events: int, max_delay: float) -> None:
        self.session_id = session_id
        self.max_events = max_events
        self.max_delay = max_delay
        self.lock = threading.RLock()
        self.is_open = False
        self._was_open = False
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._since = 0.0
        self._failure: Exception | None = None
        self._storing = threading.Lock()

    def open(self) -> None:
        if self._was_open:
            raise ValidationError("a writer is for one `with` block: make another one.")
        self.is_open = self._was_open = True

    def checked(self, event: Event) -> Event:
        """A storable copy of `event`, or `ValidationError`; the buffer is unchanged."""
        self.check_open()
        record = arguments.prepared(event, Event)
        if record.session_id != self.session_id:
            raise ValidationError(f"session_id: the writer is of session {self.session_id}.")
        return record

    def check_open(self) -> None:
        if not self.is_open:
            raise ValidationError("the writer is closed: write within its `with` block.")

    def add(self, record: Event) -> bool:
        """Whether who waits for `seconds_left()` must look again. Raises what has failed."""
        with self.lock:
            self.check_open()  # another thread may have closed it since it was checked
            self._waiting.append(record)
            self._bytes += record.json_bytes
            self.raise_failure()
            if len(self._waiting) == 1:
                self._since = time.monotonic()
            return len(self._waiting) == 1 or self._is_batch

    @property
    def is_full(self) -> bool:
        """Whether a `write` has to store what there is, so that memory is bounded."""
        count = len(self._waiting)
        return count >= MAX_BATCHES * self.max_events or self._bytes >= MAX_UNFLUSHED_BYTES

    @property
    def _is_batch(self) -> bool:
        return len(self._waiting) >= self.max_events or self._bytes >= MAX_BATCH_BYTES

    def seconds_left(self) -> float:
        """How long the next batch may wait: 0 when it is due, infinity when there is none."""
        with self.lock:
            if not self._waiting or self._failure is not None:
                return math.inf
            age = time.monotonic() - self._since
            return 0.0 if self._is_batch else max(0.0, self.max_delay - age)

    def store(self, append: Append, *, raising: bool, alone: bool = True) -> None:
        """Append all that waits. With `raising`, raise what has failed, now or earlier.

        `alone`: wait until no other thread does the same, which saves storing twice.
        """
        with self._storing if alone else nullcontext():
            with self.lock:
                if raising:
                    self.raise_failure()
                batch = [] if self._failure else list(self._waiting)
                taken_at = time.monotonic()
            if not batch:
                return
            failure: Exception | None = None
            try:
                append(batch)
            except Exception as error:
                failure = error
            with self.lock:
                self._settle(batch, failure, taken_at)
                if raising:
                    self.raise_failure()

    def _settle(self, batch: list[Event], failure: Exception | None, taken_at: float) -> None:
        if failure is not None:
            self._failure = failure
            return
        stored = set(map(id, batch))
        while self._waiting and id(self._waiting[0]) in stored:
            self._bytes -= self._waiting.popleft().json_bytes
        self._since = taken_at  # the rest came after that

    def raise_failure(self) -> None:
        """Raise what has failed, once, with all that is not stored: the caller's from now on."""
        if self._failure is None:
            return
        error, self._failure = self._failure, None
        unwritten = [event.copied() for event in self._waiting]
        for event in unwritten:
            event.sequence_number = None  # given by an attempt that was rolled back
        cast("Any", error).unwritten_events = unwritten
        self._waiting.clear()
        self._bytes = 0
        raise error
