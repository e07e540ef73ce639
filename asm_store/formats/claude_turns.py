"""What the entries of a Claude Code transcript do to their session, their turn and its usage."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from ..events.types import EventType
from ..models import Event, Run, Session
from .claude_records import INTERRUPTION, LOCAL_OUTPUT, Entry, model_of, usage_of
from .drafts import Draft, context_of, derived_id, short_text
from .lifecycle import usage_event
from .reports import Tokens
from .turns import Turn, excerpt

SOURCE = "claude-code"
PROVIDER = "claude"
CONTEXT_KEYS = {"cwd": "cwd", "gitBranch": "git_branch", "version": "version"}


def new_session(entry: Entry) -> Session:
    """The session of its first entry. A log has no end: what is written down is completed."""
    metadata = {"imported_from": SOURCE}
    if agent := entry.record.get("agentId"):
        metadata["subagent_id"] = agent
    return Session(
        id=entry.session_id,
        agent_id=SOURCE,
        status=Session.Status.COMPLETED,
        parent_session_id=entry.parent_session_id,
        metadata=metadata,
        context=_context(entry),
        created_at=entry.timestamp,
        updated_at=entry.timestamp,
    )


def note_session(session: Session, entry: Entry) -> None:
    """Keep the latest time, and the first context that the log gives."""
    session.updated_at = max(session.updated_at, entry.timestamp)
    session.context = {**_context(entry), **session.context}


def _context(entry: Entry) -> dict[str, Any]:
    return context_of({name: entry.record.get(key) for key, name in CONTEXT_KEYS.items()})


def note_drafts(turn: Turn, entry: Entry, drafts: Iterable[Draft]) -> None:
    """Keep what an entry says about how the turn stands: the last one decides its outcome."""
    if entry.is_note:
        return
    for draft in drafts:
        _note_draft(turn, entry, draft)
    if entry.kind == "assistant":
        reason = entry.message.get("stop_reason")
        turn.stop_reason = reason[:255] if isinstance(reason, str) else None


def _note_draft(turn: Turn, entry: Entry, draft: Draft) -> None:
    if entry.kind == "system":
        _note_system(turn, draft)
    elif entry.is_api_error:
        turn.outcome = Run.Status.FAILED
        turn.error = {name: excerpt(text) for name, text in draft.data.items()}
    elif draft.type == EventType.MESSAGE_RECEIVED:
        turn.outcome = Run.Status.COMPLETED
        turn.answered(draft.data["content"], entry.message_id)
    elif draft.type == EventType.MESSAGE_SENT:
        _note_message(turn, entry, draft.data["content"])
    else:
        turn.outcome = None


def _note_system(turn: Turn, draft: Draft) -> None:
    # A failed request is tried again: it decides nothing.
    if draft.type == EventType.TURN_COMPLETED and turn.outcome is None:
        turn.outcome = Run.Status.COMPLETED


def _note_message(turn: Turn, entry: Entry, content: str) -> None:
    if content.startswith(INTERRUPTION):
        turn.outcome = Run.Status.CANCELLED
    elif content.startswith(LOCAL_OUTPUT):
        turn.outcome = Run.Status.COMPLETED
    else:
        turn.outcome = None
        turn.prompt = excerpt(f"{turn.prompt}\n{content}".strip())


class UsageChange(NamedTuple):
    """By how much a line changes the usage of its message."""

    event_id: str
    message: bytes
    before: Tokens | None
    after: Tokens


class UsageLedger:
    """The usage of each API message, which several lines repeat: the last of them wins."""

    def __init__(self) -> None:
        self.total = Tokens()
        self._known: dict[bytes, Tokens] = {}
        self._seen: set[str] = set()

    def change(self, entry: Entry) -> UsageChange | None:
        """What the entry changes; None when it says nothing new, or what an earlier line said."""
        after = usage_of(entry.message) if entry.kind == "assistant" else None
        message = _message_key(entry)
        before = self._known.get(message)
        if after is None or after == (before or Tokens()):
            return None
        parts = [entry.session_id, message.hex(), *map(str, after.counts())]
        event_id = derived_id("evt", entry.timestamp, *parts)
        # A history that is written again must not bring back the counts of a message's first line.
        if event_id in self._seen:
            return None
        return UsageChange(event_id, message, before, after)

    def event(self, entry: Entry, turn: Turn, change: UsageChange) -> Event:
        """Note the change in the turn and here, and make the event of it."""
        added = change.after - (change.before or Tokens())
        turn.messages += change.before is None
        self.total += added
        self._known[change.message] = change.after
        self._seen.add(change.event_id)
        return usage_event(
            change.event_id,
            added,
            model_of(entry.message),
            entry.timestamp,
            turn,
            short_text(entry.message_id),
        )


def _message_key(entry: Entry) -> bytes:
    """The message's id and the request's, short; a message without an id is its line's own."""
    message_id = entry.message_id or entry.uuid or entry.timestamp.isoformat()
    ids = (message_id, entry.record.get("requestId"))
    return sha256(repr(ids).encode(errors="surrogatepass")).digest()[:16]
