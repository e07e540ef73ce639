"""Rollouts of Codex: `sessions/<year>/<month>/<day>/rollout-<time>-<session>.jsonl`.

The conversation stands in the response items; most events of the program repeat what these say, and
a `token_count` says how much the whole session has used so far, several times over. A rollout is
only ever added to, so what a line becomes is known by its number. A fork, and some subagents,
begin with a copy of their parent's lines under new times: what was used in it is the parent's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ..events.types import EventType
from ..models import Event, Run
from .codex_records import (
    IGNORED_EVENTS,
    SOURCE,
    drafts_of,
    error_draft,
    is_from_model,
    is_prompt,
    minted_at,
    new_session,
    parent_of,
    tokens_of,
)
from .conversations import ConversationReader
from .drafts import Draft, derived_id, described, key_of, short_text, text_or_none, timestamp_of
from .lifecycle import content_event, usage_event, with_original
from .lines import Line, SkippedLineError
from .reports import Tally, Tokens
from .turns import Conversation, Turn, excerpt

MAX_TITLE = 1000
# A copied history is written at once; the first answer of a model takes longer than this.
COPY_PAUSE_SECONDS = 1.0
LINE_TYPES = frozenset({"session_meta", "turn_context", "response_item", "event_msg"})
# Known, and no part of the conversation.
IGNORED_LINES = frozenset(
    {"compacted", "inter_agent_communication", "inter_agent_communication_metadata", "world_state"}
)
TURN_STARTED = frozenset({"task_started", "turn_started"})
TURN_COMPLETE = frozenset({"task_complete", "turn_complete"})


@dataclass(slots=True)
class CodexTurn(Turn):
    """A turn, and how sure it is where it begins and ends."""

    # The program said that it began: it will say that it is over, too.
    is_task: bool = False
    is_over: bool = False
    is_answered: bool = False
    # The program said what was typed; a response item may have other text in the user's name.
    prompt_is_told: bool = False


class Entry(NamedTuple):
    """A line that belongs to the session."""

    number: int
    timestamp: datetime
    payload: dict[str, Any]
    record: dict[str, Any]


class CodexReader(ConversationReader):
    """Reads one rollout."""

    name = SOURCE

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._conversation: Conversation | None = None
        self._turn: CodexTurn | None = None
        self._model: str | None = None
        self._total = Tokens()
        self._cumulative = Tokens()
        # While the lines are a copy of the parent's: when the last of them was written.
        self._copied_until: datetime | None = None

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        known = record.get("type") in LINE_TYPES if isinstance(record.get("type"), str) else False
        return known and isinstance(record.get("payload"), dict) and "timestamp" in record

    @property
    def tokens(self) -> Tokens:
        return self._total

    def feed(self, line: Line) -> list[Event]:
        kind = line.record.get("type")
        if isinstance(kind, str) and kind in IGNORED_LINES:
            self.tally.ignore(kind)
            return []
        if not isinstance(kind, str) or kind not in LINE_TYPES:
            raise SkippedLineError(described(kind))
        payload = line.record.get("payload")
        if not isinstance(payload, dict):
            raise SkippedLineError("no payload")
        timestamp = timestamp_of(line.record.get("timestamp"))
        return self._feed_entry(kind, Entry(line.number, timestamp, payload, line.record))

    def _feed_entry(self, kind: str, entry: Entry) -> list[Event]:
        if self._conversation is None:
            return self._open(kind, entry)
        session = self._conversation.session
        session.updated_at = max(session.updated_at, entry.timestamp)
        self._conversation.changed = True
        self._watch_copy(entry)
        if kind == "response_item":
            return self._feed_item(entry, self._conversation)
        if kind == "event_msg":
            return self._feed_event(entry, self._conversation)
        if kind == "turn_context":
            self._model = short_text(entry.payload.get("model")) or self._model
        # A second `session_meta` is the parent's, in a copied history.
        self.tally.ignore(kind)
        return []

    def _open(self, kind: str, entry: Entry) -> list[Event]:
        if kind != "session_meta":
            raise SkippedLineError("before the session's first line")
        session = new_session(entry.payload, entry.timestamp)
        if "forked_from_id" in entry.payload or parent_of(entry.payload) is not None:
            self._copied_until = entry.timestamp
        self._conversation, events = self.open_conversation(session, SOURCE)
        return with_original(events, entry.record)

    def _watch_copy(self, entry: Entry) -> None:
        """A copy ends where the writer paused, or where a turn begins that is not the parent's."""
        if self._copied_until is None or self._conversation is None:
            return
        minted = minted_at(entry.payload.get("turn_id"))
        is_own = minted is not None and minted >= self._conversation.session.created_at.timestamp()
        paused = (entry.timestamp - self._copied_until).total_seconds() > COPY_PAUSE_SECONDS
        self._copied_until = None if is_own or paused else entry.timestamp

    def _feed_item(self, entry: Entry, conversation: Conversation) -> list[Event]:
        drafts = drafts_of(entry.payload)
        kind = entry.payload.get("type")
        if drafts is None:
            raise SkippedLineError(f"response_item: {described(kind)}")
        if not drafts:
            self.tally.ignore(f"response_item/{kind}")
            return []
        turn, events = self._turn_of(drafts[0], entry, conversation)
        return events + self._content(drafts, turn, entry, conversation)

    def _turn_of(
        self, draft: Draft, entry: Entry, conversation: Conversation
    ) -> tuple[CodexTurn | None, list[Event]]:
        """The turn that an item belongs to, and the events of its start when it is new."""
        turn = self._turn
        if is_prompt(draft):
            return self._turn_of_prompt(entry, conversation)
        if is_from_model(draft):
            # Without a prompt the log begins in the middle of a turn.
            return (turn, []) if turn is not None else self._begin(entry, conversation)
        return (None if turn is None or turn.is_over else turn), []

    def _turn_of_prompt(
        self, entry: Entry, conversation: Conversation
    ) -> tuple[CodexTurn, list[Event]]:
        turn = self._turn
        if turn is None or turn.is_over or (turn.is_answered and not turn.is_task):
            return self._begin(entry, conversation)
        return turn, []

    def _begin(self, entry: Entry, conversation: Conversation) -> tuple[CodexTurn, list[Event]]:
        session_id = conversation.session.id
        run_id = derived_id("run", entry.timestamp, session_id, str(entry.number))
        self._turn = CodexTurn(run_id, session_id, entry.timestamp, entry.timestamp, SOURCE)
        return self._turn, self.begin_turn(conversation, self._turn)

    def _content(
        self,
        drafts: list[Draft],
        turn: CodexTurn | None,
        entry: Entry,
        conversation: Conversation,
    ) -> list[Event]:
        events = []
        for number, draft in enumerate(drafts):
            event_id = _event_id(entry, conversation, str(number), draft.key)
            if turn is not None:
                _note_draft(turn, draft)
                _note_time(turn, entry)
                turn.used(self._model if is_from_model(draft) else None)
            events.append(
                content_event(event_id, draft, entry.timestamp, conversation, turn, SOURCE)
            )
        return with_original(events, entry.record)

    def _feed_event(self, entry: Entry, conversation: Conversation) -> list[Event]:
        kind = entry.payload.get("type")
        if not isinstance(kind, str):
            raise SkippedLineError(f"event_msg: {described(kind)}")
        if kind == "token_count":
            return self._feed_usage(entry, conversation)
        if kind in TURN_COMPLETE | {"error"}:
            return self._feed_outcome(kind, entry, conversation)
        self._require_known(kind)
        self.tally.ignore(f"event_msg/{kind}")
        if kind in TURN_STARTED:
            return self._start_task(entry, conversation)
        if kind == "user_message":
            return self._tell_prompt(entry, conversation)
        if kind == "turn_aborted":
            self._abort(entry)
        elif kind == "thread_name_updated":
            name = text_or_none(entry.payload.get("thread_name"))
            if name is not None:
                conversation.session.metadata["title"] = name[:MAX_TITLE]
        return []

    @staticmethod
    def _require_known(kind: str) -> None:
        own = TURN_STARTED | {"user_message", "turn_aborted", "thread_name_updated"}
        if kind not in own | IGNORED_EVENTS:
            raise SkippedLineError(f"event_msg: {described(kind)}")

    def _start_task(self, entry: Entry, conversation: Conversation) -> list[Event]:
        """A task begins a turn, unless its prompt, which may stand before it, has done so."""
        turn = self._turn
        events: list[Event] = []
        if turn is None or turn.is_over or turn.is_task or turn.is_answered:
            turn, events = self._begin(entry, conversation)
        turn.is_task = True
        return events

    def _tell_prompt(self, entry: Entry, conversation: Conversation) -> list[Event]:
        turn, events = self._turn_of_prompt(entry, conversation)
        said = text_or_none(entry.payload.get("message"))
        if said is not None:
            before = f"{turn.prompt}\n" if turn.prompt_is_told else ""
            turn.prompt = excerpt(f"{before}{said}")
            turn.prompt_is_told = True
        _note_time(turn, entry)
        return events

    def _abort(self, entry: Entry) -> None:
        turn = self._turn
        if turn is not None and not turn.is_over:
            turn.outcome, turn.is_over = Run.Status.CANCELLED, True
            turn.stop_reason = short_text(entry.payload.get("reason"))
            _note_time(turn, entry)

    def _feed_outcome(self, kind: str, entry: Entry, conversation: Conversation) -> list[Event]:
        turn = self._turn
        if kind == "error":
            return self._content([error_draft(entry.payload)], turn, entry, conversation)
        if turn is None or turn.is_over:
            self.tally.ignore(f"event_msg/{kind}")
            return []
        data = {"duration_ms": entry.payload.get("duration_ms")}
        drafts = [Draft(EventType.TURN_COMPLETED, data, key_of(data))]
        if isinstance(error := entry.payload.get("error"), dict):
            drafts.insert(0, error_draft(error))
        events = self._content(drafts, turn, entry, conversation)
        turn.is_over = True
        return events

    def _feed_usage(self, entry: Entry, conversation: Conversation) -> list[Event]:
        after = tokens_of(entry.payload)
        added = Tokens() if after is None else self._added(after)
        if not added:
            self.tally.ignore("event_msg/token_count")
            return []
        turn = self._turn
        events: list[Event] = []
        if turn is None:
            turn, events = self._begin(entry, conversation)
        turn.messages += 1
        _note_time(turn, entry)
        self._total += added
        event_id = _event_id(entry, conversation, "usage")
        used = usage_event(event_id, added, self._model, entry.timestamp, turn)
        return events + with_original([used], entry.record)

    def _added(self, after: Tokens) -> Tokens:
        """What was used since the last count; nothing while the lines are a copy."""
        before = self._cumulative
        if after and sum(after.counts()) < sum(before.counts()):
            before = Tokens()  # the count began anew
        self._cumulative = Tokens(*map(max, before.counts(), after.counts()))
        return Tokens() if self._copied_until is not None else self._cumulative - before


