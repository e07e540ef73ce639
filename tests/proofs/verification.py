"""What must hold of the logs that writers leave: compared with their ledgers, from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import QuerySet

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run, Session, SessionSequence
from tests.proofs.writers import Call, Ledger

Stored = dict[str, dict[str, Any]]  # events, as dicts, by id


def checked(
    using: str,
    sessions: Sequence[str],
    ledgers: Sequence[Ledger],
    others: Sequence[dict[str, Any]] = (),
) -> Stored:
    """The events of these sessions, after everything has been compared.

    All that was acknowledged is there, as it was; numbers are 1 to n; of each append all is
    stored or nothing; nothing is stored that nobody has begun. `others` are events that were
    acknowledged to somebody without a ledger.
    """
    stored = {event["id"]: event for owner in sessions for event in log(using, owner)}
    lost = [event["id"] for event in acknowledged(ledgers, others) if is_lost(event, stored)]
    assert lost == []
    begun = [call for ledger in ledgers for call in ledger.begun]
    assert stored.keys() <= ids(begun) | {event["id"] for event in others}
    _check_whole(using, sessions, begun, stored)
    assert [list(rows) for rows in orphans(using)] == [[]] * 5
    return stored


def log(using: str, session_id: str) -> list[dict[str, Any]]:
    store = DatabaseSessionStore(using)
    events = [event.to_dict() for event in store.get_events(session_id)]
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(1, len(events) + 1))
    assert store.get_latest_sequence(session_id) == len(events)
    return events


def acknowledged(
    ledgers: Iterable[Ledger], others: Iterable[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    yield from others
    for ledger in ledgers:
        for events in ledger.acknowledged:
            yield from events


def is_lost(event: dict[str, Any], stored: Stored) -> bool:
    return stored.get(event["id"]) != event


def ids(calls: Iterable[Call]) -> set[str]:
    return {event["id"] for call in calls for event in call["events"]}


def orphans(using: str) -> list[QuerySet[Any]]:
    """Rows of sessions and runs that are not stored, and sessions without a counter."""
    sessions = Session.objects.using(using)
    runs = Run.objects.using(using)
    events = Event.objects.using(using)
    counters = SessionSequence.objects.using(using)
    known = sessions.values("pk")
    return [
        runs.exclude(session_id__in=known),
        events.exclude(session_id__in=known),
        events.filter(run_id__isnull=False).exclude(run_id__in=runs.values("pk")),
        counters.exclude(session_id__in=known),
        sessions.exclude(pk__in=counters.values("pk")),
    ]


def _check_whole(
    using: str, sessions: Sequence[str], calls: Iterable[Call], stored: Stored
) -> None:
    """Of each append all is stored, together and in its order, or nothing."""
    store = DatabaseSessionStore(using)
    runs = {run.pk: run.to_dict() for owner in sessions for run in store.list_runs(owner)}
    contexts: dict[str, Any] = {}
    for call in calls:
        parts = [event["id"] in stored for event in call["events"]]
        if "run" in call:
            parts.append(runs.get(call["run"]["id"]) == call["run"])
        assert len(set(parts)) == 1, f"half of an append is stored: {call}"
        if all(parts):
            _check_contiguous([stored[event["id"]] for event in call["events"]])
            if "session" in call:
                contexts[call["session"]["id"]] = call["session"]["context"]
    rows = Session.objects.using(using).filter(pk__in=sessions)
    found = {row.pk: row.context for row in rows}
    assert found == {pk: {} for pk in found} | contexts


def _check_contiguous(events: list[dict[str, Any]]) -> None:
    for owner in {event["session_id"] for event in events}:
        numbers = [e["sequence_number"] for e in events if e["session_id"] == owner]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
