"""Transcripts of Claude Code: `<project>/<session>.jsonl`, `<session>/subagents/agent-*.jsonl`.

The same API message stands in several lines, one for each block of its content, each with the
usage of the whole message; and a session that was resumed may repeat all its earlier lines under
new uuids. So nothing is known by its line or its uuid here: an event is known by its session, its
time and its content, the usage of a message by the message's and the request's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..events.sanitizing import shown
from ..models import Event, Run, Session
from .claude_records import Draft, Entry, derived_id, described, drafts_of, is_prompt, read_entry
from .claude_turns import (
    PROVIDER,
    SOURCE,
    UsageLedger,
    content_event,
    created_event,
    end_events,
    new_session,
    note_drafts,
    note_session,
    started_event,
)
from .lines import Line
from .reader import LogReader
from .reports import Tally, Tokens
from .turns import Conversation, Turn

MAX_TITLE = 1000
CONVERSATION_TYPES = frozenset({"user", "assistant", "system"})
# The other system records are notes of the program to itself.
SYSTEM_EVENTS = frozenset({"api_error", "turn_duration"})
# Each with the field that holds the session's title.
TITLE_TYPES = {"summary": "summary", "custom-title": "customTitle", "ai-title": "aiTitle"}
# Known, and no part of the conversation.
IGNORED_TYPES = frozenset(
    {
        "agent-color",
        "agent-name",
        "agent-setting",
        "attachment",
        "attribution-snapshot",
        "file-history-snapshot",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "progress",
        "queue-operation",
        "tag",
        "task-summary",
        "worktree-state",
    }
)


class ClaudeCodeReader(LogReader):
    """Reads one transcript. It keeps ids and counts of what it has seen, and no contents."""

    name = SOURCE
    parent_is_optional = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._conversations: dict[str, Conversation] = {}
        self._seen: set[bytes] = set()
        self._usage = UsageLedger()
        self._title: str | None = None

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        kind = record.get("type")
        if not isinstance(kind, str):
            return False
        if kind == "file-history-snapshot":
            return "messageId" in record
        if kind == "summary":
            return "leafUuid" in record
        known = CONVERSATION_TYPES | IGNORED_TYPES | TITLE_TYPES.keys()
        return kind in known and "sessionId" in record

    @property
    def tokens(self) -> Tokens:
        return self._usage.total

    def feed(self, line: Line) -> list[Event]:
        kind = line.record.get("type")
        if not isinstance(kind, str) or kind not in CONVERSATION_TYPES:
            self._feed_other(kind, line)
            return []
        subtype = str(line.record.get("subtype"))
        if kind == "system" and subtype not in SYSTEM_EVENTS:
            self.tally.ignore(f"system/{subtype if subtype.isidentifier() else shown(subtype)}")
            return []
        return self._feed_entry(read_entry(line.record))

    def _feed_other(self, kind: object, line: Line) -> None:
        if isinstance(kind, str) and kind in TITLE_TYPES:
            title = line.record.get(TITLE_TYPES[kind])
            self._title = title[:MAX_TITLE] if isinstance(title, str) else self._title
            self.tally.ignore(kind)
        elif isinstance(kind, str) and kind in IGNORED_TYPES:
            self.tally.ignore(kind)
        else:
            self.tally.skip(described(kind), line.number)

    def _feed_entry(self, entry: Entry) -> list[Event]:
        drafts = drafts_of(entry)
        fresh = self._unseen(entry, drafts)
        used = self._usage.change(entry)
        if not fresh and used is None:
            self.tally.ignore("repeated line" if drafts else "empty message")
            return []
        conversation, events = self._conversation(entry)
        begins = bool(fresh) and is_prompt(entry, drafts)
        turn, of_turn = _turn(entry, begins, conversation)
        own = [content_event(entry, turn, conversation, *item) for item in fresh.items()]
        if turn is not None:
            note_drafts(turn, entry, fresh.values())
            own += [] if used is None else [self._usage.event(entry, turn, used)]
        return events + of_turn + _with_original(own, entry.record)

    def _unseen(self, entry: Entry, drafts: list[Draft]) -> dict[str, Draft]:
        """The drafts that no earlier line gave, by their ids."""
        ids: dict[str, Draft] = {}
        for draft in drafts:
            parts = [entry.session_id, entry.message_id, draft.key]
            # What one message says twice is said twice.
            while (event_id := derived_id("evt", entry.timestamp, *parts)) in ids:
                parts.append("again")
            ids[event_id] = draft
        fresh = {
            event_id: draft for event_id, draft in ids.items() if _short(event_id) not in self._seen
        }
        self._seen.update(map(_short, fresh))
        return fresh

    def _conversation(self, entry: Entry) -> tuple[Conversation, list[Event]]:
        """The entry's session, and the event of its creation when it is new."""
        known = self._conversations.get(entry.session_id)
        if known is not None:
            known.changed = True
            note_session(known.session, entry)
            return known, []
        created = Conversation(new_session(entry))
        self._conversations[entry.session_id] = created
        return created, [created_event(created.session)]

    def finish(self) -> list[Event]:
        turns = [conversation.current for conversation in self._conversations.values()]
        # A turn that has no outcome yet may go on when the log grows.
        ended = [turn for turn in turns if turn is not None and turn.outcome is not None]
        return [event for turn in ended for event in end_events(turn)]

    def take_sessions(self, *, final: bool) -> list[Session]:
        self._set_title()
        taken = []
        for conversation in self._conversations.values():
            if conversation.changed and (final or not conversation.taken):
                conversation.changed, conversation.taken = False, True
                taken.append(conversation.session)
        return taken

    def _set_title(self) -> None:
        """A title names no session that could be trusted: it is that of the file's first."""
        first = next(iter(self._conversations.values()), None)
        if first is not None and self._title is not None:
            first.session.metadata["title"] = self._title
            first.changed = True

    def take_runs(self, *, final: bool) -> list[Run]:
        return [
            turn.run(PROVIDER, SOURCE, is_open=is_open)
            for conversation in self._conversations.values()
            for turn, is_open in conversation.take_turns(final=final)
        ]


