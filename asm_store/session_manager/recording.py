"""What a run's provider yields, on its way to the store: deltas in batches, all else at once.

Nothing is stored of a run that has ended, whoever ended it; and no other thread stores, so that
many runs in one event loop share its one connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..backends.base import BaseSessionStore
from ..exceptions import EventConflict
from ..models import Event, Run
from .arrivals import check_running, failed

T = TypeVar("T")

# A batch of deltas is stored when it has so many, or when its first is so many seconds old.
MAX_DELTAS = 100
MAX_DELAY = 0.1


class Recorder:
    """Keeps the events of one run, in their order, while it is running; else raises `Stop`."""

    def __init__(self, store: BaseSessionStore, run: Run) -> None:
        self._store = store
        self._run_id = run.id
        self._buffer = store._buffer(run.session_id, MAX_DELTAS, MAX_DELAY)
        self._buffer.open()

    @property
    def seconds_left(self) -> float:
        """How long `store_due()` may wait; infinity when there is nothing to store."""
        return self._buffer.seconds_left()

    def write(self, delta: Event) -> Event:
        """Store it with the next batch, and return it as it will be stored."""
        record = self._buffer.checked(delta)
        self._buffer.add(record)
        self.store_due()
        return record

    def store_due(self) -> None:
        if self._buffer.seconds_left() == 0:
            self.flush()

    def flush(self) -> None:
        self._buffer.store(self._append_all, raising=True)

    def append(self, event: Event) -> Event:
        """Store it now, after what was written, and return it with its number."""
        self.flush()
        return self._guarded(lambda: self._store.append_event_with_sequence(event))

    def _append_all(self, deltas: list[Event]) -> None:
        try:
            self._guarded(lambda: self._store._append(deltas, None))
        except EventConflict:
            # An id of the provider's own is taken: that delta is not to take others with it.
            for delta in deltas:
                self._guarded_one(delta)

    def _guarded_one(self, delta: Event) -> None:
        try:
            self._guarded(lambda: self._store._append([delta], None))
        except EventConflict as error:
            raise failed(error) from error

    def _guarded(self, append: Callable[[], T]) -> T:
        def body() -> T:
            stored = append()
            # Asked under the lock that the append took, which whoever ends a run takes too.
            check_running(self._store.get_run(self._run_id))
            return stored

        return self._store._atomically(body)
