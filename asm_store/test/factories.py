"""Unsaved records with everything filled in; keyword arguments set or replace columns."""

from __future__ import annotations

from typing import Any

from ..models import Event, Run, Session


def make_session(**columns: Any) -> Session:
    """A session of the agent "assistant"."""
    return Session(**{"agent_id": "assistant", **columns})


def make_run(session: Session | str | None = None, **columns: Any) -> Run:
    """A run of `session` (a record or an id)."""
    return Run(**_owned(session), **columns)


def make_event(session: Session | str | None = None, **columns: Any) -> Event:
    """A `message_sent` of `session` (a record or an id)."""
    message = {"type": "message_sent", "data": {"role": "user", "content": "Hello"}}
    return Event(**{**message, **_owned(session), **columns})


def _owned(session: Session | str | None) -> dict[str, str]:
    if session is None:
        return {}
    return {"session_id": session if isinstance(session, str) else session.pk}
