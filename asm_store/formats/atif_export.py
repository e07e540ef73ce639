"""Writes sessions as ATIF trajectories (Harbor's RFC 0001), one for each run.

What the format has no place for is noted under `extra`, so that messages, tool calls, usage and
cost come back as they were when `atif` reads the trajectory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db.models import Min, Q, QuerySet

from ..backends import transactions
from ..events.sanitizing import ENCODER
from ..events.types import EventType
from ..exceptions import SessionNotFound
from ..fields import MAX_BIGINT
from ..models import Event, Run, Session
from .atif_steps import CREATED_KEY, OWN, RESULTS, STEP_TYPES, drafts_of, notes_of
from .drafts import count_of, object_of, text_or_none
from .reports import Tokens

VERSION = "ATIF-v1.7"
UNKNOWN_VERSION = "unknown"
PAGE = 500
LIFECYCLE = {
    EventType.RUN_STARTED: "run_started",
    EventType.RUN_COMPLETED: "run_ended",
    EventType.RUN_FAILED: "run_ended",
    EventType.RUN_CANCELLED: "run_ended",
    EventType.RUN_TIMEOUT: "run_ended",
}
# The order of the parts within a step; what comes before what is there begins the next step.
RANKS = {"reasoning": 0, "message": 1, "call": 2, "result": 3}


def trajectory_lines(
    using: str, session_ids: Iterable[str], counts: Counter[str]
) -> Iterator[bytes]:
    r"""The trajectories of the sessions, one in each line, which ends in `\n`.

    What was written is counted in `counts`: `sessions`, `runs`, `events`. A session that is gone
    by its turn is left out; one that is deleted during it is `SessionNotFound`.
    """
    for session_id in session_ids:
        session = _stored_session(using, session_id)
        if session is None:
            continue
        for document in _trajectories(using, session):
            counts["runs"] += 1
            counts["events"] += sum(len(notes_of(step)) for step in document["steps"])
            yield ENCODER.encode(document).encode() + b"\n"
        counts["sessions"] += 1


def trajectories(using: str, session_id: str) -> Iterator[dict[str, Any]]:
    """The session's runs in the order of their first events, each as a JSON-ready trajectory.

    A trajectory is in memory whole. Events without a run stand in the trajectory of the run before
    them (the first ones in the first). `SessionNotFound` when there is no such session, or no
    longer, `StorageError` when the database fails. Nothing is open between two trajectories.
    """
    session = _stored_session(using, session_id)
    if session is None:
        raise SessionNotFound(f"There is no session {session_id!r}.")
    yield from _trajectories(using, session)


def _stored_session(using: str, session_id: str) -> Session | None:
    rows = Session.objects.using(using).filter(pk=session_id)
    return transactions.read(using, rows.first)


def _trajectories(using: str, session: Session) -> Iterator[dict[str, Any]]:
    events = Event.objects.using(using).filter(session_id=session.pk)
    for run_id, owned in transactions.read(
        using, partial(_owned_events, using, session.pk, events)
    ):
        runs = Run.objects.using(using).filter(pk=run_id)
        run = None if run_id is None else transactions.read(using, runs.first)
        document = _trajectory(session, run, _in_order(owned))
        # A session is deleted as a whole: what was read is whole while it is there.
        if _stored_session(using, session.pk) is None:
            raise SessionNotFound(f"session {session.pk} was deleted while it was read.")
        yield document


def _owned_events(
    using: str, session_id: str, events: QuerySet[Event]
) -> list[tuple[str | None, QuerySet[Event]]]:
    """The ids of the runs, each with its events and with those around them that have no run."""
    runs = Run.objects.using(using).filter(session_id=session_id).order_by("started_at", "id")
    ids = list(runs.values_list("pk", flat=True))
    firsts = dict(events.values_list("run_id").annotate(Min("sequence_number")).order_by())
    begun = sorted((pk for pk in ids if pk in firsts), key=lambda pk: firsts[pk])
    bounds = [0, *(firsts[pk] for pk in begun[1:]), MAX_BIGINT]
    owned: list[tuple[str | None, QuerySet[Event]]] = []
    for pk, low, high in zip(begun, bounds, bounds[1:], strict=False):
        between = Q(run_id=None, sequence_number__gte=low, sequence_number__lt=high)
        owned.append((pk, events.filter(Q(run_id=pk) | between)))
    owned += [(pk, events.none()) for pk in ids if pk not in firsts]
    if not begun and None in firsts:
        owned.append((None, events.filter(run_id=None)))
    return owned


def _in_order(events: QuerySet[Event]) -> Iterator[Event]:
    """The events, read page by page."""
    after = 0
    ordered = events.order_by("sequence_number")
    while page := transactions.read(
        events.db, partial(list[Event], ordered.filter(sequence_number__gt=after)[:PAGE])
    ):
        yield from page
        after = page[-1].sequence_number


@dataclass(slots=True)
class Step:
    """A step that is put together."""

    number: int
    source: str
    timestamp: str
    message: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    rank: int = -1

    def takes(self, part: str) -> bool:
        """Whether a part can be added without changing the order of what happened."""
        if self.source != "agent" or part in self.events:
            return False
        return part == "usage" or RANKS[part] >= self.rank

    def add(self, part: str, event: Event) -> None:
        self.events[part] = event
        self.rank = max(self.rank, RANKS.get(part.partition("/")[0], -1))

    def to_dict(self) -> dict[str, Any]:
        step = {
            "step_id": self.number,
            "timestamp": self.timestamp,
            "source": self.source,
            "message": self.message,
            **self.fields,
        }
        if self.calls:
            step["tool_calls"] = self.calls
        if self.results:
            step["observation"] = {"results": self.results}
        step["extra"] = {OWN: {"parts": _notes(step, self)}}
        return step


class Steps:
    """The steps of one run."""

    def __init__(self) -> None:
        self.all: list[Step] = []
        self._by_call: dict[str, Step] = {}

    def add(self, event: Event) -> None:
        if event.type == EventType.MESSAGE_SENT:
            self._add_message(event)
        elif event.type in RESULTS:
            self._add_result(event)
        elif event.type == EventType.TOOL_CALL_STARTED:
            self._add_call(event)
        elif event.type == EventType.TOKEN_USAGE_UPDATED:
            self._add_usage(event)
        elif event.type == EventType.MESSAGE_RECEIVED:
            step = self._step_for("message", event)
            step.message = _text(event.data.get("content"))
            step.add("message", event)
        elif event.data.get("block_type") == "thinking":
            step = self._step_for("reasoning", event)
            step.fields["reasoning_content"] = _text(event.data.get("content"))
            step.add("reasoning", event)

    def _new(self, source: str, event: Event) -> Step:
        step = Step(len(self.all) + 1, source, event.timestamp.isoformat())
        self.all.append(step)
        return step

    def _step_for(self, part: str, event: Event) -> Step:
        last = self.all[-1] if self.all else None
        return last if last is not None and last.takes(part) else self._new("agent", event)

    def _add_message(self, event: Event) -> None:
        step = self._new("user" if event.data.get("role") in {"user", None} else "system", event)
        step.message = _text(event.data.get("content"))
        step.add("message", event)

    def _add_call(self, event: Event) -> None:
        step = self._step_for("call", event)
        call = text_or_none(event.data.get("tool_call_id")) or event.id
        given = event.data.get("tool_input")
        step.add(f"call/{len(step.calls)}", event)
        step.calls.append(
            {
                "tool_call_id": call,
                "function_name": _text(event.data.get("tool_name")),
                "arguments": given if isinstance(given, dict) else {"input": given},
            }
        )
        self._by_call[call] = step

    def _add_result(self, event: Event) -> None:
        """Beside its call; a result whose call is not here has a step of its own."""
        call = text_or_none(event.data.get("tool_call_id"))
        step = self._by_call.pop(call or "", None) or self._new("agent", event)
        output = event.data.get("tool_output", event.data.get("error_message"))
        result = {"source_call_id": call} if call else {}
        step.add(f"result/{len(step.results)}", event)
        step.results.append(result if output is None else {**result, "content": _text(output)})

    def _add_usage(self, event: Event) -> None:
        step = self._step_for("usage", event)
        used = _tokens(event.data)
        step.fields["metrics"] = {**_counts(used, ""), **_created(used)}
        if model := text_or_none(event.data.get("model")):
            step.fields["model_name"] = model
        step.add("usage", event)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tokens(data: object) -> Tokens:
    found = object_of(data)
    return Tokens(**{name: count_of(found.get(name)) for name in Tokens().to_dict()})


def _counts(used: Tokens, prefix: str) -> dict[str, Any]:
    prompt = used.input_tokens + used.cache_read_tokens + used.cache_creation_tokens
    return {
        f"{prefix}prompt_tokens": prompt,
        f"{prefix}completion_tokens": used.output_tokens,
        f"{prefix}cached_tokens": used.cache_read_tokens,
    }


def _created(used: Tokens) -> dict[str, Any]:
    """What was written to the cache, for which the format has no field."""
    created = used.cache_creation_tokens
    return {"extra": {CREATED_KEY: created}} if created else {}


def _notes(step: dict[str, Any], made_of: Step) -> dict[str, Any]:
    """What reading the step does not give by itself: the events' ids, and data that differ."""
    drafts = drafts_of(step)
    names = {call["tool_call_id"]: call["function_name"] for call in made_of.calls}
    notes = {}
    for part, event in made_of.events.items():
        draft = drafts.get(part)
        data = {} if draft is None else draft.data
        if part.startswith("result/"):
            data = {"tool_name": names.get(data.get("tool_call_id"), ""), **data}
        note: dict[str, Any] = {"id": event.id}
        if data != event.data:
            note["data"] = event.data
        if draft is not None and draft.type != event.type:
            note["type"] = str(event.type)
        if event.run_id is None:
            note["no_run"] = True
        if (at := event.timestamp.isoformat()) != made_of.timestamp:
            note["at"] = at
        notes[part] = note
    return notes


