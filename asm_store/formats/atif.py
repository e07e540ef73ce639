"""ATIF, the Agent Trajectory Interchange Format (Harbor's RFC 0001, versions 1.0 to 1.8), read.

One trajectory is one run; those with the same `session_id` are runs of one session, and a subagent
that is embedded is a session of its own. What `atif_export` noted under `extra` is taken back, so
that a trajectory which this package wrote becomes the records that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from ..events.sanitizing import shown
from ..events.types import EventType
from ..models import Event, Run, Session
from .atif_steps import (
    OWN,
    RESULTS,
    SOURCES,
    Noted,
    drafts_of,
    has_metrics,
    noted,
    time_of,
    tokens_of,
    total_tokens,
)
from .documents import DocumentReader, Part, objects_in
from .drafts import (
    EPOCH,
    Draft,
    context_of,
    cost_of,
    count_of,
    derived_id,
    key_of,
    object_of,
    short_text,
    text_or_none,
    usable_id,
    usable_session_id,
)
from .lifecycle import content_event, end_events, usage_event, with_original
from .lines import SkippedLineError
from .reports import Tally, Tokens
from .turns import Conversation, Turn, excerpt

NAME = "atif"
KNOWN_VERSIONS = frozenset(f"ATIF-v1.{minor}" for minor in range(9))
LIFECYCLE = {
    EventType.SESSION_CREATED: "session_created",
    EventType.RUN_STARTED: "run_started",
    EventType.RUN_COMPLETED: "run_ended",
    EventType.RUN_FAILED: "run_ended",
    EventType.RUN_CANCELLED: "run_ended",
    EventType.RUN_TIMEOUT: "run_ended",
}
ENDED = tuple(status for status in Run.Status if status not in {"pending", "running"})


@dataclass(slots=True)
class Progress:
    """How far a trajectory has been read."""

    conversation: Conversation
    turn: Turn
    now: datetime
    # What this package noted when it wrote the trajectory; None when another program did.
    own: dict[str, Any] | None
    # The one that answers where a step names no other.
    model: str | None
    cost: float | None = None
    has_metrics: bool = False


class AtifReader(DocumentReader):
    """Reads trajectories."""

    name = NAME

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._total = Tokens()
        self._progress: Progress | None = None
        self._own: set[str] = set()

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        version = record.get("schema_version")
        return isinstance(version, str) and version.startswith("ATIF-")

    @property
    def tokens(self) -> Tokens:
        return self._total

    def split(self, document: dict[str, Any]) -> Iterator[Part]:
        """The trajectory, then those of its subagents, and of theirs."""
        waiting: list[tuple[Any, str | None]] = [(document, None)]
        for found, parent in waiting:
            trajectory = object_of(found)
            if parent is None:
                _require_known_version(trajectory)
            steps = objects_in(trajectory, "steps")
            session_id = _session_id(trajectory, steps, parent)
            yield from _parts(trajectory, steps, session_id, parent)
            inner = trajectory.get("subagent_trajectories")
            waiting += [(each, session_id) for each in inner] if isinstance(inner, list) else []

    def feed_part(self, part: Part) -> list[Event]:
        if part.kind == "head":
            return self._begin(**part.value)
        if self._progress is None:
            raise SkippedLineError("no session")
        if part.kind == "end":
            return self._end(part.value, self._progress)
        return self._step(part, self._progress)

    def _begin(
        self,
        head: dict[str, Any],
        steps: list[Any],
        session_id: str,
        parent: str | None,
    ) -> list[Event]:
        own = _own(head)
        times = (time_of(object_of(step).get("timestamp")) for step in steps)
        now = next((time for time in times if time is not None), EPOCH)
        conversation = self.conversations.get(session_id)
        events: list[Event] = []
        provider = _provider(head, own)
        if conversation is None:
            session = _session(head, session_id, parent or _parent(own), now)
            conversation, events = self.open_conversation(session, provider)
        conversation.changed = True
        run_id = usable_id(object_of(own).get("run_id")) or derived_id(
            "run", now, session_id, text_or_none(head.get("trajectory_id")), _first_said(steps)
        )
        started = time_of(object_of(own).get("started_at")) or now
        turn = Turn(run_id, session_id, started, started, provider)
        events += self.begin_turn(conversation, turn)
        model = short_text(object_of(head.get("agent")).get("model_name"))
        self._progress = Progress(conversation, turn, now, own, model)
        if own is not None:
            self._own |= {session_id, run_id}
        return with_original(_renamed(events, own, run_id), head)

    def _step(self, part: Part, progress: Progress) -> list[Event]:
        step = part.value
        if step.get("is_copied_context") is True:
            self.tally.ignore("copied context")
            return []
        if step.get("source") not in SOURCES:
            raise SkippedLineError(f"unknown source {shown(step.get('source'))}")
        progress.now = time_of(step.get("timestamp")) or progress.now
        _note_step(step, progress)
        parts = noted(step, drafts_of(step))
        results = [each for each in parts if each.name.startswith("result/")]
        events = [self._event(part, each, progress) for each in parts if each not in results]
        events += self._usage(part, step, progress)
        events += [self._event(part, each, progress) for each in results]
        if not events:
            self.tally.ignore("empty step")
        return with_original(events, step)

    def _event(self, part: Part, each: Noted, progress: Progress) -> Event:
        _note_draft(progress.turn, each.draft)
        names = (str(part.number), each.name, key_of(each.draft.data))
        turn = progress.turn
        event_id = each.event_id or derived_id("evt", progress.now, turn.run_id, *names)
        return content_event(
            event_id,
            each.draft,
            each.at or progress.now,
            progress.conversation,
            turn if each.has_run else None,
            turn.provider,
        )

    def _usage(self, part: Part, step: Mapping[str, Any], progress: Progress) -> list[Event]:
        if not has_metrics(step):
            return []
        metrics, turn = object_of(step["metrics"]), progress.turn
        progress.has_metrics = True
        cost = cost_of(metrics.get("cost_usd"))
        progress.cost = progress.cost if cost is None else (progress.cost or 0.0) + cost
        turn.messages += count_of(step.get("llm_call_count")) or 1
        model = short_text(step.get("model_name")) or progress.model
        return self._used(part, tokens_of(metrics), model, progress)

    def _used(self, part: Part, used: Tokens, model: str | None, progress: Progress) -> list[Event]:
        turn = progress.turn
        own = noted(part.value, {"usage": Draft(EventType.TOKEN_USAGE_UPDATED, {}, "")})[0]
        if not used and own.event_id is None:
            return []
        self._total += used
        names = (str(part.number), "usage", key_of(used.counts()))
        event_id = own.event_id or derived_id("evt", progress.now, turn.run_id, *names)
        event = usage_event(event_id, used, model, progress.now, turn)
        event.data = own.draft.data or event.data
        if not own.has_run:
            event.run_id, turn.usage = None, turn.usage - used
        event.timestamp = own.at or event.timestamp
        return [event]

    def _end(self, head: dict[str, Any], progress: Progress) -> list[Event]:
        """What the trajectory says of the whole: the rest of what was used, its cost, its end."""
        final, turn = object_of(head.get("final_metrics")), progress.turn
        events: list[Event] = []
        rest = _rest(turn.usage, total_tokens(final))
        if rest and (progress.own is not None or not progress.has_metrics):
            turn.messages += 1
            events = self._used(Part("end", 0, {}), rest, None, progress)
        total = cost_of(final.get("total_cost_usd"))
        turn.cost_usd = progress.cost if total is None else total
        if progress.own is not None:
            _take_back(turn, progress.own)
            turn.has_end_event = turn.outcome is None
        ended = end_events(turn) if turn.outcome is not None else []
        return with_original(events, {"final_metrics": final}) + _renamed(
            ended, progress.own, turn.run_id
        )

    def merged_session(self, stored: Session, given: Session) -> Session:
        """What this package wrote down is less than what is stored; a parent may have come."""
        if given.pk not in self._own:
            return super().merged_session(stored, given)
        if stored.parent_session_id or not given.parent_session_id:
            return stored
        merged = copy(stored)
        merged.parent_session_id = given.parent_session_id
        return merged

    def merged_run(self, stored: Run, given: Run) -> Run:
        """Likewise, once the run has ended."""
        is_whole = given.pk in self._own and stored.ended_at is not None
        return stored if is_whole else super().merged_run(stored, given)


def _parts(
    trajectory: Mapping[str, Any], steps: list[Any], session_id: str, parent: str | None
) -> Iterator[Part]:
    large = {"steps", "subagent_trajectories"}
    head = {key: value for key, value in trajectory.items() if key not in large}
    about = {"head": head, "steps": steps, "session_id": session_id, "parent": parent}
    yield Part("head", 0, about)
    for number, step in enumerate(steps, start=1):
        yield Part("step", number, object_of(step))
    yield Part("end", len(steps), head)


def _require_known_version(trajectory: Mapping[str, Any]) -> None:
    version = trajectory.get("schema_version")
    if not isinstance(version, str) or version not in KNOWN_VERSIONS:
        raise SkippedLineError(f"ATIF version {shown(version)}; this package reads 1.0 to 1.8")


def _session_id(trajectory: Mapping[str, Any], steps: list[Any], parent: str | None) -> str:
    """A subagent's session is known by its parent's; a trajectory may name none."""
    named = trajectory.get("trajectory_id")
    if parent is not None:
        return usable_session_id(f"{parent}/{named or _first_said(steps)}")
    return usable_session_id(
        trajectory.get("session_id") or named or f"{NAME}/{_first_said(steps)}"
    )


def _first_said(steps: list[Any]) -> str:
    """What tells a trajectory from another that has no name, and stays when it grows."""
    fresh = [step for step in map(object_of, steps) if step.get("is_copied_context") is not True]
    first = [[step.get("timestamp"), step.get("source"), step.get("message")] for step in fresh[:1]]
    return sha256(key_of(first).encode()).hexdigest()[:16]


def _session(
    head: Mapping[str, Any], session_id: str, parent: str | None, now: datetime
) -> Session:
    agent = object_of(head.get("agent"))
    metadata: dict[str, Any] = {"imported_from": NAME}
    if now == EPOCH:
        metadata["times"] = "unknown"
    return Session(
        id=session_id,
        agent_id=usable_id(agent.get("name")) or NAME,
        status=Session.Status.COMPLETED,
        parent_session_id=None if parent == session_id else parent,
        metadata=metadata,
        context=context_of({"version": agent.get("version")}),
        created_at=now,
        updated_at=now,
    )


def _own(head: Mapping[str, Any]) -> dict[str, Any] | None:
    own = object_of(head.get("extra")).get(OWN)
    return own if isinstance(own, dict) else None


def _parent(own: Mapping[str, Any] | None) -> str | None:
    return usable_id(object_of(own).get("parent_session_id"))


def _provider(head: Mapping[str, Any], own: Mapping[str, Any] | None) -> str | None:
    """The one that a model's name begins with, as `openai/gpt-5`, if it does."""
    if own is not None:
        return usable_id(own.get("provider"))
    model = text_or_none(object_of(head.get("agent")).get("model_name")) or ""
    return usable_id(model.partition("/")[0] * ("/" in model)) or NAME


