"""What a session holds and what runs used, summed up by the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

from django.db.models import Count, Max, Min, QuerySet, Sum

from ..backends.reading import session_not_found
from ..events.sanitizing import clean_number
from ..filters import UsageFilterSet
from ..models import Event, Run, Session
from ..rates import COUNTS
from .paging import ask, async_twin, checked_id, matching, reader

UNKNOWN = "unknown"
SUMS = {**{name: Sum(name) for name in COUNTS}, "run_count": Count("id")}

Totals = dict[str, float]


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What one session holds.

    `token_totals` are the sums over its runs, as the entries of `UsageSummary.by_provider`;
    `providers_used` are those of its runs, by name; `status_counts` says how many runs have a
    status; `first_event_at` and `last_event_at` are None when there is no event.
    """

    event_count: int
    run_count: int
    token_totals: Totals
    providers_used: list[str]
    first_event_at: datetime | None
    last_event_at: datetime | None
    status_counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """The tokens that runs used.

    `by_provider` has for each provider `input_tokens`, `output_tokens`, `total_tokens`,
    `cache_read_tokens`, `cache_creation_tokens` and `run_count`; runs without one are under
    "unknown". Sums are whole numbers unless there are counts with a fraction.
    """

    total_input_tokens: float
    total_output_tokens: float
    total_tokens: float
    run_count: int
    by_provider: dict[str, Totals]


class UsageFilters(TypedDict, total=False):
    """The filters of summaries; `asm_store.filters.UsageFilterSet` defines them."""

    session_id: str | None
    agent_id: str | None
    provider: str | Iterable[str] | None
    since: datetime | None
    until: datetime | None


def get_session_stats(session_id: str, *, using: str | None = None) -> SessionStats:
    """What the session holds, soft-deleted or not; `SessionNotFound` when it is not stored.

    `QueryError` for what can be no id, `StorageError` when the database fails.
    """
    pk, alias = checked_id(session_id), reader(using)
    return ask(alias, lambda: _session_stats(pk, alias))


def _session_stats(session_id: str, using: str) -> SessionStats:
    if not Session.objects.using(using).filter(id=session_id).exists():
        raise session_not_found(session_id)
    events = Event.objects.using(using).filter(session_id=session_id)
    first_and_last = {"first": Min("timestamp"), "last": Max("timestamp")}
    told = events.aggregate(count=Count("id"), **first_and_last)
    groups = _groups(Run.objects.using(using).filter(session_id=session_id), "provider", "status")
    statuses: dict[str, int] = {}
    for group in groups:
        statuses[group["status"]] = statuses.get(group["status"], 0) + group["run_count"]
    return SessionStats(
        told["count"],
        sum(statuses.values()),
        _added(groups),
        sorted({group["provider"] for group in groups if group["provider"]}),
        told["first"],
        told["last"],
        dict(sorted(statuses.items())),
    )


def get_usage_summary(*, using: str | None = None, **filters: Unpack[UsageFilters]) -> UsageSummary:
    """The tokens of the runs that match all filters, of soft-deleted sessions too.

    Filters: `session_id`; `agent_id`, of the session; `provider`, one or several; `since` and
    `until`, aware times between which a run has started, inclusive. A count that is no finite
    number >= 0 counts as 0, a missing total as input and output; a sum beyond 2**53 is rounded
    as a float is. Raises `QueryError` for a bad filter, `StorageError` when the database fails.
    """
    alias = reader(using)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    groups = ask(alias, lambda: _groups(runs, "provider"))
    total = _added(groups)
    return UsageSummary(
        total["input_tokens"],
        total["output_tokens"],
        total["total_tokens"],
        int(total["run_count"]),
        _by_provider(groups),
    )


def _groups(runs: QuerySet[Run], *columns: str) -> list[dict[str, Any]]:
    """One row for each group of runs: its columns, and its sums."""
    return list(runs.order_by().values(*columns).annotate(**SUMS).order_by(*columns))


def _by_provider(groups: Iterable[Mapping[str, Any]]) -> dict[str, Totals]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        found.setdefault(group["provider"] or UNKNOWN, []).append(group)
    return {provider: _added(found[provider]) for provider in sorted(found)}


def _added(groups: Iterable[Mapping[str, Any]]) -> Totals:
    """The sums of some groups, whole numbers as such."""
    rows = list(groups)
    return {name: whole(sum(row[name] for row in rows)) for name in SUMS}


def whole(value: float) -> float:
    """A count or a sum of counts as its column has it, a whole number as such."""
    number = clean_number(value)
    return int(number) if number == int(number) else number


aget_session_stats = async_twin(get_session_stats)
aget_usage_summary = async_twin(get_usage_summary)
