"""What a session's log holds."""

from __future__ import annotations

from asm_store.backends.base import BaseSessionStore


def types(store: BaseSessionStore, session_id: str) -> list[str]:
    return [event.type for event in store.get_events(session_id)]
