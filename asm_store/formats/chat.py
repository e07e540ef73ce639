"""Messages in the shape of chat completions, read into drafts of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..events.types import EventType
from . import codex_records
from .drafts import (
    Draft,
    arguments_of,
    call_draft,
    flat,
    key_of,
    message_drafts,
    object_of,
    result_draft,
    text_or_none,
    thought_draft,
)

SHELL = "bash"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message. `commands` are the calls, written as text, that the next one answers."""

    number: int
    record: dict[str, Any]
    commands: list[str]
    is_answered: bool


def drafts_of(message: ChatMessage) -> list[Draft] | None:
    """The events of a message; None when it is none."""
    role = message.record.get("role")
    if role is None:
        return _response_drafts(message.record)
    if not isinstance(role, str):
        return None
    if role == "assistant":
        return _assistant_drafts(message)
    if role == "exit":
        return []
    if role == "tool":
        return _tool_drafts(message.record)
    return _answers(message) or message_drafts(
        EventType.MESSAGE_SENT, role[:64], message.record.get("content")
    )


def _response_drafts(record: dict[str, Any]) -> list[Draft] | None:
    """The events of an answer, or of a tool's output, in the shape of the Responses API."""
    output = record.get("output")
    items = output if record.get("object") == "response" and isinstance(output, list) else [record]
    read = [codex_records.drafts_of(object_of(item)) for item in items]
    return None if None in read else [draft for drafts in read for draft in drafts or ()]


def _assistant_drafts(message: ChatMessage) -> list[Draft]:
    record = message.record
    drafts = _thoughts(record)
    if record.get("content"):
        drafts += message_drafts(EventType.MESSAGE_RECEIVED, "assistant", record["content"])
    calls = record.get("tool_calls")
    if isinstance(calls, list) and calls:
        return drafts + [_call_draft(object_of(call)) for call in calls]
    message.commands.clear()
    for index, command in enumerate(_commands(record)):
        call_id = f"action-{message.number}-{index}"
        message.commands.append(call_id)
        drafts.append(call_draft(call_id, SHELL, {"command": command}, call_id))
    return drafts


def _thoughts(record: dict[str, Any]) -> list[Draft]:
    blocks = record.get("thinking_blocks")
    thoughts = blocks if isinstance(blocks, list) else []
    texts = [object_of(block).get("thinking") for block in thoughts]
    texts = texts or [record.get("reasoning_content")]
    return [thought_draft(text) for text in texts if isinstance(text, str) and text]


def _call_draft(call: dict[str, Any]) -> Draft:
    function = object_of(call.get("function"))
    given = arguments_of(function.get("arguments"))
    name = text_or_none(function.get("name")) or ""
    return call_draft(text_or_none(call.get("id")), name, given, key_of(call))


def _commands(record: dict[str, Any]) -> list[str]:
    """The commands that the program found in the text of an answer."""
    actions = object_of(record.get("extra")).get("actions")
    written = actions if isinstance(actions, list) else []
    found = [object_of(action).get("command") for action in written]
    found = found or [record.get("action")]
    return [command for command in found if isinstance(command, str) and command.strip()]


def _tool_drafts(record: dict[str, Any]) -> list[Draft]:
    ids = record.get("tool_call_ids") or [record.get("tool_call_id")]
    calls = [text_or_none(call) for call in ids] if isinstance(ids, list) else [None]
    output = flat(record.get("content"))
    return [
        # One message may answer several calls.
        result_draft(call, "" if number else output, key_of([number, record]), failed=False)
        for number, call in enumerate(calls)
    ]


def _answers(message: ChatMessage) -> list[Draft]:
    """The output of the oldest command that has none yet, which comes in the user's name."""
    if not message.commands:
        return []
    output, call = flat(message.record.get("content")), message.commands.pop(0)
    return [result_draft(call, output, call, failed=False)]
