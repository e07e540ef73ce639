"""Trajectories of SWE-agent (`<instance>.traj`) and of mini-swe-agent (`<instance>.traj.json`).

One document is one session with one run. It names no session and SWE-agent's has no times: the
session is known by its instance and by how its conversation begins, and without times everything
happened at the epoch, so that the same document is the same records wherever it is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ..events.types import EventType
from ..models import Event, Run, Session
from .chat import ChatMessage, drafts_of
from .documents import DocumentReader, Part, objects_in
from .drafts import (
    EPOCH,
    Draft,
    arguments_of,
    cost_of,
    count_of,
    derived_id,
    flat,
    key_of,
    object_of,
    short_text,
    text_or_none,
)
from .lifecycle import content_event, usage_event, with_original
from .lines import SkippedLineError
from .reports import Tally, Tokens
from .turns import Conversation, Turn, excerpt

NAME = "swe-agent"
MINI = "mini-swe-agent"
# The messages by which one session is told from another of the same instance.
BEGINNING = 3
MAX_INSTANCE = 100
# Not kept beside the session: the messages are kept beside their events, and the steps repeat them.
LARGE = frozenset({"history", "messages", "trajectory"})


@dataclass(slots=True)
class Progress:
    """How far a document has been read."""

    conversation: Conversation
    turn: Turn
    now: datetime
    # Commands that the model wrote as text, whose output is still to come.
    commands: list[str]
    is_answered: bool = False


class SweAgentReader(DocumentReader):
    """Reads trajectories."""

    name = NAME

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._total = Tokens()
        self._progress: Progress | None = None

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        if isinstance(record.get("trajectory"), list):
            return isinstance(record.get("info"), dict) and "environment" in record
        format = record.get("trajectory_format")
        return isinstance(format, str) and format.startswith(f"{MINI}-")

    @property
    def tokens(self) -> Tokens:
        return self._total

    def split(self, document: dict[str, Any]) -> Iterator[Part]:
        messages = _messages(document)
        head = {key: value for key, value in document.items() if key not in LARGE}
        session = _session(document, messages)
        yield Part("head", 0, {"head": head, "session": session})
        for number, message in enumerate(messages, start=1):
            yield Part("step", number, message if isinstance(message, dict) else {})
        yield Part("end", len(messages), head)

    def feed_part(self, part: Part) -> list[Event]:
        if part.kind == "head":
            return self._begin(part.value["head"], part.value["session"])
        if self._progress is None:
            raise SkippedLineError("no session")
        if part.kind == "end":
            return self._end(part.value, self._progress)
        return self._step(part, self._progress)

    def _begin(self, head: dict[str, Any], session: Session) -> list[Event]:
        ended = [] if self._progress is None else self.finish()
        now = session.created_at
        turn = Turn(derived_id("run", now, session.id), session.id, now, now, NAME)
        conversation, events = self.open_conversation(session, NAME)
        events += self.begin_turn(conversation, turn)
        self._progress = Progress(conversation, turn, now, [])
        turn.used(_model(head))
        return ended + with_original(events, head)

    def _step(self, part: Part, progress: Progress) -> list[Event]:
        if part.value.get("is_demo") is True:
            self.tally.ignore("demonstration")
            return []
        message = ChatMessage(part.number, part.value, progress.commands, progress.is_answered)
        progress.now = _time_of(part.value) or progress.now
        drafts = drafts_of(message)
        if drafts is None:
            raise SkippedLineError("no message")
        _note_time(progress)
        events = [self._event(part, draft, index, progress) for index, draft in enumerate(drafts)]
        events += self._usage_events(part, _response_tokens(part.value), progress)
        if not events:
            self.tally.ignore("empty message")
        return with_original(events, part.value)

    def _event(self, part: Part, draft: Draft, index: int, progress: Progress) -> Event:
        _note_draft(progress, draft)
        session_id = progress.conversation.session.id
        number = [str(part.number), str(index)]
        event_id = derived_id("evt", progress.now, session_id, *number, draft.key)
        return content_event(
            event_id, draft, progress.now, progress.conversation, progress.turn, NAME
        )

    def _usage_events(self, part: Part, used: Tokens, progress: Progress) -> list[Event]:
        if not used:
            return []
        turn = progress.turn
        parts = (turn.session_id, "usage", str(part.number), key_of(used.counts()))
        event_id = derived_id("evt", progress.now, *parts)
        turn.messages += 1
        self._total += used
        model = turn.models[-1] if turn.models else None
        return [usage_event(event_id, used, model, progress.now, turn)]

    def _end(self, head: dict[str, Any], progress: Progress) -> list[Event]:
        """What `info` says of the whole. Counts come when it is over: they grow until then."""
        info = object_of(head.get("info"))
        stats = object_of(info.get("model_stats"))
        turn, exit_status = progress.turn, text_or_none(info.get("exit_status"))
        turn.cost_usd = cost_of(stats.get("instance_cost"))
        if submission := text_or_none(info.get("submission")):
            turn.result = {"submission": excerpt(submission)}
        used = Tokens(count_of(stats.get("tokens_sent")), count_of(stats.get("tokens_received")))
        events: list[Event] = []
        if exit_status is None:
            turn.usage, self._total = turn.usage + used, self._total + used
        else:
            events = self._usage_events(Part("end", 0, head), used, progress)
            _note_exit(turn, exit_status)
        turn.messages = count_of(stats.get("api_calls")) or turn.messages
        return events


def _messages(document: Mapping[str, Any]) -> list[Any]:
    """The conversation: as the model was shown it, or made of the steps in older documents."""
    if "trajectory_format" in document:
        return objects_in(dict(document), "messages")
    history = document.get("history")
    if isinstance(history, list) and history:
        return history
    return [
        message for step in objects_in(dict(document), "trajectory") for message in _turns(step)
    ]


def _turns(step: object) -> list[dict[str, Any]]:
    """The messages that one step was made of."""
    found = object_of(step)
    said = found.get("response") or found.get("thought")
    messages = [{"role": "assistant", "content": said, "action": found.get("action")}]
    return [*messages, {"role": "user", "content": found.get("observation")}]


def _session(head: Mapping[str, Any], messages: list[Any]) -> Session:
    now = next((time for time in map(_time_of, messages) if time is not None), EPOCH)
    is_mini = "trajectory_format" in head
    info = object_of(head.get("info"))
    metadata: dict[str, Any] = {"imported_from": NAME}
    instance = _instance(head)
    if instance is not None:
        metadata["title"] = instance
    if now == EPOCH:
        metadata["times"] = "unknown"
    version = info.get("mini_version", info.get("swe_agent_version"))
    return Session(
        id=f"{MINI if is_mini else NAME}/{instance or 'run'}/{_fingerprint(head, messages)}",
        agent_id=MINI if is_mini else NAME,
        status=Session.Status.COMPLETED,
        metadata=metadata,
        context={"version": version[:255]} if isinstance(version, str) else {},
        created_at=now,
        updated_at=now,
    )


def _instance(head: Mapping[str, Any]) -> str | None:
    """The task that was to be solved; None when the document does not name it."""
    replay = object_of(arguments_of(head.get("replay_config")))
    named = object_of(replay.get("problem_statement")).get("id") or head.get("instance_id")
    text = text_or_none(named) or text_or_none(head.get("environment"))
    clean = None if text is None else text.encode(errors="replace").decode().replace("\0", "?")
    return None if clean is None else clean[:MAX_INSTANCE]


def _fingerprint(head: Mapping[str, Any], messages: list[Any]) -> str:
    steps = head.get("trajectory")
    first = object_of(steps[0]) if isinstance(steps, list) and steps else {}
    told = [object_of(message) for message in messages[:BEGINNING]]
    known = [
        [message.get("role"), flat(message.get("content")), _time_of(message)] for message in told
    ]
    text = key_of([str(first.get("execution_time")), [str(each) for each in known]])
    return sha256(text.encode()).hexdigest()[:16]


def _model(head: Mapping[str, Any]) -> str | None:
    """The model that was asked."""
    replay = object_of(arguments_of(head.get("replay_config")))
    model = object_of(object_of(replay.get("agent")).get("model")).get("name")
    config = object_of(object_of(head.get("info")).get("config"))
    return short_text(model) or short_text(object_of(config.get("model")).get("model_name"))


def _time_of(message: object) -> datetime | None:
    stamp = object_of(object_of(message).get("extra")).get("timestamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        return None
    try:
        moment = datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.year >= 1000 else None


def _response_tokens(message: Mapping[str, Any]) -> Tokens:
    """What the answer of the model says that it used; its prompt counts cached tokens, too."""
    extra = object_of(message.get("extra"))
    usage = object_of(object_of(extra.get("response")).get("usage"))
    given = count_of(usage.get("prompt_tokens", usage.get("input_tokens")))
    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    cached = min(count_of(object_of(details).get("cached_tokens")), given)
    output = count_of(usage.get("completion_tokens", usage.get("output_tokens")))
    return Tokens(given - cached, output, cached)


def _note_time(progress: Progress) -> None:
    turn, session = progress.turn, progress.conversation.session
    turn.ended_at = max(turn.ended_at, progress.now)
    session.updated_at = max(session.updated_at, progress.now)


def _note_draft(progress: Progress, draft: Draft) -> None:
    turn = progress.turn
    if draft.type == EventType.MESSAGE_RECEIVED:
        progress.is_answered = True
        turn.answered(draft.data["content"], None)
    elif draft.type == EventType.TOOL_CALL_STARTED:
        progress.is_answered = True
    elif draft.data.get("role") == "user" and not progress.is_answered:
        turn.prompt = excerpt(f"{turn.prompt}\n{draft.data['content']}".strip())


def _note_exit(turn: Turn, exit_status: str) -> None:
    turn.stop_reason = exit_status[:255]
    turn.outcome = Run.Status.COMPLETED
    if not exit_status.lower().startswith("submitted"):
        turn.outcome = Run.Status.FAILED
        turn.error = {"error_message": excerpt(exit_status), "error_code": exit_status[:255]}
