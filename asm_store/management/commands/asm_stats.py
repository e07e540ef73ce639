from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict

from asm_store.exceptions import QueryError, StorageError, ValidationError
from asm_store.filters import UsageFilterSet
from asm_store.queries import CostEntry, Totals, get_cost_entries, get_totals

TOKENS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache read",
    "cache_creation_tokens": "cache creation",
    "total_tokens": "total",
}
HEAD = ("provider", "model", "runs", *TOKENS.values(), "USD")
HINT = 'ASM_STORE_PRICING sets own prices; pip install "django-asm-store[pricing]" knows others.'
# The names of providers and models stand left, numbers right.
NAMES = 2


class Command(BaseCommand):
    help = (
        "Prints how many sessions, runs and events there are, and what the runs used and cost, by "
        "provider and model. Soft-deleted sessions count too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--using", metavar="ALIAS", help="the database; by default where queries read")
        add("--json", action="store_true", help="print JSON")
        add("--session-id", metavar="ID", help="only what belongs to this session")
        add("--agent-id", metavar="ID", help="only what belongs to sessions of this agent")
        add("--provider", action="append", metavar="NAME", help="only these; may be repeated")
        add("--since", metavar="TIME", help="of then or later: ISO 8601 with a zone")
        add("--until", metavar="TIME", help="of then or earlier")

    def handle(self, *, using: str | None, **options: Any) -> None:
        try:
            wanted = _filters(options)
            totals = get_totals(using=using, **wanted)
            entries = get_cost_entries(using=using, **wanted)
        except (QueryError, ValidationError, StorageError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(_report(totals, entries), indent=2))
        else:
            self.stdout.write("\n".join(_lines(totals, entries)))


def _filters(options: dict[str, Any]) -> dict[str, Any]:
    """The options as the queries take them; `QueryError` for one that cannot be read."""
    said = QueryDict(mutable=True)
    for name in UsageFilterSet.base_filters:
        values = options[name] if isinstance(options[name], list) else [options[name]]
        # A form means no restriction by it; a shell, a variable that is not set.
        if "" in values:
            raise QueryError(f"{name}: is empty.")
        said.setlist(name, [value for value in values if value is not None])
    return UsageFilterSet(said).checked()


def _report(totals: Totals, entries: Sequence[CostEntry]) -> dict[str, Any]:
    unpriced = sum(entry.run_count for entry in entries if entry.cost_usd is None)
    return {
        **asdict(totals),
        **{name: sum(getattr(entry, name) for entry in entries) for name in TOKENS},
        "cost_usd": math.fsum(entry.cost_usd or 0.0 for entry in entries),
        "unmapped_runs": unpriced,
        "by_model": [asdict(entry) for entry in entries],
    }


def _lines(totals: Totals, entries: Sequence[CostEntry]) -> Iterator[str]:
    deleted = f", {totals.deleted_sessions:,} soft-deleted" if totals.deleted_sessions else ""
    yield f"sessions  {totals.session_count:,}{_statuses(totals.sessions_by_status)}{deleted}"
    yield f"runs      {totals.run_count:,}{_statuses(totals.runs_by_status)}"
    yield f"events    {totals.event_count:,}"
    if not entries:
        return
    report = _report(totals, entries)
    rows = [HEAD, *map(_row, entries)]
    sums = (f"{report[name]:,}" for name in TOKENS)
    rows.append(("all", "", f"{totals.run_count:,}", *sums, f"{report['cost_usd']:,.4f}"))
    yield ""
    yield from _table(rows)
    if report["unmapped_runs"]:
        yield ""
        yield f"{report['unmapped_runs']:,} runs have no price. {HINT}"


def _statuses(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count:,} {status}' for status, count in counts.items())})" * bool(
        counts
    )


def _row(entry: CostEntry) -> tuple[str, ...]:
    tokens = (f"{getattr(entry, name):,}" for name in TOKENS)
    cost = "no price" if entry.cost_usd is None else f"{entry.cost_usd:,.4f}"
    # Whoever wrote the log chose these names: they are not to write into the terminal.
    names = (
        ascii(name) if not name.isprintable() else name for name in (entry.provider, entry.model)
    )
    return (*names, f"{entry.run_count:,}", *tokens, cost)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(
            cell.ljust(width) if place < NAMES else cell.rjust(width)
            for place, (cell, width) in enumerate(cells)
        ).rstrip()