def _turn(
    entry: Entry, begins: bool, conversation: Conversation
) -> tuple[Turn | None, list[Event]]:
    """The entry's turn, and the events of the last one's end and of its start when it is new."""
    # One prompt may be written as several records of the same moment.
    run_id = derived_id("run", entry.timestamp, entry.session_id)
    # Without a prompt the log begins in the middle of a turn.
    begins = begins or (conversation.current is None and entry.kind != "system")
    if begins and run_id not in conversation.begun:
        return _begin(entry, run_id, conversation)
    turn = conversation.turn_of(entry.parent_uuid)
    if turn is not None:
        _note_record(turn, entry)
    return turn, []


def _begin(entry: Entry, run_id: str, conversation: Conversation) -> tuple[Turn, list[Event]]:
    ended = [] if conversation.current is None else end_events(conversation.current)
    turn = Turn(run_id, entry.session_id, entry.timestamp, entry.timestamp)
    _note_record(turn, entry)
    conversation.begin(turn)
    return turn, [*ended, started_event(turn)]


def _note_record(turn: Turn, entry: Entry) -> None:
    if not entry.is_note:
        turn.changed = True
        turn.ended_at = max(turn.ended_at, entry.timestamp)
    if entry.uuid is not None:
        turn.records.add(entry.uuid)


def _with_original(events: list[Event], record: dict[str, Any]) -> list[Event]:
    """The first event of a line keeps the line; the others say which event that is."""
    first = events[0]
    first.metadata = {"original": record}
    for event in events[1:]:
        event.metadata = {"original_in": first.id}
    return events


def _short(event_id: str) -> bytes:
    return bytes.fromhex(event_id.removeprefix("evt_"))
