"""flush: session, run and events together, or nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...exceptions import (
    EventConflict,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ...models import Event, Run, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, numbers, states
from .values import NOON, NOT_JSON


class Flush(ContractCase):
    def triple(self, count: int = 3) -> tuple[Session, Run, list[Event]]:
        """A session, its run, and events, none of them stored."""
        session = make_session()
        self.added.append(session.pk)
        run = make_run(session, status="running")
        return session, run, [make_event(session, run_id=run.pk) for _ in range(count)]

    def assert_absent(self, session: Session, run: Run) -> None:
        with self.assertRaises(SessionNotFound):
            self.store.get_session(session.pk)
        with self.assertRaises(RunNotFound):
            self.store.get_run(run.pk)
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
        self.assertEqual(self.count_orphans(), 0)

    def test_flush_stores_new_records(self) -> None:
        session, run, events = self.triple()
        stored = self.store.flush(session, run, events)
        self.assertEqual(ids(stored), ids(events))
        self.assertEqual(numbers(stored), [1, 2, 3])
        self.assert_same(self.store.get_session(session.pk), session)
        self.assert_same(self.store.get_run(run.pk), run)
        self.assert_log(session, stored)

    def test_flush_updates_stored_records(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        old = self.append(session, run_id=run.pk)
        session.update_status("completed")
        run.set_output({"content": "done"})
        new = make_event(session, run_id=run.pk)
        stored = self.store.flush(session, run, [old, new])
        self.assertEqual(numbers(stored), [1, 2])
        self.assertEqual(self.store.get_session(session.pk).status, "completed")
        self.assertEqual(self.store.get_run(run.pk).output, {"content": "done"})
        self.assert_log(session, [old, *stored])

    def test_flush_needs_no_events(self) -> None:
        session, run, _ = self.triple()
        self.assertEqual(self.store.flush(session, run), [])
        self.assert_same(self.store.get_run(run.pk), run)

    def test_flush_takes_any_iterable_and_events_without_a_run(self) -> None:
        session, run, events = self.triple()
        events.append(make_event(session))
        stored = self.store.flush(session, run, iter(events))
        self.assertEqual([event.run_id for event in stored], [run.pk] * 3 + [None])

    def test_flush_again_spends_no_number(self) -> None:
        session, run, events = self.triple()
        first = self.store.flush(session, run, events)
        self.assertEqual(states(self.store.flush(session, run, events)), states(first))
        self.assertEqual(self.append(session).sequence_number, 4)

    def test_flush_leaves_the_callers_objects_alone(self) -> None:
        session, run, events = self.triple()
        session.tags, run.provider_metadata = ("a",), {"model": "m"}
        before = [dict(record.__dict__) for record in (session, run, *events)]
        self.store.flush(session, run, events, provider_metadata={"added": [1]})
        self.assertEqual([record.__dict__ for record in (session, run, *events)], before)
        self.assertEqual(run.provider_metadata, {"model": "m"})

    def test_provider_metadata_is_merged_into_the_run(self) -> None:
        session, run, events = self.triple()
        run.provider_metadata = {"model": "m", "usage": {"a": 1}}
        self.store.flush(session, run, events, provider_metadata={"usage": {"b": 2}, "id": "x"})
        self.assertEqual(
            self.store.get_run(run.pk).provider_metadata,
            {"model": "m", "usage": {"b": 2}, "id": "x"},
        )

    def test_provider_metadata_is_cleaned_and_counted(self) -> None:
        session, run, _ = self.triple()
        self.store.flush(session, run, provider_metadata={"k\x00": -0.0})
        stored = self.store.get_run(run.pk)
        self.assertEqual(repr(stored.provider_metadata), "{'k\u2400': 0.0}")
        self.assertEqual(stored.metadata["_sanitized"], {"nul": 1, "surrogate": 0})

    def test_bad_provider_metadata_is_refused(self) -> None:
        session, run, events = self.triple()
        bad: tuple[Any, ...] = ([], "text", 5, {1: 2}, *({"a": value} for value in NOT_JSON))
        for value in bad:
            with self.subTest(value=value), self.refused(ValidationError):
                self.store.flush(session, run, events, provider_metadata=value)
        self.assert_absent(session, run)

    def test_ids_that_do_not_belong_together_are_refused(self) -> None:
        session, run, events = self.triple()
        other_run = make_run(session)
        cases: dict[str, tuple[Session, Run, list[Event]]] = {
            "run": (session, make_run("ses-other"), []),
            "event": (session, run, [*events, make_event("ses-other")]),
            "event's run": (session, run, [*events, make_event(session, run_id=other_run.pk)]),
        }
        for name, arguments in cases.items():
            with self.subTest(foreign=name), self.refused(ValidationError):
                self.store.flush(*arguments)
        self.assert_absent(session, run)

    def test_a_refused_event_undoes_session_and_run(self) -> None:
        foreign = self.append(self.add_session())
        session, run, events = self.triple()
        events.append(make_event(session, id=foreign.pk))
        with self.assertRaises(EventConflict):
            self.store.flush(session, run, events)
        self.assert_absent(session, run)

    def test_a_refused_flush_leaves_stored_records_as_they_were(self) -> None:
        foreign = self.append(self.add_session())
        session = self.add_session(tags=["old"])
        run = self.add_run(session)
        changed = make_session(id=session.pk, tags=["new"])
        changed_run = make_run(session, id=run.pk, turn_count=5)
        clash = make_event(session, id=foreign.pk)
        with self.no_trace(session), self.assertRaises(EventConflict):
            self.store.flush(changed, changed_run, [make_event(session), clash])

    def test_a_refused_run_undoes_the_session(self) -> None:
        other = self.add_session()
        taken = self.add_run(other)
        session = make_session()
        with self.no_trace(other), self.assertRaises(ValidationError):
            self.store.flush(session, make_run(session, id=taken.pk), [make_event(session)])
        with self.assertRaises(SessionNotFound):
            self.store.get_session(session.pk)

    def test_flush_to_an_unknown_parent_stores_nothing(self) -> None:
        session, run, events = self.triple()
        session.parent_session_id = "ses-missing"
        with self.assertRaises(SessionNotFound):
            self.store.flush(session, run, events)
        self.assert_absent(session, run)

    def test_flush_to_a_soft_deleted_session_stores_nothing(self) -> None:
        session = self.add_session(deleted_at=NOON)
        with self.no_trace(session), self.assertRaises(SessionDeleted):
            self.store.flush(session, make_run(session), [make_event(session)])

    def test_a_stale_flush_does_not_undelete(self) -> None:
        stale = self.add_session()
        run = self.add_run(stale)
        event = self.append(stale, run_id=run.pk)
        self.store.soft_delete_session(stale.pk)
        with self.no_trace(stale), self.assertRaises(SessionDeleted):
            self.store.flush(stale, run, [event, make_event(stale, run_id=run.pk)])

    def test_flush_refuses_what_is_no_record(self) -> None:
        session, run, events = self.triple()
        calls: list[Callable[[], Any]] = [
            lambda: self.store.flush(None, run, events),  # type: ignore[arg-type]
            lambda: self.store.flush(run, session, events),  # type: ignore[arg-type]
            lambda: self.store.flush(session, None, events),  # type: ignore[arg-type]
            lambda: self.store.flush(session, run, None),  # type: ignore[arg-type]
            lambda: self.store.flush(session, run, events[0]),  # type: ignore[arg-type]
            lambda: self.store.flush(session, run, [run]),  # type: ignore[list-item]
            lambda: self.store.flush(session, run, "events"),  # type: ignore[arg-type]
            lambda: self.store.flush(session, make_run(session, status="unknown"), events),
            lambda: self.store.flush(make_session(id=""), run, events),
        ]
        for number, call in enumerate(calls):
            with self.subTest(call=number), self.refused(ValidationError):
                call()
        self.assert_absent(session, run)
