"""What a person reads: messages, tool calls with their results, errors, usage, steps of life."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ...events.types import EventType
from .loading import OF_TOOLS, RESULTS, EventLog, SeenEvent

MESSAGES = frozenset({EventType.MESSAGE_SENT, EventType.MESSAGE_RECEIVED})
ERRORS = frozenset(
    {
        EventType.ERROR_OCCURRED,
        EventType.RUN_FAILED,
        EventType.RUN_TIMEOUT,
        EventType.SESSION_FAILED,
        EventType.POLICY_VIOLATION,
    }
)
COUNT_LABELS = {
    "input_tokens": _("input tokens"),
    "output_tokens": _("output tokens"),
    "cache_read_tokens": _("cache read tokens"),
    "cache_creation_tokens": _("cache creation tokens"),
    "total_tokens": _("total tokens"),
}
# What is longer is folded up, with its begin to be seen.
LONG = 1_200
BEGIN = 300

Key = tuple[str | None, str]


@dataclass(slots=True)
class Text:
    """A text, and whether it is so long that only its begin is shown at first."""

    whole: str

    @property
    def is_long(self) -> bool:
        return len(self.whole) > LONG

    @property
    def begin(self) -> str:
        return self.whole[:BEGIN]

    def __bool__(self) -> bool:
        return bool(self.whole)


@dataclass(slots=True)
class Entry:
    """Something to read, made of one event or of some that belong together."""

    kind: str  # message, stream, tool, error, usage, step
    event: SeenEvent
    role: str = ""
    text: Text = field(default_factory=lambda: Text(""))
    # Of a tool: what it was given, and the event of its result.
    tool_name: str = ""
    tool_input: Text = field(default_factory=lambda: Text(""))
    result: SeenEvent | None = None
    call: SeenEvent | None = None
    counts: list[tuple[str | Promise, float]] = field(default_factory=list)
    # The events that are in it beside the first.
    others: list[SeenEvent] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        failed = self.result is not None and self.result.type == EventType.TOOL_CALL_FAILED
        return self.kind == "error" or failed

    @property
    def is_open(self) -> bool:
        """A tool that has not answered yet, as far as it was looked for."""
        return self.kind == "tool" and self.result is None

    @property
    def took(self) -> timedelta | None:
        if self.result is None or self.call is None:
            return None
        return max(self.result.timestamp - self.call.timestamp, timedelta(0))

    @property
    def is_too_long(self) -> bool:
        events = (self.event, *self.others)
        return any(event.is_too_long for event in events)

    @property
    def parts(self) -> int:
        return 1 + len(self.others)

    @property
    def last_number(self) -> int:
        """Of the events in it: it changes when one is added."""
        return max(event.number for event in (self.event, *self.others))

    def begin_with_call(self) -> None:
        """Stand where the call stands, if that is known, not where its result came."""
        if self.call is not None and self.event is self.result:
            self.event, self.others = self.call, [self.event]


def read_entries(log: EventLog, events: list[SeenEvent]) -> list[Entry]:
    """The entries of a page of the log: what a call misses is looked for near the page."""
    entries = list(_joined(_entries(events)))
    calls = [entry for entry in entries if entry.is_open]
    answers = [entry for entry in entries if entry.kind == "tool" and entry.call is None]
    if calls:
        _find_results(log.after(events[-1].number, RESULTS), calls)
    if answers:
        _find_calls(log.before(events[0].number, [EventType.TOOL_CALL_STARTED]), answers)
    return entries


def _entries(events: Iterable[SeenEvent]) -> Iterator[Entry]:
    open_calls: dict[Key, list[Entry]] = {}
    for event in events:
        if event.type in RESULTS and (waiting := open_calls.get(_key(event))):
            _answer(waiting.pop(0), event)
            continue
        entry = _entry(event)
        if entry.is_open:
            open_calls.setdefault(_key(event), []).append(entry)
        yield entry


def _entry(event: SeenEvent) -> Entry:
    data = event.data or {}
    if event.type in MESSAGES:
        return _message(event, data)
    if event.type in OF_TOOLS:
        return _tool(event, data)
    if event.type == EventType.MESSAGE_STREAMED:
        return Entry("stream", event, "assistant", text_of(data.get("content")))
    if event.type in ERRORS:
        return Entry("error", event, text=_complaint(data))
    if event.type == EventType.TOKEN_USAGE_UPDATED:
        return Entry("usage", event, counts=_counts(data))
    return Entry("step", event, text=text_of(data or None))


def _tool(event: SeenEvent, data: dict[str, Any]) -> Entry:
    entry = Entry("tool", event, tool_name=event.tool_name)
    if event.type in RESULTS:
        _answer(entry, event)
    else:
        entry.call = event
        entry.tool_input = text_of(data.get("tool_input"))
    return entry


def _message(event: SeenEvent, data: dict[str, Any]) -> Entry:
    usual = "user" if event.type == EventType.MESSAGE_SENT else "assistant"
    role = data.get("role")
    said = role if isinstance(role, str) and 0 < len(role) <= 40 else usual
    return Entry("message", event, said, text_of(data.get("content")))


def _answer(entry: Entry, event: SeenEvent) -> None:
    data = event.data or {}
    entry.result = event
    output = data.get("tool_output")
    if event.type == EventType.TOOL_CALL_FAILED and output is None:
        output = data.get("error_message")
    entry.text = text_of(output)
    entry.tool_name = entry.tool_name or event.tool_name
    if event is not entry.event:
        entry.others.append(event)


def _find_results(near: Iterable[SeenEvent], calls: list[Entry]) -> None:
    waiting: dict[Key, list[Entry]] = {}
    for entry in calls:
        waiting.setdefault(_key(entry.event), []).append(entry)
    for event in near:
        if entries := waiting.get(_key(event)):
            _answer(entries.pop(0), event)


def _find_calls(near: Iterable[SeenEvent], answers: list[Entry]) -> None:
    """`near` is the latest first: the last answer of a name belongs to the last call of it."""
    waiting: dict[Key, list[Entry]] = {}
    for entry in answers:
        waiting.setdefault(_key(entry.event), []).append(entry)
    for event in near:
        if entries := waiting.get(_key(event)):
            entry = entries.pop()
            entry.call = event
            entry.tool_input = text_of((event.data or {}).get("tool_input"))


def _joined(entries: Iterable[Entry]) -> Iterator[Entry]:
    """What was streamed piece by piece is one entry."""
    before: Entry | None = None
    for entry in entries:
        if before is not None and _continues(before, entry):
            before.text.whole += entry.text.whole
            before.others.append(entry.event)
            continue
        yield entry
        before = entry


def _continues(before: Entry, entry: Entry) -> bool:
    is_same = before.kind == entry.kind == "stream"
    return is_same and before.event.run_id == entry.event.run_id


def _key(event: SeenEvent) -> Key:
    """A call and its result have the same, whatever other runs call theirs."""
    return event.run_id, event.key


def _complaint(data: dict[str, Any]) -> Text:
    said = [data.get(name) for name in ("error_code", "error_message", "policy", "kind")]
    parts = [text_of(part).whole for part in said if part]
    return Text(": ".join(parts)) if parts else text_of(data or None)


def _counts(data: dict[str, Any]) -> list[tuple[str | Promise, float]]:
    found = ((label, data.get(name)) for name, label in COUNT_LABELS.items())
    return [
        (label, count)
        for label, count in found
        if isinstance(count, int | float) and not isinstance(count, bool) and count
    ]


def text_of(value: Any) -> Text:
    """Text as it is, the texts among a list of blocks together, all else as JSON."""
    if value is None:
        return Text("")
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, list) and value and all(isinstance(block, dict) for block in value):
        return Text("\n".join(map(_block, value)))
    return Text(json.dumps(value, indent=2, ensure_ascii=False))


def _block(block: dict[str, Any]) -> str:
    text = block.get("text")
    if isinstance(text, str) and block.get("type") in {"text", "input_text", "output_text"}:
        return text
    return json.dumps(block, indent=2, ensure_ascii=False)
