"""Appends pass by Django's cursor only where nobody has a part in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.direct import is_direct
from asm_store.models import Session
from asm_store.test import make_event

# What an append is about, and PostgreSQL's function for it.
PARTS = ("asm_session_sequences", "asm_append_event")


def is_part(sql: str) -> bool:
    return any(part in sql for part in PARTS)


def append(using: str, session: Session) -> int:
    event = DatabaseSessionStore(using).append_event_with_sequence(make_event(session))
    return int(event.sequence_number)


def test_usually_is(using: str, session: Session) -> None:
    assert is_direct(connections[using])


@pytest.mark.parametrize("name", ["_cursor", "_prepare_cursor", "create_cursor", "make_cursor"])
def test_a_backend_that_prepares_each_cursor_does(
    using: str, session: Session, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that chooses a tenant's schema."""
    kind = type(connections[using])
    own, prepared = getattr(kind, name), []

    def prepare(self: Any, *arguments: Any, **named: Any) -> Any:
        prepared.append(name)
        return own(self, *arguments, **named)

    monkeypatch.setattr(kind, name, prepare)

    assert not is_direct(connections[using])
    assert append(using, session) == 1
    assert prepared


def test_a_connection_whose_cursor_is_replaced_uses_that(
    using: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, used = connections[using], []
    own = connection.cursor

    def cursor(*arguments: Any) -> Any:
        used.append(arguments)
        return own(*arguments)

    monkeypatch.setattr(connection, "cursor", cursor)

    assert append(using, session) == 1
    assert used


def test_who_replaces_execute_sees_the_statement(
    using: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = CursorWrapper.execute, []

    def execute(self: Any, sql: str, params: Any = None) -> Any:
        seen.append(sql)
        return own(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", execute)

    assert append(using, session) == 1
    assert any(map(is_part, seen))


def test_who_looks_on_sees_the_statement(using: str, session: Session) -> None:
    connection, seen = connections[using], []

    def look(execute: Any, sql: str, *others: Any) -> Any:
        seen.append(sql)
        return execute(sql, *others)

    with connection.execute_wrapper(look):
        append(using, session)
    with CaptureQueriesContext(connection) as captured:
        append(using, session)

    assert any(map(is_part, seen))
    assert any(is_part(query["sql"]) for query in captured)


def test_an_event_loop_is_refused_before_anything_is_stored(using: str, session: Session) -> None:
    async def append_there() -> None:
        with pytest.raises(SynchronousOnlyOperation):
            append(using, session)

    asyncio.run(append_there())

    assert DatabaseSessionStore(using).get_latest_sequence(session.pk) == 0
