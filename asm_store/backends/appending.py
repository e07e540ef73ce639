"""What an append does, decided without a database: every store asks here, under its own locks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..exceptions import (
    EventConflict,
    RunNotFound,
    SequenceConflict,
    SessionDeleted,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from ..fields import MAX_BIGINT
from ..models import Event


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of all that a batch names, read under the locks of its sessions."""

    latest: Mapping[str, int]  # session id -> its counter
    deleted: Mapping[str, datetime | None]  # session id -> deleted_at
    events: Mapping[str, Event]  # by event id
    runs: Mapping[str, str]  # run id -> its session's id


@dataclass(frozen=True, slots=True)
class Plan:
    """What to store, and what to answer."""

    results: list[Event]  # one for each given event, in their order
    new: list[Event]  # numbered
    latest: dict[str, int]  # session id -> its counter afterwards, where it moves


def plan_append(events: Sequence[Event], stored: Stored, expected_sequence: int | None) -> Plan:
    """Number what is new in `events`; an error of the contract when they may not be appended."""
    by_id: dict[str, Event] = {}
    new: list[Event] = []
    latest: dict[str, int] = {}
    for event in events:
        known = by_id.get(event.id) or stored.events.get(event.id)
        if known is not None:
            _check_same_session(event, known)
            by_id[event.id] = known
            continue
        _check_session(event.session_id, stored)
        _check_run(event, stored)
        number = latest.get(event.session_id, stored.latest[event.session_id]) + 1
        if expected_sequence is not None and event.session_id not in latest:
            _check_expected(event.session_id, number - 1, expected_sequence)
        if number > MAX_BIGINT:
            raise StorageError(f"session {event.session_id} has no number left.")
        event.sequence_number = latest[event.session_id] = number
        by_id[event.id] = event
        new.append(event)
    return Plan(_answers(events, by_id), new, latest)


def _answers(events: Sequence[Event], by_id: Mapping[str, Event]) -> list[Event]:
    """The stored event for each given one; an id that was given twice gets two instances."""
    given: set[str] = set()
    answers = []
    for event in events:
        answer = by_id[event.id]
        answers.append(answer.copied() if event.id in given else answer)
        given.add(event.id)
    return answers


def _check_same_session(event: Event, known: Event) -> None:
    if event.session_id != known.session_id:
        raise EventConflict(
            f"event {event.id} belongs to session {known.session_id}, not to {event.session_id}."
        )


def _check_session(session_id: str, stored: Stored) -> None:
    if session_id not in stored.deleted:
        raise SessionNotFound(f"session {session_id} is not stored.")
    if stored.deleted[session_id] is not None:
        raise SessionDeleted(f"session {session_id} is soft-deleted: restore it to write to it.")
    if session_id not in stored.latest:
        raise StorageError(
            f"session {session_id} has no row in asm_session_sequences (was it created past the "
            f"store?): save_session() makes it."
        )


def _check_run(event: Event, stored: Stored) -> None:
    if event.run_id is None:
        return
    if event.run_id not in stored.runs:
        raise RunNotFound(f"run {event.run_id} of event {event.id} is not stored.")
    if stored.runs[event.run_id] != event.session_id:
        raise ValidationError(
            f"run_id: run {event.run_id} belongs to session {stored.runs[event.run_id]}, "
            f"not to {event.session_id}."
        )


def _check_expected(session_id: str, latest: int, expected: int) -> None:
    if latest != expected:
        raise SequenceConflict(
            f"session {session_id} is at number {latest}, not at {expected}.",
            latest_sequence=latest,
        )
