"""Sessions in the tables of `asm_store.models`, on any database that Django supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, TypeVar

from django.db import connections
from django.db.models import Max, OuterRef, Subquery
from django.utils import timezone

from .. import contents, signals
from ..exceptions import SequenceConflict, SessionDeleted, ValidationError
from ..marks import mark, mark_saved, mark_sessions
from ..models import Artifact, Event, Run, Session, SessionSequence
from ..records import columns_of
from ..sums import SessionSum
from . import selecting
from .appending import Stored, plan_append
from .arguments import EventFilter
from .base import BaseSessionStore, Change, run_not_found
from .reading import Progress, session_not_found
from .tables import Tables

T = TypeVar("T")

# Locks are always taken in this order, so that no two writes wait for each other: counters by
# session id, then the parent, then sessions by id, then runs and events.


class _NotThatSimple(Exception):
    """What a short way has begun is to be done the long way."""


class DatabaseSessionStore(Tables, BaseSessionStore):
    """Keeps sessions in the database of the alias `using`; writes join the caller's `atomic()`.

    Outside such a block a write has a transaction of its own, which is tried again while the
    database is busy or away (`ASM_STORE_RETRY_SECONDS`). Missing tables: `MigrationRequired`.
    `share_reads=False`: tasks that follow a session do not share what they read.
    """

    supports_transactions: ClassVar[bool] = True
    supports_processes: ClassVar[bool] = True

    def __init__(
        self, using: str = "default", *, alias: str | None = None, share_reads: bool = True
    ) -> None:
        super().__init__(alias=alias)
        if not isinstance(using, str):
            raise TypeError(f"using: expected the alias of a database, got {using!r}")
        self.using = using
        self._share_reads = share_reads

    def __repr__(self) -> str:
        return f"{type(self).__name__}(using={self.using!r})"

    # Sessions

    def _save_session(self, session: Session) -> Session:
        return self._write(partial(self._store_session, session))

    def _store_session(self, session: Session) -> Session:
        session = session.copied()  # a retry starts from what the caller gave
        latest = self._lock_or_make_counter(session)
        if session.parent_session_id is not None:
            self._lock_session(session.parent_session_id)
        stored = self._sessions().filter(id=session.id)
        # A locking read: a plain one may not see what the block's snapshot does not hold.
        before = stored.select_for_update().only("agent_id", "created_at", "deleted_at").first()
        if before is None:
            self._insert(session)
        else:
            session.deleted_at = session.deleted_at or before.deleted_at
            stored.update(**columns_of(session))
            if latest == 0:
                self._heal_counter(session.id)
        mark_saved(self.using, session, before, has_events=latest > 0)
        session = self._as_stored(session)
        self._after_commit(signals.session_saved, {session.id: 0}, session=session)
        return session

    def _lock_or_make_counter(self, session: Session) -> int:
        """Lock the counters of the session and its parent; the session's latest number.

        A counter is made here, and never by an append: that could outrun a hard delete. What
        meets a counter that is there may leave it unlocked, so the lock comes after it.
        """
        counter = SessionSequence(session_id=session.id, updated_at=session.updated_at)
        ids = {session.id, session.parent_session_id or session.id}
        if self._operations.locks_gaps:
            self._operations.make_counter(counter)
        while session.id not in (latest := self._lock_counters(ids)):
            self._operations.make_counter(counter)
        self._operations.show_locks(ids)
        return latest[session.id]

    def _heal_counter(self, session_id: str) -> None:
        """Bring a counter that was lost, and is made anew, to the latest stored event."""
        last = self._events().of_session(session_id).aggregate(last=Max("sequence_number"))["last"]
        if last:
            self._counters([session_id]).update(last_sequence=last)

    def _get_session(self, session_id: str) -> Session:
        session = self._read(self._sessions().filter(id=session_id).first)
        if session is None:
            raise session_not_found(session_id)
        return session

    def _change_session(self, session_id: str, change: Change) -> Session:
        def body() -> Session:
            self._lock_counters([session_id])
            session = self._sessions().select_for_update().filter(id=session_id).first()
            if session is None:
                raise session_not_found(session_id)
            self._operations.show_locks([session_id])
            names = change(session)
            session = self._as_stored(session.prepared(only=names))
            columns = {name: getattr(session, name) for name in names}
            self._sessions().filter(id=session_id).update(**columns)
            self._after_commit(signals.session_saved, {session_id: 0}, session=session)
            return session

        return self._write(body)

    def _list_sessions(
        self,
        *,
        statuses: tuple[str, ...] | None,
        agent_id: str | None,
        include_deleted: bool,
        limit: int | None,
        offset: int,
    ) -> list[Session]:
        sessions = self._sessions().newest_first()
        if not include_deleted:
            sessions = sessions.alive()
        if statuses is not None:
            sessions = sessions.filter(status__in=statuses)
        if agent_id is not None:
            sessions = sessions.filter(agent_id=agent_id)
        end = None if limit is None else offset + limit
        return self._read(partial(list, sessions[offset:end]))

    def _delete_session(self, session_id: str) -> None:
        def body() -> None:
            self._lock_counters([session_id])
            if not list(self._sessions().select_for_update().filter(id=session_id)):
                # What another writer commits from now on is not this call's to delete.
                return
            self._sessions().filter(parent_session_id=session_id).update(parent_session_id=None)
            self._discard_contents_of(session_id)
            mark_sessions(self.using, [session_id], locking=True)
            for kind in (Event, Run, Artifact, SessionSum):
                rows = kind._base_manager.using(self.using)
                self._delete_rows(rows.filter(session_id=session_id))
            self._delete_rows(self._counters([session_id]))
            self._delete_rows(self._sessions().filter(id=session_id))
            self._after_commit(signals.session_deleted, {session_id: 0}, session_id=session_id)

        self._write(body)

    def _discard_contents_of(self, session_id: str) -> None:
        artifacts = Artifact.objects.using(self.using).filter(session_id=session_id)
        # Locked, to be seen as they are now, whatever the snapshot of the caller's block holds.
        places = artifacts.select_for_update().values_list("storage_backend", "storage_ref")
        contents.discard_after_commit(self.using, [contents.Place(*place) for place in places])

    # Runs

    def _save_run(self, run: Run, *, keep_cost: bool) -> Run:
        def body(*, locking: bool = False) -> Run:
            self._lock_counters([run.session_id])
            self._operations.show_locks([run.session_id])
            [deleted_at] = self._lock_session(run.session_id)
            return self._store_run(run, deleted_at, keep_cost=keep_cost, locking=locking)

        return self._write(body, partial(body, locking=True))

    def _store_run(
        self, run: Run, deleted_at: datetime | None, *, keep_cost: bool, locking: bool
    ) -> Run:
        """Store the run of a session that is locked."""
        stored = self._runs().filter(id=run.id)
        seen = stored.select_for_update() if locking else stored
        columns = seen.values_list("session_id", "cost_usd", "started_at")
        owner, cost, began = columns.first() or (None, None, run.started_at)
        if owner == run.session_id:
            if not locking and connections[self.using].savepoint_ids:
                # In the caller's block a plain read may not see what is stored by now.
                return self._store_run(run, deleted_at, keep_cost=keep_cost, locking=True)
            if keep_cost and cost is not None:
                run.cost_usd = cost
            stored.update(**columns_of(run))
        elif owner is not None:
            raise ValidationError(f"session_id: run {run.id} belongs to session {owner}.")
        elif deleted_at is not None:
            raise SessionDeleted(f"session {run.session_id} is soft-deleted: no new run.")
        else:
            self._insert(run)
        mark(self.using, {run.started_at, began})
        self._after_commit(signals.run_saved, {}, run=self._as_stored(run))
        return run

    def _get_run(self, run_id: str) -> Run:
        run = self._read(self._runs().filter(id=run_id).first)
        if run is None:
            raise run_not_found(run_id)
        return run

    def _list_runs(
        self, session_id: str, *, statuses: tuple[str, ...] | None, limit: int | None
    ) -> list[Run]:
        runs = self._runs().of_session(session_id).oldest_first()
        if statuses is not None:
            runs = runs.filter(status__in=statuses)
        return self._read(partial(list, runs[:limit]))

    def _get_active_run(self, session_id: str) -> Run | None:
        return self._read(self._runs().of_session(session_id).running().latest_first().first)

    # Events

    def _append(self, events: list[Event], expected_sequence: int | None) -> list[Event]:
        store = partial(self._store_events, events, expected_sequence)
        alone = partial(self._store_at_once, events, expected_sequence)
        return self._write(store, partial(store, locking=True), alone if len(events) == 1 else None)

    def _store_at_once(
        self, events: list[Event], expected_sequence: int | None
    ) -> list[Event] | None:
        """The short way, for new events of one session; None: they are not, or may not be."""
        session_id = events[0].session_id
        if len(events) > 1:
            if len({event.id for event in events}) < len(events):
                return None
            if any(event.session_id != session_id for event in events):
                return None
        if not self._operations.append(events, expected_sequence):
            return None
        return self._appended(events, events[:], {session_id: events[-1].sequence_number})

    def _store_events(
        self, events: list[Event], expected_sequence: int | None, *, locking: bool = False
    ) -> list[Event]:
        if not locking and (done := self._store_at_once(events, expected_sequence)) is not None:
            return done
        try:
            plan = plan_append(events, self._stored(events, locking), expected_sequence)
        except SequenceConflict:
            # Or are they all stored, and only not in the snapshot of the caller's block?
            plan = plan_append(events, self._stored(events, locking=True), expected_sequence)
        if plan.new:
            self._operations.insert_events(plan.new)
        now = timezone.now()
        for session_id, latest in sorted(plan.latest.items()):
            self._counters([session_id]).update(last_sequence=latest, updated_at=now)
        return self._appended(plan.results, plan.new, plan.latest)

    def _appended(
        self, results: list[Event], new: list[Event], latest: Mapping[str, int]
    ) -> list[Event]:
        results = [self._as_stored(event) for event in results]
        if new:
            self._after_commit(signals.events_appended, latest, events=new)
        return results

    def _stored(self, events: list[Event], locking: bool) -> Stored:
        """Lock the sessions of `events`, then read what is stored of all that they name.

        With `locking` the read of events locks too, and so sees the newest rows.
        """
        stored_events = self._events().select_for_update() if locking else self._events()
        sessions = sorted({event.session_id for event in events})
        latest = self._lock_counters(sessions)
        deleted: dict[str, Any] = {}
        for some in self._operations.slices(sessions):
            rows = self._sessions().filter(id__in=some).order_by("id")
            deleted.update(self._operations.lock_shared(rows, "id", "deleted_at"))
        return Stored(
            latest,
            deleted,
            {row.id: row for row in self._by_id(stored_events, {e.id for e in events})},
            self._stored_runs({event.run_id for event in events if event.run_id is not None}),
        )

    def _stored_runs(self, ids: set[str]) -> dict[str, str]:
        """The runs' sessions by run id. One that seems missing may only be newer than the
        snapshot of the caller's block: a locking read sees it.
        """
        runs = self._runs().values_list("id", "session_id")
        found = dict(self._by_id(runs, ids))
        if missing := ids - found.keys():
            found.update(self._by_id(runs.select_for_update(), missing))
        return found

    def _flush(
        self, session: Session, run: Run, events: list[Event], *, keep_cost: bool
    ) -> list[Event]:
        def body(*, locking: bool = False) -> list[Event]:
            deleted_at = self._store_session(session).deleted_at
            self._store_run(run, deleted_at, keep_cost=keep_cost, locking=locking)
            return self._store_events(events, None, locking=locking) if events else []

        together = partial(self._store_together, session, run, events, keep_cost=keep_cost)
        if self._is_together(session, events):
            with suppress(_NotThatSimple):  # what was done is taken back
                return self._write(together, partial(body, locking=True))
        return self._write(body, partial(body, locking=True))

    def _is_together(self, session: Session, events: list[Event]) -> bool:
        """Whether one statement may do all of a flush but the events' rows."""
        return (
            not self._is_in_block()  # which tells of a database that there is not
            and self._operations.saves_together
            and session.parent_session_id is None
            and session.deleted_at is None
            and 0 < len(events) == len({event.id for event in events})
        )

    def _store_together(
        self, session: Session, run: Run, events: list[Event], *, keep_cost: bool
    ) -> list[Event]:
        session = session.copied()  # a retry starts from what the caller gave
        is_new = self._operations.save_all(session, run, events, keep_cost=keep_cost)
        if is_new is None:
            raise _NotThatSimple
        mark(self.using, {run.started_at, *([session.created_at] if is_new else [])})
        session, run = self._as_stored(session), self._as_stored(run)
        self._after_commit(signals.session_saved, {session.id: 0}, session=session)
        self._after_commit(signals.run_saved, {}, run=run)
        return self._appended(events, events[:], {session.id: events[-1].sequence_number})

    def _get_events(self, wanted: EventFilter) -> list[Event]:
        return self._read(lambda: list(selecting.events(self.using, wanted)))

    def _get_event_lines(self, wanted: EventFilter) -> list[tuple[int, bytes]]:
        return self._read(partial(selecting.event_lines, self.using, wanted))

    def _get_progress(self, session_id: str) -> Progress | None:
        # One statement: what a flush commits together is seen together.
        counters = SessionSequence.objects.filter(session_id=OuterRef("id"))
        latest = Subquery(counters.values("last_sequence"))
        session = self._sessions().filter(id=session_id)
        row = self._read(session.values_list(latest, "status", "deleted_at").first)
        return row and Progress.of(*row)

    def _get_latest_sequence(self, session_id: str) -> int:
        return self._read(lambda: self._operations.latest_sequence(session_id))

    def _atomically(self, body: Callable[[], T]) -> T:
        return self._write(body)

    def _locked(self, run_id: str) -> tuple[Session, Run]:
        session_id = self._get_run(run_id).session_id
        self._lock_counters([session_id])
        session = self._sessions().select_for_update().filter(id=session_id).first()
        run = self._runs().select_for_update().filter(id=run_id).first()
        if session is None or run is None:
            raise run_not_found(run_id)  # deleted while this waited
        return session, run
