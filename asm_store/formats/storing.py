"""Writes what was read from a log, batch by batch, each in one transaction; or only counts it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from django.db.models import Manager

from ..backends import transactions
from ..backends.database import DatabaseSessionStore
from ..exceptions import (
    EventConflict,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ..models import Artifact, Event, Run, Session, SessionSequence
from . import restoring
from .attachments import Attachment
from .reader import LogReader
from .reports import RecordCounts

R = TypeVar("R", Session, Run)


# What is not stored, and may come with another file: a parent, the session or run of events.
LACKING = (SessionNotFound, RunNotFound)


class Ledger:
    """How the records of one file stood in the store. A record counts once: as it was first."""

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self.events = RecordCounts()
        self.artifacts = RecordCounts()

    @property
    def is_empty(self) -> bool:
        return not self._sessions

    @property
    def sessions(self) -> RecordCounts:
        return _counted(self._sessions.values())

    @property
    def runs(self) -> RecordCounts:
        return _counted(self._runs.values())

    def begin_again(self, *, dry_run: bool) -> None:
        """Before the file is read once more: what it has brought will be found stored then."""
        events, artifacts = (0, 0) if dry_run else (self.events.new, self.artifacts.new)
        self.events = RecordCounts(new=events, stored=-events)
        self.artifacts = RecordCounts(new=artifacts, stored=-artifacts)

    def note(self, record: Session | Run, *, stored: bool, changed: bool) -> None:
        seen = self._sessions if isinstance(record, Session) else self._runs
        seen[record.pk] = "new" if not stored else "updated" if changed else "stored"

    def add(self, batch: Ledger) -> None:
        """Count what a batch has brought, once it is stored."""
        for mine, new in ((self._sessions, batch._sessions), (self._runs, batch._runs)):
            for pk, verdict in new.items():
                if mine.get(pk, "stored") == "stored":
                    mine[pk] = verdict
        self.events += batch.events
        self.artifacts += batch.artifacts


def _counted(verdicts: Collection[str]) -> RecordCounts:
    names = list(verdicts)
    return RecordCounts(names.count("new"), names.count("updated"), names.count("stored"))


class Destination:
    """The store of one database. With `dry_run` everything is compared and nothing is written."""

    def __init__(self, using: str, *, dry_run: bool) -> None:
        self.using = using
        self.dry_run = dry_run
        self._store = DatabaseSessionStore(using=using)
        # What a dry run would have stored by now, for the records that refer to it.
        self._pretended: set[str] = set()
        self._deleted: set[str] = set()
        # Sessions that this import will bring: their children may be stored without them first.
        self.expected: frozenset[str] = frozenset()

    def write(
        self, reader: LogReader, events: Sequence[Event], ledger: Ledger, *, final: bool
    ) -> None:
        """Store the events and what they need, all or nothing, and count it in `ledger`."""
        sessions = [session.prepared() for session in reader.take_sessions(final=final)]
        runs = [run.prepared().redacted() for run in reader.take_runs(final=final)]
        artifacts = [artifact.prepared() for artifact in reader.take_artifacts()]
        self._restore_contents(reader.take_attachments())
        last_sequences = reader.take_last_sequences()

        def body() -> Ledger:
            batch = Ledger()
            self._lock_counters([*sessions, *runs, *events, *artifacts])
            for session in sessions:
                self._write_session(reader, session, batch)
            for run in runs:
                self._write_run(reader, run, batch)
            self._write_events(reader, events, last_sequences, batch)
            self._write_artifacts(artifacts, batch)
            return batch

        run_body = transactions.read if self.dry_run else transactions.write
        try:
            ledger.add(run_body(self.using, body))
        except LACKING:
            self._pretended.difference_update(record.pk for record in (*sessions, *runs))
            raise

    def missing_sessions(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are not stored."""
        return transactions.read(
            self.using, partial(restoring.not_stored, Session, self.using, ids)
        ).difference(self._pretended)

    def _lock_counters(self, records: Iterable[Session | Run | Event | Artifact]) -> None:
        """As every write does, before it looks: what another import stores now is waited for."""
        if not self.dry_run:
            ids = {r.id if isinstance(r, Session) else r.session_id for r in records}
            known = [session_id for session_id in ids if session_id is not None]
            list(SessionSequence.objects.using(self.using).locked(known))

    def _write_session(self, reader: LogReader, given: Session, ledger: Ledger) -> None:
        stored = self._stored(Session.objects, given)
        self._link_parent(reader, given)
        merged = given if stored is None else reader.merged_session(stored, given)
        changed = merged is not stored
        known = stored is not None or given.pk in self._pretended
        ledger.note(given, stored=known, changed=changed and stored is not None)
        if stored is not None and stored.deleted_at is not None:
            self._deleted.add(given.pk)
        if self.dry_run:
            self._pretended.add(given.pk)
        elif changed:
            self._store.save_session(merged)

    def _link_parent(self, reader: LogReader, given: Session) -> None:
        parent = given.parent_session_id
        if parent is None or self._is_stored(Session.objects, parent):
            return
        if not reader.parent_is_optional and parent not in self.expected:
            raise SessionNotFound(f"The parent session {parent!r} is not stored.")
        given.parent_session_id = None

    def _write_run(self, reader: LogReader, given: Run, ledger: Ledger) -> None:
        stored = self._stored(Run.objects, given)
        if stored is None:
            self._refuse_deleted(reader, given.session_id)
        elif stored.session_id != given.session_id:
            raise ValidationError(f"The run {given.pk!r} is stored under another session.")
        merged = given if stored is None else reader.merged_run(stored, given)
        known = stored is not None or given.pk in self._pretended
        ledger.note(given, stored=known, changed=stored is not None and merged is not stored)
        if self.dry_run:
            self._pretended.add(given.pk)
        elif stored is None and reader.keeps_numbers:
            restoring.insert_run(self.using, given)
        elif merged is not stored:
            if merged.cost_usd is None:
                self._forget_cost(merged)
            self._store.save_run(merged)

    def _forget_cost(self, run: Run) -> None:
        """A stored cost would be kept, though it is of what the log said then."""
        rows = Run.objects.using(self.using).filter(pk=run.pk, cost_usd__isnull=False)
        rows.update(cost_usd=None)

    def _write_events(
        self,
        reader: LogReader,
        events: Sequence[Event],
        last_sequences: Mapping[str, int],
        ledger: Ledger,
    ) -> None:
        given = {event.id: event for event in reversed(events)}  # the first of an id counts
        rows = Event.objects.using(self.using).filter(pk__in=given)
        stored = dict(rows.values_list("pk", "session_id"))
        for event_id, session_id in stored.items():
            if given[event_id].session_id != session_id:
                raise EventConflict(f"The event {event_id!r} is stored under another session.")
        new = [event for event_id, event in reversed(given.items()) if event_id not in stored]
        if reader.keeps_numbers:
            self._restore(new, last_sequences)
        elif new:
            self._append(reader, new)
        ledger.events += RecordCounts(new=len(new), stored=len(events) - len(new))

    def _append(self, reader: LogReader, events: list[Event]) -> None:
        for session_id in {event.session_id for event in events}:
            self._refuse_deleted(reader, session_id)
        if not self.dry_run:
            self._store.append_events(events)

    def _restore(self, events: list[Event], last_sequences: Mapping[str, int]) -> None:
        restoring.check_events(self.using, events, known=self._pretended)
        if not self.dry_run:
            restoring.insert_events(self.using, events, last_sequences)

    def _restore_contents(self, attachments: Mapping[str, Attachment]) -> None:
        """Before the rows that need them; those of rows that are stored may be newer by now."""
        if attachments and not self.dry_run:
            find = partial(restoring.not_stored, Artifact, self.using, attachments)
            for pk in sorted(transactions.read(self.using, find)):
                attachments[pk].restore()

    def _write_artifacts(self, artifacts: Sequence[Artifact], ledger: Ledger) -> None:
        new = restoring.new_artifacts(self.using, artifacts, known=self._pretended)
        if not self.dry_run:
            Artifact._base_manager.using(self.using).bulk_create(new)
        ledger.artifacts += RecordCounts(new=len(new), stored=len(artifacts) - len(new))

    def _refuse_deleted(self, reader: LogReader, session_id: str) -> None:
        """As an append does; what is restored belongs to the deleted session."""
        if session_id in self._deleted and not reader.keeps_numbers:
            raise SessionDeleted(f"The session {session_id!r} is soft-deleted; restore it first.")

    def _stored(self, manager: Manager[R], given: R) -> R | None:
        rows = manager.using(self.using).filter(pk=given.pk)
        return (rows if self.dry_run else rows.select_for_update()).first()

    def _is_stored(self, manager: Manager[R], pk: str) -> bool:
        return pk in self._pretended or manager.using(self.using).filter(pk=pk).exists()
