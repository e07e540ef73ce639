"""What runs cost: linear rates on the database's sums, other prices run by run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, TypedDict, Unpack

from django.db.models import Case, CharField, Count, Q, QuerySet, Sum, Value, When

from ..backends import transactions
from ..expressions import JSONText
from ..filters import UsageFilterSet
from ..models import Run
from ..pricing import VaryingPrice, parse_pricing_table, price_for
from ..rates import COUNTS, PricingTable, Rates, TokenCounts
from .paging import async_twin, database, matching
from .summaries import UNKNOWN, UsageFilters, whole

PAGE = 1_000

# What becomes of a run: its cost is stored, it has used tokens that a price can be applied to, only
# a total is known, or it has used nothing.
STORED, SPLIT, UNSPLIT, EMPTY = "stored", "split", "unsplit", "empty"
_USED = reduce(or_, (Q(**{f"{name}__gt": 0}) for name in COUNTS if name != "total_tokens"))
KIND = Case(
    When(cost_usd__isnull=False, then=Value(STORED)),
    When(_USED, then=Value(SPLIT)),
    When(total_tokens__gt=0, then=Value(UNSPLIT)),
    default=Value(EMPTY),
    output_field=CharField(),
)
MODEL = JSONText("provider_metadata", "model")

Price = Rates | VaryingPrice
Source = tuple[str | None, str | None]


class Cost(TypedDict):
    """What some runs cost, and how many they are."""

    cost_usd: float
    run_count: int


class ModelCost(Cost):
    """The same of a model, with the tokens that went in and out."""

    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class CostSummary:
    """What runs cost, in USD.

    `by_provider` has `cost_usd` and `run_count` for each provider, `by_model` for each model
    `input_tokens` and `output_tokens` too; a run without one is under "unknown". `run_count` is
    of all runs that match, that of an entry is of those that have a cost. The others are the
    `unmapped_runs`: nobody knows their price.
    """

    total_cost_usd: float
    run_count: int
    by_provider: dict[str, Cost]
    by_model: dict[str, ModelCost]
    unmapped_runs: int


def get_cost_summary(
    *,
    using: str | None = None,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
    **filters: Unpack[UsageFilters],
) -> CostSummary:
    """What the runs that match all filters cost, those of soft-deleted sessions too.

    Filters are those of `get_usage_summary()`. A run costs its stored `cost_usd`, which is never
    priced anew, and else what `calculate_cost()` says with this `pricing_table` as of its start,
    or nothing when it has used no tokens. Linear prices are applied to the database's sums; of
    models with tiers, dates or fees the runs without a stored cost are read, page by page.

    Raises `QueryError` for a bad filter, `ValidationError` for a `pricing_table` that is none,
    `StorageError` when the database fails. Runs that are stored meanwhile may be in it or not.
    """
    alias = database(using)
    table = parse_pricing_table(pricing_table)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    return transactions.read(alias, lambda: _summary(runs, table))


def _summary(runs: QuerySet[Run], table: PricingTable) -> CostSummary:
    bill = Bill()
    varying: dict[Source, VaryingPrice] = {}
    for group in _groups(runs):
        source = (group["provider"], group["model"])
        price = price_for(*source, table) if group["kind"] == SPLIT else None
        if isinstance(price, VaryingPrice):
            varying[source] = price
        else:
            bill.add(source, group, _cost_of_group(group, price))
    for run in _runs_of(runs, varying):
        source = (run["provider"], run["model"])
        bill.add(source, run, varying[source].cost(_counts(run), run["started_at"]))
    return bill.summary()


def _groups(runs: QuerySet[Run]) -> Iterable[Mapping[str, Any]]:
    """The sums of the runs of a model that are of one kind."""
    sums = {name: Sum(name) for name in (*COUNTS, "cost_usd")}
    groups = runs.order_by().values("provider", model=MODEL, kind=KIND)
    return groups.annotate(run_count=Count("id"), **sums).order_by("provider", "model", "kind")


def _cost_of_group(group: Mapping[str, Any], price: Rates | None) -> float | None:
    if group["kind"] == STORED:
        return float(group["cost_usd"])
    if group["kind"] == EMPTY:
        return 0.0
    return None if price is None else price.cost(_counts(group))


def _runs_of(runs: QuerySet[Run], sources: Mapping[Source, Any]) -> Iterator[dict[str, Any]]:
    """The runs of those models that have to be priced, by pages of a keyset."""
    if not sources:
        return
    wanted = reduce(or_, (_is_of(source) for source in sources))
    rows = runs.alias(kind=KIND).filter(kind=SPLIT)
    found = rows.values("id", "provider", "started_at", *COUNTS, model=MODEL).filter(wanted)
    page = list(found.order_by("id")[:PAGE])
    while page:
        yield from ({**run, "run_count": 1} for run in page)
        page = list(found.filter(id__gt=page[-1]["id"]).order_by("id")[:PAGE])


def _is_of(source: Source) -> Q:
    """Null has to be asked for by its own name."""
    named = {"provider": source[0], "model": source[1]}
    return Q(
        **{
            f"{name}__isnull" if value is None else name: value is None or value
            for name, value in named.items()
        }
    )


def _counts(row: Mapping[str, Any]) -> TokenCounts:
    return TokenCounts.of({name: whole(row[name]) for name in COUNTS})


@dataclass(slots=True)
class Bill:
    """What was priced so far."""

    total: float = 0.0
    run_count: int = 0
    unmapped_runs: int = 0
    by_provider: dict[str, Cost] = field(default_factory=dict)
    by_model: dict[str, ModelCost] = field(default_factory=dict)

    def add(self, source: Source, runs: Mapping[str, Any], cost: float | None) -> None:
        """Some runs of one source, and what they cost together; None when nobody knows."""
        self.run_count += runs["run_count"]
        if cost is None:
            self.unmapped_runs += runs["run_count"]
            return
        provider, model = (name or UNKNOWN for name in source)
        of_provider = self.by_provider.setdefault(provider, Cost(cost_usd=0.0, run_count=0))
        of_model = self.by_model.setdefault(
            model, ModelCost(cost_usd=0.0, run_count=0, input_tokens=0, output_tokens=0)
        )
        self.total += cost
        for entry in (of_provider, of_model):
            entry["cost_usd"] += cost
            entry["run_count"] += runs["run_count"]
        of_model["input_tokens"] += whole(runs["input_tokens"])
        of_model["output_tokens"] += whole(runs["output_tokens"])

    def summary(self) -> CostSummary:
        return CostSummary(
            self.total,
            self.run_count,
            dict(sorted(self.by_provider.items())),
            dict(sorted(self.by_model.items())),
            self.unmapped_runs,
        )


aget_cost_summary = async_twin(get_cost_summary)
