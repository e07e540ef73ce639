"""What runs cost: linear rates on the database's sums, other prices run by run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, TypedDict, Unpack

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Least
from django.db.models.lookups import IsNull

from ..filters import UsageFilterSet
from ..models import Run
from ..pricing import VaryingPrice, parse_pricing_table, price_for
from ..rates import COUNTS, PricingTable, TokenCounts
from .paging import ask, async_twin, matching, reader
from .summaries import UNKNOWN, UsageFilters, whole

PAGE = 1_000
# So many models in one statement: SQLite takes conditions of 1,000 levels at most.
MODELS = 500
# A stored cost beyond it counts as it, as a count of tokens does: so each sum is a float.
MOST = 1e100

# Runs that have used tokens which a price can be applied to; of others only a total is known,
# which has no price, or nothing was used, which costs nothing.
_SPLIT = reduce(or_, (Q(**{f"{name}__gt": 0}) for name in COUNTS if name != "total_tokens"))
_UNSTORED = Q(cost_usd__isnull=True)
_UNSPLIT = _UNSTORED & Q(total_tokens__gt=0) & ~_SPLIT
_EMPTY = _UNSTORED & Q(total_tokens=0) & ~_SPLIT
# Of what is stored: PostgreSQL's LEAST leaves out null, and would make it the most.
STORED_COST = Sum(Least("cost_usd", MOST), filter=~_UNSTORED)
SUMS = {
    "run_count": Count("id"),
    "empty_runs": Count("id", filter=_EMPTY),
    "unsplit_runs": Count("id", filter=_UNSPLIT),
    "unsplit_tokens": Sum("total_tokens", filter=_UNSPLIT, default=0.0),
    # Last: what comes after a sum takes its name for the sum, no longer for the column.
    **{name: Sum(name) for name in COUNTS},
    "cost_usd": STORED_COST,
}
NO_COUNTS = dict.fromkeys(COUNTS, 0)

Source = tuple[str | None, str | None]
Entries = dict[tuple[str, str, bool], "CostEntry"]
Varying = dict[Source, tuple[VaryingPrice, Mapping[str, Any]]]


class Cost(TypedDict):
    """What some runs cost, and how many they are."""

    cost_usd: float
    run_count: int


class ModelCost(Cost):
    """The same of a model, with the tokens that went in and out."""

    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class CostEntry:
    """What the runs of a provider's model used, and what that cost.

    `cost_usd` is None for runs whose price nobody knows: they have an entry of their own.
    """

    provider: str
    model: str
    cost_usd: float | None
    run_count: int = 0
    input_tokens: float = 0
    output_tokens: float = 0
    total_tokens: float = 0
    cache_read_tokens: float = 0
    cache_creation_tokens: float = 0


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
    entries = get_cost_entries(using=using, pricing_table=pricing_table, **filters)
    priced = [(entry, entry.cost_usd) for entry in entries if entry.cost_usd is not None]
    by_provider: dict[str, Cost] = {}
    by_model: dict[str, ModelCost] = {}
    for entry, cost in priced:
        provider = by_provider.setdefault(entry.provider, Cost(cost_usd=0.0, run_count=0))
        model = by_model.setdefault(
            entry.model, ModelCost(cost_usd=0.0, run_count=0, input_tokens=0, output_tokens=0)
        )
        for account in (provider, model):
            account["cost_usd"] += cost
            account["run_count"] += entry.run_count
        model["input_tokens"] += entry.input_tokens
        model["output_tokens"] += entry.output_tokens
    run_count = sum(entry.run_count for entry in entries)
    unmapped = run_count - sum(entry.run_count for entry, _ in priced)
    total = math.fsum(cost for _, cost in priced)
    return CostSummary(total, run_count, by_provider, dict(sorted(by_model.items())), unmapped)


def get_cost_entries(
    *,
    using: str | None = None,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
    **filters: Unpack[UsageFilters],
) -> list[CostEntry]:
    """The same for each model of each provider, by their names, with all tokens."""
    alias = reader(using)
    table = parse_pricing_table(pricing_table)
    runs: QuerySet[Run] = matching(UsageFilterSet, filters, alias)
    return ask(alias, lambda: entries_of(_groups(runs), runs, table)[0])


def entries_of(
    groups: Iterable[Mapping[str, Any]],
    runs: QuerySet[Run],
    table: PricingTable,
    *,
    most: int | None = None,
) -> tuple[list[CostEntry], int]:
    """The entries of runs that are grouped by model, and how many runs were too many to price.

    At most `most` runs are priced one by one, in one statement; None: any number, in pages.
    """
    entries: Entries = {}
    varying: Varying = {}
    for group in groups:
        _add_group(entries, varying, group, table)
    singly = sum(split["run_count"] for _, split in varying.values())
    too_many = 0 if most is None or singly <= most else singly
    if too_many:
        for _, split in varying.values():
            _add(entries, split, None)
    else:
        for run in _runs_of(runs, varying, in_pages=most is None):
            price, _ = varying[run["provider"], run["model"]]
            _add(entries, run, price.cost(_counts(run), run["started_at"]))
    return [entries[key] for key in sorted(entries)], too_many


def _add_group(
    entries: Entries, varying: Varying, group: Mapping[str, Any], table: PricingTable
) -> None:
    if group["is_stored"]:
        _add(entries, group, group["cost_usd"])
        return
    source = (group["provider"], group["model"])
    empty, unsplit, split = _parts(group)
    price = price_for(*source, table) if split["run_count"] else None
    _add(entries, empty, 0.0)
    _add(entries, unsplit, None)
    if isinstance(price, VaryingPrice):
        varying[source] = price, split
    else:
        _add(entries, split, None if price is None else price.cost(_counts(split)))


def _groups(runs: QuerySet[Run]) -> Iterable[Any]:
    """The sums of the runs of a model whose cost is stored, and of those where it is not.

    PostgreSQL knows how few groups of these columns there are, and does not sort the runs.
    """
    keys = {"is_stored": IsNull(F("cost_usd"), False)}
    return runs.order_by().values("provider", "model", **keys).annotate(**SUMS)


def _parts(group: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Of a group without stored costs the runs that are empty, unsplit, and all others."""
    empty = {**group, **NO_COUNTS, "run_count": group["empty_runs"]}
    unsplit = {**empty, "run_count": group["unsplit_runs"], "total_tokens": group["unsplit_tokens"]}
    others = group["run_count"] - empty["run_count"] - unsplit["run_count"]
    total = group["total_tokens"] - group["unsplit_tokens"]
    return empty, unsplit, {**group, "run_count": others, "total_tokens": total}


