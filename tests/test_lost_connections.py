"""Connections that a server ends: before, between and after the statements of a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from asm_store.backends import transactions
from asm_store.backends.database import DatabaseSessionStore
from asm_store.db import get_operations
from asm_store.exceptions import StorageError
from asm_store.models import Event, Session
from asm_store.test import make_event, make_run, make_session
from tests.failures import Verb, append, driver, execute, kill_connection, killed_at, stored


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


# PostgreSQL's rows go by COPY.
INSERT = ("INSERT", "COPY")


def append_with_a_look_first(using: str, session: Session) -> Event:
    """An id that is given twice keeps the store from an append that looks at nothing first."""
    event = make_event(session)
    return DatabaseSessionStore(using).append_events([event, event])[0]


class TestLostConnections:
    def test_before_a_write(self, server: str, session: Session) -> None:
        kill_connection(server)
        event = append(server, session)

        assert stored(server, session) == [(event.pk, 1)]

    def test_before_a_read(self, server: str, session: Session) -> None:
        kill_connection(server)
        assert DatabaseSessionStore(server).get_session(session.pk) == session

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize(
        ("verb", "table"),
        [
            ("SELECT", "asm_session_sequences"),
            (INSERT, "asm_events"),
            ("UPDATE", "asm_session_sequences"),  # after it comes the COMMIT
        ],
    )
    def test_between_statements(
        self, server: str, session: Session, verb: Verb, table: str, after: bool
    ) -> None:
        first = append(server, session)
        with killed_at(server, verb, table, after=after) as sent:
            second = append_with_a_look_first(server, session)

        assert len(sent) == 2
        assert stored(server, session) == [(first.pk, 1), (second.pk, 2)]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("verb", ["WITH", "COPY"])
    def test_between_the_statements_that_look_at_nothing_first(
        self, server: str, session: Session, verb: str, after: bool
    ) -> None:
        if not get_operations(server).appends_alone:
            pytest.skip("there are none")
        events = [make_event(session), make_event(session)]
        with killed_at(server, verb, "asm_events", after=after) as sent:
            DatabaseSessionStore(server).append_events(events)

        assert len(sent) == 2
        assert stored(server, session) == [(events[0].pk, 1), (events[1].pk, 2)]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_around_the_statement_that_is_an_append(
        self, server: str, session: Session, after: bool
    ) -> None:
        if not get_operations(server).appends_alone:
            pytest.skip("an append is several statements there")
        event = make_event(session)
        with killed_at(server, "SELECT", "asm_append_event", after=after) as sent:
            answer = DatabaseSessionStore(server).append_event_with_sequence(event)

        # After it nothing is left to be lost.
        assert len(sent) == (1 if after else 2)
        assert answer.sequence_number == 1
        assert stored(server, session) == [(event.pk, 1)]

    def test_after_the_commit_of_which_nobody_heard(self, server: str, session: Session) -> None:
        event = make_event(session)
        answers: list[Event] = []

        def lose_the_answer() -> None:
            if len(answers) == 1:
                kill_connection(server)
                execute(server, "SELECT 1")

        def body() -> Event:
            answers.append(DatabaseSessionStore(server).append_event_with_sequence(event))
            transaction.on_commit(lose_the_answer, using=server)
            return answers[-1]

        assert transactions.write(server, body).sequence_number == 1
        assert len(answers) == 2
        assert stored(server, session) == [(event.pk, 1)]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("verb", [("WITH", "INSERT"), INSERT])
    def test_of_a_flush(
        self, server: str, session: Session, verb: tuple[str, ...], after: bool
    ) -> None:
        run = make_run(session)
        event = make_event(session, run_id=run.pk)
        with killed_at(server, verb, "asm_events", after=after) as sent:
            DatabaseSessionStore(server).flush(session, run, [event])

        assert len(sent) == 2
        assert stored(server, session) == [(event.pk, 1)]

    def test_signals_are_sent_once(
        self, server: str, session: Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", "asm_store")
        with killed_at(server, "UPDATE", "asm_session_sequences", after=True) as sent:
            event = append_with_a_look_first(server, session)

        assert len(sent) == 2
        records = [record for record in caplog.records if record.name == "asm_store"]
        told = [each.getMessage() for each in records if not hasattr(each, "failure")]
        assert told == [f"event {event.pk} (message_sent) is number 1 of session {session.pk}"]
        assert len(records) == 2

    def test_is_an_error_when_retries_are_not_wanted(self, server: str, session: Session) -> None:
        kill_connection(server)
        with override_settings(ASM_STORE_RETRY_SECONDS=0), pytest.raises(StorageError) as caught:
            append(server, session)

        assert isinstance(caught.value.__cause__, driver(server).Error)
        assert append(server, session).sequence_number == 1

    @pytest.mark.parametrize("use", [append, stored])
    def test_in_the_callers_block_is_an_error(
        self, server: str, session: Session, use: Callable[[str, Session], Any]
    ) -> None:
        def append_and_use() -> None:
            with transaction.atomic(using=server):
                append(server, session)
                kill_connection(server)
                use(server, session)

        with pytest.raises(StorageError) as caught:
            append_and_use()

        assert isinstance(caught.value.__cause__, driver(server).Error)
        assert stored(server, session) == []
        assert append(server, session).sequence_number == 1
