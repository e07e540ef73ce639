"""Sessions in which something was said, a second after the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CALL: dict[str, Any] = {"tool_name": "grep", "tool_call_id": "call_1"}


def append(
    store: DatabaseSessionStore, session: Session, *kinds: tuple[str, dict[str, Any]]
) -> Any:
    before = store.get_latest_sequence(session.id)
    return store.append_events(
        [
            Event(
                session_id=session.id,
                type=kind,
                data=data,
                timestamp=START + timedelta(seconds=before + number),
            )
            for number, (kind, data) in enumerate(kinds)
        ]
    )


def fill(store: DatabaseSessionStore, session: Session, count: int) -> None:
    said = ({"content": f"text {number}", "role": "user"} for number in range(1, count + 1))
    append(store, session, *(("message_sent", data) for data in said))
