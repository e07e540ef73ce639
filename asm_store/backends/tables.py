"""What a store on Django's tables does with them: its rows, locks, transactions, and news."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from django.db import connections, models, transaction
from django.dispatch import Signal

from ..db import BaseOperations, get_operations
from ..models import Event, Record, Run, Session, SessionSequence
from ..querysets import EventQuerySet, RunQuerySet, SessionQuerySet
from ..records import copied
from ..waiting import Watch, hub_of, tell
from . import transactions
from .reading import session_not_found

T = TypeVar("T")
RecordType = TypeVar("RecordType", bound=Record)


class Tables:
    """What each operation of `DatabaseSessionStore` is made of."""

    using: str

    def _watch(self, session_id: str) -> Watch:
        return Watch(session_id, hub_of(self.using))

    def _is_in_block(self) -> bool:
        return transactions.is_joined(self.using)

    @property
    def _operations(self) -> BaseOperations:
        return get_operations(self.using)

    def _sessions(self) -> SessionQuerySet:
        return Session.objects.using(self.using)

    def _counters(self, session_ids: Iterable[str]) -> models.QuerySet[SessionSequence]:
        return SessionSequence.objects.using(self.using).filter(session_id__in=session_ids)

    def _runs(self) -> RunQuerySet:
        return Run.objects.using(self.using)

    def _events(self) -> EventQuerySet:
        return Event.objects.using(self.using)

    def _read(self, body: Callable[[], T]) -> T:
        return transactions.read(self.using, body)

    def _write(
        self,
        body: Callable[[], T],
        after_collision: Callable[[], T] | None = None,
        alone: Callable[[], T | None] | None = None,
    ) -> T:
        return transactions.write(self.using, body, after_collision, alone)

    def _lock_counters(self, session_ids: Iterable[str]) -> dict[str, int]:
        """The latest numbers of the sessions that have a counter, locked in the order of ids."""
        latest: dict[str, int] = {}
        for some in self._operations.slices(sorted(session_ids)):
            counters = SessionSequence.objects.using(self.using).locked(some)
            latest.update(counters.values_list("session_id", "last_sequence"))
        return latest

    def _lock_session(self, session_id: str) -> tuple[Any, ...]:
        """`(deleted_at,)` of a session that stays as it is until the transaction ends."""
        rows = self._operations.lock_shared(self._sessions().filter(id=session_id), "deleted_at")
        if not rows:
            raise session_not_found(session_id)
        return rows[0]

    def _by_id(self, rows: models.QuerySet[Any], ids: Iterable[Any]) -> Iterator[Any]:
        for some in self._operations.slices(sorted(ids)):
            yield from rows.filter(id__in=some)

    def _insert(self, record: Session | Run) -> None:
        # Not save(): it would send Django's signals, and look for the row once more. A row that
        # another writer has stored meanwhile is an IntegrityError, and `_write` begins anew.
        manager: models.Manager[Any] = type(record)._base_manager
        manager.using(self.using).bulk_create([record])

    def _as_stored(self, record: RecordType) -> RecordType:
        record._state.adding, record._state.db = False, self.using
        record.__dict__.pop("json_texts", None)
        return record

    def _after_commit(self, signal: Signal, numbers: Mapping[str, int], **arguments: Any) -> None:
        if connections[self.using].savepoint_ids:
            # In the caller's block there is time to change the record before it is told of.
            arguments = {name: copied(value) for name, value in arguments.items()}

        def send() -> None:
            try:
                tell(self.using, numbers)
            finally:  # a setting that cannot be read keeps no receiver from hearing of it
                signal.send_robust(sender=type(self), store=self, **arguments)

        transaction.on_commit(send, using=self.using, robust=True)

    @staticmethod
    def _delete_rows(rows: models.QuerySet[Any]) -> None:
        # Not delete(): Django would first load the rows that refer to these, which go as well.
        rows._raw_delete(rows.db)
