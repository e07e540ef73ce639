"""Whether the database wakes those who wait in this process is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asm_store import signals
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.waiting.hub import Hub
from tests.waiting.waiters import LISTENER, Follower, end_connections, listening, until


@pytest.fixture
def states() -> Iterator[list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        calls.append(arguments)

    signals.listening_changed.connect(receive)
    yield calls
    signals.listening_changed.disconnect(receive)


def test_listening_is_told(
    told: str, session: Session, hub: Hub, states: list[dict[str, Any]]
) -> None:
    follower = Follower(told, session)
    with listening(hub):
        until(lambda: len(states) == 1, "it is told that the hub listens")
        assert end_connections(told, LISTENER) == 1
        until(lambda: len(states) == 3, "it is told that the connection was lost, and is there")
        DatabaseSessionStore(told).update_session(session.pk, status="completed")
        follower.wait_for_end()
    until(lambda: len(states) == 4, "it is told that nobody waits any more")

    assert [state["is_listening"] for state in states] == [True, False, True, False]
    assert {state["using"] for state in states} == {told}
    assert [state["error"] is None for state in states] == [True, False, True, True]
