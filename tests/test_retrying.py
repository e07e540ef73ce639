"""What is told from outside of retries: the signal, and the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import Error

from asm_store import signals
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import EventConflict
from asm_store.models import Session
from asm_store.test import make_event, make_session
from tests.failures import Contest, append, kill_connection, stored
from tests.threads import run_threads


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        calls.append(arguments)

    signals.retrying.connect(receive)
    yield calls
    signals.retrying.disconnect(receive)


def test_a_lost_connection_is_told(
    server: str, session: Session, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    kill_connection(server)
    append(server, session)

    [call] = told
    assert (call["using"], call["failure"], call["attempt"]) == (server, "connection", 1)
    assert call["delay"] >= 0
    assert isinstance(call["error"], Error)
    [record] = [each for each in caplog.records if each.name == "asm_store"]
    assert record.levelno == logging.WARNING
    shown = {name: vars(record)[name] for name in ("using", "failure", "attempt", "delay")}
    assert shown == {name: call[name] for name in shown}


def test_each_attempt_on_a_busy_database_is_told(
    using: str, session: Session, told: list[dict[str, Any]]
) -> None:
    Contest(using, session, refusals=3).run(lambda: append(using, session))

    assert {(call["using"], call["failure"]) for call in told} == {(using, "busy")}
    assert [call["attempt"] for call in told] == [*range(1, len(told) + 1)]
    assert len(told) >= 3


def test_a_collision_is_told(server: str, session: Session, told: list[dict[str, Any]]) -> None:
    """Another writer stores the same id, in another session, after this one has looked for it."""
    event = make_event(session)
    other = DatabaseSessionStore(server).save_session(make_session())
    same = make_event(other, id=event.pk)

    def store_it() -> None:
        DatabaseSessionStore(server).append_event(same)

    def before_the_insert(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith(("INSERT INTO", "COPY")) and "asm_events" in sql and not told:
            run_threads([store_it])
        return execute(sql, *arguments)

    with (
        connections[server].execute_wrapper(before_the_insert),
        pytest.raises(EventConflict),
    ):
        # Given twice it takes the way that looks first everywhere.
        DatabaseSessionStore(server).append_events([event, event])

    assert [(call["failure"], call["attempt"], call["delay"]) for call in told] == [
        ("collision", 1, 0.0)
    ]
    assert stored(server, session) == []


def test_nothing_is_told_of_what_cannot_be_tried_again(
    server: str, session: Session, told: list[dict[str, Any]]
) -> None:
    def in_a_block() -> None:
        with transaction.atomic(using=server):
            append(server, session)
            kill_connection(server)
            append(server, session)

    with pytest.raises(Exception, match=f"The database '{server}' failed"):
        in_a_block()
    assert told == []


def test_a_receiver_that_fails_does_not_stop_the_retry(server: str, session: Session) -> None:
    def fails(**arguments: Any) -> None:
        raise ZeroDivisionError("a receiver's own mistake")

    kill_connection(server)
    signals.retrying.connect(fails)
    try:
        event = append(server, session)
    finally:
        signals.retrying.disconnect(fails)
    assert stored(server, session) == [(event.pk, 1)]
