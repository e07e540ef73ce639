"""A deletion between any two statements of a write: every order that a race could find by chance.

The write is done once for each of its statements; just before that statement the deletion starts
in a thread, and gets a moment to do what the locks that the write holds by then let it do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import connections

from ...exceptions import SessionDeleted, SessionNotFound
from ...models import Run, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, needs
from .workers import Worker

GRACE = 0.03


class Interruption:
    """An execute wrapper that starts `worker` before the statement at `position`."""

    def __init__(self, worker: Worker[Any], position: int) -> None:
        self.worker = worker
        self.position = position
        self.statements = 0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        if self.statements == self.position:
            self.worker.start()
            self.worker.ended.wait(GRACE)
        self.statements += 1
        return execute(*arguments)


class Interleavings(ContractCase):
    def interrupted(
        self,
        write: Callable[[Session, Run], Any],
        other: Callable[[str], Any],
        check: Callable[[Session, Any], None],
        *,
        new: bool = False,
    ) -> None:
        """Do `write` with `other` before its first statement, its second, and so on, then `check`.

        `check` gets the session and what `other` returned. With `new` nothing is stored before.
        """
        undisturbed = Interruption(Worker(lambda: None), -1)
        self.write_through(undisturbed, write, make_session(), new=new)
        for position in range(self.positions(undisturbed.statements)):
            session = make_session()
            interruption = Interruption(Worker(partial(other, session.pk)), position)
            try:
                self.write_through(interruption, write, session, new=new)
                if interruption.statements > position:  # Now and then a write needs one less.
                    check(session, interruption.worker.result())
            except Exception as error:
                error.add_note(f"{other.__name__} came before statement {position}")
                raise

    def positions(self, statements: int) -> int:
        """Without row locks the first statements of a write lock everything to its end."""
        row_locks = connections[str(self.database)].features.has_select_for_update
        return statements if row_locks else min(statements, 3)

    def write_through(
        self,
        interruption: Interruption,
        write: Callable[[Session, Run], Any],
        session: Session,
        *,
        new: bool,
    ) -> None:
        run = make_run(session)
        if not new:
            self.store.flush(session, run, [make_event(session)])
        with (
            # Which of the two came first is not the question.
            suppress(SessionNotFound, SessionDeleted),
            connections[str(self.database)].execute_wrapper(interruption),
        ):
            write(session, run)

    def assert_whole_or_gone(self, session: Session, _: Any) -> None:
        self.assertEqual(self.count_orphans(), 0)
        try:
            self.store.get_session(session.pk)
        except SessionNotFound:
            self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
            self.store.save_session(session)
        self.append(session)
        self.assert_log(session)

    def assert_nothing_came_later(self, session: Session, latest: int) -> None:
        self.assertEqual(self.store.get_latest_sequence(session.pk), latest)
        self.assert_log(session)

    def latest_after_soft_delete(self, session_id: str) -> int:
        store = self.make_store()
        store.soft_delete_session(session_id)
        return store.get_latest_sequence(session_id)

    def save_session(self, session: Session, run: Run) -> None:
        self.store.save_session(session)

    def save_run(self, session: Session, run: Run) -> None:
        self.store.save_run(make_run(session))

    def update(self, session: Session, run: Run) -> None:
        self.store.update_session(session.pk, add_tags=["new"])

    def append_one(self, session: Session, run: Run) -> None:
        self.append(session, run_id=None)

    def append_batch(self, session: Session, run: Run) -> None:
        self.store.append_events([make_event(session), make_event(session)])

    def flush_all(self, session: Session, run: Run) -> None:
        self.store.flush(session, run, [make_event(session, run_id=run.pk)])

    def delete(self, session_id: str) -> None:
        self.make_store().delete_session(session_id)

    @needs("using")
    def test_a_hard_delete_inside_a_write_leaves_a_whole_session_or_none(self) -> None:
        for write in (
            self.save_session,
            self.save_run,
            self.update,
            self.append_one,
            self.append_batch,
            self.flush_all,
        ):
            with self.subTest(write=write.__name__):
                self.interrupted(write, self.delete, self.assert_whole_or_gone)

    @needs("using")
    def test_a_hard_delete_inside_the_first_save_leaves_a_whole_session_or_none(self) -> None:
        for write in (self.save_session, self.flush_all):
            with self.subTest(write=write.__name__):
                self.interrupted(write, self.delete, self.assert_whole_or_gone, new=True)

    @needs("using")
    def test_a_write_inside_a_hard_delete_leaves_a_whole_session_or_none(self) -> None:
        def delete(session: Session, run: Run) -> None:
            self.store.delete_session(session.pk)

        def flush(session_id: str) -> None:
            session = make_session(id=session_id)
            self.make_store().flush(session, make_run(session), [make_event(session)])

        for new in (True, False):
            with self.subTest(new=new):
                self.interrupted(delete, flush, self.assert_whole_or_gone, new=new)

    @needs("using")
    def test_a_soft_delete_inside_an_append_waits_or_stops_it(self) -> None:
        for write in (self.append_one, self.append_batch, self.flush_all):
            with self.subTest(write=write.__name__):
                self.interrupted(
                    write, self.latest_after_soft_delete, self.assert_nothing_came_later
                )

    @needs("using")
    def test_an_append_inside_an_append_takes_another_number(self) -> None:
        def append(session_id: str) -> None:
            self.make_store().append_event(make_event(session_id))

        for write in (self.append_one, self.append_batch, self.flush_all):
            with self.subTest(write=write.__name__):
                self.interrupted(write, append, self.assert_whole_or_gone)

    @needs("using")
    def test_an_update_inside_an_update_is_not_undone(self) -> None:
        def update(session_id: str) -> None:
            self.make_store().update_session(session_id, metadata={"other": 1})

        def check(session: Session, _: Any) -> None:
            stored = self.store.get_session(session.pk)
            self.assertEqual((stored.tags, stored.metadata), (["new"], {"other": 1}))

        self.interrupted(self.update, update, check)

    @needs("using")
    def test_the_same_save_inside_a_first_save_is_the_same_record(self) -> None:
        def save(session_id: str) -> None:
            store = self.make_store()
            store.save_session(make_session(id=session_id))
            store.save_run(make_run(session_id, id=f"run of {session_id}"))

        def save_both(session: Session, run: Run) -> None:
            self.store.save_session(session)
            self.store.save_run(make_run(session, id=f"run of {session.pk}"))

        def check(session: Session, _: Any) -> None:
            self.assertEqual(len(self.store.list_runs(session.pk)), 1)
            self.assert_whole_or_gone(session, None)

        self.interrupted(save_both, save, check, new=True)
