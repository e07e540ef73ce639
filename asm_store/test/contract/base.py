"""What every part of the contract stands on: the store under test and a few assertions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections, models, transaction
from django.test.utils import CaptureQueriesContext

from ...backends.base import BaseSessionStore
from ...exceptions import SessionNotFound, StoreError, ValidationError
from ...models import Artifact, Event, Run, Session, SessionSequence
from ...sums import SessionSum
from ..factories import make_event, make_run, make_session

if TYPE_CHECKING:
    from unittest import TestCase
else:
    TestCase = object

OWNER = "ses-owner"
Case = TypeVar("Case", bound="ContractCase")


def needs(flag: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Skip a test on stores where `flag` is missing or not set."""

    def decorate(test: Callable[[Case], None]) -> Callable[[Case], None]:
        @wraps(test)
        def wrapper(self: Case) -> None:
            if not (value := getattr(self.store, flag, None)):
                self.skipTest(f"the store says {flag} = {value}")
            test(self)

        return wrapper

    return decorate


def state(record: models.Model) -> dict[str, Any]:
    """The stored columns by name, JSON encoded, so that 1, 1.0 and True are three values."""
    values = {
        field.attname: getattr(record, field.attname)
        for field in record._meta.concrete_fields
        if not field.generated
    }
    return {name: _comparable(value) for name, value in values.items()}


def _comparable(value: Any) -> Any:
    if isinstance(value, dict | list | bool | int | float):
        return json.dumps(value, sort_keys=True)
    return value


def states(records: Iterable[models.Model]) -> list[dict[str, Any]]:
    return [state(record) for record in records]


def ids(records: Iterable[models.Model]) -> list[str]:
    return [record.pk for record in records]


def numbers(events: Iterable[Event]) -> list[int]:
    return [event.sequence_number for event in events]


