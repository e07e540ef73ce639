"""What readers of foreign logs share: an event to be, ids derived from a log, values made safe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from ..events.sanitizing import shown
from ..events.types import EventType
from ..exceptions import ValidationError
from ..fields import MAX_ID_LENGTH, clean_id, clean_time
from .lines import SkippedLineError, refuse_constant

# The time of what a log gives no time for.
EPOCH = datetime.fromtimestamp(0, UTC)
MAX_TOKENS = 2**53
MAX_CONTEXT = 4096
MAX_COST_USD = 1e15


class Draft(NamedTuple):
    """An event to be: what a part of a record says. `key` tells it from its siblings."""

    type: EventType
    data: dict[str, Any]
    key: str
    correlation_id: str | None = None


def derived_id(prefix: str, timestamp: datetime, *parts: str | None) -> str:
    """An id in the shape of a new one, the same for the same arguments: a UUIDv8 (RFC 9562, 5.8).

    It begins with the time, as the ids of new records do, so that a log's rows lie together.
    """
    text = json.dumps([timestamp.isoformat(), *parts])
    digest = int.from_bytes(sha256(text.encode()).digest()[:16])
    milliseconds = max(0, int(timestamp.timestamp() * 1000)) & (2**48 - 1)
    random = digest & (2**80 - 1) & ~(0xF << 76) & ~(3 << 62)
    return f"{prefix}_{milliseconds << 80 | random | 8 << 76 | 2 << 62:032x}"


def described(kind: object) -> str:
    """The name under which lines of an unknown kind are counted."""
    return f"unknown type {shown(kind)}"


def key_of(value: object) -> str:
    """What a part of a record says, as one text."""
    return json.dumps(value, sort_keys=True)


def text_or_none(value: object) -> str | None:
    """`value` if it is a text that says something."""
    return value if isinstance(value, str) and value else None


def short_text(value: object) -> str | None:
    """`value` if it is a text, cut to what a name of something may have."""
    return value[:MAX_ID_LENGTH] if isinstance(value, str) and value else None


def usable_id(value: object) -> str | None:
    """`value` if a record can have it as its id."""
    try:
        return clean_id(value)
    except ValidationError:
        return None


def usable_session_id(value: object) -> str:
    """`value` as a session's id, or `SkippedLineError`."""
    if value is None:
        raise SkippedLineError("no session id")
    session_id = usable_id(value)
    if session_id is None:
        raise SkippedLineError("not a usable session id")
    return session_id


def timestamp_of(value: object) -> datetime:
    """The time that an ISO-8601 text with a zone says, or `SkippedLineError`."""
    try:
        return clean_time(datetime.fromisoformat(str(value)), "timestamp")
    except ValueError:
        raise SkippedLineError("no timestamp" if value is None else "bad timestamp") from None


def cost_of(value: object) -> float | None:
    """`value` as US dollars; None when it is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MAX_COST_USD else None


def object_of(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object; an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def count_of(value: object) -> int:
    """`value` as a number of tokens; what is none counts nothing."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
        return value
    return 0


def context_of(found: Mapping[str, object]) -> dict[str, Any]:
    """What of `found` a session's `context` shows: the texts."""
    return {
        name: value[:MAX_CONTEXT]
        for name, value in found.items()
        if isinstance(value, str) and value
    }


def flat(content: Any) -> Any:
    """A list of text blocks as one text; anything else as it is."""
    if not isinstance(content, list):
        return content
    strings = texts_of(content)
    return "\n".join(strings) if len(strings) == len(content) else content


def texts_of(blocks: Iterable[object]) -> list[str]:
    """The texts among the blocks of a content."""
    texts = [block.get("text") if isinstance(block, dict) else None for block in blocks]
    return [text for text in texts if isinstance(text, str)]


def message_drafts(event_type: EventType, role: str, content: Any) -> list[Draft]:
    """The events of a message: one for all its text, and one for each block that is none."""
    blocks = content if isinstance(content, list) else [{"text": content}]
    texts = texts_of(blocks)
    drafts = []
    if texts or not blocks:
        data = {"content": "\n".join(texts), "role": role}
        drafts.append(Draft(event_type, data, key_of(data)))
    for block in blocks:
        if not texts_of([block]):
            kind = block.get("type") if isinstance(block, dict) else None
            data = {"content": "", "role": role, "block_type": str(kind)[:64]}
            drafts.append(Draft(event_type, data, key_of(block)))
    return drafts


def thought_draft(text: str) -> Draft:
    """The event of what a model thought: no part of its answer, so it is no message."""
    data = {"content": text, "role": "assistant", "block_type": "thinking"}
    return Draft(EventType.MESSAGE_STREAMED, data, key_of(data))


def arguments_of(text: object) -> Any:
    """What a tool was given: logs have it as JSON in a text; the text itself when it is none."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text


def result_draft(call: str | None, output: Any, key: str, *, failed: bool) -> Draft:
    """The event of what a tool gave back; `output` is anything that JSON can say."""
    if failed:
        text = output if isinstance(output, str) else json.dumps(output)
        data = {"tool_call_id": call, "error_message": text}
        return Draft(EventType.TOOL_CALL_FAILED, data, key, short_text(call))
    data = {"tool_call_id": call, "tool_output": output}
    return Draft(EventType.TOOL_CALL_COMPLETED, data, key, short_text(call))


def call_draft(call: str | None, name: str, given: Any, key: str) -> Draft:
    """The event of a tool that is called with what was `given` to it."""
    data = {"tool_name": name, "tool_call_id": call, "tool_input": given}
    return Draft(EventType.TOOL_CALL_STARTED, data, key, short_text(call))
