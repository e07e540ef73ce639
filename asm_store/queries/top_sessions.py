"""Which sessions cost the most or took longest, in a period of any length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Unpack

from django.db.models import (
    DurationField,
    ExpressionWrapper,
    Max,
    Min,
    OuterRef,
    QuerySet,
    Subquery,
)

from ..events.sanitizing import shown
from ..exceptions import QueryError
from ..expressions import OneOf
from ..filters import UsageFilterSet
from ..models import Run
from ..sums import SessionSum
from .coverage import Coverage
from .paging import ask, async_twin, clean_limit, matching, reader
from .summaries import UsageFilters
from .trends import SUMS, tokens_and_cost

ORDERS = {"cost_desc": "cost_usd", "duration_desc": "duration"}
# A period of so many runs is looked through, and so many runs of a longer one, where they have no
# sums.
MOST_RUNS = 30_000
# So many sessions are taken from the sums in one order, with filters, which few may match, more;
# and so many runs of theirs are looked at.
MOST_SESSIONS, MOST_FILTERED, MOST_OF_SESSIONS = 500, 2_000, 100_000
TOOK = ExpressionWrapper(Max("ended_at") - Min("started_at"), output_field=DurationField())
BOUNDS = ("session_id", "first_started_at", "last_started_at", "run_count")
LIVE: dict[str, Any] = {
    "run_count": SUMS["run_count"],
    "cost_usd": SUMS["cost_usd"],
    "first_started_at": Min("started_at"),
    "last_started_at": Max("started_at"),
    "last_ended_at": Max("ended_at"),
}

# Where a session comes in an order: its figure, the highest first, then its id.
Key = tuple[Any, str]


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """The runs of one session: `duration` from the first one's start to the last one's end."""

    session_id: str
    run_count: int
    error_count: int
    total_tokens: float
    cost_usd: float
    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class Bound:
    """What a session's matching runs cannot add up to more than; no figure: they have none."""

    session_id: str
    first_started_at: datetime
    last_started_at: datetime
    run_count: int
    figure: Any
    is_sum: bool = True  # as maintenance made it

    @property
    def key(self) -> Key:
        return -self.figure, self.session_id


