"""What `SessionManager` needs of a store: several writes in one transaction, under its locks."""

from __future__ import annotations

from ...exceptions import InvalidStatus, ProviderError, RunCancelled, SessionNotFound
from ...models import Event, Session
from ...session_manager import SessionManager
from ..factories import make_event, make_session
from ..providers import ScriptedProvider
from .base import OWNER, ContractCase

ANSWER = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}


class Managed(ContractCase):
    def types(self, session_id: str) -> list[str]:
        return [event.type for event in self.store.get_events(session_id)]

    def manage(self, *script: object) -> SessionManager:
        return SessionManager(self.store, ScriptedProvider(script))

    def test_an_agent_is_run(self) -> None:
        result = self.manage(ANSWER).run_once("Hi", session_id=OWNER)
        self.assertEqual(result.output, {"content": "Hello."})
        self.assertEqual(self.store.get_session(OWNER).status, Session.Status.COMPLETED)
        self.assertEqual(self.store.get_run(result.run_id).status, "completed")
        self.assertEqual(
            self.types(OWNER),
            [
                *("session_created", "session_started", "message_sent", "run_started"),
                *("message_received", "run_completed", "session_completed"),
            ],
        )

    def test_an_agent_that_fails_keeps_what_arrived(self) -> None:
        with self.assertRaises(ProviderError):
            self.manage(ANSWER, RuntimeError("no")).run_once("Hi", session_id=OWNER)
        self.assertEqual(self.store.get_session(OWNER).status, Session.Status.FAILED)
        self.assertEqual(
            self.types(OWNER)[4:],
            ["message_received", "error_occurred", "run_failed", "session_failed"],
        )

    def test_an_agent_is_cancelled(self) -> None:
        manager = self.manage(ANSWER)

        def cancel(event: Event) -> None:
            if event.type == "message_received":
                manager.cancel_run(str(event.run_id))

        with self.assertRaises(RunCancelled):
            manager.run_once("Hi", session_id=OWNER, event_callback=cancel)
        self.assertEqual(self.types(OWNER)[5:], ["run_cancelled", "session_cancelled"])

    def test_a_step_that_is_refused_stores_nothing(self) -> None:
        session = self.add_session(status="completed")
        with self.assertRaises(InvalidStatus):
            self.manage().run_once("Hi", session_id=session.pk)
        self.assert_same(self.store.get_session(session.pk), session)
        self.assertEqual(self.store.list_runs(session.pk), [])
        self.assertEqual(self.types(session.pk), [])

    def test_writes_together_are_all_stored_or_none(self) -> None:
        session = self.add_session()
        other = make_session()

        def write() -> None:
            self.store.save_session(other)
            self.store.append_event(make_event(session))
            self.store.update_session(session.pk, status="active")
            self.store.append_event(make_event("ses-unknown"))

        with self.assertRaises(SessionNotFound):
            self.store._atomically(write)
        self.assert_same(self.store.get_session(session.pk), session)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
        with self.assertRaises(SessionNotFound):
            self.store.get_session(other.pk)
        event = self.store.append_event_with_sequence(make_event(session))
        self.assertEqual(event.sequence_number, 1)
