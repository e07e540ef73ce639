"""What a person wants to be forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.utils import timezone

from ..backends import transactions
from ..backends.reading import session_not_found
from ..events.sanitizing import shown
from ..exceptions import EventConflict, ValidationError
from ..fields import clean_id
from ..models import Event, Session
from ..queries.paging import database
from ..rates import COUNTS
from .locking import lock_sessions

ERASED_AT = "_erased"
# How many events are in memory at a time: each may be as large as ASM_STORE_MAX_EVENT_BYTES.
PIECE = 50


def erase_events(session_id: str, *, ids: Iterable[str], using: str | None = None) -> int:
    """Replace the content of a session's events for good; how many had one.

    All or nothing. `data` becomes `{"erased": true}` with the token counts that were in it,
    `metadata` becomes `{"_erased": time}`; ids, numbers, types, times, runs, providers and
    correlation ids stay, and the session's `updated_at` is now. Events that are erased already
    stay as they are. A soft-deleted session's events can be erased too.

    NOT erased is what is elsewhere: input, output and error of runs, the session's own columns,
    artifacts, archives, exports, backups, and what the database keeps of old rows (free pages,
    logs, replicas) until it uses the place again: `VACUUM` on SQLite and PostgreSQL, `OPTIMIZE
    TABLE` on MariaDB and MySQL.

    Raises `SessionNotFound`; `EventConflict` for an event of another session; `ValidationError`
    for one that is not stored and for bad arguments; `StorageError` when the database fails.
    """
    pk, alias, wanted = clean_id(session_id, "session_id"), database(using), _clean_ids(ids)
    if not wanted:
        return 0
    return transactions.write(alias, partial(_erase, alias, pk, wanted))


def _clean_ids(value: object) -> list[str]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValidationError(f"ids: expected a list of event ids, got {shown(value)}.")
    return sorted({clean_id(item, "ids") for item in value})


def _erase(using: str, session_id: str, ids: Sequence[str]) -> int:
    if not lock_sessions(using, [session_id]):
        raise session_not_found(session_id)
    now = timezone.now()
    pieces = [ids[start : start + PIECE] for start in range(0, len(ids), PIECE)]
    count = sum(_erase_piece(using, session_id, piece, now) for piece in pieces)
    if count:
        Session.objects.using(using).filter(pk=session_id).update(updated_at=now)
    return count


def _erase_piece(using: str, session_id: str, ids: Sequence[str], now: datetime) -> int:
    events = Event.objects.using(using).filter(pk__in=ids)
    # Locked, to be seen as they are now, whatever the snapshot of the caller's block holds.
    rows = events.filter(session_id=session_id).order_by("pk").select_for_update()
    found = {pk: (data, metadata) for pk, data, metadata in rows.values_list(
        "pk", "data", "metadata"
    )}  # fmt: skip
    if missing := sorted(set(ids) - found.keys()):
        raise _not_of(using, session_id, missing[0])
    # Most have no counts, and the same is left of them.
    left: dict[str, list[str]] = {}
    for pk, (data, metadata) in found.items():
        if not _is_erased(data, metadata):
            left.setdefault(json.dumps(_left_of(data)), []).append(pk)
    erased_at = {ERASED_AT: now.isoformat(timespec="microseconds")}
    for text, some in left.items():
        events.filter(pk__in=some).update(data=json.loads(text), metadata=erased_at)
    return sum(map(len, left.values()))


def _not_of(using: str, session_id: str, pk: str) -> Exception:
    if Event.objects.using(using).filter(pk=pk).exists():
        return EventConflict(f"event {shown(pk)} is not of session {shown(session_id)}.")
    return ValidationError(f"ids: event {shown(pk)} is not stored.")


def _left_of(data: Any) -> dict[str, Any]:
    """Counts only: a text under such a name may say anything."""
    known = data if isinstance(data, Mapping) else {}
    counts = {name: known[name] for name in COUNTS if type(known.get(name)) in (int, float)}
    return {"erased": True, **counts}


def _is_erased(data: Any, metadata: Any) -> bool:
    """Not when somebody only said so: nothing else may be in it."""
    if data != _left_of(data) or not isinstance(metadata, Mapping) or list(metadata) != [ERASED_AT]:
        return False
    try:
        datetime.fromisoformat(metadata[ERASED_AT])
    except (TypeError, ValueError):
        return False
    return True
