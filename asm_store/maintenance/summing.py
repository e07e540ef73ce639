"""Adds up the runs and sessions of each hour, and their sessions, for what is asked of periods."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Count, F, Max, Min, OuterRef, QuerySet, Subquery

from ..expressions import HourOf, OneOf
from ..marks import HOUR, PROGRESS, SUMMED_AFTER, hour_of, progress
from ..models import Run, Session
from ..queries import trends
from ..queries.overview import SUMMED, SUMS, grouped, merged
from ..queries.paging import database
from ..queries.top_sessions import TOOK
from ..sums import SessionSum, UsageMark, UsageProgress, UsageSum
from .orphans import remove
from .policy import RetentionPolicy
from .work import Work

# So many in one transaction.
HOURS, MARKED = 24 * HOUR, 100
OF_SESSION: dict[str, Any] = {
    **trends.SUMS,
    "first_started_at": Min("started_at"),
    "last_started_at": Max("started_at"),
    "last_ended_at": Max("ended_at"),
}


def sum_up(work: Work) -> None:
    """Add up the hours in which something was written late, and those that are over by now."""
    if work.dry_run:
        return
    hours: list[datetime] = []
    # Each once: what is written to all the time waits for the next time.
    while hours := work.read(partial(_marked, work, hours[-1:])):
        for begin in hours:
            work.write(partial(_add_up, work, begin, begin + HOUR))
            work.check_time()
    end = hour_of(work.now - SUMMED_AFTER)
    while (begin := work.read(partial(_next, work, end))) < end:
        work.write(partial(_add_up, work, begin, min(begin + HOURS, end)))
        work.check_time()


def sum_up_usage(*, using: str | None = None, anew: bool = False) -> None:
    """The step of `execute()` alone; `anew` forgets all sums before.

    That is for when a program has written the tables by itself.
    """
    work = Work(RetentionPolicy(), database(using))
    if anew:
        work.write(partial(_forget, work))
    sum_up(work)


def differing_hours(using: str) -> list[datetime]:
    """The hours whose sums are not those of their runs, and in which nothing was written late."""
    until = progress(using).values_list("until", flat=True).first()
    if until is None:
        return []
    sums: Any = UsageSum._base_manager.using(using).filter(begin__lt=until)
    sums = sums.values(at=F("begin"))
    runs: Any = Run.objects.using(using).filter(started_at__lt=until).order_by()
    runs = runs.values(at=HourOf("started_at")).annotate(**SUMS)
    sessions: Any = Session.objects.using(using).filter(created_at__lt=until).order_by()
    sessions = sessions.values(at=HourOf("created_at")).annotate(session_count=Count("id"))
    stored = {row["at"]: row for row in merged(sums.annotate(**SUMMED), "at")}
    counted = {row["at"]: row for row in merged([*runs, *sessions], "at")}
    late = set(UsageMark._base_manager.using(using).values_list("begin", flat=True).distinct())
    hours = (stored.keys() | counted.keys()) - late
    return sorted(hour for hour in hours if _differ(stored.get(hour), counted.get(hour)))


def _differ(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """More than the order in which floats are added up explains."""
    if one is None or other is None:
        return True
    return not all(math.isclose(one[name], other[name]) for name in one if name != "at")


def _forget(work: Work) -> None:
    """Who is reading the sums goes on; each goes when it is made anew."""
    _lock_progress(work)
    progress(work.using).update(until=None)


def _marked(work: Work, last: list[datetime]) -> list[datetime]:
    """Some hours that have sums which hold no longer, after the last one that is known."""
    until = progress(work.using).values("until")
    marks = UsageMark._base_manager.using(work.using).filter(begin__lt=Subquery(until))
    if last:
        marks = marks.filter(begin__gt=last[0])
    return list(marks.order_by("begin").values_list("begin", flat=True).distinct()[:MARKED])


def _next(work: Work, end: datetime) -> datetime:
    """The first hour without sums in which there is something, or the end."""
    until = progress(work.using).values_list("until", flat=True).first()
    begins = [end]
    for kind, column in ((Run, "started_at"), (Session, "created_at")):
        rows = kind._base_manager.using(work.using).order_by(column)
        if until is not None:
            rows = rows.filter(**{f"{column}__gte": until})
        begins += map(hour_of, rows.values_list(column, flat=True)[:1])
    return min(begins)


def _add_up(work: Work, begin: datetime, end: datetime) -> None:
    """Make the sums of some hours, and of the sessions with runs in them, anew.

    The marks are read before the runs: what one of them stands for is in the sums, and what is
    committed later adds another, which stays.
    """
    until = _lock_progress(work)
    hours = {"begin__gte": begin, "begin__lt": end}
    marks = UsageMark._base_manager.using(work.using)
    seen = list(marks.filter(**hours).values_list("pk", flat=True))
    sums = UsageSum._base_manager.using(work.using)
    # From where the sums end: what was forgotten goes, also of hours in which nothing is left.
    first = None if until is None else min(until, begin)
    remove(sums.filter(**_between("begin", first, end)))
    sums.bulk_create(_sums(work.using, begin, end))
    _add_up_sessions(work, first, begin, end)
    for some in work.operations.slices(seen):
        remove(marks.filter(pk__in=some))
    if until is None or until < end:
        progress(work.using).update(until=end)


def _lock_progress(work: Work) -> datetime | None:
    """Until when there are sums; who else adds up waits."""
    rows = progress(work.using)
    if not rows.exists():
        rows.bulk_create([UsageProgress(name=PROGRESS)], ignore_conflicts=True)
    until: datetime | None = rows.select_for_update().get().until
    return until


def _add_up_sessions(work: Work, first: datetime | None, begin: datetime, end: datetime) -> None:
    """Make the sums of the sessions with runs in these hours anew.

    Also of those whose first run is said to be in them, or in hours before that were forgotten:
    it may be elsewhere by now, or the session gone.
    """
    runs = Run.objects.using(work.using).filter(started_at__gte=begin, started_at__lt=end)
    sums = SessionSum._base_manager.using(work.using)
    ids = set(runs.order_by().values_list("session_id", flat=True).distinct())
    ids |= set(sums.filter(**_between("first_started_at", first, end)).values_list("pk", flat=True))
    for some in work.operations.slices(sorted(ids)):
        remove(sums.filter(OneOf("pk", some)))
        work.operations.insert_selected(SessionSum, _session_sums(work, some), summed_at=work.now)


def _session_sums(work: Work, ids: Sequence[str]) -> QuerySet[Any, dict[str, Any]]:
    runs = Run.objects.using(work.using).filter(OneOf("session_id", ids)).order_by()
    groups: Any = runs.values("session_id").annotate(**OF_SESSION)
    rows: QuerySet[Any, dict[str, Any]] = groups.annotate(duration=TOOK)
    return rows


def _between(column: str, first: datetime | None, end: datetime) -> dict[str, datetime]:
    since = {} if first is None else {f"{column}__gte": first}
    return {f"{column}__lt": end, **since}


def _sums(using: str, begin: datetime, end: datetime) -> Iterator[UsageSum]:
    sessions = Session.objects.using(using).filter(created_at__gte=begin, created_at__lt=end)
    counted: QuerySet[Any, Any] = sessions.order_by().values("agent_id", at=HourOf("created_at"))
    for row in counted.annotate(session_count=Count("id")):
        yield UsageSum(begin=row.pop("at"), is_stored=False, **row)
    runs = Run.objects.using(using).filter(started_at__gte=begin, started_at__lt=end).order_by()
    # Not by a join, which would leave out the runs whose session is gone.
    agents = Session.objects.filter(pk=OuterRef("session_id")).values("agent_id")
    for row in grouped(runs, HourOf("started_at"), agent_id=Subquery(agents)):
        yield UsageSum(begin=row.pop("at"), **row)
