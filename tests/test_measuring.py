"""How long appends take, and what they end with, is told by a signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store import signals
from asm_store.backends.base import BaseSessionStore
from asm_store.exceptions import SequenceConflict, ValidationError
from asm_store.models import Session
from asm_store.test import make_event, make_run, make_session


@pytest.fixture
def session(store: BaseSessionStore) -> Session:
    return store.save_session(make_session())


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        calls.append(arguments)

    signals.append_finished.connect(receive)
    yield calls
    signals.append_finished.disconnect(receive)


def test_each_append_is_told_once(
    store: BaseSessionStore, session: Session, told: list[dict[str, Any]]
) -> None:
    run = make_run(session)
    store.append_event(make_event(session))
    store.append_events(make_event(session) for _ in range(3))
    store.append_events([])
    store.flush(session, run, [make_event(session, run_id=run.pk)])
    with store.writer(session.pk) as writer:
        writer.write(make_event(session))
        writer.write(make_event(session))

    assert [(call["count"], call["error"]) for call in told] == [
        (1, None), (3, None), (1, None), (2, None),
    ]  # fmt: skip
    assert all(call["sender"] is type(store) and call["store"] is store for call in told)
    assert all(0 < call["seconds"] < 60 for call in told)


def test_batches_of_an_async_writer_are_told(
    store: BaseSessionStore, session: Session, told: list[dict[str, Any]]
) -> None:
    async def write() -> None:
        async with store.awriter(session.pk) as writer:
            await writer.write(make_event(session))

    async_to_sync(write)()
    assert [call["count"] for call in told] == [1]


def test_a_conflict_is_told_with_its_error(
    store: BaseSessionStore, session: Session, told: list[dict[str, Any]]
) -> None:
    with pytest.raises(SequenceConflict) as caught:
        store.append_events([make_event(session)], expected_sequence=7)

    assert [(call["count"], call["error"]) for call in told] == [(1, caught.value)]


def test_what_is_refused_at_the_door_is_no_append(
    store: BaseSessionStore, session: Session, told: list[dict[str, Any]]
) -> None:
    with pytest.raises(ValidationError):
        store.append_event(make_event(session, data={"n": float("nan")}))
    assert told == []


def test_a_receiver_that_fails_disturbs_nothing(store: BaseSessionStore, session: Session) -> None:
    def fails(**arguments: Any) -> None:
        raise ZeroDivisionError("a receiver's own mistake")

    signals.append_finished.connect(fails)
    try:
        assert store.append_event_with_sequence(make_event(session)).sequence_number == 1
    finally:
        signals.append_finished.disconnect(fails)