def _renamed(events: list[Event], own: Mapping[str, Any] | None, run_id: str) -> list[Event]:
    """The events of the run's beginning and end under the ids that they had, if they were there."""
    if own is None:
        return events
    ids = object_of(own.get("event_ids"))
    kept = []
    for event in events:
        if event.run_id not in {None, run_id}:
            kept.append(event)
        elif (event_id := usable_id(ids.get(LIFECYCLE[EventType(event.type)]))) is not None:
            event.id = event_id
            kept.append(event)
    return kept


def _note_step(step: Mapping[str, Any], progress: Progress) -> None:
    turn, session = progress.turn, progress.conversation.session
    turn.changed = progress.conversation.changed = True
    turn.ended_at = max(turn.ended_at, progress.now)
    session.updated_at = max(session.updated_at, progress.now)
    if step.get("source") == "agent":
        turn.used(short_text(step.get("model_name")) or progress.model)


def _note_draft(turn: Turn, draft: Draft) -> None:
    said = draft.data.get("content")
    if draft.type == EventType.MESSAGE_RECEIVED:
        turn.outcome = Run.Status.COMPLETED
        turn.answered(str(said), None)
    elif draft.type == EventType.MESSAGE_SENT:
        if draft.data.get("role") == "user":
            turn.outcome = None
            turn.prompt = excerpt(f"{turn.prompt}\n{said}".strip())
    elif draft.type == EventType.TOOL_CALL_STARTED:
        turn.outcome = None
    elif draft.type in RESULTS:
        # Many agents end with a tool that says so.
        turn.outcome = Run.Status.COMPLETED


def _rest(counted: Tokens, total: Tokens) -> Tokens:
    """What the total counts beyond the steps."""
    pairs = zip(counted.counts(), total.counts(), strict=True)
    return Tokens(*(max(0, all_of_it - known) for known, all_of_it in pairs))


def _take_back(turn: Turn, own: Mapping[str, Any]) -> None:
    """The run as it was when this package wrote it down."""
    status = own.get("status")
    turn.outcome = Run.Status(status) if status in ENDED else None
    turn.error = own["error"] if isinstance(own.get("error"), dict) else None
    turn.stop_reason = short_text(own.get("stop_reason"))
    turn.messages = count_of(own.get("turn_count"))
    turn.ended_at = time_of(own.get("ended_at")) or turn.ended_at