def get_top_sessions(
    *,
    using: str | None = None,
    order_by: str = "cost_desc",
    limit: int = 10,
    **filters: Unpack[UsageFilters],
) -> list[SessionUsage]:
    """The sessions whose matching runs cost the most (`cost_desc`) or took longest.

    `duration_desc`: from the first one's start to the last one's end. Sessions without stored
    cost, or without an ended run, are left out of the order that needs it. Where maintenance has
    added up the sessions of a long period, most of its runs need not be looked at.
    """
    if order_by not in tuple(ORDERS):
        known = ", ".join(ORDERS)
        raise QueryError(f"order_by: unknown order {shown(order_by)}; known are {known}.")
    column, most = ORDERS[order_by], clean_limit(limit)
    alias, wanted = reader(using), UsageFilterSet(filters).checked()
    runs: QuerySet[Run] = matching(UsageFilterSet, wanted, alias)

    def body() -> list[SessionUsage]:
        ranking = Ranking(runs, Coverage.of(alias, wanted), wanted, most)
        found = ranking.from_sums([column])[column] if ranking.is_worth_it() else None
        return ranking.from_runs(column) if found is None else found

    return ask(alias, body)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first `limit` of the sessions with matching runs, by a figure that these add up to."""

    runs: QuerySet[Run]
    covered: Coverage
    wanted: dict[str, Any]
    limit: int

    def from_runs(self, column: str) -> list[SessionUsage]:
        """By the sums of all runs that match."""
        groups = _groups(self.runs).filter(**{f"{column}__isnull": False})
        return list(map(_usage, groups.order_by(f"-{column}", "session_id")[: self.limit]))

    def is_worth_it(self) -> bool:
        """Whether `from_sums()` may have to look at fewer runs."""
        if self.covered.sums is None:
            return False
        every, live = Run._base_manager.using(self.runs.db), self._live_runs()
        is_long = _is_more(every.filter(self.covered.period("started_at")), MOST_RUNS)
        return is_long and (live is None or not _is_more(live, MOST_RUNS))

    def from_sums(self, columns: Sequence[str]) -> dict[str, list[SessionUsage] | None]:
        """The same answers, from the sessions whose sums are the highest; None: it is not sure.

        A session's matching runs in hours whose sums hold are as they were when these were made,
        and its own sum was made then or later of all its runs: they cannot add up to more. What
        was written since is marked, or in hours without sums: such runs are added up here, and
        added to the sum. So what comes after some sessions in the order of these bounds comes
        after them in the answer, if each of these has a higher figure, or the same and a lower
        id, than the next one's bound. Up to rounding: who adds up all runs has that too.
        """
        live = list(self._live_sums())
        bounds = {column: self._highest(column, live) for column in columns}
        ids = {bound.session_id for taken, _next in bounds.values() for bound in taken}
        groups = list(_groups(self.runs.filter(OneOf("session_id", sorted(ids))))) if ids else []
        return {column: self._first(groups, column, bounds[column][1]) for column in columns}

    def _first(
        self, groups: Iterable[dict[str, Any]], column: str, end: Key | None
    ) -> list[SessionUsage] | None:
        """The first of some groups, if nothing that comes at `end` or later can be one of them."""
        rows = {(-row[column], row["session_id"]): row for row in groups if row[column] is not None}
        found = sorted(rows)[: self.limit]
        is_sure = end is None or (len(found) == self.limit and found[-1] < end)
        return [_usage(rows[key]) for key in found] if is_sure else None

    def _live_runs(self) -> QuerySet[Run] | None:
        rest = self.covered.rest("started_at")
        return None if rest is None else self.runs.filter(rest)

    def _live_sums(self) -> Iterable[dict[str, Any]]:
        """What the runs without sums add up to for each session, and under `sum_` its own sums."""
        runs = self._live_runs()
        if runs is None:
            return []
        groups: Any = runs.order_by().values("session_id").annotate(**LIVE)
        sums = SessionSum._base_manager.filter(pk=OuterRef("session_id"))
        own = {f"sum_{name}": Subquery(sums.values(name)) for name in LIVE}
        found: Iterable[dict[str, Any]] = groups.annotate(**own)
        return found

    def _highest(
        self, column: str, live: Iterable[dict[str, Any]]
    ) -> tuple[list[Bound], Key | None]:
        """The sessions with the highest bounds, and where in the order the next one comes."""
        most = self._enough if self._is_filtered else max(MOST_SESSIONS, self._enough)
        of_sums = list(self._by_sums(column)[: most + 1])
        end = Bound(*of_sums.pop()).key if len(of_sums) > most else None
        bounds = {row[0]: Bound(*row) for row in of_sums}
        bounds |= {row["session_id"]: _live_bound(row, column) for row in live}
        known = sorted((each for each in bounds.values() if each.figure is not None), key=_key)
        taken: list[Bound] = []
        inside = run_count = 0
        for bound in known:
            if end is not None and bound.key >= end:
                break
            run_count += bound.run_count
            if inside == self._enough or run_count > MOST_OF_SESSIONS:
                return taken, bound.key
            taken.append(bound)
            inside += self._is_inside(bound)
        return taken, end

    def _by_sums(self, column: str) -> QuerySet[Any, Any]:
        """The bounds of all sessions that may have runs in the period."""
        rows: Any = SessionSum._base_manager.using(self.runs.db).filter(
            self.covered.overlap("first_started_at", "last_started_at"),
            **{f"{column}__isnull": False},
        )
        found: QuerySet[Any, Any] = rows.order_by(f"-{column}", "session_id")
        return found.values_list(*BOUNDS, column)

    @property
    def _is_filtered(self) -> bool:
        return self.wanted["agent_id"] is not None or self.wanted["provider"] is not None

    @property
    def _enough(self) -> int:
        """Of so many sessions within the period there are enough whose figures are their bounds."""
        return MOST_FILTERED if self._is_filtered else 3 * self.limit

    def _is_inside(self, bound: Bound) -> bool:
        begins = bound.first_started_at >= self.covered.since
        return bound.is_sum and begins and bound.last_started_at < self.covered.until


def _groups(runs: QuerySet[Run]) -> Any:
    groups: Any = runs.order_by().values("session_id")
    return groups.annotate(**SUMS).annotate(duration=TOOK)


def _usage(row: dict[str, Any]) -> SessionUsage:
    counts = row["run_count"], row["error_count"]
    return SessionUsage(row["session_id"], *counts, *tokens_and_cost(row), row["duration"])


def _live_bound(row: dict[str, Any], column: str) -> Bound:
    """What the runs without sums, and all when there was a sum, add up to together."""
    both = {name: [row[name], row[f"sum_{name}"]] for name in LIVE}
    known = {name: [each for each in values if each is not None] for name, values in both.items()}
    first, ends = min(known["first_started_at"]), known["last_ended_at"]
    figures = {
        "cost_usd": sum(known["cost_usd"]) if known["cost_usd"] else None,
        "duration": max(ends) - first if ends else None,
    }
    last, count = max(known["last_started_at"]), sum(known["run_count"])
    return Bound(row["session_id"], first, last, count, figures[column], is_sum=False)


def _key(bound: Bound) -> Key:
    return bound.key


def _is_more(rows: QuerySet[Any], most: int) -> bool:
    return rows.order_by().values("pk")[most : most + 1].exists()


aget_top_sessions = async_twin(get_top_sessions)
