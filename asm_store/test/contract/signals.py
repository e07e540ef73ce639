"""Signals and errors: what others are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.dispatch import Signal

from ... import exceptions, signals
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, needs, states


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """What `signal` sends during the block."""
    calls: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        calls.append(kwargs)

    signal.connect(receive, weak=False)
    try:
        yield calls
    finally:
        signal.disconnect(receive)


@contextmanager
def deaf(signal: Signal) -> Iterator[None]:
    """A receiver that fails during the block."""

    def receive(**kwargs: Any) -> None:
        raise RuntimeError("a receiver's own mistake")

    signal.connect(receive, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receive)


class Signals(ContractCase):
    def assert_told(self, call: dict[str, Any]) -> None:
        self.assertIs(call["sender"], type(self.store))
        self.assertIs(type(call["store"]), type(self.store))

    def test_a_saved_session_is_told(self) -> None:
        with heard(signals.session_saved) as calls:
            session = self.add_session()
            updated = self.store.update_session(session.pk, status="active")
        for call, expected in zip(calls, (session, updated), strict=True):
            self.assert_told(call)
            self.assert_same(call["session"], expected)

    def test_a_saved_run_is_told(self) -> None:
        session = self.add_session()
        with heard(signals.run_saved) as calls:
            run = self.add_run(session)
        self.assertEqual(len(calls), 1)
        self.assert_told(calls[0])
        self.assert_same(calls[0]["run"], run)

    def test_a_deleted_session_is_told(self) -> None:
        session = self.add_session()
        with heard(signals.session_deleted) as calls:
            self.store.delete_session(session.pk)
        self.assertEqual([call["session_id"] for call in calls], [session.pk])
        self.assert_told(calls[0])

    def test_appended_events_are_told_once_and_in_order(self) -> None:
        session = self.add_session()
        events = [make_event(session) for _ in range(3)]
        with heard(signals.events_appended) as calls:
            one = self.store.append_event_with_sequence(events[0])
            self.store.append_event(events[1])
            many = self.store.append_events([events[0], events[2], events[2]])
            self.store.append_events(events)
            self.store.append_event(events[0])
        self.assertEqual([ids(call["events"]) for call in calls], [[e.pk] for e in events])
        for call in calls:
            self.assert_told(call)
        self.assertEqual(states(calls[0]["events"]), states([one]))
        self.assertEqual(states(calls[2]["events"]), states([many[1]]))

    def test_a_flush_is_told(self) -> None:
        session = make_session()
        run = make_run(session)
        with (
            heard(signals.session_saved) as saved,
            heard(signals.run_saved) as runs,
            heard(signals.events_appended) as appended,
        ):
            stored = self.store.flush(session, run, [make_event(session), make_event(session)])
        self.assertEqual([call["session"].pk for call in saved], [session.pk])
        self.assertEqual([call["run"].pk for call in runs], [run.pk])
        self.assertEqual([states(call["events"]) for call in appended], [states(stored)])

    def test_what_was_refused_is_not_told(self) -> None:
        session = self.add_session()
        run = make_run(session)
        with (
            heard(signals.session_saved) as saved,
            heard(signals.run_saved) as runs,
            heard(signals.events_appended) as appended,
        ):
            with self.assertRaises(exceptions.SessionNotFound):
                self.store.append_events([make_event(session), make_event("ses-missing")])
            with self.assertRaises(exceptions.RunNotFound):
                self.append(session, run_id="run-missing")
            with self.assertRaises(exceptions.SessionNotFound):
                self.store.save_run(make_run("ses-missing"))
            with self.assertRaises(exceptions.ValidationError):
                self.store.flush(session, run, [make_event(session, data={"n": float("nan")})])
        self.assertEqual((saved, runs, appended), ([], [], []))

    def test_a_failing_receiver_disturbs_nobody(self) -> None:
        session = make_session()
        with (
            deaf(signals.session_saved),
            deaf(signals.run_saved),
            deaf(signals.events_appended),
            heard(signals.events_appended) as calls,
            self.assertLogs(level="ERROR"),
        ):
            self.store.save_session(session)
            self.store.save_run(make_run(session))
            stored = self.append(session)
        self.assertEqual(ids(calls[0]["events"]), [stored.pk])
        self.assert_log(session, [stored])

    def test_a_receiver_can_read_and_write(self) -> None:
        session = self.add_session()
        seen: list[int] = []

        def receive(events: list[Any], **kwargs: Any) -> None:
            seen.append(self.store.get_latest_sequence(session.pk))
            if len(seen) < 3:
                self.append(session)

        signals.events_appended.connect(receive)
        try:
            self.append(session)
        finally:
            signals.events_appended.disconnect(receive)
        self.assertEqual(seen, [1, 2, 3])

    @needs("supports_transactions")
    def test_signals_wait_for_the_callers_commit(self) -> None:
        with (
            heard(signals.session_saved) as saved,
            heard(signals.run_saved) as runs,
            heard(signals.events_appended) as appended,
            heard(signals.session_deleted) as deleted,
        ):
            with self.atomic():
                session = self.add_session()
                self.add_run(session)
                self.append(session)
                self.store.delete_session(self.add_session().pk)
                self.assertEqual((saved, runs, appended, deleted), ([], [], [], []))
            self.assertEqual((len(saved), len(runs), len(appended), len(deleted)), (2, 1, 1, 1))

    @needs("supports_transactions")
    def test_what_was_rolled_back_is_not_told(self) -> None:
        with (
            heard(signals.session_saved) as saved,
            heard(signals.events_appended) as appended,
            self.assertRaises(ZeroDivisionError),
            self.atomic(),
        ):
            self.append(self.add_session())
            raise ZeroDivisionError
        self.assertEqual((saved, appended), ([], []))

    @needs("supports_transactions")
    def test_what_a_block_changes_later_is_not_told(self) -> None:
        with (
            heard(signals.session_saved) as saved,
            heard(signals.events_appended) as appended,
            self.atomic(),
        ):
            session = self.add_session(metadata={"list": [1]})
            event = self.append(session, data={"list": [1]})
            session.metadata["list"].append(2)
            event.data["list"].append(2)
        self.assertEqual(saved[0]["session"].metadata, {"list": [1]})
        self.assertEqual(appended[0]["events"][0].data, {"list": [1]})

    # Errors

    def test_errors_have_codes_and_builtin_bases(self) -> None:
        expected: tuple[tuple[type[exceptions.StoreError], str, type[Exception]], ...] = (
            (exceptions.SessionNotFound, "session_not_found", LookupError),
            (exceptions.RunNotFound, "run_not_found", LookupError),
            (exceptions.ValidationError, "validation_error", ValueError),
            (exceptions.InvalidStatus, "invalid_status", exceptions.ValidationError),
            (exceptions.InvalidEventType, "invalid_event_type", exceptions.ValidationError),
            (exceptions.SequenceConflict, "sequence_conflict", exceptions.StoreError),
            (exceptions.EventConflict, "event_conflict", exceptions.StoreError),
            (exceptions.SessionDeleted, "session_deleted", exceptions.StoreError),
        )
        for error, code, base in expected:
            with self.subTest(error=error.__name__):
                self.assertEqual(error.code, code)
                self.assertTrue(issubclass(error, base))
                self.assertTrue(issubclass(error, exceptions.StoreError))

    def test_an_error_says_what_was_wrong(self) -> None:
        session = self.add_session()
        event = self.append(session)
        other = self.add_session()
        cases = (
            ("ses-missing", lambda: self.store.get_session("ses-missing")),
            ("run-missing", lambda: self.append(session, run_id="run-missing")),
            (event.pk, lambda: self.append(other, id=event.pk)),
            ("data", lambda: self.append(session, data={"n": float("nan")})),
            ("limit", lambda: self.store.list_sessions(limit=-1)),
        )
        for part, call in cases:
            with self.subTest(part=part), self.assertRaises(exceptions.StoreError) as caught:
                call()
            self.assertIn(part, str(caught.exception))
