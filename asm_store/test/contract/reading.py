"""get_events and get_latest_sequence: filters, bounds, what comes back."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

from ...exceptions import InvalidEventType, ValidationError
from ...models import Event, Session
from .base import ContractCase, ids, numbers, state
from .values import BAD_COUNTS, BAD_POSITIONS, BAD_TIMES, HUGE, MICROSECOND, NOON, SECOND


class Reading(ContractCase):
    def add_log(self, count: int = 6) -> Session:
        session = self.add_session()
        for second in range(count):
            self.append(session, timestamp=NOON + second * SECOND)
        return session

    def found(self, session: Session, **filters: Any) -> list[int]:
        return numbers(self.store.get_events(session.pk, **filters))

    def test_events_come_in_sequence_order(self) -> None:
        session = self.add_log(12)
        self.assertEqual(self.found(session), list(range(1, 13)))

    def test_an_unknown_session_has_no_events(self) -> None:
        self.assertEqual(self.store.get_events("ses-missing"), [])
        self.assertEqual(self.store.get_events("ses-missing", after=3, limit=5), [])
        self.assertEqual(self.store.get_latest_sequence("ses-missing"), 0)

    def test_a_session_without_events_has_number_zero(self) -> None:
        session = self.add_session()
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)

    def test_after_and_before_are_strict(self) -> None:
        session = self.add_log(5)
        self.assertEqual(self.found(session, after=0), [1, 2, 3, 4, 5])
        self.assertEqual(self.found(session, after=3), [4, 5])
        self.assertEqual(self.found(session, after=5), [])
        self.assertEqual(self.found(session, before=3), [1, 2])
        self.assertEqual(self.found(session, before=1), [])
        self.assertEqual(self.found(session, before=0), [])
        self.assertEqual(self.found(session, after=1, before=4), [2, 3])
        self.assertEqual(self.found(session, after=4, before=2), [])

    def test_bounds_beyond_every_number_are_bounds(self) -> None:
        session = self.add_log(2)
        for huge in (2**31, 2**63 - 1, 2**63, HUGE):
            with self.subTest(bound=huge):
                self.assertEqual(self.found(session, after=huge), [])
                self.assertEqual(self.found(session, before=huge), [1, 2])
                self.assertEqual(self.found(session, limit=huge), [1, 2])

    def test_the_limit_counts_from_the_first_match(self) -> None:
        session = self.add_log(5)
        for limit in (0, 1, 4, 5, 6):
            with self.subTest(limit=limit):
                self.assertEqual(self.found(session, limit=limit), [1, 2, 3, 4, 5][:limit])
        self.assertEqual(self.found(session, after=2, limit=2), [3, 4])
        self.assertEqual(self.found(session, before=4, limit=2), [1, 2])

    def test_since_is_strictly_later(self) -> None:
        session = self.add_log(4)
        self.assertEqual(self.found(session, since=NOON), [2, 3, 4])
        self.assertEqual(self.found(session, since=NOON - MICROSECOND), [1, 2, 3, 4])
        self.assertEqual(self.found(session, since=NOON + 3 * SECOND), [])

    def test_since_compares_instants(self) -> None:
        session = self.add_log(3)
        elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
        self.assertEqual(self.found(session, since=elsewhere), [2, 3])

    def test_events_are_filtered_by_one_type_or_many(self) -> None:
        session = self.add_session()
        for name in ("message_sent", "error_occurred", "message_received", "message_sent"):
            self.append(session, type=name)
        self.assertEqual(self.found(session, type="message_sent"), [1, 4])
        self.assertEqual(self.found(session, type=["message_sent"]), [1, 4])
        self.assertEqual(self.found(session, type=["error_occurred", "message_received"]), [2, 3])
        self.assertEqual(self.found(session, type=("message_sent", "message_sent")), [1, 4])
        self.assertEqual(self.found(session, type=Event.Type("error_occurred")), [2])
        self.assertEqual(self.found(session, type="run_started"), [])
        self.assertEqual(self.found(session, type=[]), [])
        self.assertEqual(self.found(session, type=None), [1, 2, 3, 4])

    def test_events_are_filtered_by_run(self) -> None:
        session = self.add_session()
        first, second = self.add_run(session), self.add_run(session)
        for run_id in (first.pk, second.pk, None, first.pk):
            self.append(session, run_id=run_id)
        self.assertEqual(self.found(session, run_id=first.pk), [1, 4])
        self.assertEqual(self.found(session, run_id=second.pk), [2])
        self.assertEqual(self.found(session, run_id="run-missing"), [])
        self.assertEqual(self.found(session, run_id=None), [1, 2, 3, 4])

    def test_a_run_of_another_session_matches_nothing(self) -> None:
        session, other = self.add_session(), self.add_session()
        run = self.add_run(other)
        self.append(other, run_id=run.pk)
        self.append(session)
        self.assertEqual(self.found(session, run_id=run.pk), [])

    def test_filters_work_together(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        for number in range(12):
            self.append(
                session,
                run_id=run.pk if number % 2 else None,
                type="error_occurred" if number % 3 else "message_sent",
                timestamp=NOON + number * SECOND,
            )
        found = self.found(
            session,
            run_id=run.pk,
            type=["error_occurred"],
            since=NOON + 2 * SECOND,
            after=2,
            before=12,
            limit=2,
        )
        self.assertEqual(found, [6, 8])

    def test_events_are_whole_records(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        stored = self.append(session, run_id=run.pk, data={"a": [1, 1.5]}, provider="p")
        for filters in ({}, {"type": "message_sent"}, {"run_id": run.pk}, {"limit": 1}):
            found = self.store.get_events(session.pk, **filters)
            self.assertEqual([state(event) for event in found], [state(stored)])

    def test_soft_deleted_sessions_are_read_as_before(self) -> None:
        session = self.add_log(3)
        self.store.soft_delete_session(session.pk)
        self.assertEqual(self.found(session, after=1), [2, 3])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 3)

    def test_another_handle_sees_the_same(self) -> None:
        session = self.add_log(2)
        other = self.make_store()
        self.assertEqual(ids(other.get_events(session.pk)), ids(self.store.get_events(session.pk)))
        self.assert_same(other.get_session(session.pk), session)

    def test_records_belong_to_the_stores_database(self) -> None:
        if self.database is None:
            self.skipTest("the store has no database alias")
        session = self.add_session()
        run = self.add_run(session)
        event = self.append(session, run_id=run.pk)
        for record in (event, self.store.get_events(session.pk)[0]):
            self.assertEqual(record._state.db, self.database)
            self.assertFalse(record._state.adding)
            assert record.run is not None
            self.assertEqual((record.session, record.run), (session, run))
        for saved in (session, run):
            self.assertEqual((saved._state.db, saved._state.adding), (self.database, False))

    # Refused

    def test_unknown_types_in_filters_are_refused(self) -> None:
        bad: tuple[Any, ...] = ("unknown", "", "message_sent ", "MESSAGE_SENT", "a\x00", 5, b"x")
        for value in bad:
            with self.subTest(type=value), self.refused(InvalidEventType):
                self.store.get_events("ses-any", type=value)
            with self.subTest(type=[value]), self.refused(InvalidEventType):
                self.store.get_events("ses-any", type=["message_sent", value])

    def test_limits_and_positions_that_are_no_numbers_are_refused(self) -> None:
        for value in BAD_COUNTS:
            with self.subTest(limit=value), self.refused(ValidationError):
                self.store.get_events("ses-any", limit=value)
        for value in BAD_POSITIONS:
            with self.subTest(after=value), self.refused(ValidationError):
                self.store.get_events("ses-any", after=value)
            with self.subTest(before=value), self.refused(ValidationError):
                self.store.get_events("ses-any", before=value)

    def test_times_that_are_no_instants_are_refused(self) -> None:
        for value in BAD_TIMES:
            with self.subTest(since=value), self.refused(ValidationError):
                self.store.get_events("ses-any", since=value)
