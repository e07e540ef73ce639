"""Writers racing the deletion of their session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ...exceptions import SessionDeleted, SessionNotFound, StoreError
from ...models import Event, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase
from .workers import SECONDS, race, results

ROUNDS = 2
# SQLite's queue is not fair: who writes without a pause can keep the deletion out for seconds. So
# writers that got as far as this wait for it a little, before each further write.
PATIENCE = 200
PAUSE = 0.25


class DeletionRaces(ContractCase):
    def until_refused(
        self,
        write: Callable[[], Any],
        refusal: type[StoreError],
        under_way: threading.Event,
        deleted: threading.Event,
    ) -> list[Any]:
        """Write until it is refused, as it must be once the deletion has returned."""
        written: list[Any] = []
        try:
            while not deleted.is_set():
                written.append(write())
                if len(written) == 3:
                    under_way.set()
                if len(written) > PATIENCE:
                    deleted.wait(PAUSE)
            write()
        except refusal:
            return written
        finally:
            under_way.set()
        raise AssertionError("written after the deletion had returned")

    def race_deletion(
        self,
        session: Session,
        refusal: type[StoreError],
        writes: list[Callable[[], Any]],
        delete: Callable[[str], Any],
    ) -> tuple[list[Any], int]:
        """What was written before the deletion, and the latest number as it had returned."""
        under_way, deleted = threading.Event(), threading.Event()

        def delete_it() -> int:
            under_way.wait(SECONDS)
            try:
                delete(session.pk)
                return self.make_store().get_latest_sequence(session.pk)
            finally:
                deleted.set()

        jobs: list[Callable[[], Any]] = [
            partial(self.until_refused, write, refusal, under_way, deleted) for write in writes
        ]
        *written, latest = results(race([*jobs, delete_it]))
        return [value for values in written for value in values], latest

    def one_by_one(self, session: Session) -> Callable[[], Event]:
        store = self.make_store()
        return lambda: store.append_event_with_sequence(make_event(session))

    def in_batches(self, session: Session) -> Callable[[], list[Event]]:
        store = self.make_store()
        return lambda: store.append_events([make_event(session) for _ in range(3)])

    def writers(self, session: Session) -> list[Callable[[], Any]]:
        return [*(self.one_by_one(session) for _ in range(2)), self.in_batches(session)]

    def test_no_append_commits_after_a_soft_delete_has_returned(self) -> None:
        for _ in range(ROUNDS):
            session = self.add_session()
            _, latest = self.race_deletion(
                session, SessionDeleted, self.writers(session), self.store.soft_delete_session
            )
            self.assertGreaterEqual(latest, 3)
            self.assertEqual(self.store.get_latest_sequence(session.pk), latest)
            self.assertEqual(len(self.store.get_events(session.pk)), latest)
            self.assert_log(session)

    def test_every_append_before_the_soft_delete_is_kept(self) -> None:
        session = self.add_session()
        stored, latest = self.race_deletion(
            session, SessionDeleted, [self.one_by_one(session)] * 2, self.store.soft_delete_session
        )
        self.assertEqual(len(stored), latest)
        self.assert_log(session, stored)

    def test_a_hard_delete_leaves_nothing_behind(self) -> None:
        for _ in range(ROUNDS):
            session = self.add_session()
            _, latest = self.race_deletion(
                session, SessionNotFound, self.writers(session), self.store.delete_session
            )
            self.assertEqual(latest, 0)
            self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
            self.assertEqual(self.store.get_events(session.pk), [])
            self.assertEqual(self.count_orphans(), 0)

    def test_new_runs_racing_a_soft_delete_are_refused(self) -> None:
        session = self.add_session()
        writes = [lambda: self.make_store().save_run(make_run(session))] * 3
        saved, _ = self.race_deletion(
            session, SessionDeleted, writes, self.store.soft_delete_session
        )
        self.assertEqual(len(self.store.list_runs(session.pk)), len(saved))

    def test_runs_and_their_events_racing_a_hard_delete_leave_nothing(self) -> None:
        for _ in range(ROUNDS):
            session = self.add_session()

            def write(owner: Session = session) -> None:
                store = self.make_store()
                run = store.save_run(make_run(owner))
                try:
                    store.append_event(make_event(owner, run_id=run.pk))
                except StoreError as error:
                    raise SessionNotFound from error  # the session or, before it, the run

            self.race_deletion(session, SessionNotFound, [write] * 3, self.store.delete_session)
            self.assertEqual(self.store.list_runs(session.pk), [])
            self.assertEqual(self.count_orphans(), 0)

    def test_children_racing_the_deletion_of_their_parent_are_no_orphans(self) -> None:
        for _ in range(ROUNDS):
            parent = self.add_session()

            def write(owner: Session = parent) -> Session:
                return self.make_store().save_session(make_session(parent_session_id=owner.pk))

            saved, _ = self.race_deletion(
                parent, SessionNotFound, [write] * 2, self.store.delete_session
            )
            for child in saved:
                self.assertIsNone(self.store.get_session(child.pk).parent_session_id)
            self.assertEqual(self.count_orphans(), 0)

    def test_saves_racing_a_hard_delete_keep_a_session_whole(self) -> None:
        # Whoever comes last decides; a session that is there can be appended to, from one on.
        for _ in range(ROUNDS):
            session = self.add_session()
            self.append(session)
            jobs: list[Callable[[], Any]] = [
                *[partial(self.make_store().save_session, session)] * 3,
                partial(self.make_store().delete_session, session.pk),
            ]
            results(race(jobs))
            self.store.save_session(session)
            self.append(session)
            self.assert_log(session)

    def test_flushes_racing_a_hard_delete_keep_a_session_whole(self) -> None:
        for _ in range(ROUNDS):
            session = make_session()
            run = make_run(session)
            self.added.append(session.pk)

            def flush(owner: Session = session, run: Any = run) -> None:
                events = [make_event(owner, run_id=run.pk) for _ in range(3)]
                self.make_store().flush(owner, run, events)

            delete = partial(self.make_store().delete_session, session.pk)
            jobs: list[Callable[[], None]] = [flush, flush, delete, flush]
            results(race(jobs))
            self.store.save_session(session)
            self.assert_log(session)

    def test_deletions_race_each_other(self) -> None:
        for _ in range(ROUNDS):
            session = self.add_session()
            run = self.add_run(session)
            self.append(session, run_id=run.pk)
            results(race([partial(self.make_store().delete_session, session.pk)] * 4))
            with self.assertRaises(SessionNotFound):
                self.store.get_session(session.pk)
            self.assertEqual(self.count_orphans(), 0)
