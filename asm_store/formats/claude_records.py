"""One record of a Claude Code transcript, read into events: pure functions, no state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..events.types import EventType
from ..fields import MAX_ID_LENGTH
from .drafts import (
    Draft,
    call_draft,
    count_of,
    flat,
    key_of,
    result_draft,
    short_text,
    text_or_none,
    timestamp_of,
    usable_session_id,
)
from .lines import SkippedLineError
from .reports import Tokens

SYNTHETIC_MODEL = "<synthetic>"
INTERRUPTION = "[Request interrupted by user"
LOCAL_OUTPUT = ("<local-command-stdout>", "<local-command-stderr>", "<bash-stdout>")
# Written by the program around the model, not typed by anybody: no turn begins with them.
NOT_A_PROMPT = (INTERRUPTION, *LOCAL_OUTPUT, "<bash-stderr>", "<local-command-caveat>")
# The keys under which the log says how the usage of a message divides.
USAGE_KEYS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that belongs to a session, its common fields checked."""

    record: dict[str, Any]
    kind: str
    session_id: str
    parent_session_id: str | None
    timestamp: datetime
    uuid: str | None
    parent_uuid: str | None
    message: Mapping[str, Any]

    @property
    def message_id(self) -> str | None:
        return text_or_none(self.message.get("id"))

    @property
    def is_api_error(self) -> bool:
        return self.record.get("isApiErrorMessage") is True

    @property
    def is_note(self) -> bool:
        """Whether the program put it between what people and models said: no turn hangs on it."""
        if self.kind == "assistant":
            return self.message.get("model") == SYNTHETIC_MODEL and not self.is_api_error
        return bool(self.record.get("isMeta") or self.record.get("isCompactSummary"))


def read_entry(record: dict[str, Any]) -> Entry:
    """The entry that `record` is; `SkippedLineError` when a field is missing or wrong."""
    message = record.get("message")
    if record["type"] == "system" or not isinstance(message, dict):
        message = {}
    if record["type"] != "system" and not isinstance(message.get("content"), str | list):
        raise SkippedLineError("no message content")
    session_id, parent = _session_ids(record)
    return Entry(
        record=record,
        kind=record["type"],
        session_id=session_id,
        parent_session_id=parent,
        timestamp=timestamp_of(record.get("timestamp")),
        uuid=_uuid(record.get("uuid")),
        parent_uuid=_uuid(record.get("parentUuid")),
        message=message,
    )


def _session_ids(record: Mapping[str, Any]) -> tuple[str, str | None]:
    """The session's id and its parent's: what a subagent did is a session of its own."""
    main, agent = usable_session_id(record.get("sessionId")), record.get("agentId")
    if agent is not None:
        return usable_session_id(f"{main}/agent-{usable_session_id(agent)}"), main
    if record.get("isSidechain") is True:
        return usable_session_id(f"{main}/sidechain"), main
    return main, None


def _uuid(value: object) -> str | None:
    """A record's name for itself, kept for a while: so not too long a one."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH else None


def drafts_of(entry: Entry) -> list[Draft]:
    """The events of an entry, in order."""
    if entry.kind == "system":
        return [_system_draft(entry.record)]
    if entry.is_api_error:
        return [_api_error_draft(entry)]
    of_block = _user_draft if entry.kind == "user" else _assistant_draft
    return [of_block(block, entry.message_id) for block in _blocks(entry.message["content"])]


def _blocks(content: str | list[Any]) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    for block in content:
        yield block if isinstance(block, dict) else {"type": "unknown", "value": block}


def _user_draft(block: dict[str, Any], message_id: str | None) -> Draft:
    if block.get("type") == "tool_result":
        return _tool_result_draft(block)
    data = {**_content(block), "role": "user"}
    return Draft(EventType.MESSAGE_SENT, data, key_of(block), short_text(message_id))


def _assistant_draft(block: dict[str, Any], message_id: str | None) -> Draft:
    kind = str(block.get("type"))
    if kind.endswith("tool_use"):
        call, name = text_or_none(block.get("id")), str(block.get("name", ""))
        return call_draft(call, name, block.get("input"), key_of(block))
    event_type = EventType.MESSAGE_RECEIVED
    if kind in {"thinking", "redacted_thinking"}:
        # No part of the answer: nobody should find it in a conversation's text.
        event_type = EventType.MESSAGE_STREAMED
    data = {**_content(block), "role": "assistant"}
    return Draft(event_type, data, key_of(block), short_text(message_id))


def _content(block: Mapping[str, Any]) -> dict[str, Any]:
    """`content` is text; a block of another kind (an image, thinking) says which."""
    kind = block.get("type")
    if kind == "text":
        return {"content": str(block.get("text", ""))}
    return {"content": str(block.get("thinking", "")), "block_type": str(kind)[:64]}


def _tool_result_draft(block: Mapping[str, Any]) -> Draft:
    call = text_or_none(block.get("tool_use_id"))
    failed = block.get("is_error") is True
    return result_draft(call, flat(block.get("content")), key_of(block), failed=failed)


def _api_error_draft(entry: Entry) -> Draft:
    blocks = [_content(block)["content"] for block in _blocks(entry.message["content"])]
    data = {
        "error_message": "\n".join(blocks),
        "error_code": text_or_none(entry.record.get("error")) or "api_error",
    }
    return Draft(EventType.ERROR_OCCURRED, data, key_of(data), short_text(entry.message_id))


def _system_draft(record: Mapping[str, Any]) -> Draft:
    if record.get("subtype") == "turn_duration":
        data = {"duration_ms": record.get("durationMs")}
        return Draft(EventType.TURN_COMPLETED, data, key_of(data))
    data = {**_error(record), "retry_attempt": record.get("retryAttempt")}
    return Draft(EventType.ERROR_OCCURRED, data, key_of(data))


def _error(record: Mapping[str, Any]) -> dict[str, str]:
    """The innermost message and the outermost code of a failed request."""
    message = code = kind = None
    layer: Any = record.get("error")
    for _depth in range(4):
        if not isinstance(layer, dict):
            break
        message = text_or_none(layer.get("message")) or message
        code = code or layer.get("status") or layer.get("code")
        kind = text_or_none(layer.get("type")) or kind
        layer = layer.get("error") or layer.get("cause")
    code = str(code or kind or "api_error")[:255]
    return {"error_message": message or code, "error_code": code}


def usage_of(message: Mapping[str, Any]) -> Tokens | None:
    """The token counts of an API message; None when the log does not give any."""
    usage = message.get("usage")
    if not isinstance(usage, dict):
        return None
    return Tokens(*(count_of(usage.get(key)) for key in USAGE_KEYS))


def model_of(message: Mapping[str, Any]) -> str | None:
    """The model that answered; None for what the program itself put in the model's place."""
    model = text_or_none(message.get("model"))
    return None if model is None or model == SYNTHETIC_MODEL else model[:255]


def is_prompt(entry: Entry, drafts: list[Draft]) -> bool:
    """Whether a turn begins here: somebody asked for something."""
    if entry.kind != "user" or entry.is_note:
        return False
    sent = [draft for draft in drafts if draft.type == EventType.MESSAGE_SENT]
    return bool(sent) and not sent[0].data["content"].startswith(NOT_A_PROMPT)
