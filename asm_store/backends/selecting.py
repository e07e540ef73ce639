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
    if wanted.types is not None:
        wanted = replace(wanted, types=tuple(dict.fromkeys(wanted.types)))
    connection, since = connections[using], wanted.since
    moment = None if since is None else connection.ops.adapt_datetimefield_value(since)
    given = (wanted.session_id, wanted.run_id, *(wanted.types or ()), moment, wanted.after)
    parameters = [value for value in (*given, wanted.before) if value is not None]
    sql = _sql(using, connection.vendor, _kind(wanted))
    return Event.objects.using(using).raw(sql, parameters)


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
    )


@lru_cache(KINDS)
def _sql(using: str, vendor: str, kind: EventFilter) -> str:
    """`vendor` is not what it is compiled for, but with what it is kept: an alias may become that
    of another database.
    """
    query: Any = matching(Event.objects.using(using), kind).query
    sql, _parameters = query.get_compiler(using).as_sql()
    return sql + get_operations(using).unlimited if kind.limit is None else str(sql)
