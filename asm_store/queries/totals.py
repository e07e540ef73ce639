"""How much a database holds, counted by the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from django.db.models import Count, Q, QuerySet

from ..filters import EventFilterSet, SessionFilterSet, UsageFilterSet
from ..models import Event, Run, Session
from .paging import ask, async_twin, matching, reader
from .summaries import UsageFilters


@dataclass(frozen=True, slots=True)
class Totals:
    """How many records there are; sessions and runs by status as well.

    Soft-deleted sessions are in all of the numbers, and `deleted_sessions` says how many they are.
    """

    session_count: int
    deleted_sessions: int
    sessions_by_status: dict[str, int]
    run_count: int
    runs_by_status: dict[str, int]
    event_count: int


def get_totals(*, using: str | None = None, **filters: Unpack[UsageFilters]) -> Totals:
    """How many sessions, runs and events match all filters, those of soft-deleted sessions too.

    Filters are those of `get_usage_summary()`. A session's `provider` is that of one of its runs;
    between `since` and `until` sessions were created, runs started, events happened. Raises
    `QueryError` for a bad filter, `StorageError` when the database fails.
    """
    alias = reader(using)
    wanted = UsageFilterSet(filters).checked()  # once: a generator is used up then
    runs: QuerySet[Run] = matching(UsageFilterSet, wanted, alias)
    sessions, events = sessions_of(wanted, alias), _events(wanted, alias)

    def body() -> Totals:
        statuses = sessions.values("status").annotate(
            count=Count("id"), deleted=Count("id", filter=Q(deleted_at__isnull=False))
        )
        by_status = {row["status"]: row for row in statuses.order_by("status")}
        of_runs = runs.order_by("status").values_list("status").annotate(Count("id"))
        runs_by_status = dict(of_runs)
        return Totals(
            sum(row["count"] for row in by_status.values()),
            sum(row["deleted"] for row in by_status.values()),
            {status: row["count"] for status, row in by_status.items()},
            sum(runs_by_status.values()),
            runs_by_status,
            events.count(),
        )

    return ask(alias, body)


def sessions_of(wanted: Mapping[str, Any], using: str) -> QuerySet[Session]:
    """The sessions that the checked filters of a summary mean, soft-deleted ones too."""
    filters = {
        "agent_id": wanted["agent_id"],
        "provider": wanted["provider"],
        "created_after": wanted["since"],
        "created_before": wanted["until"],
        "include_deleted": True,
    }
    sessions: QuerySet[Session] = matching(SessionFilterSet, filters, using)
    pk = wanted["session_id"]
    return sessions if pk is None else sessions.filter(pk=pk)


def _events(wanted: Mapping[str, Any], using: str) -> QuerySet[Event]:
    pk, agent_id = wanted["session_id"], wanted["agent_id"]
    filters = {
        "session_ids": None if pk is None else [pk],
        "providers": wanted["provider"],
        "since": wanted["since"],
        "until": wanted["until"],
        "include_deleted": True,
    }
    events: QuerySet[Event] = matching(EventFilterSet, filters, using)
    return events if agent_id is None else events.filter(session__agent_id=agent_id)


aget_totals = async_twin(get_totals)
