"""What the data of each known event type should look like: advice, never a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .sanitizing import shown
from .types import EventType

# Where `SessionManager` keeps what `warnings_for` says, in an event's metadata.
WARNINGS = "_validation_warnings"

_MESSAGE = {"content": "any", "role": "text"}
_CALL = {"tool_name": "text", "tool_call_id": "text"}
_ERROR = {"error_message": "text", "error_code": "text"}
_APPROVAL = {"tool_name": "text", "policy_name": "text"}
# Of each type the fields that it should have, and what is in them.
REQUIRED: Mapping[str, Mapping[str, str]] = {
    EventType.MESSAGE_SENT: _MESSAGE,
    EventType.MESSAGE_RECEIVED: _MESSAGE,
    EventType.MESSAGE_STREAMED: {"content": "text"},
    EventType.TOOL_CALL_STARTED: {**_CALL, "tool_input": "any"},
    EventType.TOOL_CALL_COMPLETED: {**_CALL, "tool_output": "any"},
    EventType.TOOL_CALL_FAILED: {**_CALL, "error_message": "text"},
    EventType.TOKEN_USAGE_UPDATED: {"input_tokens": "count", "output_tokens": "count"},
    EventType.RUN_COMPLETED: {"stop_reason": "text"},
    EventType.ERROR_OCCURRED: _ERROR,
    EventType.RUN_FAILED: _ERROR,
    EventType.SESSION_FAILED: _ERROR,
    EventType.POLICY_VIOLATION: {"policy": "text", "kind": "text"},
    EventType.TOOL_APPROVAL_REQUESTED: _APPROVAL,
    EventType.TOOL_APPROVAL_GRANTED: _APPROVAL,
    EventType.TOOL_APPROVAL_DENIED: _APPROVAL,
}
# Of each type the fields that it may have, where something is to be said of them.
OPTIONAL: Mapping[str, Mapping[str, str]] = {
    EventType.TOKEN_USAGE_UPDATED: {
        "total_tokens": "count",
        "cache_read_tokens": "count",
        "cache_creation_tokens": "count",
    },
    EventType.RUN_COMPLETED: {
        "output": "mapping",
        "token_usage": "mapping",
        "cost_usd": "count",
        "provider_metadata": "mapping",
    },
}
_NAMES = {"text": "a string", "count": "a number >= 0", "mapping": "a mapping"}


def warnings_for(type: str, data: Mapping[str, Any]) -> list[str]:
    """What is unusual in the data of an event of this type, a sentence each."""
    required = REQUIRED.get(type, {})
    missing = [f"{name} is missing." for name in required if name not in data]
    known = {**OPTIONAL.get(type, {}), **required}
    return missing + [
        f"{name}: expected {_NAMES[kind]}, got {shown(data[name])}."
        for name, kind in known.items()
        if name in data and not _fits(data[name], kind)
    ]


def is_count(value: object) -> bool:
    """Whether `value` can be a number of tokens or a cost."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _fits(value: object, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "count":
        return is_count(value)
    return kind == "any" or isinstance(value, Mapping)
