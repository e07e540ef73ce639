"""Two writers on the same rows: the second waits, and then works on what the first has committed.

A transaction that waited may still see its old snapshot of other rows; these tests hold the first
writer's block open until the second one waits, so that such a store fails every time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from django.db import connections

from ...exceptions import EventConflict, SessionDeleted, SessionNotFound, ValidationError
from ...models import Event, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, needs, numbers, state, states
from .transactions import Undo
from .workers import Worker, start

T = TypeVar("T")
# How long the second writer is given to do what it must not do. No test waits for this to be
# enough: a correct store passes however slow the machine is.
GRACE = 0.1


class Waits(ContractCase):
    def behind(
        self, first: Callable[[], Any], second: Callable[[], T], *, undo: bool = False
    ) -> Worker[T]:
        """Run `second` in a thread while `first` is not yet committed (or rolled back)."""
        worker = Worker(second)
        with suppress(Undo), self.atomic():
            first()
            worker.start()
            early = worker.ended.wait(GRACE)
            if undo:
                raise Undo
        worker.wait()
        self.assertFalse(early, "the second writer did not wait for the first one")
        return worker

    @needs("supports_transactions")
    def test_an_append_waits_for_an_append(self) -> None:
        session = self.add_session()
        worker = self.behind(lambda: self.append(session), lambda: self.append(session))
        self.assertEqual(worker.result().sequence_number, 2)
        self.assert_log(session, [worker.result()])

    @needs("supports_transactions")
    def test_an_append_after_a_rollback_takes_the_free_number(self) -> None:
        session = self.add_session()
        worker = self.behind(lambda: self.append(session), lambda: self.append(session), undo=True)
        self.assertEqual(worker.result().sequence_number, 1)
        self.assert_log(session, [worker.result()])

    @needs("supports_transactions")
    def test_an_append_behind_a_soft_delete_is_refused(self) -> None:
        for append in (self.append, self.append_two):
            session = self.add_session()
            worker = self.behind(
                lambda: self.store.soft_delete_session(session.pk),  # noqa: B023
                lambda: append(session),  # noqa: B023
            )
            with self.no_trace(session), self.assertRaises(SessionDeleted):
                worker.result()

    def append_two(self, session: Any) -> list[Any]:
        return self.store.append_events([make_event(session), make_event(session)])

    @needs("supports_transactions")
    def test_an_append_behind_a_hard_delete_is_refused(self) -> None:
        for append in (self.append, self.append_two):
            session = self.add_session()
            worker = self.behind(
                lambda: self.store.delete_session(session.pk),  # noqa: B023
                lambda: append(session),  # noqa: B023
            )
            with self.assertRaises(SessionNotFound):
                worker.result()
            self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
            self.assertEqual(self.count_orphans(), 0)

    @needs("supports_transactions")
    def test_a_soft_delete_waits_for_an_append_in_flight(self) -> None:
        session = self.add_session()

        def delete() -> int:
            self.store.soft_delete_session(session.pk)
            return self.store.get_latest_sequence(session.pk)

        worker = self.behind(lambda: self.append(session), delete)
        self.assertEqual(worker.result(), 1)

    @needs("supports_transactions")
    def test_a_hard_delete_waits_for_an_append_in_flight(self) -> None:
        session = self.add_session()
        worker = self.behind(
            lambda: self.append(session), lambda: self.store.delete_session(session.pk)
        )
        worker.result()
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.count_orphans(), 0)

    @needs("supports_transactions")
    def test_the_same_id_behind_its_append_comes_back(self) -> None:
        session = self.add_session()
        event = make_event(session)
        worker = self.behind(
            lambda: self.append(session, id=event.pk, data={"first": True}),
            lambda: self.store.append_event_with_sequence(event),
        )
        self.assertEqual(worker.result().data, {"first": True})
        self.assertEqual(self.append(session).sequence_number, 2)
        self.assert_log(session, [worker.result()])

    @needs("supports_transactions")
    def test_the_same_id_behind_another_sessions_append_is_a_conflict(self) -> None:
        session, other = self.add_session(), self.add_session()
        event = make_event(other)
        worker = self.behind(
            lambda: self.append(session, id=event.pk),
            lambda: self.store.append_event_with_sequence(event),
        )
        with self.no_trace(session, other), self.assertRaises(EventConflict):
            worker.result()

    @needs("supports_transactions")
    def test_a_conflict_that_shows_late_leaves_the_callers_block_usable(self) -> None:
        # A database that finds the double id in its unique index would abort the whole block.
        session, other = self.add_session(), self.add_session()
        event, run = make_event(session), make_run(session)

        def refused_then_appended() -> Event:
            with self.atomic():
                with self.assertRaises(EventConflict):
                    self.append(other, id=event.pk)
                with self.assertRaises(ValidationError):
                    self.add_run(other, id=run.pk)
                return self.append(other)

        def first() -> None:
            self.append(session, id=event.pk)
            self.add_run(session, id=run.pk)

        worker = self.behind(first, refused_then_appended)
        self.assertEqual(worker.result().sequence_number, 1)
        self.assertEqual(self.store.get_run(run.pk).session_id, session.pk)
        self.assert_log(other, [worker.result()])

    @needs("supports_transactions")
    def test_a_save_behind_the_same_new_session_replaces_it(self) -> None:
        session = make_session(metadata={"writer": 1})
        self.added.append(session.pk)
        again = make_session(id=session.pk, metadata={"writer": 2})

        def saved_and_appended() -> Event:
            with self.atomic():
                self.store.save_session(again)
                return self.append(session)

        worker = self.behind(lambda: self.store.save_session(session), saved_and_appended)
        self.assertEqual(worker.result().sequence_number, 1)
        self.assert_same(self.store.get_session(session.pk), again)
        self.assert_log(session, [worker.result()])

    @needs("supports_transactions")
    def test_the_same_id_behind_a_rollback_is_stored(self) -> None:
        session, other = self.add_session(), self.add_session()
        event = make_event(other)
        worker = self.behind(
            lambda: self.append(session, id=event.pk),
            lambda: self.store.append_event_with_sequence(event),
            undo=True,
        )
        self.assertEqual(worker.result().sequence_number, 1)
        self.assert_log(session)
        self.assert_log(other, [worker.result()])

    @needs("supports_transactions")
    def test_an_update_behind_an_update_undoes_nothing(self) -> None:
        session = self.add_session(tags=["a"])
        update = self.store.update_session
        worker = self.behind(
            lambda: update(session.pk, status="active", add_tags=["b"], metadata={"x": 1}),
            lambda: update(session.pk, remove_tags=["a"], metadata={"y": 2}),
        )
        updated = worker.result()
        self.assertEqual((updated.status, updated.tags), ("active", ["b"]))
        self.assertEqual(updated.metadata, {"x": 1, "y": 2})
        self.assert_same(self.store.get_session(session.pk), updated)

    @needs("supports_transactions")
    def test_a_stale_save_behind_a_soft_delete_does_not_undelete(self) -> None:
        stale = self.add_session()
        worker = self.behind(
            lambda: self.store.soft_delete_session(stale.pk),
            lambda: self.store.save_session(stale),
        )
        self.assertIsNotNone(worker.result().deleted_at)
        self.assertIsNotNone(self.store.get_session(stale.pk).deleted_at)

    @needs("supports_transactions")
    def test_a_new_run_behind_a_deletion_is_refused(self) -> None:
        for delete, error in (
            (self.store.soft_delete_session, SessionDeleted),
            (self.store.delete_session, SessionNotFound),
        ):
            session = self.add_session()
            worker = self.behind(
                lambda: delete(session.pk),  # noqa: B023
                lambda: self.store.save_run(make_run(session)),  # noqa: B023
            )
            with self.assertRaises(error):
                worker.result()
            self.assertEqual(self.store.list_runs(session.pk), [])
        self.assertEqual(self.count_orphans(), 0)

    @needs("supports_transactions")
    def test_a_save_or_flush_behind_a_hard_delete_makes_a_whole_session(self) -> None:
        # With its counter: a session without one takes no events any more.
        session = self.add_session()
        run = self.add_run(session)
        event = self.append(session, run_id=run.pk)
        writes: tuple[Callable[[], Any], ...] = (
            lambda: self.store.save_session(session),
            lambda: self.store.flush(session, run, [event]),
        )
        for write in writes:
            self.behind(lambda: self.store.delete_session(session.pk), write).result()
            number = len(self.store.get_events(session.pk)) + 1
            self.assertEqual(self.append(session).sequence_number, number)
            self.assert_log(session)

    @needs("supports_transactions")
    def test_a_child_behind_its_parents_deletion_is_refused(self) -> None:
        parent = self.add_session()
        child = make_session(parent_session_id=parent.pk)
        worker = self.behind(
            lambda: self.store.delete_session(parent.pk), lambda: self.store.save_session(child)
        )
        with self.assertRaises(SessionNotFound):
            worker.result()
        self.assertEqual(self.count_orphans(), 0)

    # Under REPEATABLE READ a block's plain reads do not see what was committed after the first.

    def block_that_has_read(self, session: Session, others: Callable[[], T]) -> T:
        """Within a caller's block: read the session, then let another writer commit."""
        if self.database and not connections[self.database].features.has_select_for_update:
            self.skipTest("a transaction that has read cannot write after another writer here")
        self.assertEqual(self.store.get_events(session.pk), [])
        return start(others).result()

    @needs("supports_transactions")
    def test_a_block_that_has_read_gets_the_event_that_is_stored(self) -> None:
        session = self.add_session()
        event = make_event(session)
        with self.atomic():
            first = self.block_that_has_read(session, lambda: self.append(session, id=event.pk))
            again = self.store.append_event_with_sequence(event)
            new = self.append(session)
        self.assertEqual(state(again), state(first))
        self.assertEqual(numbers([again, new]), [1, 2])
        self.assert_log(session, [first, new])

    @needs("supports_transactions")
    def test_a_block_that_has_read_gets_the_batch_that_is_stored(self) -> None:
        session = self.add_session()
        events = [make_event(session), make_event(session)]
        with self.atomic():
            first = self.block_that_has_read(session, lambda: self.store.append_events(events))
            again = self.store.append_events(events, expected_sequence=0)
        self.assertEqual(states(again), states(first))
        self.assert_log(session, first)

    @needs("supports_transactions")
    def test_a_block_that_has_read_appends_to_a_run_that_is_stored(self) -> None:
        session = self.add_session()
        with self.atomic():
            run = self.block_that_has_read(session, lambda: self.add_run(session))
            stored = self.append(session, run_id=run.pk)
            self.store.save_run(run)
        self.assert_log(session, [stored])

    @needs("supports_transactions")
    def test_a_block_that_has_read_updates_the_session_that_is_stored(self) -> None:
        session = self.add_session()
        update = self.store.update_session
        with self.atomic():
            self.block_that_has_read(session, lambda: update(session.pk, add_tags=["a"]))
            update(session.pk, add_tags=["b"])
        self.assertEqual(self.store.get_session(session.pk).tags, ["a", "b"])

    @needs("supports_transactions")
    def test_a_block_that_has_read_saves_what_is_deleted(self) -> None:
        session = self.add_session()
        with self.atomic():
            deleted = self.block_that_has_read(
                session, lambda: self.store.soft_delete_session(session.pk)
            )
            saved = self.store.save_session(session)
        self.assertEqual(saved.deleted_at, deleted.deleted_at)

    @needs("supports_transactions")
    def test_a_block_that_has_read_does_not_append_to_what_is_deleted(self) -> None:
        for delete, error in (
            (self.store.soft_delete_session, SessionDeleted),
            (self.store.delete_session, SessionNotFound),
        ):
            session = self.add_session()
            with self.atomic():
                self.block_that_has_read(session, lambda: delete(session.pk))  # noqa: B023
                with self.assertRaises(error):
                    self.append(session)
                with self.assertRaises(error):
                    self.add_run(session)
            self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.count_orphans(), 0)
