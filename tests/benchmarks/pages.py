"""The command: fills tables, and measures what the pages of the admin cost.

`python -m tests.benchmarks.pages --sessions 1000000` makes 3,000,000 runs and 10,100,000 events.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from statistics import median
from typing import Any

from django.db import connections

from . import report
from .commands import begun
from .plan import OPTIONS, Sizes, alias_of


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.pages", description=__doc__)
    add = parser.add_argument
    add("--on", nargs="+", choices=OPTIONS, default=["postgresql", "sqlite"], metavar="DATABASE")
    add("--sessions", type=int, default=20_000, help="sessions to fill in (20,000)")
    add("--rounds", type=int, default=7, help="how often each page is opened (7)")
    add("--unsummed", action="store_true", help="as if maintenance had never added up the runs")
    chosen = begun(parser, settings="page_settings")

    from django.test.utils import (
        setup_databases,
        setup_test_environment,
        teardown_databases,
    )

    from . import run
    from .filling import fill

    setup_test_environment()
    users = setup_databases(verbosity=0, interactive=False, aliases={"default": False})
    with run.prepared(chosen.on, Sizes(processes=1)):
        print(report.described(report.environment(chosen.on)))  # noqa: T201
        for vendor in chosen.on:
            alias = alias_of(vendor, "recommended")
            begin = time.monotonic()
            fill(alias, chosen.sessions)
            print(f"\n{vendor}: filled in {time.monotonic() - begin:,.0f} s", flush=True)  # noqa: T201
            if not chosen.unsummed:
                print(f"added up by maintenance in {_added_up(alias):,.0f} s\n", flush=True)  # noqa: T201
            print(_measured(alias, chosen.sessions, chosen.rounds), flush=True)  # noqa: T201
    teardown_databases(users, verbosity=0)


def _added_up(alias: str) -> float:
    """Seconds that the sums of all runs took."""
    from asm_store.maintenance import sum_up_usage

    begin = time.monotonic()
    sum_up_usage(using=alias)
    return time.monotonic() - begin


def _measured(alias: str, sessions: int, rounds: int) -> str:
    from django.contrib.auth.models import User
    from django.test import Client, override_settings

    user, _ = User.objects.get_or_create(username="ada", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    rows = [["page", "queries", "p50, ms", "longest statement, ms"]]
    backend = "asm_store.backends.database.DatabaseSessionStore"
    stores = {"default": {"BACKEND": backend, "OPTIONS": {"using": alias}}}
    with override_settings(ASM_STORES=stores):
        for title, url in _pages(sessions):
            times, statements = _opened(client, url, alias, rounds)
            count, longest = len(statements), max(statements, default=0.0)
            rows.append([title, f"{count}", f"{median(times):,.0f}", f"{longest:,.0f}"])
    return report.aligned(rows)


def _opened(client: Any, url: str, alias: str, rounds: int) -> tuple[list[float], list[float]]:
    """How long the page took each time, and its statements the last time, in milliseconds."""
    statements: list[float] = []

    def timed(execute: Any, sql: str, *arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return execute(sql, *arguments)
        finally:
            statements.append((time.perf_counter() - begin) * 1_000)

    times = []
    for _round in range(rounds + 1):
        statements.clear()
        begin = time.perf_counter()
        with (
            connections[alias].execute_wrapper(timed),
            connections["default"].execute_wrapper(timed),
        ):
            response = client.get(url)
        times.append((time.perf_counter() - begin) * 1_000)
        if response.status_code != 200:
            raise RuntimeError(f"{url}: {response.status_code}")
    return times[1:], statements


def _pages(sessions: int) -> Iterator[tuple[str, str]]:
    from datetime import timedelta

    from tests.admin.pages import address

    from .filling import BEGIN, session_id

    large, small = session_id(0), session_id(sessions // 2)
    lists = address("session_changelist"), address("run_changelist"), address("event_changelist")
    yield "sessions", lists[0]
    deep = max(1, min(100, sessions * 9 // 1_000))  # a twentieth is soft-deleted
    yield f"sessions, page {deep}", f"{lists[0]}?p={deep}"
    yield "sessions of an agent, 0.1 %", f"{lists[0]}?agent_id=agent_rare"
    yield "failed sessions, 0.2 %", f"{lists[0]}?status=failed"
    yield "tagged sessions, 1 %", f"{lists[0]}?tags=rare"
    yield "tagged sessions, 0.001 %", f"{lists[0]}?tags=single"
    yield "sessions by provider, 0.01 %", f"{lists[0]}?provider=rare"
    yield "sessions by a prefix", f"{lists[0]}?q={small[:-2]}*"
    # The oldest of them, up to a twentieth: in the order of time all others come before.
    oldest = session_id(0)[: 1 - len(f"{sessions // 20:x}")]
    yield "sessions by a prefix, the oldest", f"{lists[0]}?q={oldest}*"
    yield "session of 10 events", address("session_change", small)
    yield "session of many events", address("session_change", large)
    yield "the same, latest page", f"{address('session_change', large)}?before={10**9}"
    yield "its news", f"{address('session_news', large)}?after=5"
    yield "runs", lists[1]
    yield "failed runs", f"{lists[1]}?status=failed"
    yield "events", lists[2]
    yield f"events, page {deep}", f"{lists[2]}?p={deep}"
    yield "events of a session", f"{lists[2]}?session__id__exact={large}"
    yield "events by a prefix", f"{lists[2]}?q=evt_{'0' * 28}1*"
    yield "artifacts", address("artifact_changelist")
    for days in (1, 7, 30):
        end = BEGIN + timedelta(seconds=sessions * 10) - timedelta(days=1)  # the last whole day
        since = max(BEGIN, end - timedelta(days=days - 1))
        query = f"since={since:%Y-%m-%d}&until={end:%Y-%m-%d}"
        yield f"dashboard, {days} days", f"{address('dashboard')}?{query}"


if __name__ == "__main__":
    main()
