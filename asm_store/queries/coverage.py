"""Which hours of a period maintenance has added up, and which have to be added up now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Self

from django.db.models import Q

from ..marks import HOUR, hour_of
from ..models import UsageMark, UsageProgress

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
        """Of the period of checked filters: two statements."""
        since, until = wanted["since"] or FIRST, _after(wanted["until"] or LAST)
        begin, end = _next_hour(since), hour_of(until)
        progress = UsageProgress._base_manager.using(using).values_list("until", flat=True)
        end = min(end, progress.first() or FIRST)
        if begin >= end or wanted["session_id"] is not None:
            return cls(since, until, since, since)
        marks = UsageMark._base_manager.using(using).filter(begin__gte=begin, begin__lt=end)
        hours = marks.order_by("begin").values_list("begin", flat=True).distinct()
        return cls(since, until, begin, end, tuple(_few(list(_ranges(hours)))))

    @property
    def sums(self) -> Q | None:
        """Which rows of `UsageSum` count; None: none of them."""
        if self.begin >= self.end:
            return None
        hours = _between("begin", self.begin, self.end)
        return hours & ~_any("begin", self.changed) if self.changed else hours

    def rest(self, column: str) -> Q | None:
        """Which of the period's runs or sessions, by their times, are in none of them."""
        ranges = [(self.since, self.begin), *self.changed, (self.end, self.until)]
        ranges = [(begin, end) for begin, end in ranges if begin < end]
        return _any(column, ranges) if ranges else None


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
