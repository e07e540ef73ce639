"""Inside the caller's own transaction: a write joins it, and a refusal leaves it usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...exceptions import (
    EventConflict,
    RunNotFound,
    SequenceConflict,
    SessionDeleted,
    SessionNotFound,
    StoreError,
    ValidationError,
)
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, needs, numbers, states
from .workers import start


class Undo(Exception):
    """Rolls the block back."""


class Transactions(ContractCase):
    def undone(self, work: Callable[[], Any]) -> None:
        """Do `work` in a caller's block, and roll the block back."""
        with self.assertRaises(Undo), self.atomic():
            work()
            raise Undo

    @needs("supports_transactions")
    def test_a_rollback_removes_what_was_written(self) -> None:
        session = make_session()

        def work() -> None:
            self.store.save_session(session)
            run = self.store.save_run(make_run(session))
            self.append(session, run_id=run.pk)
            self.store.append_events([make_event(session), make_event(session)])
            self.assertEqual(len(self.store.get_events(session.pk)), 3)

        self.undone(work)
        with self.assertRaises(SessionNotFound):
            self.store.get_session(session.pk)
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.list_runs(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
        self.assertEqual(self.count_orphans(), 0)

    @needs("supports_transactions")
    def test_a_rollback_burns_no_number(self) -> None:
        session = self.add_session()
        self.append(session)
        self.undone(lambda: self.append(session))
        self.undone(lambda: self.store.append_events([make_event(session)] * 3))
        self.assertEqual(self.append(session).sequence_number, 2)
        self.assert_log(session)

    @needs("supports_transactions")
    def test_a_block_goes_on_after_a_batch_that_was_stored_in_part(self) -> None:
        session = self.add_session()
        old = self.append(session)
        with self.atomic():
            before = self.append(session)
            batch = [make_event(session), make_event(session, id=old.pk), make_event(session)]
            stored = self.store.append_events(batch)
            after = self.append(session)
        self.assertEqual(numbers([before, *stored, after]), [2, 3, 1, 4, 5])
        self.assert_log(session, [old, before, *stored, after])

    @needs("supports_transactions")
    def test_a_rollback_undoes_every_other_write(self) -> None:
        session = self.add_session(tags=["a"])
        run = self.add_run(session)
        self.append(session, run_id=run.pk)
        child = self.add_session(parent_session_id=session.pk)
        works: dict[str, Callable[[], Any]] = {
            "save": lambda: self.store.save_session(make_session(id=session.pk, agent_id="b")),
            "update": lambda: self.store.update_session(session.pk, add_tags=["b"]),
            "soft delete": lambda: self.store.soft_delete_session(session.pk),
            "restore": lambda: self.store.restore_session(session.pk),
            "delete": lambda: self.store.delete_session(session.pk),
            "run": lambda: self.store.save_run(make_run(session, id=run.pk, turn_count=5)),
            "flush": lambda: self.store.flush(session, run, [make_event(session)]),
        }
        for name, work in works.items():
            with self.subTest(work=name), self.no_trace(session, child):
                self.undone(work)

    @needs("supports_transactions")
    def test_a_savepoint_undoes_its_own_part(self) -> None:
        session = self.add_session()
        with self.atomic():
            first = self.append(session)
            self.undone(lambda: self.append(session))
            third = self.append(session)
        self.assertEqual(numbers([first, third]), [1, 2])
        self.assert_log(session, [first, third])

    @needs("supports_transactions")
    def test_a_refusal_leaves_the_callers_block_usable(self) -> None:
        session, other, deleted = self.add_session(), self.add_session(), self.add_session()
        self.store.soft_delete_session(deleted.pk)
        foreign, foreign_run = self.append(other), self.add_run(other)
        refusals: list[tuple[type[StoreError], Callable[[], Any]]] = [
            (SessionNotFound, lambda: self.store.append_event(make_event("ses-missing"))),
            (SessionNotFound, lambda: self.store.save_run(make_run("ses-missing"))),
            (SessionNotFound, lambda: self.add_session(parent_session_id="ses-missing")),
            (SessionNotFound, lambda: self.store.get_session("ses-missing")),
            (SessionDeleted, lambda: self.append(deleted)),
            (SessionDeleted, lambda: self.add_run(deleted)),
            (EventConflict, lambda: self.append(session, id=foreign.pk)),
            (EventConflict, lambda: self.flush_with_conflict(foreign.pk)),
            (RunNotFound, lambda: self.append(session, run_id="run-missing")),
            (ValidationError, lambda: self.append(session, run_id=foreign_run.pk)),
            (ValidationError, lambda: self.append(session, data={"n": float("nan")})),
            (
                SequenceConflict,
                lambda: self.store.append_events([make_event(session)], expected_sequence=99),
            ),
        ]
        for number, (error, call) in enumerate(refusals, 1):
            with self.subTest(error=error.__name__, number=number):
                with self.atomic():
                    with self.assertRaises(error):
                        call()
                    stored = self.append(session)
                self.assertEqual(stored.sequence_number, number)
        self.assert_log(session)
        self.assert_log(other, [foreign])

    def flush_with_conflict(self, event_id: str) -> None:
        session = make_session()
        self.store.flush(session, make_run(session), [make_event(session, id=event_id)])

    @needs("supports_transactions")
    def test_a_refused_batch_in_a_block_leaves_nothing_of_itself(self) -> None:
        session, other = self.add_session(), self.add_session()
        foreign = self.append(other)
        with self.atomic():
            with self.assertRaises(EventConflict):
                self.store.append_events([make_event(session), make_event(session, id=foreign.pk)])
            with self.assertRaises(EventConflict):
                self.flush_with_conflict(foreign.pk)
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
        self.assertEqual(len(self.store.list_sessions()), 2)

    @needs("supports_transactions")
    def test_a_stored_id_in_a_block_comes_back(self) -> None:
        session = self.add_session()
        event = make_event(session)
        first = self.store.append_event_with_sequence(event)
        with self.atomic():
            again = self.store.append_event_with_sequence(event)
            batch = self.store.append_events([event, event])
            new = self.append(session)
            self.assertEqual(states(self.store.append_events([new])), states([new]))
        self.assertEqual(states([again, *batch]), states([first] * 3))
        self.assertEqual(new.sequence_number, 2)

    @needs("supports_transactions")
    def test_others_see_a_write_after_the_commit(self) -> None:
        session = self.add_session()

        def seen() -> tuple[int, list[str]]:
            store = self.make_store()
            return store.get_latest_sequence(session.pk), ids(store.get_events(session.pk))

        with self.atomic():
            event = self.append(session)
            self.assertEqual(seen(), (1, [event.pk]))
            self.assertEqual(start(seen).result(), (0, []))
        self.assertEqual(start(seen).result(), (1, [event.pk]))

    def test_others_see_a_write_once_it_has_returned(self) -> None:
        session = self.add_session()
        for number in range(1, 4):
            self.append(session)
            worker = start(lambda: self.make_store().get_latest_sequence(session.pk))
            self.assertEqual(worker.result(), number)
