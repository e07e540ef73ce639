"""What a session's log holds."""

from __future__ import annotations

from asm_store.backends.base import BaseSessionStore
from asm_store.models import Run, Session


def types(store: BaseSessionStore, session_id: str) -> list[str]:
    return [event.type for event in store.get_events(session_id)]


def only(store: BaseSessionStore) -> tuple[Session, Run]:
    """The session of a store that has one, and its only run."""
    [session] = store.list_sessions()
    [run] = store.list_runs(session.id)
    return session, run
