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
from ..models import Event, Session
from .claude_records import Entry, drafts_of, is_prompt, read_entry
from .claude_turns import PROVIDER, SOURCE, UsageLedger, new_session, note_drafts, note_session
from .conversations import ConversationReader
from .drafts import Draft, derived_id, described
from .lifecycle import content_event, with_original
from .lines import Line
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


class ClaudeCodeReader(ConversationReader):
    """Reads one transcript."""

    name = SOURCE

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
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
        turn, of_turn = self._turn(entry, begins, conversation)
        own = [
            content_event(event_id, draft, entry.timestamp, conversation, turn, PROVIDER)
            for event_id, draft in fresh.items()
        ]
        if turn is not None:
            note_drafts(turn, entry, fresh.values())
            own += [] if used is None else [self._usage.event(entry, turn, used)]
        return events + of_turn + with_original(own, entry.record)

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
        known = self.conversations.get(entry.session_id)
        if known is None:
            return self.open_conversation(new_session(entry), PROVIDER)
        known.changed = True
        note_session(known.session, entry)
        return known, []

    def _turn(
        self, entry: Entry, begins: bool, conversation: Conversation
    ) -> tuple[Turn | None, list[Event]]:
        """The entry's turn; when it is new, the events of the last one's end and its start."""
        # One prompt may be written as several records of the same moment.
        run_id = derived_id("run", entry.timestamp, entry.session_id)
        # Without a prompt the log begins in the middle of a turn.
        begins = begins or (conversation.current is None and entry.kind != "system")
        events: list[Event] = []
        turn = conversation.turn_of(entry.parent_uuid)
        if begins and run_id not in conversation.begun:
            turn = Turn(run_id, entry.session_id, entry.timestamp, entry.timestamp, PROVIDER)
            events = self.begin_turn(conversation, turn)
        if turn is not None:
            _note_record(turn, entry)
        return turn, events

    def take_sessions(self, *, final: bool) -> list[Session]:
        self._set_title()
        return super().take_sessions(final=final)

    def _set_title(self) -> None:
        """A title names no session that could be trusted: it is that of the file's first."""
        first = next(iter(self.conversations.values()), None)
        if first is not None and self._title is not None:
            first.session.metadata["title"] = self._title
            first.changed = True


def _note_record(turn: Turn, entry: Entry) -> None:
    if not entry.is_note:
        turn.changed = True
        turn.ended_at = max(turn.ended_at, entry.timestamp)
    if entry.uuid is not None:
        turn.records.add(entry.uuid)


def _short(event_id: str) -> bytes:
    return bytes.fromhex(event_id.removeprefix("evt_"))
