"""The events that readers of foreign logs make of sessions, turns and drafts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..events.types import EventType
from ..models import Event, Run, Session
from .drafts import EPOCH, Draft, derived_id
from .reports import Tokens
from .turns import Conversation, Turn

END_EVENTS = {
    Run.Status.COMPLETED: EventType.RUN_COMPLETED,
    Run.Status.FAILED: EventType.RUN_FAILED,
    Run.Status.CANCELLED: EventType.RUN_CANCELLED,
    Run.Status.TIMEOUT: EventType.RUN_TIMEOUT,
}


def created_event(session: Session, provider: str | None) -> Event:
    """The first event of a session."""
    return Event(
        # Known by the session alone: its log may come in several files.
        id=derived_id("evt", EPOCH, session.id, "created"),
        type=EventType.SESSION_CREATED,
        session_id=session.id,
        timestamp=session.created_at,
        provider=provider,
    )


def started_event(turn: Turn) -> Event:
    """The event that begins the turn."""
    return Event(
        id=derived_id("evt", turn.started_at, turn.run_id, "started"),
        type=EventType.RUN_STARTED,
        session_id=turn.session_id,
        run_id=turn.run_id,
        timestamp=turn.started_at,
        provider=turn.provider,
    )


def end_events(turn: Turn) -> list[Event]:
    """The event that ends the turn, once."""
    if turn.has_end_event:
        return []
    turn.has_end_event = True
    data: dict[str, Any] = {"stop_reason": turn.stop_reason}
    if turn.status == Run.Status.FAILED and turn.error is not None:
        data = turn.error
    return [
        Event(
            # Known by its turn alone: however that ended, it ended once.
            id=derived_id("evt", turn.started_at, turn.run_id, "ended"),
            type=END_EVENTS[turn.status],
            session_id=turn.session_id,
            run_id=turn.run_id,
            timestamp=turn.ended_at,
            data=data,
            provider=turn.provider,
        )
    ]


def content_event(
    event_id: str,
    draft: Draft,
    timestamp: datetime,
    conversation: Conversation,
    turn: Turn | None,
    provider: str | None,
) -> Event:
    """The event of one draft; a tool's result is given the name of the tool that was called."""
    return Event(
        id=event_id,
        type=draft.type,
        timestamp=timestamp,
        session_id=conversation.session.id,
        run_id=None if turn is None else turn.run_id,
        data=_with_tool_name(draft, conversation),
        provider=provider,
        correlation_id=draft.correlation_id,
    )


def _with_tool_name(draft: Draft, conversation: Conversation) -> dict[str, Any]:
    data, call = draft.data, draft.data.get("tool_call_id")
    if draft.type == EventType.TOOL_CALL_STARTED:
        if isinstance(call, str):
            conversation.calls[call] = str(data.get("tool_name", ""))
        return data
    if "tool_call_id" not in data:
        return data
    name = conversation.calls.pop(call, "") if isinstance(call, str) else ""
    return {"tool_name": name, **data}


def usage_event(
    event_id: str,
    added: Tokens,
    model: str | None,
    timestamp: datetime,
    turn: Turn,
    correlation_id: str | None = None,
) -> Event:
    """Count in the turn what was used more, and make the event of it.

    So the events of a run add up to its usage, however often a log was imported while it grew.
    """
    turn.usage += added
    turn.used(model)
    return Event(
        id=event_id,
        type=EventType.TOKEN_USAGE_UPDATED,
        timestamp=timestamp,
        session_id=turn.session_id,
        run_id=turn.run_id,
        data={**added.to_dict(), **({"model": model} if model else {})},
        provider=turn.provider,
        correlation_id=correlation_id,
    )


def with_original(events: list[Event], record: dict[str, Any]) -> list[Event]:
    """The first event of a record keeps the record; the others say which event that is."""
    for number, event in enumerate(events):
        event.metadata = {"original_in": events[0].id} if number else {"original": record}
    return events
