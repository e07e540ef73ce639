"""append_events: one transaction, contiguous numbers, idempotent, all or nothing."""

from __future__ import annotations

from typing import Any

from ...exceptions import (
    EventConflict,
    InvalidEventType,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ...models import Event, Session
from ..factories import make_event, make_run
from .base import ContractCase, ids, numbers, state, states
from .values import NAIVE


class Batches(ContractCase):
    def new_events(self, session: Session, count: int, **columns: Any) -> list[Event]:
        return [make_event(session, **columns) for _ in range(count)]

    def test_a_batch_comes_back_in_input_order(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        events = self.new_events(session, 10, run_id=run.pk)
        stored = self.store.append_events(events)
        self.assertEqual(ids(stored), ids(events))
        self.assertEqual(numbers(stored), list(range(1, 11)))
        self.assertEqual(states(self.store.get_events(session.pk)), states(stored))
        self.assert_log(session, stored)

    def test_batches_go_on_where_the_last_one_ended(self) -> None:
        session = self.add_session()
        self.store.append_events(self.new_events(session, 3))
        self.append(session)
        stored = self.store.append_events(self.new_events(session, 2))
        self.assertEqual(numbers(stored), [5, 6])

    def test_an_empty_batch_does_nothing(self) -> None:
        self.assertEqual(self.store.append_events([]), [])
        self.assertEqual(self.store.append_events(iter(())), [])

    def test_any_iterable_of_events_is_a_batch(self) -> None:
        session = self.add_session()
        events = self.new_events(session, 4)
        stored = self.store.append_events(event for event in events[:2])
        stored += self.store.append_events(tuple(events[2:]))
        self.assertEqual(ids(stored), ids(events))
        self.assert_log(session, stored)

    def test_a_batch_can_hold_several_sessions(self) -> None:
        first, second = self.add_session(), self.add_session()
        self.append(second)
        owners = [first, second, first, second, second]
        stored = self.store.append_events([make_event(owner) for owner in owners])
        self.assertEqual([event.session_id for event in stored], [owner.pk for owner in owners])
        self.assertEqual(numbers(stored), [1, 2, 2, 3, 4])
        self.assert_log(first)
        self.assert_log(second)

    def test_a_batch_leaves_the_callers_objects_alone(self) -> None:
        events = self.new_events(self.add_session(), 3, data={"text": "a\x00b", "pair": (1, 2)})
        before = [dict(event.__dict__) for event in events]
        stored = self.store.append_events(events)
        self.assertEqual([event.__dict__ for event in events], before)
        stored[0].data["pair"].append(3)
        found = self.store.get_events(events[0].session_id)
        self.assertEqual(found[0].data["pair"], [1, 2])

    def test_doubles_inside_a_batch_are_one_event(self) -> None:
        session = self.add_session()
        one, two = self.new_events(session, 2)
        changed = make_event(session, id=one.pk, data={"changed": True})
        stored = self.store.append_events([one, two, one, changed])
        self.assertEqual(ids(stored), [one.pk, two.pk, one.pk, one.pk])
        self.assertEqual(numbers(stored), [1, 2, 1, 1])
        self.assertEqual(state(stored[3]), state(stored[0]))
        self.assert_log(session, stored)
        self.assertEqual(self.append(session).sequence_number, 3)

    def test_the_answers_for_a_double_are_two_instances(self) -> None:
        event = make_event(self.add_session(), data={"list": [1]})
        for _ in ("new", "stored"):
            first, second = self.store.append_events([event, event])
            first.data["list"].append(2)
            self.assertEqual(second.data, {"list": [1]})

    def test_doubles_against_the_table_are_returned_as_stored(self) -> None:
        session = self.add_session()
        old = self.append(session, data={"a": 1})
        new = self.new_events(session, 2)
        retry = make_event(session, id=old.pk, data={"b": 2})
        stored = self.store.append_events([new[0], retry, new[1]])
        self.assertEqual(numbers(stored), [2, 1, 3])
        self.assertEqual(state(stored[1]), state(old))
        self.assert_log(session, [old, *stored])

    def test_a_repeated_batch_spends_no_number(self) -> None:
        session = self.add_session()
        events = self.new_events(session, 5)
        first = self.store.append_events(events)
        self.assertEqual(states(self.store.append_events(events)), states(first))
        self.assertEqual(states(self.store.append_events(events[::-1])), states(first[::-1]))
        self.assertEqual(self.append(session).sequence_number, 6)

    def test_a_repeated_batch_after_soft_delete_comes_back(self) -> None:
        session = self.add_session()
        events = self.new_events(session, 3)
        first = self.store.append_events(events)
        self.store.soft_delete_session(session.pk)
        self.assertEqual(states(self.store.append_events(events)), states(first))
        with self.no_trace(session), self.assertRaises(SessionDeleted):
            self.store.append_events([*events, make_event(session)])

    def test_seven_thousand_events_are_one_batch(self) -> None:
        # More than PostgreSQL's 65,535 parameters hold, and SQLite's 32,766.
        session = self.add_session()
        old = self.append(session)
        events = self.new_events(session, 7000, data={})
        stored = self.store.append_events([old, *events, old])
        self.assertEqual(numbers(stored), [1, *range(2, 7002), 1])
        self.assertEqual(ids(stored[1:-1]), ids(events))
        self.assertEqual(self.store.get_latest_sequence(session.pk), 7001)
        found = self.store.get_events(session.pk, after=6990)
        self.assertEqual(states(found), states(stored[6990:7001]))
        again = self.store.append_events(events[::700])
        self.assertEqual(numbers(again), list(range(2, 7002, 700)))
        self.assertEqual(len(self.store.get_events(session.pk)), 7001)

    # All or nothing

    def test_one_bad_event_and_nothing_is_stored(self) -> None:
        session, other = self.add_session(), self.add_session()
        deleted = self.add_session()
        self.store.soft_delete_session(deleted.pk)
        foreign_run, foreign = self.add_run(other), self.append(other)
        cases: list[tuple[Event, type[Exception]]] = [
            (make_event("ses-missing"), SessionNotFound),
            (make_event(deleted), SessionDeleted),
            (make_event(session, run_id="run-missing"), RunNotFound),
            (make_event(session, run_id=foreign_run.pk), ValidationError),
            (make_event(session, id=foreign.pk), EventConflict),
        ]
        for bad, error in cases:
            for position in (0, 1, 3):
                batch = [*self.new_events(session, 2), *self.new_events(other, 1)]
                batch.insert(position, bad)
                with (
                    self.subTest(error=error.__name__, position=position),
                    self.no_trace(session, other, deleted),
                    self.assertRaises(error),
                ):
                    self.store.append_events(batch)

    def test_a_bad_value_in_a_batch_is_refused_before_any_sql(self) -> None:
        session = self.add_session()
        bad: list[tuple[Any, Any]] = [
            (make_event(session, type="unknown"), InvalidEventType),
            (make_event(session, timestamp=NAIVE), ValidationError),
            (make_event(session, data={"n": float("nan")}), ValidationError),
            (make_event(session, id=""), ValidationError),
            (make_run(session), ValidationError),
            (None, ValidationError),
            ({}, ValidationError),
        ]
        with self.no_trace(session):
            for event, error in bad:
                with self.subTest(event=event), self.refused(error):
                    self.store.append_events([make_event(session), event])

    def test_what_is_no_batch_is_refused(self) -> None:
        session = self.add_session()
        event = make_event(session)
        values: tuple[Any, ...] = (None, event, "events", b"events", 5, event.to_dict(), Event)
        with self.no_trace(session):
            for value in values:
                with self.subTest(value=value), self.refused(ValidationError):
                    self.store.append_events(value)

    def test_one_id_in_two_sessions_of_a_batch_is_a_conflict(self) -> None:
        first, second = self.add_session(), self.add_session()
        event = make_event(first)
        with self.no_trace(first, second), self.assertRaises(EventConflict):
            self.store.append_events([event, make_event(second, id=event.pk)])

    def test_another_sessions_id_among_new_ones_is_a_conflict(self) -> None:
        first, second = self.add_session(), self.add_session()
        old, new = self.append(second), self.new_events(first, 2)
        with self.no_trace(first, second), self.assertRaises(EventConflict):
            self.store.append_events([new[0], make_event(first, id=old.pk), new[1]])
