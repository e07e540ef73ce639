"""The only door that keeps given numbers: how the own format comes back into a database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from django.utils import timezone

from ..db import get_operations
from ..exceptions import EventConflict, RunNotFound, SessionNotFound, ValidationError
from ..marks import mark
from ..models import Artifact, Event, Record, Run, Session, SessionSequence


def insert_run(using: str, run: Run) -> None:
    """Store a run that is not stored, of a soft-deleted session too; joins the transaction."""
    if not Session.objects.using(using).filter(pk=run.session_id).exists():
        raise SessionNotFound(f"The session {run.session_id!r} is not stored.")
    Run.objects.using(using).bulk_create([run])
    mark(using, [run.started_at])


def check_events(using: str, events: Sequence[Event], *, known: Collection[str] = ()) -> None:
    """Refuse events that are not stored and cannot be, as an append would; reads only.

    `known` are the ids of sessions and runs that count as stored.
    """
    _require_sessions(using, {event.session_id for event in events}.difference(known))
    _check_runs(using, events, known)
    _check_numbers(using, events)


def _require_sessions(using: str, ids: Collection[str]) -> None:
    if missing := not_stored(Session, using, ids):
        raise SessionNotFound(f"The session {min(missing)!r} is not stored.")


def not_stored(kind: type[Record], using: str, ids: Collection[str]) -> set[str]:
    """Those of the ids that no record of this kind has."""
    rows = kind._base_manager.using(using)
    slices = get_operations(using).slices(sorted(ids))
    stored = (pk for some in slices for pk in rows.filter(pk__in=some).values_list("pk", flat=True))
    return set(ids).difference(stored)


def _check_runs(using: str, events: Sequence[Event], known: Collection[str]) -> None:
    ids = {event.run_id for event in events if event.run_id is not None}
    rows = Run.objects.using(using).filter(pk__in=ids)
    sessions = dict(rows.values_list("pk", "session_id"))
    if missing := ids.difference(sessions, known):
        raise _run_not_stored(missing)
    for event in events:
        if sessions.get(event.run_id or "", event.session_id) != event.session_id:
            raise ValidationError(f"The run {event.run_id!r} belongs to another session.")


def _run_not_stored(missing: Iterable[str]) -> RunNotFound:
    return RunNotFound(f"The run {min(missing)!r} is not stored.")


def _check_numbers(using: str, events: Sequence[Event]) -> None:
    by_session: dict[str, dict[int, str]] = {}
    for event in events:
        numbers = by_session.setdefault(event.session_id, {})
        if numbers.setdefault(event.sequence_number, event.id) != event.id:
            raise _taken(event.session_id, event.sequence_number)
    for session_id, numbers in by_session.items():
        rows = Event.objects.using(using).filter(session_id=session_id)
        taken = rows.filter(sequence_number__in=numbers).values_list("sequence_number", flat=True)
        if number := min(taken, default=None):
            raise _taken(session_id, number)


def _taken(session_id: str, number: int) -> EventConflict:
    return EventConflict(f"Number {number} of session {session_id!r} is taken by another event.")


def insert_events(using: str, events: Sequence[Event], last_sequences: Mapping[str, int]) -> None:
    """Store checked events under their own numbers; the counters rise and never fall.

    Joins the transaction, in which the counters were locked before the check.
    """
    last = dict(last_sequences)
    for event in events:
        last[event.session_id] = max(last.get(event.session_id, 0), event.sequence_number)
    for counter in SessionSequence.objects.using(using).locked(list(last)):
        _raise_counter(using, counter, last[counter.session_id])
    get_operations(using).insert_events(events)


def _raise_counter(using: str, counter: SessionSequence, last: int) -> None:
    if last > counter.last_sequence:
        rows = SessionSequence.objects.using(using).filter(pk=counter.pk)
        rows.update(last_sequence=last, updated_at=timezone.now())


def new_artifacts(
    using: str, artifacts: Iterable[Artifact], *, known: Collection[str] = ()
) -> list[Artifact]:
    """Those that are not stored, once each, or the error of one that cannot be; reads only.

    `known` are the ids of sessions and runs that count as stored.
    """
    given = {artifact.id: artifact for artifact in artifacts}
    new = [given[pk] for pk in sorted(not_stored(Artifact, using, given))]
    _require_sessions(using, {row.session_id for row in new if row.session_id}.difference(known))
    runs = {row.run_id for row in new if row.run_id}.difference(known)
    if missing := not_stored(Run, using, runs):
        raise _run_not_stored(missing)
    _check_keys(using, new)
    return new


def _check_keys(using: str, artifacts: Sequence[Artifact]) -> None:
    owners: dict[str, str] = {}
    taken = {row.key for row in artifacts if owners.setdefault(row.key, row.id) != row.id}
    rows = Artifact._base_manager.using(using)
    for some in get_operations(using).slices(sorted(owners)):
        taken.update(rows.filter(key__in=some).values_list("key", flat=True))
    if taken:
        raise ValidationError(f"The key {min(taken)!r} is taken by another artifact.")