def _event_id(entry: Entry, conversation: Conversation, *parts: str) -> str:
    line = str(entry.number)
    return derived_id("evt", entry.timestamp, conversation.session.id, line, *parts)


def _note_time(turn: CodexTurn, entry: Entry) -> None:
    turn.changed = True
    turn.ended_at = max(turn.ended_at, entry.timestamp)


def _note_draft(turn: CodexTurn, draft: Draft) -> None:
    """Keep what a draft says about how the turn stands; a late line changes no outcome."""
    turn.is_answered = turn.is_answered or is_from_model(draft)
    if turn.is_over:
        return
    if draft.type == EventType.ERROR_OCCURRED:
        turn.outcome = Run.Status.FAILED
        turn.error = {name: excerpt(text) for name, text in draft.data.items()}
    elif draft.type == EventType.TURN_COMPLETED:
        turn.outcome = turn.outcome or Run.Status.COMPLETED
    elif draft.type == EventType.MESSAGE_RECEIVED:
        turn.outcome = None if turn.is_task else Run.Status.COMPLETED
        turn.answered(draft.data["content"], None)
    elif is_prompt(draft):
        turn.outcome = None
        if not turn.prompt_is_told:
            turn.prompt = excerpt(f"{turn.prompt}\n{draft.data['content']}".strip())
    elif is_from_model(draft):
        turn.outcome = None
