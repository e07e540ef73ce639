"""The log that the package keeps, and that no receiver can break a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal

from asm_store import signals
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.test import make_event, make_run, make_session

SIGNALS = {
    "session_saved": signals.session_saved,
    "session_deleted": signals.session_deleted,
    "run_saved": signals.run_saved,
    "events_appended": signals.events_appended,
    "maintenance_finished": signals.maintenance_finished,
}


@contextmanager
def receiving(signal: Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "asm_store")
    return caplog


def use_everything(store: BaseSessionStore) -> None:
    """Calls that send each signal of a store, once; nothing is left."""
    session = store.save_session(make_session(id="ses_1"))
    run = store.save_run(make_run(session, id="run_1"))
    events = [make_event(session, id=f"evt_{number}", run_id=run.pk) for number in (1, 2)]
    assert [event.sequence_number for event in store.append_events(events)] == [1, 2]
    assert store.get_session(session.pk) == session
    store.delete_session(session.pk)
    assert store.list_sessions() == []


class TestLog:
    def test_each_change_is_a_record(self, log: pytest.LogCaptureFixture) -> None:
        use_everything(InMemorySessionStore())

        assert log.record_tuples == [
            ("asm_store", logging.DEBUG, "session ses_1 saved as pending"),
            ("asm_store", logging.DEBUG, "run run_1 of session ses_1 saved as pending"),
            ("asm_store", logging.DEBUG, "event evt_1 (message_sent) is number 1 of session ses_1"),
            ("asm_store", logging.DEBUG, "event evt_2 (message_sent) is number 2 of session ses_1"),
            ("asm_store", logging.INFO, "session ses_1 deleted"),
        ]

    def test_is_the_same_on_every_database(self, log: pytest.LogCaptureFixture, using: str) -> None:
        use_everything(InMemorySessionStore())
        expected = log.record_tuples[:]
        log.clear()
        use_everything(DatabaseSessionStore(using))

        assert [record for record in log.record_tuples if record[0] == "asm_store"] == expected

    def test_of_maintenance(self, log: pytest.LogCaptureFixture) -> None:
        report = {"deleted": 3}
        signals.maintenance_finished.send(sender=None, report=report, using="other")

        assert log.messages == ["maintenance of other finished: {'deleted': 3}"]

    def test_what_agents_say_is_not_in_it(self, log: pytest.LogCaptureFixture) -> None:
        store = InMemorySessionStore()
        session = store.save_session(make_session(metadata={"said": "the secret"}))
        store.append_event(make_event(session, data={"said": "the secret"}))

        assert log.messages
        assert "secret" not in log.text


class TestFailingReceivers:
    @pytest.mark.parametrize("name", [name for name in SIGNALS if name != "maintenance_finished"])
    @pytest.mark.parametrize("kind", ["memory", "database"])
    def test_break_no_store_and_no_other_receiver(
        self, name: str, kind: str, using: str, log: pytest.LogCaptureFixture
    ) -> None:
        store = InMemorySessionStore() if kind == "memory" else DatabaseSessionStore(using)
        calls: list[dict[str, Any]] = []

        def fails(**arguments: Any) -> None:
            calls.append(arguments)
            raise ZeroDivisionError("a receiver's own mistake")

        def listens(**arguments: Any) -> None:
            calls.append(arguments)

        with receiving(SIGNALS[name], fails), receiving(SIGNALS[name], listens):
            use_everything(store)

        assert len(calls) == 2
        assert all(call["sender"] is type(store) and call["store"] is store for call in calls)
        assert len([record for record in log.records if record.name == "asm_store"]) == 5
        assert "a receiver's own mistake" in log.text  # Django tells of it

    def test_what_a_receiver_is_given_is_its_own(self) -> None:
        store = InMemorySessionStore()

        def spoils(events: list[Any], **arguments: Any) -> None:
            events[0].data["spoilt"] = True
            events.clear()

        with receiving(signals.events_appended, spoils):
            session = store.save_session(make_session())
            [returned] = store.append_events([make_event(session)])

        [stored] = store.get_events(session.pk)
        assert "spoilt" not in stored.data | returned.data
