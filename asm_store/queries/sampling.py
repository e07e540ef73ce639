"""How long runs took, where they are too many to look at each of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet, Sum

from ..filters import UsageFilterSet
from ..models import Run
from ..sums import UsageSum
from .paging import ask, matching, reader
from .trends import RunDurations, durations_of

# So many stretches of the period are looked at, which have about so many runs together.
STRETCHES, SAMPLE = 100, 10_000


def estimate_run_durations(
    *,
    since: datetime,
    until: datetime,
    agent_id: str | None = None,
    provider: str | None = None,
    using: str | None = None,
    count: int | None = None,
) -> RunDurations:
    """About what `get_run_durations()` gives, from the runs of some stretches of the period.

    The share of the runs that took so long or shorter is off by a percent or two, more where few
    of the period's runs match. The longest is not known. `count`: how many runs the period has,
    if it is known.
    """
    alias, filters = reader(using), {"agent_id": agent_id, "provider": provider}
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)

    def body() -> RunDurations:
        share = SAMPLE / max(_counted(alias, since, until) if count is None else count, SAMPLE)
        some = reduce(or_, _stretches(since, until, share))
        found = durations_of(runs.filter(some))
        return RunDurations(found.p50, found.p90, found.p99, None)

    return ask(alias, body)


def _counted(using: str, since: datetime, until: datetime) -> int:
    sums = UsageSum._base_manager.using(using).filter(begin__gte=since, begin__lte=until)
    return sums.aggregate(count=Sum("run_count"))["count"] or 0


def _stretches(since: datetime, until: datetime, share: float) -> Iterator[Q]:
    """This share of each part of the period, anywhere in it: what happens each hour is no more
    often in them than it is. The same period has the same ones.
    """
    chance = random.Random(f"{since} {until}")  # noqa: S311  (nothing that has to be secret)
    part = (until - since) / STRETCHES
    for number in range(STRETCHES):
        begin = since + part * (number + chance.random() * (1 - share))
        yield Q(started_at__gte=begin, started_at__lt=begin + part * share)
