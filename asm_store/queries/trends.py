"""How runs went over time, by agent, and which stand out: one statement each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Unpack

from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    Q,
    QuerySet,
    Sum,
    Window,
)
from django.db.models.functions import RowNumber, TruncDay, TruncHour, TruncWeek

from ..events.sanitizing import shown
from ..exceptions import QueryError
from ..filters import UsageFilterSet
from ..models import Run
from .costs import STORED_COST
from .paging import ask, async_twin, clean_limit, matching, reader
from .summaries import UsageFilters, whole
from .totals import sessions_of

FAILED = (Run.Status.FAILED, Run.Status.TIMEOUT)
SUMS: dict[str, Any] = {
    "run_count": Count("id"),
    "error_count": Count("id", filter=Q(status__in=FAILED)),
    "total_tokens": Sum("total_tokens"),
    "cost_usd": STORED_COST,
}
PERCENTS = (50, 90, 99)
STEPS = {"hour": TruncHour, "day": TruncDay, "week": TruncWeek}
TOOK = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())


@dataclass(frozen=True, slots=True)
class Interval:
    """An hour, a day or a week (from Monday) of UTC: sessions created, and runs started in it.

    `error_count` is of runs that failed or timed out, `cost_usd` the sum of stored costs.
    """

    begin: datetime
    session_count: int = 0
    run_count: int = 0
    error_count: int = 0
    total_tokens: float = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """The runs of an agent's sessions, as an `Interval` has them."""

    agent_id: str
    run_count: int
    error_count: int
    total_tokens: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class RunDurations:
    """How long the runs took that have ended: half of them so long or shorter, and so on.

    None where no run has ended.
    """

    p50: timedelta | None
    p90: timedelta | None
    p99: timedelta | None
    longest: timedelta | None


def get_trend(
    *, using: str | None = None, step: str = "day", **filters: Unpack[UsageFilters]
) -> list[Interval]:
    """The intervals in which something happened, in their order; `step`: hour, day or week.

    Filters are those of `get_usage_summary()`; sessions are counted as `get_totals()` does. The
    runs, tokens and stored costs of all intervals add up to those of the summaries.
    """
    truncated, alias = step_of(step), reader(using)
    wanted = UsageFilterSet(filters).checked()
    runs: QuerySet[Run] = matching(UsageFilterSet, wanted, alias)
    of_runs: Any = runs.order_by().values(at=truncated("started_at", tzinfo=UTC))
    summed: Any = of_runs.annotate(**SUMS)
    sessions = sessions_of(wanted, alias).order_by()
    of_sessions = sessions.values(at=truncated("created_at", tzinfo=UTC))
    counted: Any = of_sessions.annotate(session_count=Count("id"))
    found: dict[datetime, dict[str, Any]] = {}
    rows: list[Any] = ask(alias, lambda: [*summed, *counted])
    for row in rows:
        found.setdefault(row["at"], {}).update(row)
    return intervals_of(found.values())


def step_of(name: str) -> Any:
    """The function that truncates times to this step; `QueryError` for an unknown one."""
    if name not in tuple(STEPS):
        raise QueryError(f"step: unknown step {shown(name)}; known are {', '.join(STEPS)}.")
    return STEPS[name]


def intervals_of(rows: Iterable[Mapping[str, Any]]) -> list[Interval]:
    """In their order, from rows that have the begin under `at`."""
    found = (
        Interval(
            row["at"],
            row.get("session_count", 0),
            row.get("run_count", 0),
            row.get("error_count", 0),
            *tokens_and_cost(row),
        )
        for row in rows
    )
    return sorted(found, key=attrgetter("begin"))


def get_agent_usage(
    *, using: str | None = None, limit: int = 20, **filters: Unpack[UsageFilters]
) -> list[AgentUsage]:
    """The agents with the most runs that match all filters of `get_usage_summary()`."""
    alias = reader(using)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    rows = by_agent(runs).order_by("-run_count", "agent_id")
    found: list[Any] = ask(alias, partial(list, rows[: clean_limit(limit)]))
    return [agent_usage(row) for row in found]


def by_agent(runs: QuerySet[Run]) -> QuerySet[Any, Any]:
    """The sums of each agent's runs; those without session are nobody's."""
    groups: Any = runs.order_by().values(agent_id=F("session__agent_id")).annotate(**SUMS)
    found: QuerySet[Any, Any] = groups.exclude(agent_id=None)
    return found


def agent_usage(row: Mapping[str, Any]) -> AgentUsage:
    return AgentUsage(row["agent_id"], row["run_count"], row["error_count"], *tokens_and_cost(row))


def get_run_durations(*, using: str | None = None, **filters: Unpack[UsageFilters]) -> RunDurations:
    """The percentiles of the matching runs' durations, each that of a run (nearest rank)."""
    alias = reader(using)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    return ask(alias, partial(durations_of, runs))


def durations_of(runs: QuerySet[Run]) -> RunDurations:
    """The percentiles of these, in one statement."""
    ended = runs.order_by().filter(ended_at__gte=F("started_at")).annotate(took=TOOK)
    # By number, not by share: a share is the same for all that took as long, which must be found.
    ranked = ended.annotate(
        rank=Window(RowNumber(), order_by=F("took").asc()), count=Window(Count("id"))
    ).annotate(share=F("rank") * 100)
    is_wanted = Q(rank=F("count"))
    for percent in PERCENTS:
        least = F("count") * percent
        is_wanted |= Q(share__gte=least, share__lt=least + 100)
    rows: Any = ranked.filter(is_wanted).values_list("rank", "took", "count")
    found = {rank: (took, count) for rank, took, count in rows}
    if not found:
        return RunDurations(None, None, None, None)
    longest, count = found[max(found)]
    p50, p90, p99 = (found[math.ceil(count * percent / 100)][0] for percent in PERCENTS)
    return RunDurations(p50, p90, p99, longest)


def get_latest_failures(
    *, using: str | None = None, limit: int = 10, **filters: Unpack[UsageFilters]
) -> list[Run]:
    """The matching runs that failed or timed out, the latest first, without their JSON."""
    alias = reader(using)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    found = runs.order_by("-started_at", "-id")
    narrow = found.defer("input", "output", "error", "metadata", "provider_metadata")
    most = clean_limit(limit)
    # One status at a time: each comes from its index in this order, and ends with the last.
    failed: list[Run] = ask(
        alias, lambda: [run for status in FAILED for run in narrow.filter(status=status)[:most]]
    )
    return sorted(failed, key=attrgetter("started_at", "id"), reverse=True)[:most]


def tokens_and_cost(row: Mapping[str, Any]) -> tuple[float, float]:
    """Tokens and cost; sums of nothing are 0, whole sums whole numbers."""
    return whole(row.get("total_tokens") or 0), row.get("cost_usd") or 0.0


aget_trend = async_twin(get_trend)
aget_agent_usage = async_twin(get_agent_usage)
aget_run_durations = async_twin(get_run_durations)
aget_latest_failures = async_twin(get_latest_failures)
