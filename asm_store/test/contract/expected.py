"""append_events(expected_sequence=...): a batch that is refused when somebody else was faster."""

from __future__ import annotations

from typing import Any

from ...exceptions import SequenceConflict, SessionDeleted, SessionNotFound, ValidationError
from ..factories import make_event
from .base import ContractCase, numbers, states


class ExpectedSequence(ContractCase):
    def test_the_latest_number_lets_a_batch_through(self) -> None:
        session = self.add_session()
        stored = self.store.append_events([make_event(session)] * 2, expected_sequence=0)
        self.assertEqual(numbers(stored), [1, 1])
        events = [make_event(session), make_event(session)]
        stored = self.store.append_events(events, expected_sequence=1)
        self.assertEqual(numbers(stored), [2, 3])
        self.assert_log(session, stored)

    def test_any_other_number_is_a_conflict_that_carries_the_latest(self) -> None:
        session = self.add_session()
        self.store.append_events([make_event(session) for _ in range(3)])
        for expected in (0, 2, 4, 2**62):
            with (
                self.subTest(expected=expected),
                self.no_trace(session),
                self.assertRaises(SequenceConflict) as caught,
            ):
                latest = self.store.get_latest_sequence(session.pk)
                wrong = expected if expected != latest else expected + 1
                self.store.append_events([make_event(session)], expected_sequence=wrong)
            self.assertEqual(caught.exception.latest_sequence, latest)

    def test_a_batch_that_is_stored_comes_back_whatever_was_expected(self) -> None:
        session = self.add_session()
        events = [make_event(session), make_event(session)]
        first = self.store.append_events(events, expected_sequence=0)
        self.append(session)
        for expected in (0, 2, 3, 99):
            again = self.store.append_events(events, expected_sequence=expected)
            self.assertEqual(states(again), states(first))
        self.assertEqual(self.append(session).sequence_number, 4)

    def test_a_batch_that_is_partly_stored_keeps_the_condition(self) -> None:
        session = self.add_session()
        old = self.append(session)
        new = make_event(session)
        with self.no_trace(session), self.assertRaises(SequenceConflict):
            self.store.append_events([old, new], expected_sequence=0)
        latest = self.store.get_latest_sequence(session.pk)
        stored = self.store.append_events([old, new], expected_sequence=latest)
        self.assertEqual(numbers(stored), [1, latest + 1])

    def test_an_empty_batch_expects_nothing(self) -> None:
        self.assertEqual(self.store.append_events([], expected_sequence=5), [])

    def test_several_sessions_have_no_one_latest_number(self) -> None:
        first, second = self.add_session(), self.add_session()
        with self.no_trace(first, second), self.refused(ValidationError):
            self.store.append_events([make_event(first), make_event(second)], expected_sequence=0)

    def test_what_is_no_number_is_refused(self) -> None:
        session = self.add_session()
        values: tuple[Any, ...] = (-1, True, False, 0.0, "0", [0])
        with self.no_trace(session):
            for value in values:
                with self.subTest(expected=value), self.refused(ValidationError):
                    self.store.append_events([make_event(session)], expected_sequence=value)

    def test_unknown_and_deleted_sessions_are_named_as_such(self) -> None:
        with self.assertRaises(SessionNotFound):
            self.store.append_events([make_event("ses-missing")], expected_sequence=0)
        session = self.add_session()
        self.store.soft_delete_session(session.pk)
        with self.no_trace(session), self.assertRaises(SessionDeleted):
            self.store.append_events([make_event(session)], expected_sequence=0)
