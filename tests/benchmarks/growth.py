"""The command: what works cost on tables of several sizes, and with which power of them it grows.

`python -m tests.benchmarks.growth --sizes 10000 100000 1000000` fills the tables for each size.
"""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any

from django.utils import timezone

from . import filling, report
from .commands import begun
from .measuring import milliseconds, peak_of
from .plan import OPTIONS, Sizes, alias_of
from .searches import deep_cursor

# A smaller table has neither the deep page nor enough sessions to expire.
SMALLEST = 10_000
APPENDS, TAIL, DEEP = 50, 50, 100
# Sessions that one maintenance removes, and when they were deleted: long before all others.
EXPIRED, DELETED = 300, timedelta(days=100)

Found = dict[str, dict[str, float]]  # by title: milliseconds, and bytes


@dataclass(frozen=True, slots=True)
class Work:
    title: str
    call: Callable[[], object]
    count: int = 1  # how often it is done in one call
    prepare: Callable[[], object] = int  # before each call, while no clock runs

    def figures(self, rounds: int) -> dict[str, float]:
        # The least: what else a machine does makes it more, and that does not grow with the tables.
        least = min(self._measured(milliseconds) for _ in range(rounds + 1))
        return {"ms": least / self.count, "bytes": self._measured(peak_of)}

    def _measured(self, measure: Callable[[Callable[[], object]], float]) -> float:
        self.prepare()
        return measure(self.call)


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    add = parser.add_argument
    add("--on", nargs="+", choices=OPTIONS, default=["postgresql"], metavar="DATABASE")
    add("--sizes", nargs="+", type=int, default=[10_000, 100_000], metavar="SESSIONS",
        help="at least two numbers of sessions, ten events each (10,000 100,000)")  # fmt: skip
    add("--rounds", type=int, default=7, help="how often each is done; the shortest is shown (7)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser)
    if len(set(chosen.sizes)) < 2 or min(chosen.sizes) < SMALLEST:
        parser.error(f"--sizes: at least two, and none below {SMALLEST:,}.")

    from . import run

    written: dict[str, Any] = {"sizes": chosen.sizes, "rounds": chosen.rounds}
    with run.prepared(chosen.on, Sizes(processes=1)):
        written["environment"] = report.environment(chosen.on)
        print(report.described(written["environment"]))  # noqa: T201
        for vendor in chosen.on:
            alias = alias_of(vendor, "recommended")
            found = {size: _at(alias, size, chosen.rounds) for size in sorted(set(chosen.sizes))}
            written[vendor] = {"found": found, "exponents": _exponents(found)}
            print(f"\n{vendor}\n\n{_table(found)}", flush=True)  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps(written, indent=1) + "\n")


def _at(alias: str, sessions: int, rounds: int) -> Found:
    from asm_store.maintenance import sum_up_usage

    filling.empty(alias)
    filling.fill(alias, sessions)
    sum_up_usage(using=alias)
    return {work.title: work.figures(rounds) for work in _works(alias, sessions)}


def _works(alias: str, sessions: int) -> Iterator[Work]:
    yield from _searches(alias)
    # Before a run of today is stored, months after all others: PostgreSQL would guess that one in
    # a hundred runs is of the time between.
    yield from _sums(alias, sessions)
    yield from _of_a_session(alias)
    yield from _maintenance(alias)


def _of_a_session(alias: str) -> Iterator[Work]:
    from .clients import StoreClient
    from .records import tool_calls
    from .works import stored_run

    client, run = StoreClient(alias), stored_run(alias)
    events: list[Any] = []

    def make() -> None:
        events[:] = tool_calls(run, APPENDS, Sizes())

    def append() -> None:
        for event in events:
            client.append(event)

    yield Work("append an event", append, APPENDS, make)
    # Its events grow with the tables: one in a hundred of all is its own.
    largest = partial(client.read_last, filling.session_id(0), TAIL)
    yield Work("the last 50 events of the largest session", largest)


def _searches(alias: str) -> Iterator[Work]:
    from asm_store.queries import search_sessions

    search = partial(search_sessions, using=alias, tags=["common"], include_total=False)
    cursor, _number = deep_cursor(search, DEEP)
    yield Work("search by a tag, page 1", search)
    yield Work(f"search by a tag, page {DEEP}", partial(search, cursor=cursor))
    yield Work("search by a tag, with the total", partial(search, include_total=True))


def _sums(alias: str, sessions: int) -> Iterator[Work]:
    from asm_store.queries import get_overview, get_usage_summary

    yield Work("get_usage_summary, all runs", partial(get_usage_summary, using=alias))
    yield Work("get_overview, all runs", partial(get_overview, using=alias))
    end = timezone.make_aware(filling.BEGIN + timedelta(seconds=sessions * 10))
    day = end - timedelta(days=1)
    yield Work("get_overview, the last day", partial(get_overview, using=alias, since=day))


def _maintenance(alias: str) -> Iterator[Work]:
    from asm_store.maintenance import RetentionPolicy, execute, hard_delete_expired_sessions

    bound = timezone.make_aware(filling.BEGIN) - DELETED / 2
    days = (timezone.now() - bound).days
    policy = RetentionPolicy(max_completed_session_age_days=None, hard_delete_after_days=days)
    expire = partial(_expire, alias)
    step = partial(hard_delete_expired_sessions, policy, using=alias)
    yield Work(f"remove {EXPIRED} expired sessions", step, 1, expire)
    every = partial(execute, policy, using=alias)
    yield Work(f"all of maintenance, {EXPIRED} expired", every, 1, expire)


def _expire(alias: str) -> None:
    from asm_store.models import Session

    alive = Session.objects.using(alias).alive().filter(pk__gt=filling.session_id(0))
    ids = list(alive.order_by("created_at", "id").values_list("pk", flat=True)[:EXPIRED])
    moment = timezone.make_aware(filling.BEGIN) - DELETED
    marked = Session.objects.using(alias).filter(pk__in=ids).update(deleted_at=moment)
    assert marked == EXPIRED, f"{marked} sessions are left to remove"


def _exponents(found: dict[int, Found]) -> dict[str, float]:
    """By title the slope of the line through the logarithms of size and time: least squares."""
    sizes = [math.log(size) for size in found]
    return {
        title: linear_regression(sizes, [math.log(at[title]["ms"]) for at in found.values()]).slope
        for title in next(iter(found.values()))
    }


def _table(found: dict[int, Found]) -> str:
    heads = [f"{size:,} sessions, ms" for size in found]
    memory = [f"{size:,}: peak, KiB" for size in found]
    rows = [["work", *heads, "exponent", *memory]]
    for title, exponent in _exponents(found).items():
        times = [f"{at[title]['ms']:,.2f}" for at in found.values()]
        peaks = [f"{at[title]['bytes'] / 1024:,.0f}" for at in found.values()]
        rows.append([title, *times, f"{exponent:.2f}", *peaks])
    return report.aligned(rows)


if __name__ == "__main__":
    main()