def _trajectory(session: Session, run: Run | None, events: Iterator[Event]) -> dict[str, Any]:
    steps = Steps()
    ids: dict[str, str] = {}
    for event in events:
        if event.type in STEP_TYPES:
            steps.add(event)
        elif event.type == EventType.SESSION_CREATED:
            ids["session_created"] = event.id
        elif event.type in LIFECYCLE:
            ids[LIFECYCLE[EventType(event.type)]] = event.id
    return {
        "schema_version": VERSION,
        "session_id": session.id,
        "trajectory_id": session.id if run is None else run.id,
        "agent": _agent(session, run),
        "steps": [step.to_dict() for step in steps.all] or [_empty_step(session, run)],
        "final_metrics": _final_metrics(run, max(1, len(steps.all))),
        "extra": {OWN: {**_own(session, run), "event_ids": ids}},
    }


def _empty_step(session: Session, run: Run | None) -> dict[str, Any]:
    """The format wants a step even where nothing was said."""
    moment = session.created_at if run is None else run.started_at
    return {
        "step_id": 1,
        "timestamp": moment.isoformat(),
        "source": "system",
        "message": "",
        "observation": {"results": []},
    }


def _agent(session: Session, run: Run | None) -> dict[str, Any]:
    version = text_or_none(session.context.get("version")) or UNKNOWN_VERSION
    agent = {"name": session.agent_id, "version": version}
    model = None if run is None else text_or_none(run.provider_metadata.get("model"))
    return agent if model is None else {**agent, "model_name": model}


def _final_metrics(run: Run | None, steps: int) -> dict[str, Any]:
    if run is None:
        return {"total_steps": steps}
    used = _tokens(run.token_usage)
    metrics = {**_counts(used, "total_"), **_created(used), "total_steps": steps}
    return metrics if run.cost_usd is None else {**metrics, "total_cost_usd": run.cost_usd}


def _own(session: Session, run: Run | None) -> dict[str, Any]:
    """What the format has no place for."""
    own: dict[str, Any] = {"parent_session_id": session.parent_session_id}
    if run is not None:
        ended = None if run.ended_at is None else run.ended_at.isoformat()
        own |= {
            "run_id": run.id,
            "provider": run.provider,
            "status": str(run.status),
            "error": run.error,
            "stop_reason": run.provider_metadata.get("stop_reason"),
            "turn_count": run.turn_count,
            "started_at": run.started_at.isoformat(),
            "ended_at": ended,
        }
    return own