class ContractCase(TestCase):
    """The hooks that a store's own TestCase sets, and the assertions of the suite."""

    make_store_path: str | None = None

    def make_store(self) -> BaseSessionStore:
        """A fresh handle on the store under test."""
        raise NotImplementedError

    def setUp(self) -> None:
        super().setUp()
        self.store = self.make_store()
        self.added: list[str] = []

    @property
    def database(self) -> str | None:
        """The database alias of a store that has one."""
        return getattr(self.store, "using", None)

    def atomic(self) -> AbstractContextManager[Any]:
        """A caller's own transaction on the store's database."""
        return transaction.atomic(using=self.database)

    def count_orphans(self) -> int:
        """How many rows are left of sessions and runs that do not exist.

        Looks into the tables of a store with `using`; elsewhere asks the store itself about the
        sessions that this test has added.
        """
        if self.database is not None:
            return self._count_orphaned_rows(self.database)
        return sum(self._count_left(session_id) for session_id in self.added)

    @staticmethod
    def _count_orphaned_rows(using: str) -> int:
        sessions = Session.objects.using(using).values("pk")
        runs = Run.objects.using(using).values("pk")
        orphans = [
            Session.objects.using(using)
            .filter(parent_session__isnull=False)
            .exclude(parent_session_id__in=sessions),
            Run.objects.using(using).exclude(session_id__in=sessions),
            Event.objects.using(using).exclude(session_id__in=sessions),
            Event.objects.using(using).filter(run__isnull=False).exclude(run_id__in=runs),
            SessionSequence.objects.using(using).exclude(session_id__in=sessions),
            SessionSum._base_manager.using(using).exclude(session_id__in=sessions),
            Artifact.objects.using(using)
            .filter(session__isnull=False)
            .exclude(session_id__in=sessions),
        ]
        return sum(rows.count() for rows in orphans)

    def _count_left(self, session_id: str) -> int:
        try:
            self.store.get_session(session_id)
        except SessionNotFound:
            events, runs = self.store.get_events(session_id), self.store.list_runs(session_id)
            return len(events) + len(runs) + self.store.get_latest_sequence(session_id)
        return 0

    # Records in the store

    def add_session(self, **columns: Any) -> Session:
        session = self.store.save_session(make_session(**columns))
        self.added.append(session.pk)
        return session

    def add_run(self, session: Session, **columns: Any) -> Run:
        return self.store.save_run(make_run(session, **columns))

    def append(self, session: Session, **columns: Any) -> Event:
        return self.store.append_event_with_sequence(make_event(session, **columns))

    def add_owner(self) -> Session:
        """The session to which `keep` adds runs and events."""
        if OWNER not in self.added:
            self.add_session(id=OWNER)
        return make_session(id=OWNER)

    def keep(self, kind: str, **columns: Any) -> Any:
        """Store a new record of a kind: "session", or "run" or "event" of the test's own one."""
        if kind == "session":
            return self.store.save_session(make_session(**columns))
        if kind == "run":
            return self.store.save_run(make_run(OWNER, **columns))
        return self.store.append_event_with_sequence(make_event(OWNER, **columns))

    def reread(self, record: Session | Run | Event) -> Session | Run | Event:
        """The record as the store gives it now."""
        if isinstance(record, Session):
            return self.store.get_session(record.pk)
        if isinstance(record, Run):
            return self.store.get_run(record.pk)
        events = self.store.get_events(record.session_id)
        return next(event for event in events if event.pk == record.pk)

    # Assertions

    def assert_same(self, record: models.Model, expected: models.Model) -> None:
        self.assertIs(type(record), type(expected))
        self.assertEqual(state(record), state(expected))

    @contextmanager
    def refused(self, error: type[StoreError]) -> Iterator[None]:
        """The block must raise `error`, and a database store must not have sent any SQL."""
        if self.database is None:
            with self.assertRaises(error):
                yield
            return
        with CaptureQueriesContext(connections[self.database]) as queries, self.assertRaises(error):
            yield
        self.assertEqual([query["sql"] for query in queries.captured_queries], [])

    def assert_not_kept(self, kind: str, **columns: Any) -> None:
        with self.subTest(kind=kind, **columns), self.refused(ValidationError):
            self.keep(kind, **columns)

    def assert_nothing_kept(self) -> None:
        listed = self.store.list_sessions(include_deleted=True)
        self.assertEqual(ids(listed), [OWNER])
        self.assertEqual(self.store.list_runs(OWNER), [])
        self.assertEqual(self.append(listed[0]).sequence_number, 1)

    @contextmanager
    def no_trace(self, *sessions: Session) -> Iterator[None]:
        """The block must leave these sessions as they were, and spend none of their numbers."""
        before = [self._everything(session.pk) for session in sessions]
        yield
        self.assertEqual([self._everything(session.pk) for session in sessions], before)
        for session in sessions:
            if self.store.get_session(session.pk).deleted_at is None:
                latest = self.store.get_latest_sequence(session.pk)
                self.assertEqual(self.append(session).sequence_number, latest + 1)

    def _everything(self, session_id: str) -> Any:
        return (
            state(self.store.get_session(session_id)),
            states(self.store.list_runs(session_id)),
            states(self.store.get_events(session_id)),
            self.store.get_latest_sequence(session_id),
        )

    def assert_log(self, session: Session, acknowledged: Iterable[Event] = ()) -> None:
        """Numbers 1..n without gap or double, nothing acknowledged missing, no orphan."""
        events = self.store.get_events(session.pk)
        self.assertEqual(numbers(events), list(range(1, len(events) + 1)))
        self.assertEqual(self.store.get_latest_sequence(session.pk), len(events))
        self.assertEqual(len(set(ids(events))), len(events))
        stored = {event.pk: state(event) for event in events}
        for event in acknowledged:
            self.assertEqual(stored.get(event.pk), state(event))
        self.assertEqual(self.count_orphans(), 0)
