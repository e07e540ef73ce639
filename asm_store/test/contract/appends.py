"""Appending one event: numbers, idempotent ids, what is refused."""

from __future__ import annotations

from typing import Any

from django.test import override_settings
from django.utils import timezone

from ...exceptions import (
    EventConflict,
    InvalidEventType,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ...models import Event, SessionSequence
from ..factories import make_event, make_run, make_session
from .base import ContractCase, numbers, state
from .values import NOON, SECOND


class Appends(ContractCase):
    def test_an_appended_event_comes_back_with_every_column(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        event = Event(
            id="evt-full",
            type="tool_call_started",
            timestamp=NOON,
            session_id=session.pk,
            run_id=run.pk,
            data={"tool_name": "search", "tool_input": {"q": ["a", None, True, 1.5]}},
            metadata={"original": {"x": 1}},
            schema_version=2,
            provider="anthropic",
            correlation_id="corr-1",
        )
        stored = self.store.append_event_with_sequence(event)
        self.assert_same(self.store.get_events(session.pk)[0], stored)
        event.sequence_number = 1
        self.assert_same(stored, event)

    def test_an_event_with_defaults_is_complete(self) -> None:
        session = self.add_session()
        before = timezone.now()
        event = Event(type="message_sent", session_id=session.pk, data={"content": "Hi"})
        stored = self.store.append_event_with_sequence(event)
        self.assertTrue(before <= stored.timestamp <= timezone.now())
        self.assertEqual((stored.metadata, stored.schema_version), ({}, 1))
        self.assertEqual((stored.run_id, stored.provider, stored.correlation_id), (None,) * 3)

    def test_numbers_begin_at_one_and_have_no_gap(self) -> None:
        session = self.add_session()
        stored = [self.append(session) for _ in range(5)]
        self.assertEqual(numbers(stored), [1, 2, 3, 4, 5])
        self.assert_log(session, stored)

    def test_every_session_counts_for_itself(self) -> None:
        first, second = self.add_session(), self.add_session()
        stored = [self.append(session) for session in (first, second, second, first, second)]
        self.assertEqual(numbers(stored), [1, 1, 2, 2, 3])
        self.assertEqual(self.store.get_latest_sequence(first.pk), 2)
        self.assertEqual(self.store.get_latest_sequence(second.pk), 3)

    def test_append_event_returns_nothing(self) -> None:
        session = self.add_session()
        event = make_event(session)
        self.assertIsNone(self.store.append_event(event))  # type: ignore[func-returns-value]
        self.assertEqual(self.store.get_events(session.pk)[0].pk, event.pk)

    def test_a_number_given_by_the_caller_is_not_used(self) -> None:
        session = self.add_session()
        for given in (7, 1, None):
            event = make_event(session, sequence_number=given)
            self.store.append_event(event)
            self.assertEqual(event.sequence_number, given)
        self.assert_log(session)

    def test_order_is_the_stores_and_not_the_clocks(self) -> None:
        session = self.add_session()
        stored = [self.append(session, timestamp=NOON - age * SECOND) for age in (0, 2, 1)]
        self.assertEqual(numbers(stored), [1, 2, 3])
        events = self.store.get_events(session.pk)
        self.assertEqual([event.pk for event in events], [event.pk for event in stored])

    def test_an_append_leaves_the_callers_object_alone(self) -> None:
        event = make_event(self.add_session(), data={"text": "a\x00b", "pair": (1, 2)})
        before = dict(event.__dict__)
        stored = self.store.append_event_with_sequence(event)
        self.assertIsNot(stored, event)
        self.assertEqual(event.__dict__, before)
        self.assertEqual(event.data, {"text": "a\x00b", "pair": (1, 2)})

    def test_changing_appended_or_returned_events_changes_nothing_stored(self) -> None:
        session = self.add_session()
        event = make_event(session, data={"list": [1]})
        stored = self.store.append_event_with_sequence(event)
        again = self.store.append_event_with_sequence(event)
        for record in (event, stored, again, self.store.get_events(session.pk)[0]):
            record.data["list"].append(2)
            record.sequence_number = 9
            record.type = "error_occurred"
        found = self.store.get_events(session.pk)[0]
        self.assertEqual((found.data, found.sequence_number), ({"list": [1]}, 1))
        self.assertEqual(found.type, "message_sent")

    def test_an_append_stamps_the_counter_and_not_the_session(self) -> None:
        session = self.add_session(updated_at=NOON)
        before = timezone.now()
        self.append(session)
        self.assert_same(self.store.get_session(session.pk), session)
        if self.database is not None:
            counter = SessionSequence.objects.using(self.database).get(pk=session.pk)
            self.assertEqual(counter.last_sequence, 1)
            self.assertTrue(before <= counter.updated_at <= timezone.now())

    # Idempotent ids

    def test_a_stored_id_comes_back_and_spends_no_number(self) -> None:
        session = self.add_session()
        event = make_event(session)
        first = self.store.append_event_with_sequence(event)
        self.append(session)
        self.assert_same(self.store.append_event_with_sequence(event), first)
        self.store.append_event(event)
        self.assertEqual(self.append(session).sequence_number, 3)
        self.assert_log(session, [first])

    def test_a_stored_event_is_never_changed_by_a_retry(self) -> None:
        session = self.add_session()
        first = self.append(session, data={"a": 1})
        retry = make_event(
            session, id=first.pk, type="error_occurred", data={"b": 2}, timestamp=NOON
        )
        for number in (None, 1, 7):
            retry.sequence_number = number
            self.assert_same(self.store.append_event_with_sequence(retry), first)
        self.assert_same(self.store.get_events(session.pk)[0], first)

    def test_a_retry_after_soft_delete_returns_the_stored_event(self) -> None:
        session = self.add_session()
        event = make_event(session)
        first = self.store.append_event_with_sequence(event)
        self.store.soft_delete_session(session.pk)
        self.assert_same(self.store.append_event_with_sequence(event), first)

    def test_an_id_of_another_session_is_a_conflict(self) -> None:
        session, other = self.add_session(), self.add_session()
        event = self.append(session)
        stolen = make_event(other, id=event.pk)
        with self.no_trace(session, other), self.assertRaises(EventConflict):
            self.store.append_event_with_sequence(stolen)
        with self.no_trace(session, other), self.assertRaises(EventConflict):
            self.store.append_event(stolen)

    # Unknown and deleted owners

    def test_an_event_of_an_unknown_session_is_not_stored(self) -> None:
        event = make_event("ses-missing")
        with self.assertRaises(SessionNotFound):
            self.store.append_event_with_sequence(event)
        self.assertEqual(self.store.get_events("ses-missing"), [])
        self.assertEqual(self.store.get_latest_sequence("ses-missing"), 0)
        self.assertEqual(self.count_orphans(), 0)

    def test_a_refused_append_to_an_unknown_session_spends_no_number(self) -> None:
        session = make_session(id="ses-later")
        event = make_event(session)
        with self.assertRaises(SessionNotFound):
            self.store.append_event(event)
        self.store.save_session(session)
        self.assertEqual(self.store.append_event_with_sequence(event).sequence_number, 1)

    def test_a_soft_deleted_session_takes_no_events(self) -> None:
        session = self.add_session()
        self.append(session)
        self.store.soft_delete_session(session.pk)
        with self.no_trace(session), self.assertRaises(SessionDeleted):
            self.append(session)
        self.store.restore_session(session.pk)
        self.assertEqual(self.append(session).sequence_number, 2)

    def test_an_event_of_an_unknown_run_is_not_stored(self) -> None:
        session = self.add_session()
        with self.no_trace(session), self.assertRaises(RunNotFound):
            self.append(session, run_id="run-missing")

    def test_an_event_of_another_sessions_run_is_not_stored(self) -> None:
        session, other = self.add_session(), self.add_session()
        run = self.add_run(other)
        with self.no_trace(session, other), self.assertRaises(ValidationError):
            self.append(session, run_id=run.pk)

    # Types and shapes

    def test_every_built_in_type_is_stored(self) -> None:
        session = self.add_session()
        types = list(Event.Type.values)
        self.assertEqual(len(types), 28)
        for name in types:
            self.append(session, type=name)
        self.assertEqual([event.type for event in self.store.get_events(session.pk)], types)

    def test_a_member_of_the_vocabulary_is_stored_as_its_text(self) -> None:
        stored = self.append(self.add_session(), type=Event.Type("error_occurred"))
        self.assertIs(type(stored.type), str)
        self.assertEqual(stored.type, "error_occurred")

    def test_unknown_types_are_not_stored(self) -> None:
        session = self.add_session()
        bad: tuple[Any, ...] = (
            "unknown",
            "",
            "Message_Sent",
            "message_sent ",
            "message\x00sent",
            "\ud800",
            "x" * 65,
            None,
            5,
            True,
            b"message_sent",
            ["message_sent"],
            object(),
        )
        with self.no_trace(session):
            for value in bad:
                with self.subTest(type=value), self.refused(InvalidEventType):
                    self.append(session, type=value)

    def test_a_project_can_add_types(self) -> None:
        session = self.add_session()
        with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=["plan_made"]):
            stored = self.append(session, type="plan_made")
            self.assert_same(self.store.get_events(session.pk, type="plan_made")[0], stored)
        self.assert_same(self.store.get_events(session.pk)[0], stored)
        with self.refused(InvalidEventType):
            self.append(session, type="plan_made")

    def test_only_events_are_appended(self) -> None:
        session = self.add_session()
        event = make_event(session)
        values: tuple[Any, ...] = (
            None,
            {},
            event.pk,
            event.to_dict(),
            Event,
            session,
            make_run(session),
            [event],
        )
        with self.no_trace(session):
            for value in values:
                for append in (self.store.append_event, self.store.append_event_with_sequence):
                    with (
                        self.subTest(value=type(value).__name__, append=append.__name__),
                        self.refused(ValidationError),
                    ):
                        append(value)

    def test_a_returned_record_can_be_appended_again(self) -> None:
        session = self.add_session()
        stored = self.append(session)
        self.assert_same(self.store.append_event_with_sequence(stored), stored)
        found = self.store.get_events(session.pk)[0]
        self.assertEqual(state(self.store.append_event_with_sequence(found)), state(stored))

    def test_numbers_go_on_after_the_last_event_of_a_long_log(self) -> None:
        session = self.add_session()
        self.store.append_events([make_event(session) for _ in range(50)])
        self.assertEqual(self.append(session).sequence_number, 51)
        self.assertEqual(self.make_store().get_latest_sequence(session.pk), 51)
