"""Reads of one session's events. Their SQL is compiled once: compiling takes the ORM longer than
the database needs to answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django.db import connections
from django.db.models.query import RawQuerySet

from ..db import get_operations
from ..models import Event
from ..querysets import EventQuerySet
from . import lines
from .arguments import EventFilter

# Of as many kinds of reads the SQL is kept.
KINDS = 256
MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def matching(events: EventQuerySet, wanted: EventFilter) -> EventQuerySet:
    """Those that are wanted, in their order."""
    events = events.of_session(wanted.session_id)
    if wanted.run_id is not None:
        events = events.filter(run_id=wanted.run_id)
    if wanted.types is not None:
        events = events.of_types(wanted.types)
    if wanted.since is not None:
        events = events.later_than(wanted.since)
    if wanted.after is not None:
        events = events.filter(sequence_number__gt=wanted.after)
    if wanted.before is not None:
        events = events.filter(sequence_number__lt=wanted.before)
    return events[: wanted.limit]


def events(using: str, wanted: EventFilter) -> RawQuerySet[Event] | tuple[()]:
    """What `matching()` gives of all events, by SQL that is compiled once for each kind."""
    if wanted.matches_nothing:
        return ()
    return Event.objects.using(using).raw(*_asked(using, wanted, as_lines=False))


def event_lines(using: str, wanted: EventFilter) -> list[tuple[int, bytes]]:
    """The same as lines, without payloads when it says so."""
    makes_lines = get_operations(using).event_json(payloads=wanted.payloads) is not None
    if wanted.matches_nothing or not makes_lines:
        return lines.of(matching(Event.objects.using(using), wanted), payloads=wanted.payloads)
    with connections[using].cursor() as cursor:
        cursor.execute(*_asked(using, wanted, as_lines=True))
        return lines.ended(cursor.fetchall())


def _asked(using: str, wanted: EventFilter, *, as_lines: bool) -> tuple[str, list[Any]]:
    if wanted.types is not None:
        wanted = replace(wanted, types=tuple(dict.fromkeys(wanted.types)))
    connection, since = connections[using], wanted.since
    moment = None if since is None else connection.ops.adapt_datetimefield_value(since)
    given = (wanted.session_id, wanted.run_id, *(wanted.types or ()), moment, wanted.after)
    parameters = [value for value in (*given, wanted.before) if value is not None]
    return _sql(using, connection.vendor, _kind(wanted), as_lines=as_lines), parameters


def _kind(wanted: EventFilter) -> EventFilter:
    """The same for all whose SQL is the same: it has other values, and the limit."""
    return EventFilter(
        "session",
        run_id=wanted.run_id and "run",
        types=wanted.types and tuple(map(str, range(len(wanted.types)))),
        since=wanted.since and MOMENT,
        after=None if wanted.after is None else 1,
        before=None if wanted.before is None else 1,
        limit=wanted.limit,
        payloads=wanted.payloads,
    )


@lru_cache(KINDS)
def _sql(using: str, vendor: str, kind: EventFilter, *, as_lines: bool) -> str:
    """`vendor` is not what it is compiled for, but with what it is kept: an alias may become that
    of another database.
    """
    found: Any = matching(Event.objects.using(using), kind)
    if as_lines:
        found = lines.made_by_database(found, payloads=kind.payloads)
    sql, _parameters = found.query.get_compiler(using).as_sql()
    return sql + get_operations(using).unlimited if kind.limit is None else str(sql)
