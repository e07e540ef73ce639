"""Pages of sessions, runs and events of all sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict, Unpack

from django.db.models import QuerySet

from ..events.sanitizing import shown
from ..exceptions import QueryError
from ..filters import EventFilterSet, RunFilterSet, SessionFilterSet
from ..models import Event, Run, Session
from .paging import Order, ask, async_twin, matching, reader, search

SESSION_ORDERS = {
    "updated_at_desc": Order(("updated_at", "id"), descending=True),
    "created_at_desc": Order(("created_at", "id"), descending=True),
    "created_at_asc": Order(("created_at", "id")),
}
RUN_ORDERS = {
    "started_at_desc": Order(("started_at", "id"), descending=True),
    "started_at_asc": Order(("started_at", "id")),
    "token_usage_desc": Order(("total_tokens", "id"), descending=True),
}
EVENT_ORDERS = {
    "sequence_asc": Order(("sequence_number", "id")),
    "timestamp_asc": Order(("timestamp", "id")),
    "timestamp_desc": Order(("timestamp", "id"), descending=True),
}
# In one session every number is there once: its index gives this order without sorting.
SEQUENCE_OF_ONE = Order(("sequence_number",))


class SessionFilters(TypedDict, total=False):
    """The filters of `search_sessions()`; `asm_store.filters.SessionFilterSet` defines them."""

    agent_id: str | None
    status: str | Iterable[str] | None
    provider: str | Iterable[str] | None
    tags: Iterable[str] | None
    created_after: datetime | None
    created_before: datetime | None
    include_deleted: bool | None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions in the order asked for.

    `cursor` asks for the next page, and is None on the last one. `total_count` is how many
    sessions match, on all pages; None when it was not asked for.
    """

    sessions: list[Session]
    cursor: str | None
    total_count: int | None


def search_sessions(
    *,
    using: str | None = None,
    order_by: str = "updated_at_desc",
    limit: int = 50,
    cursor: str | None = None,
    include_total: bool = True,
    **filters: Unpack[SessionFilters],
) -> SessionPage:
    """A page of the sessions that match all filters; without soft-deleted ones by default.

    Filters: `agent_id`; `status`, one or several; `provider`, one or several, of which a run of
    the session has one; `tags`, all of which the session has; `created_after` and
    `created_before`, aware times, inclusive; `include_deleted`. Texts compare exactly. None is
    no restriction; an empty list of statuses or providers matches nothing.

    `order_by` is `updated_at_desc`, `created_at_desc` or `created_at_asc`; ties go by id in the
    same direction. `limit`: 1 to `ASM_STORE_MAX_QUERY_LIMIT`. `cursor`: of the page before, with
    the same filters and order. `include_total=False` saves the COUNT. `using` is an alias of
    `DATABASES`; by default it is the default store's.

    Raises `QueryError`, `InvalidStatus` or `InvalidCursor` for such an argument, `StorageError`
    when the database fails. Within the caller's transaction it sees what that sees.
    """
    if not isinstance(include_total, bool):
        raise QueryError(f"include_total: expected True or False, got {shown(include_total)}.")
    alias = reader(using)
    wanted = search(
        SessionFilterSet,
        filters,
        SESSION_ORDERS,
        order_by=order_by,
        limit=limit,
        cursor=cursor,
        using=alias,
    )

    def body() -> SessionPage:
        total = wanted.rows.count() if include_total else None
        return SessionPage(*wanted.page(), total)

    return ask(alias, body)


class RunFilters(TypedDict, total=False):
    """The filters of `search_runs()`; `asm_store.filters.RunFilterSet` defines them."""

    session_id: str | None
    provider: str | Iterable[str] | None
    status: str | Iterable[str] | None
    started_after: datetime | None
    started_before: datetime | None
    min_tokens: int | None
    include_deleted: bool | None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs in the order asked for; `cursor` asks for the next page, None on the last one."""

    runs: list[Run]
    cursor: str | None


def search_runs(
    *,
    using: str | None = None,
    order_by: str = "started_at_desc",
    limit: int = 50,
    cursor: str | None = None,
    **filters: Unpack[RunFilters],
) -> RunPage:
    """A page of the runs that match all filters; without those of soft-deleted sessions.

    Filters: `session_id`; `provider` and `status`, one or several; `started_after` and
    `started_before`, aware times, inclusive; `min_tokens`, of the total; `include_deleted`.

    `order_by` is `started_at_desc`, `started_at_asc` or `token_usage_desc` (the total); ties go
    by id in the same direction. The rest is as for `search_sessions()`.
    """
    alias = reader(using)
    wanted = search(
        RunFilterSet,
        filters,
        RUN_ORDERS,
        order_by=order_by,
        limit=limit,
        cursor=cursor,
        using=alias,
    )
    return ask(alias, lambda: RunPage(*wanted.page()))


class EventFilters(TypedDict, total=False):
    """The filters of `search_events()`; `asm_store.filters.EventFilterSet` defines them."""

    session_ids: Iterable[str] | None
    run_ids: Iterable[str] | None
    types: Iterable[str] | None
    providers: Iterable[str] | None
    since: datetime | None
    until: datetime | None
    correlation_id: str | None
    include_deleted: bool | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order asked for; `cursor` asks for the next page, None on the last one."""

    events: list[Event]
    cursor: str | None


def search_events(
    *,
    using: str | None = None,
    order_by: str = "sequence_asc",
    limit: int = 100,
    cursor: str | None = None,
    **filters: Unpack[EventFilters],
) -> EventPage:
    """A page of the events that match all filters; without those of soft-deleted sessions.

    Filters: `session_ids`, `run_ids`, `types` and `providers`, lists of which one fits; `since`
    and `until`, aware times, inclusive; `correlation_id`; `include_deleted`.

    `order_by` is `sequence_asc`, `timestamp_asc` or `timestamp_desc`; ties go by id in the same
    direction. Numbers count within a session: without ids of sessions or runs or a correlation
    id, the order by number sorts all that matches, where a time order reads only the page. The
    rest is as for `search_sessions()`.
    """
    alias = reader(using)
    wanted = search(
        EventFilterSet,
        filters,
        EVENT_ORDERS,
        order_by=order_by,
        limit=limit,
        cursor=cursor,
        using=alias,
    )
    sources = (wanted.listing.filters["session_ids"], wanted.listing.filters["run_ids"])
    if order_by == "sequence_asc" and any(ids and len(ids) == 1 for ids in sources):
        wanted = replace(wanted, order=SEQUENCE_OF_ONE)
    return ask(alias, lambda: EventPage(*wanted.page()))


def count_events(*, using: str | None = None, **filters: Unpack[EventFilters]) -> int:
    """How many events match all filters, which are those of `search_events()`."""
    alias = reader(using)
    events: QuerySet[Event] = matching(EventFilterSet, filters, alias)
    return ask(alias, events.count)


asearch_sessions = async_twin(search_sessions)
asearch_runs = async_twin(search_runs)
asearch_events = async_twin(search_events)
acount_events = async_twin(count_events)
