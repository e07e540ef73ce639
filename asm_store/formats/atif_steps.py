"""One step of an ATIF trajectory, read into drafts of events: pure functions, no state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..events.types import EventType
from ..exceptions import ValidationError
from ..fields import clean_time
from .drafts import (
    Draft,
    call_draft,
    count_of,
    flat,
    message_drafts,
    object_of,
    result_draft,
    text_or_none,
    thought_draft,
    usable_id,
)
from .reports import Tokens

# The key under `extra` of what this package notes when it writes a trajectory.
OWN = "asm_store"
SOURCES = ("system", "user", "agent")
RESULTS = (EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED)
# The events that a step can be made of.
STEP_TYPES = (
    EventType.MESSAGE_SENT,
    EventType.MESSAGE_RECEIVED,
    EventType.MESSAGE_STREAMED,
    EventType.TOOL_CALL_STARTED,
    EventType.TOKEN_USAGE_UPDATED,
    *RESULTS,
)
CREATED_KEY = "cache_creation_input_tokens"


class Noted(NamedTuple):
    """A part of a step as an event, and what a note says of it."""

    name: str
    draft: Draft
    event_id: str | None = None
    has_run: bool = True
    at: datetime | None = None


def drafts_of(step: Mapping[str, Any]) -> dict[str, Draft]:
    """The events of a step in order, by the names of its parts; its usage is not among them."""
    drafts: dict[str, Draft] = {}
    thought = step.get("reasoning_content")
    if isinstance(thought, str) and (thought or "reasoning" in notes_of(step)):
        drafts["reasoning"] = thought_draft(thought)
    for number, draft in enumerate(_message(step)):
        drafts[f"message/{number}" if number else "message"] = draft
    for number, call in enumerate(_objects(step.get("tool_calls"))):
        drafts[f"call/{number}"] = _call(call)
    results = _objects(object_of(step.get("observation")).get("results"))
    for number, result in enumerate(results):
        drafts[f"result/{number}"] = _result(result)
    return drafts


def _objects(value: object) -> list[dict[str, Any]]:
    return [object_of(each) for each in value] if isinstance(value, list) else []


def _message(step: Mapping[str, Any]) -> list[Draft]:
    message, source = step.get("message"), str(step.get("source"))
    if source == "agent":
        said = bool(message) or "message" in notes_of(step)
        return message_drafts(EventType.MESSAGE_RECEIVED, "assistant", message) if said else []
    has_more = "observation" in step
    return (
        [] if has_more and not message else message_drafts(EventType.MESSAGE_SENT, source, message)
    )


def _call(call: dict[str, Any]) -> Draft:
    name = text_or_none(call.get("function_name")) or ""
    return call_draft(text_or_none(call.get("tool_call_id")), name, call.get("arguments"), "")


def _result(result: dict[str, Any]) -> Draft:
    """What a tool gave back; for a subagent that may be only where its trajectory is."""
    output = flat(result.get("content"))
    refs = result.get("subagent_trajectory_ref")
    if output is None and refs is not None:
        output = {"subagent_trajectory_ref": refs}
    return result_draft(text_or_none(result.get("source_call_id")), output, "", failed=False)


def noted(step: Mapping[str, Any], drafts: Mapping[str, Draft]) -> list[Noted]:
    """The drafts with what this package noted of the events that they were."""
    notes = notes_of(step)
    return [_noted(name, draft, object_of(notes.get(name))) for name, draft in drafts.items()]


def notes_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """What this package noted of the events that the step was made of, by their parts."""
    return object_of(object_of(object_of(step.get("extra")).get(OWN)).get("parts"))


def _noted(name: str, draft: Draft, note: Mapping[str, Any]) -> Noted:
    if note.get("type") in STEP_TYPES:
        draft = draft._replace(type=EventType(note["type"]))
    if isinstance(note.get("data"), dict):
        draft = draft._replace(data=note["data"])
    return Noted(
        name,
        draft,
        usable_id(note.get("id")),
        note.get("no_run") is not True,
        time_of(note.get("at")),
    )


def time_of(stamp: object) -> datetime | None:
    """The time that a text says, if it does; without a zone it counts as UTC."""
    if not isinstance(stamp, str):
        return None
    try:
        moment = datetime.fromisoformat(stamp)
        return clean_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC), "timestamp")
    except (ValueError, ValidationError):
        return None


def has_metrics(step: Mapping[str, Any]) -> bool:
    """Whether the step says what it used."""
    return isinstance(step.get("metrics"), dict)


def tokens_of(metrics: Mapping[str, Any]) -> Tokens:
    """What a step used; its prompt counts cached tokens, too, and ours does not."""
    created = object_of(metrics.get("extra")).get(CREATED_KEY)
    return _tokens(
        metrics.get("prompt_tokens"),
        metrics.get("completion_tokens"),
        metrics.get("cached_tokens"),
        created,
    )


def total_tokens(final: Mapping[str, Any]) -> Tokens:
    """What the whole trajectory used."""
    created = object_of(final.get("extra")).get(CREATED_KEY)
    return _tokens(
        final.get("total_prompt_tokens"),
        final.get("total_completion_tokens"),
        final.get("total_cached_tokens"),
        created,
    )


def _tokens(prompt: object, completion: object, cached: object, created: object) -> Tokens:
    given = count_of(prompt)
    read = min(count_of(cached), given)
    written = min(count_of(created), given - read)
    return Tokens(given - read - written, count_of(completion), read, written)
