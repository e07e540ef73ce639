"""What was said in a session, as the messages that a model goes on from."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from .events.types import EventType
from .fields import clean_whole_number

if TYPE_CHECKING:
    from .backends.base import BaseSessionStore
    from .models import Event, Run

__all__ = ["Limits", "Message", "Transcript", "build", "build_before"]

# Numbers that one query looks at; more while nothing of a conversation is found among them.
PAGE = 200
MOST_NUMBERS = 5_000
# An approximation that holds for English and most models.
CHARS_PER_TOKEN = 4
ROLES = ("system", "user", "assistant", "tool")
RESULTS = frozenset({EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED})
TYPES = (
    EventType.MESSAGE_SENT,
    EventType.MESSAGE_RECEIVED,
    EventType.MESSAGE_STREAMED,
    EventType.TOOL_CALL_STARTED,
    *sorted(RESULTS),
)


class Message(TypedDict, total=False):
    """One message. The call of a tool is the assistant's, with `tool_input`; its result is the
    tool's, with `tool_output`, and `is_error` when it failed; both have `tool_call_id` and
    `tool_name`.
    """

    role: str
    content: Any
    tool_call_id: str
    tool_name: str
    tool_input: Any
    tool_output: Any
    is_error: bool


@dataclass(frozen=True, slots=True)
class Transcript:
    """The messages, oldest first, and the session's latest number when they were read."""

    session_id: str
    messages: list[Message]
    last_sequence: int


def build(
    store: BaseSessionStore,
    session_id: str,
    *,
    max_messages: int | None = None,
    max_chars: int | None = None,
    max_tokens: int | None = None,
) -> Transcript:
    """The session's conversation, in the order of its log; `SessionNotFound`.

    Limits keep the most recent messages; a token counts as four characters. The call of a tool
    and its result are kept or left out together; a call that has no result is left out. Streamed
    text is a message when no whole one followed it. Read from the end, in pages: a limit bounds
    what is read too.
    """
    limits = Limits(max_messages, max_chars, max_tokens)
    return _build(store, session_id, limits, left_out=None)


def build_before(store: BaseSessionStore, run: Run, limits: Limits | None = None) -> Transcript:
    """The conversation of the run's session without what is the run's own."""
    return _build(store, run.session_id, limits or Limits(), left_out=run.id)


def _build(
    store: BaseSessionStore, session_id: str, limits: Limits, left_out: str | None
) -> Transcript:
    store.get_session(session_id)
    latest = store.get_latest_sequence(session_id)
    reader = _Backwards(_Room(limits))
    for event in _newest_first(store, session_id, latest):
        if left_out is not None and event.run_id == left_out:
            continue
        if not reader.take(event):
            break
    else:
        reader.end()
    return Transcript(session_id, list(reader.messages()), latest)


def _newest_first(store: BaseSessionStore, session_id: str, latest: int) -> Iterator[Event]:
    """What belongs to a conversation, by windows of numbers: no query reads more than one."""
    before, size = latest + 1, PAGE
    while before > 1:
        after = max(0, before - 1 - size)
        page = store.get_events(session_id, type=TYPES, after=after, before=before)
        yield from reversed(page)
        before = after + 1
        size = PAGE if page else min(2 * size, MOST_NUMBERS)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a transcript may hold; None is no limit."""

    max_messages: int | None = None
    max_chars: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None:
                clean_whole_number(limit, name)


class _Room:
    """What is left of the limits."""

    def __init__(self, limits: Limits) -> None:
        left = (limits.max_messages, limits.max_chars, limits.max_tokens)
        self._messages, self._chars, self._tokens = (math.inf if n is None else n for n in left)

    def has(self, chars: int) -> bool:
        """Whether there is room for a message of so many characters."""
        return self._messages >= 1 and self._chars >= chars and self._tokens >= _tokens(chars)

    def take(self, message: Message) -> bool:
        """Whether there is room for the message, which it takes then."""
        chars = sum(len(_text(message.get(name))) for name in ("content", "tool_input"))
        if not self.has(chars):
            return False
        self._messages -= 1
        self._chars -= chars
        self._tokens -= _tokens(chars)
        return True


@dataclass(eq=False, slots=True)
class _Entry:
    """A message; a tool's result is wanted when the call was found, or is told here."""

    message: Message
    is_wanted: bool = True
    call: Message | None = None


