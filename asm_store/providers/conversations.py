"""What was said, in the form that is the same for every model's API: texts, and answered calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ..exceptions import ValidationError

if TYPE_CHECKING:
    from ..transcripts import Transcript

# What APIs take as the id of a call and as the name of a tool.
_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME = 64
# How APIs tell of calls, in a message or as a block of it.
_CALLS = frozenset({"tool_calls", "function_call", "tool_use", "tool_result"})


@dataclass(slots=True)
class Said:
    """A message; its role is system, user or assistant."""

    role: str
    content: Any


@dataclass(slots=True)
class Call:
    """The call of a tool, and its result when `is_answered`."""

    id: str
    name: str
    input: Any
    output: Any = None
    is_answered: bool = False
    is_error: bool = False

    def answer(self, output: Any, *, is_error: bool = False) -> None:
        self.output = output
        self.is_answered, self.is_error = True, is_error


@dataclass(slots=True)
class Called:
    """Calls that the assistant made at once."""

    calls: list[Call] = field(default_factory=list)


Item: TypeAlias = Said | Called


def conversation(input: Any, transcript: Transcript | None) -> list[Item]:
    """What was said before, then the run's input, oldest first.

    Calls have their results with them: a call without one is left out, as is a result without
    its call. Ids of calls are unique. An input with calls in the form of some API's own is
    refused: without them another conversation would be gone on from.
    """
    said = [] if transcript is None else transcript.messages
    messages = input["messages"] if isinstance(input, Mapping) else [_asked(input)]
    for message in messages:
        _check_calls(message)
    items = _items([*said, *messages])
    _make_ids_unique(call for item in items if isinstance(item, Called) for call in item.calls)
    return items


def _asked(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _check_calls(message: Mapping[str, Any]) -> None:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    kinds = {block.get("type") for block in blocks if isinstance(block, Mapping)}
    found = [*(kinds & _CALLS), *(name for name in _CALLS if message.get(name))]
    if found:
        raise ValidationError(
            f"input: a message has {found[0]!a}: calls of tools are told by the transcript of "
            f"the session, with continuation=True."
        )


def _items(messages: Iterable[Mapping[str, Any]]) -> list[Item]:
    items: list[Item] = []
    unanswered: list[Call] = []
    for message in messages:
        if message["role"] == "tool":
            _answer(message, unanswered)
        elif message.get("tool_name"):
            unanswered.append(_add_call(message, items))
        else:
            _add_message(message, items)
    for item in items:
        if isinstance(item, Called):
            item.calls = [call for call in item.calls if call.is_answered]
    return [item for item in items if isinstance(item, Said) or item.calls]


def _add_call(message: Mapping[str, Any], items: list[Item]) -> Call:
    call = Call(
        str(message.get("tool_call_id") or ""),
        str(message["tool_name"]),
        message.get("tool_input") or {},
    )
    if not (items and _is_open(items[-1])):
        items.append(Called())
    group = items[-1]
    assert isinstance(group, Called)
    group.calls.append(call)
    return call


def _is_open(item: Item) -> bool:
    """Whether the next call was made at once with those of `item`."""
    return isinstance(item, Called) and not any(call.is_answered for call in item.calls)


def _answer(message: Mapping[str, Any], unanswered: list[Call]) -> None:
    key = str(message.get("tool_call_id") or "") or str(message.get("tool_name"))
    for call in unanswered:
        if key == (call.id or call.name):
            output = message.get("tool_output")
            output = message.get("content") if output is None else output
            call.answer(output, is_error=message.get("is_error") is True)
            unanswered.remove(call)
            return


def _add_message(message: Mapping[str, Any], items: list[Item]) -> None:
    role = "system" if message["role"] == "developer" else str(message["role"])
    said = Said(role, message.get("content"))
    # Results follow their calls at once: what the assistant said meanwhile goes before.
    is_between = role == "assistant" and items and _is_open(items[-1])
    items.insert(len(items) - bool(is_between), said)


def _make_ids_unique(calls: Iterable[Call]) -> None:
    seen: set[str] = set()
    for number, call in enumerate(calls, 1):
        if call.id in seen or not _CALL_ID.fullmatch(call.id):
            call.id = f"call_{number}_{len(seen)}"
        seen.add(call.id)
        call.name = tool_name(call.name)


def tool_name(name: str) -> str:
    """`name` as APIs take it: a model may have made it up."""
    return _NOT_IN_A_NAME.sub("_", name)[:MAX_NAME] or "_"


def text_of(content: Any) -> str:
    """A text as it is, the text blocks of a list, all else as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    return json.dumps(content, ensure_ascii=False)