def _add(entries: Entries, runs: Mapping[str, Any], cost: float | None) -> None:
    """Add what some runs of one model used, and what they cost together."""
    if not runs["run_count"]:
        return
    provider, model = runs["provider"] or UNKNOWN, runs["model"] or UNKNOWN
    key = (provider, model, cost is None)
    before = entries.get(key, CostEntry(provider, model, None))
    entries[key] = CostEntry(
        provider,
        model,
        None if cost is None else (before.cost_usd or 0.0) + cost,
        before.run_count + runs["run_count"],
        **{name: getattr(before, name) + whole(runs[name]) for name in COUNTS},
    )


def _runs_of(
    runs: QuerySet[Run], sources: Mapping[Source, Any], *, in_pages: bool
) -> Iterator[dict[str, Any]]:
    """The runs of those models that have to be priced, by pages of a keyset or at once."""
    models = list(sources)
    for start in range(0, len(models), MODELS):
        rows = runs.filter(_UNSTORED & _SPLIT & _is_one_of(models[start : start + MODELS]))
        found = rows.values("id", "provider", "model", "started_at", *COUNTS)
        for run in _by_pages(found) if in_pages else found.order_by():
            yield {**run, "run_count": 1}


def _by_pages(rows: QuerySet[Any, Any]) -> Iterator[dict[str, Any]]:
    page = list(rows.order_by("id")[:PAGE])
    while page:
        yield from page
        page = list(rows.filter(id__gt=page[-1]["id"]).order_by("id")[:PAGE])


def _is_one_of(sources: Iterable[Source]) -> Q:
    """Neither name is ever null: what has no name has no price that varies."""
    models: dict[str | None, list[str | None]] = {}
    for provider, model in sources:
        models.setdefault(provider, []).append(model)
    return reduce(or_, (Q(provider=name, model__in=models[name]) for name in models))


def _counts(row: Mapping[str, Any]) -> TokenCounts:
    return TokenCounts.of({name: whole(row[name]) for name in COUNTS})


aget_cost_entries = async_twin(get_cost_entries)
aget_cost_summary = async_twin(get_cost_summary)
