"""What a run is given: a text, or messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..events.sanitizing import shown
from ..exceptions import ValidationError

_EXPECTED = 'input: expected a string or {"messages": [{"role": ..., "content": ...}, ...]}'


def messages_of(input: object) -> list[dict[str, Any]]:
    """The messages of an input, each with its role and content; `ValidationError`."""
    if isinstance(input, str):
        return [{"role": "user", "content": input}]
    messages = input.get("messages") if isinstance(input, Mapping) else None
    if not isinstance(messages, list | tuple) or not messages:
        raise ValidationError(f"{_EXPECTED}, got {shown(input)}.")
    return [_message(message) for message in messages]


def _message(message: object) -> dict[str, Any]:
    if not isinstance(message, Mapping) or "content" not in message:
        raise ValidationError(f"{_EXPECTED}, got a message that is {shown(message)}.")
    role = message.get("role")
    if not isinstance(role, str):
        raise ValidationError(f"{_EXPECTED}, got the role {shown(role)}.")
    return dict(message)
