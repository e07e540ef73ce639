"""What happened in a period, from the sums of its hours where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Unpack

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.lookups import IsNull

from ..filters import UsageFilterSet
from ..models import Run
from ..pricing import parse_pricing_table
from ..rates import PricingTable
from ..sums import UsageSum
from . import costs, trends
from .costs import CostEntry
from .coverage import Coverage
from .paging import ask, async_twin, clean_limit, matching, reader
from .summaries import UsageFilters
from .top_sessions import ORDERS, Ranking, SessionUsage
from .totals import sessions_of
from .trends import AgentUsage, Interval

SUMS: dict[str, Any] = {"error_count": trends.SUMS["error_count"], **costs.SUMS}
SUMMED: dict[str, Any] = {name: Sum(name) for name in ("session_count", *SUMS)}
NOTHING = dict.fromkeys(SUMMED, 0)
MODEL = ("provider", "model", "is_stored")
# So many runs are priced one by one.
MOST_PRICED = 2_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overview:
    """The trend, the costs and the agents of a period, as the functions of these give them.

    `unpriced_runs`: so many have prices of their own that were not looked up, and an entry
    without cost. `has_sessions`: False when the sessions were not counted. `live_runs`: so many
    were added up now, since maintenance had not done it. `expensive`, `slowest`: the sessions that
    stand out, as `get_top_sessions()` gives them; None where they were not asked for, or to find
    them more runs would have to be looked at.
    """

    intervals: list[Interval]
    entries: list[CostEntry]
    agents: list[AgentUsage]
    unpriced_runs: int = 0
    has_sessions: bool = True
    live_runs: int = 0
    expensive: list[SessionUsage] | None = None
    slowest: list[SessionUsage] | None = None

    @property
    def run_count(self) -> int:
        return sum(entry.run_count for entry in self.entries)


def get_overview(
    *,
    using: str | None = None,
    step: str = "day",
    limit: int = 20,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
    most_runs: int = 30_000,
    top_sessions: int | None = None,
    **filters: Unpack[UsageFilters],
) -> Overview:
    """What `get_trend()`, `get_cost_entries()` and `get_agent_usage()` give, from hourly sums.

    Maintenance makes the sums. Hours that have none yet, or of which something was written later,
    are added up from their runs. A program that writes the tables itself leaves sums as they are,
    until `asm_maintenance --sum-up --anew`.

    What has to look at each run is done for up to `most_runs` of them: to price those without
    stored cost whose price depends on each, up to 2,000; and to count the sessions of a provider.
    Of more, the `top_sessions` that cost the most or took longest are found by the sums of
    sessions.
    """
    question = _Question(
        reader(using),
        UsageFilterSet(filters).checked(),
        trends.step_of(step),
        clean_limit(limit),
        parse_pricing_table(pricing_table),
        most_runs,
        None if top_sessions is None else clean_limit(top_sessions),
    )
    return ask(question.using, question.answer)


@dataclass(frozen=True, slots=True)
class _Question:
    using: str
    wanted: dict[str, Any]
    step: Any
    limit: int
    table: PricingTable
    most_runs: int
    top_sessions: int | None

    def answer(self) -> Overview:
        covered = Coverage.of(self.using, self.wanted)
        every: QuerySet[Run] = matching(UsageFilterSet, self.wanted, self.using)
        runs, sums = _chosen(every, covered.rest("started_at")), self._sums(covered)
        live = [] if runs is None else list(grouped(runs, self._at("started_at")))
        groups = [*live]
        if sums is not None:
            groups += sums.values(*MODEL, at=self._at("begin")).annotate(**SUMMED)
        by_model = merged(groups, *MODEL)
        live_runs = sum(group["run_count"] for group in live)
        is_small = sum(group["run_count"] for group in by_model) <= self.most_runs
        # To find them, all runs of the period have to be looked at.
        most = MOST_PRICED if is_small else 0
        entries, unpriced = costs.entries_of(by_model, every, self.table, most=most)
        has_sessions = is_small or self.wanted["provider"] is None
        sessions = self._sessions(covered) if has_sessions else []
        return Overview(
            trends.intervals_of(merged([*groups, *sessions], "at")),
            entries,
            self._agents(runs, sums, groups),
            unpriced,
            has_sessions,
            live_runs,
            *self._top_sessions(every, covered, is_small=is_small, live_runs=live_runs),
        )

    def _at(self, column: str) -> Any:
        return self.step(column, tzinfo=UTC)

    def _sums(self, covered: Coverage) -> Any:
        agent_id, providers = self.wanted["agent_id"], self.wanted["provider"]
        rows = UsageSum._base_manager.using(self.using)
        if agent_id is not None:
            rows = rows.filter(agent_id=agent_id)
        if providers is not None:
            rows = rows.filter(provider__in=providers)
        return _chosen(rows, covered.sums)

    def _sessions(self, covered: Coverage) -> Iterable[Row]:
        """How many sessions were created in each interval, where no sum says it.

        Those of a provider are in no sum: a session has none of its own.
        """
        rows: QuerySet[Any] | None = sessions_of(self.wanted, self.using).order_by()
        if self.wanted["provider"] is None:
            rows = _chosen(rows, covered.rest("created_at"))
        if rows is None:
            return ()
        counted: Any = rows.values(at=self._at("created_at"))
        found: Iterable[Row] = counted.annotate(session_count=Count("id"))
        return found

    def _top_sessions(
        self, every: QuerySet[Run], covered: Coverage, *, is_small: bool, live_runs: int
    ) -> Iterable[list[SessionUsage] | None]:
        """The most expensive ones, and the slowest."""
        columns = list(ORDERS.values())
        if self.top_sessions is not None:
            ranking = Ranking(every, covered, self.wanted, self.top_sessions)
            if is_small:
                return map(ranking.from_runs, columns)
            if live_runs <= self.most_runs:
                return ranking.from_sums(columns).values()
        return [None] * len(columns)

    def _agents(
        self,
        runs: QuerySet[Run] | None,
        sums: QuerySet[UsageSum] | None,
        groups: Iterable[Row],
    ) -> list[AgentUsage]:
        if self.wanted["agent_id"] is not None:
            [row] = merged(groups) or [NOTHING]
            row = {**row, "agent_id": self.wanted["agent_id"]}
            return [trends.agent_usage(row)] if row["run_count"] else []
        rows: list[Row] = [] if runs is None else list(trends.by_agent(runs))
        if sums is not None:
            known = sums.filter(run_count__gt=0).exclude(agent_id=None)
            rows += known.values("agent_id").annotate(**SUMMED)
        agents = [trends.agent_usage(row) for row in merged(rows, "agent_id")]
        return sorted(agents, key=lambda agent: (-agent.run_count, agent.agent_id))[: self.limit]


def _chosen(rows: Any, condition: Q | None) -> Any:
    return None if condition is None else rows.filter(condition).order_by()


def grouped(runs: QuerySet[Any], at: Any, **keys: Any) -> QuerySet[Any, Any]:
    """The sums of runs for each interval and model, with those of a stored cost apart."""
    is_stored = IsNull(F("cost_usd"), False)
    groups: Any = runs.values("provider", "model", at=at, is_stored=is_stored, **keys)
    found: QuerySet[Any, Any] = groups.annotate(**SUMS)
    return found


def merged(rows: Iterable[Row], *keys: str) -> list[dict[str, Any]]:
    """Rows with the same keys as one, with the sums of all that they have."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = tuple(row[key] for key in keys)
        into = found.get(values)
        if into is None:
            into = found[values] = {**dict(zip(keys, values, strict=True)), **NOTHING}
        for name in NOTHING:
            into[name] += row.get(name) or 0
    return list(found.values())


aget_overview = async_twin(get_overview)
