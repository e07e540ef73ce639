"""The command: fills tables, and measures what reads across sessions cost.

`python -m tests.benchmarks.searches --sessions 1000000` makes 3,000,000 runs and 10,100,000 events.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from django.db import connections

from . import report
from .commands import begun
from .measuring import milliseconds, peak_of, usual
from .plan import OPTIONS, Sizes, alias_of

Call = Callable[[], object]
Search = partial[Any]

DEEP = 1_000
TOKENS = ("input", "output", "total", "cache_read", "cache_creation")


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.searches", description=__doc__)
    add = parser.add_argument
    add("--on", nargs="+", choices=OPTIONS, default=["postgresql", "sqlite"], metavar="DATABASE")
    add("--sessions", type=int, default=20_000, help="sessions to fill in (20,000)")
    add("--rounds", type=int, default=7, help="how often each call is made; medians are shown (7)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser)

    from . import run
    from .filling import fill

    found: dict[str, Any] = {"sessions": chosen.sessions, "rounds": chosen.rounds}
    with run.prepared(chosen.on, Sizes(processes=1)):
        found["environment"] = report.environment(chosen.on)
        print(report.described(found["environment"]))  # noqa: T201
        for vendor in chosen.on:
            alias = alias_of(vendor, "recommended")
            begin = time.monotonic()
            fill(alias, chosen.sessions)
            print(f"\n{vendor}: filled in {time.monotonic() - begin:,.0f} s\n")  # noqa: T201
            found[vendor] = _measured(alias, chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _measured(alias: str, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rows = [["search", "page 1, ms", "page", "ms", "ratio", "with total, ms"]]
    for title, search in _searches(alias):
        found[title] = figures = _paged(search, rounds)
        deep, first = figures["deep"], figures["first"]
        ratio = f"{deep / first:.2f}"
        total = "-" if figures["with_total"] is None else f"{figures['with_total']:,.0f}"
        rows.append([title, f"{first:.1f}", f"{figures['page']:,}", f"{deep:.1f}", ratio, total])
    print(f"{report.aligned(rows)}\n", flush=True)  # noqa: T201
    rows = [["sum", "ms", "best SQL, ms", "ratio", "peak memory, KiB"]]
    for title, ours, best in _sums(alias):
        found[title] = figures = _compared(ours, best, rounds)
        sides = [f"{figures[side]:,.0f}" for side in ("ours", "best")]
        rows.append([title, *sides, f"{figures['ratio']:.2f}", f"{figures['peak'] / 1024:,.0f}"])
    print(report.aligned(rows), flush=True)  # noqa: T201
    return found


def _paged(search: Search, rounds: int) -> dict[str, Any]:
    """The first page, and the thousandth or the last full one."""
    counts_all = "include_total" in search.keywords
    cursor, number = deep_cursor(search, DEEP)
    with_total = partial(search, include_total=True)
    return {
        "first": usual(search, rounds),
        "page": number,
        "deep": usual(partial(search, cursor=cursor), rounds),
        "with_total": milliseconds(with_total) if counts_all else None,
    }


def deep_cursor(search: Search, most: int) -> tuple[str | None, int]:
    """The cursor of that page, or of the last one, and its number: it walks there."""
    cursor, number = None, 1
    page = search()
    while page.cursor is not None and number < most:
        cursor, number = page.cursor, number + 1
        page = search(cursor=cursor)
    return cursor, number


def _searches(alias: str) -> Iterator[tuple[str, Search]]:
    from asm_store.queries import search_events, search_runs, search_sessions

    from .filling import session_id

    of_sessions: dict[str, dict[str, Any]] = {
        "all sessions": {},
        "sessions, created_at_asc": {"order_by": "created_at_asc"},
        "sessions of an agent, 33 %": {"agent_id": "agent_1"},
        "sessions of an agent, 0.1 %": {"agent_id": "agent_rare"},
        "failed sessions, 0.2 %": {"status": "failed"},
        "tagged sessions, 50 %": {"tags": ["common"]},
        "tagged sessions, 1 %": {"tags": ["rare"]},
        "tagged sessions, 0.001 %": {"tags": ["single"]},
        "sessions by provider, 60 %": {"provider": "claude"},
        "sessions by provider, 0.01 %": {"provider": "rare"},
    }
    of_runs: dict[str, dict[str, Any]] = {
        "all runs": {},
        "runs, token_usage_desc": {"order_by": "token_usage_desc"},
        "runs by provider, 20 %": {"provider": "codex"},
        "runs of at least 51,000 tokens": {"min_tokens": 51_000},
    }
    of_events: dict[str, dict[str, Any]] = {
        "events, timestamp_desc": {"order_by": "timestamp_desc"},
        # It is soft-deleted.
        "events of a large session": {"session_ids": [session_id(0)], "include_deleted": True},
        "events of 100 sessions": {"session_ids": [session_id(n) for n in range(1, 101)]},
        "events of a correlation id": {"correlation_id": "call_100"},
    }
    for title, filters in of_sessions.items():
        yield title, partial(search_sessions, using=alias, include_total=False, **filters)
    for title, filters in of_runs.items():
        yield title, partial(search_runs, using=alias, **filters)
    for title, filters in of_events.items():
        yield title, partial(search_events, using=alias, **filters)


def _sums(alias: str) -> Iterator[tuple[str, Call, Call]]:
    """What the package does, and the best statement for it that a hand would write."""
    from asm_store.queries import get_cost_summary, get_usage_summary

    counts = ", ".join(f"sum({name}_tokens)" for name in TOKENS)
    usage = f"SELECT provider, count(*), {counts} FROM asm_runs GROUP BY provider"
    cost = (
        f"SELECT provider, model, cost_usd IS NULL, count(*), sum(cost_usd), {counts} "
        "FROM asm_runs GROUP BY 1, 2, 3"
    )
    flat = {"input": 1e-6, "output": 5e-6}
    prices = {provider: {"default": flat} for provider in ("claude", "codex", "gemini", "rare")}
    summary = partial(get_cost_summary, using=alias, pricing_table=prices)
    yield "get_usage_summary", partial(get_usage_summary, using=alias), _sql(alias, usage)
    yield "get_cost_summary, linear prices", summary, _sql(alias, cost)


def _sql(alias: str, sql: str) -> Call:
    def call() -> object:
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    return call


def _compared(ours: Call, best: Call, rounds: int) -> dict[str, float]:
    """In turns; the memory is that of the package's side, of Python's objects."""
    pairs = [(milliseconds(ours), milliseconds(best)) for _ in range(rounds + 1)][1:]
    return {
        "ours": median(mine for mine, _ in pairs),
        "best": median(theirs for _, theirs in pairs),
        "ratio": median(mine / theirs for mine, theirs in pairs),
        "peak": peak_of(ours),
    }


if __name__ == "__main__":
    main()
