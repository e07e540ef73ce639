"""Events as a person reads them: a line each, and streamed text on one line as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.color import Style
from django.utils import timezone

from asm_store.events.sanitizing import ENCODER
from asm_store.management.terminal import BREAK, CUT, Room, inert
from asm_store.models import Event

Type = Event.Type
Data = Mapping[str, Any]

INDENT = "    "
# The longest of what is frequent.
TYPE_WIDTH = len(Type.TOKEN_USAGE_UPDATED)
# On a narrower terminal lines are not cut to its width: nothing would be left.
NARROWEST = 60
# What a tool is given and gives back is cut off here, on a wide line too.
MOST_CHARACTERS = 200
STYLES = {
    "ERROR": ("error", "_failed", "_timeout", "_denied"),
    "WARNING": ("policy_", "tool_approval_", "_cancelled"),
    "SUCCESS": ("message_",),
    "SQL_KEYWORD": ("tool_",),
    "MIGRATE_HEADING": ("session_", "run_"),
}


class JsonLines:
    """A line of JSON for each event, as `to_dict()` has it."""

    def __init__(self, *, is_ascii: bool) -> None:
        """A terminal obeys characters that JSON does not escape: for one it `is_ascii`."""
        compact = json.JSONEncoder(separators=(",", ":"))
        self._encoder = compact if is_ascii else ENCODER

    def of(self, event: Event) -> str:
        return f"{self._encoder.encode(event.to_dict())}\n"

    def end(self) -> str:
        return ""


class Rendering:
    """Text for a terminal, an event at a time; what is stored in events cannot drive it.

    `width()` is asked for each line: a terminal may change. None cuts nothing. `is_full` shows
    everything, with its line breaks, further lines indented.
    """

    def __init__(self, style: Style, width: Callable[[], int | None], *, is_full: bool) -> None:
        self._style = style
        self._width = width
        self._is_full = is_full
        self._day = timezone.localdate()
        self._streamed: tuple[str, str | None] | None = None
        self._room = Room(None)

    def of(self, event: Event) -> str:
        """What is to be written for `event`; it ends no line that more may come to."""
        text = self._text(event)
        if event.type != Type.MESSAGE_STREAMED:
            line = f"{self._begin(event)}{self._room.take(text)}".rstrip(" ")
            return f"{self.end()}{line}\n"
        if self._streamed == (event.session_id, event.run_id):
            return self._room.take(text)
        begin = f"{self.end()}{self._begin(event)}"
        self._streamed = event.session_id, event.run_id
        return begin + self._room.take(text)

    def end(self) -> str:
        """What ends a line that is still open."""
        is_open, self._streamed = self._streamed is not None, None
        return "\n" if is_open else ""

    def _begin(self, event: Event) -> str:
        """The line's head; from now on there is so much room for its text as it leaves."""
        at = timezone.localtime(event.timestamp)
        day = "" if at.date() == self._day else f"{at.date()}\n"
        self._day = at.date()
        place = f"{at:%H:%M:%S} #{event.sequence_number:<4} "
        kind = inert(event.type)
        gap = " " * (max(TYPE_WIDTH - len(kind), 0) + 1)
        width = None if self._is_full else self._width()
        cells = None if width is None else max(width, NARROWEST) - len(place + kind + gap)
        self._room = Room(cells, line_break=f"\n{INDENT}" if self._is_full else BREAK)
        return f"{day}{place}{self._styled(kind)}{gap}"

    def _styled(self, kind: str) -> str:
        for role, parts in STYLES.items():
            if any(part in kind for part in parts):
                styled: str = getattr(self._style, role)(kind)
                return styled
        return kind

    def _text(self, event: Event) -> str:
        if event.type not in DESCRIPTIONS:
            return self._short(event.data)
        try:
            return DESCRIPTIONS[event.type](event.data, self._short)
        except (KeyError, TypeError, ValueError):  # the data have another shape
            return self._short(event.data)

    def _short(self, value: Any) -> str:
        text = value if isinstance(value, str) else _json(value)
        if self._is_full or len(text) <= MOST_CHARACTERS:
            return text
        return f"{text[:MOST_CHARACTERS]}{CUT}"


Short = Callable[[Any], str]


def _message(data: Data, short: Short) -> str:
    return f"{_string(data['role'])}: {_content(data['content'])}"


def _delta(data: Data, short: Short) -> str:
    return _content(data["content"])


def _call(data: Data, short: Short) -> str:
    return f"{_string(data['tool_name'])} {short(data['tool_input'])}"


def _result(data: Data, short: Short) -> str:
    return f"{_string(data['tool_name'])}: {short(data['tool_output'])}"


def _failed_call(data: Data, short: Short) -> str:
    return f"{_string(data['tool_name'])} failed: {short(data['error_message'])}"


def _error(data: Data, short: Short) -> str:
    return f"{_string(data['error_code'])}: {_string(data['error_message'])}"


def _usage(data: Data, short: Short) -> str:
    counts = {name: data[name] for name in data if name.endswith("_tokens")}
    told = [f"{name.removesuffix('_tokens').replace('_', ' ')} {counts[name]:,}" for name in counts]
    if "model" in data:
        told.append(_string(data["model"]))
    return ", ".join(told)


def _end(data: Data, short: Short) -> str:
    rest = {name: data[name] for name in data if name != "stop_reason"}
    return " ".join(filter(None, [_string(data["stop_reason"]), short(rest) if rest else ""]))


def _violation(data: Data, short: Short) -> str:
    return f"{_string(data['policy'])}: {_string(data['kind'])}"


def _approval(data: Data, short: Short) -> str:
    return f"{_string(data['tool_name'])} ({_string(data['policy_name'])})"


DESCRIPTIONS: Mapping[str, Callable[[Data, Short], str]] = {
    Type.MESSAGE_SENT: _message,
    Type.MESSAGE_RECEIVED: _message,
    Type.MESSAGE_STREAMED: _delta,
    Type.TOOL_CALL_STARTED: _call,
    Type.TOOL_CALL_COMPLETED: _result,
    Type.TOOL_CALL_FAILED: _failed_call,
    Type.TOKEN_USAGE_UPDATED: _usage,
    Type.ERROR_OCCURRED: _error,
    Type.RUN_COMPLETED: _end,
    Type.RUN_FAILED: _error,
    Type.SESSION_FAILED: _error,
    Type.POLICY_VIOLATION: _violation,
    Type.TOOL_APPROVAL_REQUESTED: _approval,
    Type.TOOL_APPROVAL_GRANTED: _approval,
    Type.TOOL_APPROVAL_DENIED: _approval,
}


def _content(content: Any) -> str:
    """The text of a message: a string, or blocks, of which those without text are named."""
    if not isinstance(content, list):
        return _string(content)
    return " ".join(_block(block) for block in content)


def _block(block: Any) -> str:
    text = block.get("text") if isinstance(block, Mapping) else block
    return text if isinstance(text, str) else f"[{_string(block['type'])}]"


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value


def _json(value: Any) -> str:
    return "" if value == {} else ENCODER.encode(value)