@dataclass
class _Streamed:
    """The streamed text of a run: known to be in a whole message, or collected, newest first."""

    is_whole: bool = False
    deltas: deque[str] = field(default_factory=deque)
    chars: int = 0

    def collect(self, delta: str) -> None:
        self.deltas.appendleft(delta)
        self.chars += len(delta)

    def collected(self) -> str:
        """All of it, which is forgotten."""
        text = "".join(self.deltas)
        self.deltas.clear()
        self.chars = 0
        return text


class _Backwards:
    """Makes messages of events that come newest first."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._entries: list[_Entry] = []
        self._streamed: dict[str | None, _Streamed] = {}
        # Results whose call was not met yet, by run and call, the latest first.
        self._results: dict[tuple[str | None, str], list[tuple[_Entry, Event]]] = {}

    def messages(self) -> Iterator[Message]:
        for entry in reversed(self._entries):
            if entry.is_wanted:
                if entry.call is not None:
                    yield entry.call
                yield entry.message

    def take(self, event: Event) -> bool:
        """Whether there is room for more."""
        streamed = self._streamed.setdefault(event.run_id, _Streamed())
        if event.type == EventType.MESSAGE_STREAMED:
            # What a model thought, a block of its own type, is no part of what it said.
            if streamed.is_whole or event.data.get("block_type", "text") != "text":
                return True
            streamed.collect(_text(event.data.get("content")))
            return self._room.has(streamed.chars)
        if not self._end_stream(streamed):
            return False
        streamed.is_whole = event.type == EventType.MESSAGE_RECEIVED
        if event.type == EventType.TOOL_CALL_STARTED:
            return self._take_call(event)
        if event.type in RESULTS:
            return self._take_result(event)
        return self._add(_said(event)) is not None

    def end(self) -> None:
        """The log begins here: results whose call is not in it tell what was called."""
        for streamed in self._streamed.values():
            if not self._end_stream(streamed):
                return
        for results in self._results.values():
            for entry, event in results:
                if not self._room.take(call := _call(event)):
                    return
                entry.is_wanted, entry.call = True, call

    def _end_stream(self, streamed: _Streamed) -> bool:
        if not streamed.deltas:
            return True
        return self._add({"role": "assistant", "content": streamed.collected()}) is not None

    def _take_call(self, event: Event) -> bool:
        results = self._results.get(_key(event))
        if not results:
            return True  # not answered
        entry, _answer = results.pop(0)
        if event.data.get("tool_call_id") is not None:
            results.clear()  # told twice
        if self._add(_call(event)) is None:
            return False
        entry.is_wanted = True
        return True

    def _take_result(self, event: Event) -> bool:
        entry = self._add(_result(event))
        if entry is None:
            return False
        entry.is_wanted = False
        self._results.setdefault(_key(event), []).append((entry, event))
        return True

    def _add(self, message: Message) -> _Entry | None:
        if not self._room.take(message):
            return None
        self._entries.append(_Entry(message))
        return self._entries[-1]


def _said(event: Event) -> Message:
    sent = event.type == EventType.MESSAGE_SENT
    role = event.data.get("role")
    # What models call a developer's message is the system's.
    role = "system" if role == "developer" else role
    if role not in ROLES:
        role = "user" if sent else "assistant"
    return {"role": role, "content": event.data.get("content", "")}


def _call(event: Event) -> Message:
    return {
        "role": "assistant",
        "content": "",
        "tool_call_id": _text(event.data.get("tool_call_id")),
        "tool_name": _text(event.data.get("tool_name")),
        "tool_input": event.data.get("tool_input", {}),
    }


def _result(event: Event) -> Message:
    output = event.data.get("tool_output")
    is_error = event.type == EventType.TOOL_CALL_FAILED
    if is_error and output is None:
        output = event.data.get("error_message")
    message: Message = {
        "role": "tool",
        "content": _text(output),
        "tool_call_id": _text(event.data.get("tool_call_id")),
        "tool_name": _text(event.data.get("tool_name")),
        "tool_output": output,
    }
    return {**message, "is_error": True} if is_error else message


def _key(event: Event) -> tuple[str | None, str]:
    """A call and its result have the same, whatever other runs call theirs."""
    data = event.data
    call = data.get("tool_call_id")
    return event.run_id, _text(data.get("tool_name") if call is None else call)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tokens(chars: int) -> int:
    return math.ceil(chars / CHARS_PER_TOKEN)
