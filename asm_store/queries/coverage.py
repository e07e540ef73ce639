"""Which hours of a period maintenance has added up, and which have to be added up now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Self

from django.db.models import Q, Value

from ..marks import HOUR, hour_of, progress
from ..sums import UsageMark

INSTANT = timedelta(microseconds=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
# Conditions of more ranges take the database longer than the runs of the hours between do.
MOST_RANGES = 50

Range = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The hours that have sums, from `begin` to before `end`, and not those of `changed`.

    The period is from `since` to before `until`.
    """

    since: datetime
    until: datetime
    begin: datetime
    end: datetime
    changed: tuple[Range, ...] = ()

    @classmethod
    def of(cls, using: str, wanted: Mapping[str, Any]) -> Self:
        """Of the period of checked filters: one statement."""
        since, until = wanted["since"] or FIRST, _after(wanted["until"] or LAST)
        begin, end = _next_hour(since), hour_of(until)
        summed, marked = (None, []) if wanted["session_id"] else _told(using, begin, end)
        end = min(end, summed or FIRST)
        if begin >= end:
            return cls(since, until, since, since)
        hours = sorted(hour for hour in marked if hour < end)
        return cls(since, until, begin, end, tuple(_few(list(_ranges(hours)))))

    @property
    def sums(self) -> Q | None:
        """Which rows of `UsageSum` count; None: none of them."""
        if self.begin >= self.end:
            return None
        hours = _between("begin", self.begin, self.end)
        return hours & ~_any("begin", self.changed) if self.changed else hours

    def period(self, column: str) -> Q:
        """Which runs or sessions, by their times, are of the period."""
        return _between(column, self.since, self.until)

    def overlap(self, first: str, last: str) -> Q:
        """Which sessions, by the times of their first and last run, may have one in the period."""
        return _between(first, FIRST, self.until) & _between(last, self.since, LAST)

    def rest(self, column: str) -> Q | None:
        """Which of the period's runs or sessions, by their times, are in none of them."""
        ranges = [(self.since, self.begin), *self.changed, (self.end, self.until)]
        ranges = [(begin, end) for begin, end in ranges if begin < end]
        return _any(column, ranges) if ranges else None


def _told(using: str, begin: datetime, end: datetime) -> tuple[datetime | None, list[datetime]]:
    """Until when there are sums, and the hours of the period that are marked."""
    marks = UsageMark._base_manager.using(using).filter(_between("begin", begin, end)).order_by()
    rows = progress(using).order_by().annotate(is_mark=Value(0)).values_list("is_mark", "until")
    told = list(rows.union(marks.annotate(is_mark=Value(1)).values_list("is_mark", "begin")))
    until = next((at for is_mark, at in told if not is_mark), None)
    return until, [at for is_mark, at in told if is_mark and at is not None]


def _between(column: str, begin: datetime, end: datetime) -> Q:
    """Without the bounds that are none: not every database knows such years."""
    bounds = {"gte": begin, "lt": end}
    known = {name: bound for name, bound in bounds.items() if bound not in (FIRST, LAST)}
    return Q(**{f"{column}__{name}": bound for name, bound in known.items()})


def _any(column: str, ranges: Iterable[Range]) -> Q:
    return reduce(or_, (_between(column, *bounds) for bounds in ranges))


def _after(moment: datetime) -> datetime:
    return moment + INSTANT if moment < LAST else LAST


def _next_hour(moment: datetime) -> datetime:
    """The first hour that does not begin before it."""
    hour = hour_of(moment)
    return hour if hour == moment or LAST - hour < HOUR else hour + HOUR


def _ranges(hours: Iterable[datetime]) -> Iterator[Range]:
    """Hours in their order, those that follow each other as one range."""
    begin = end = None
    for hour in hours:
        if begin is not None and hour != end:
            yield begin, end  # type: ignore[misc]
        begin, end = (hour if begin is None or hour != end else begin), hour + HOUR
    if begin is not None and end is not None:
        yield begin, end


def _few(ranges: list[Range]) -> list[Range]:
    """The same, or one over all when they are too many."""
    return [(ranges[0][0], ranges[-1][1])] if len(ranges) > MOST_RANGES else ranges
