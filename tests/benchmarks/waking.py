"""The command: how soon those who wait have an event, and what telling them costs appends."""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from threading import Barrier
from typing import Any

import django

from . import report
from .commands import begun
from .plan import Sizes, alias_of

ALIAS = alias_of("postgresql", "recommended")
PATIENCE = 120
# Seconds until all have looked, as they do when listening begins.
QUIET = 3
# Readers, sessions, seconds between two appends.
CROWDS = {
    "1 reader": (1, 1, 0.01),
    "500 readers of 500 sessions": (500, 500, 0.01),
    "500 readers of one session": (500, 1, 0.2),
}
WAYS = ("none", "as the store does", "in the transaction", "after it")

# What each process that appends has of its own.
_together: Barrier


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.waking", description=__doc__)
    add = parser.add_argument
    add("--appends", type=int, default=500, help="paced appends for each crowd (500)")
    add("--each", type=int, default=500, help="events of each writer in a round (500)")
    add("--writers", type=int, nargs="+", default=[1, 8], help="at the same time (1 8)")
    add("--rounds", type=int, default=5, help="how often each way of telling is measured (5)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser, "postgresql")

    from . import run

    with run.prepared(["postgresql"], Sizes(processes=1)):
        found: dict[str, Any] = {"environment": report.environment(["postgresql"])}
        print(report.described(found["environment"]))  # noqa: T201
        found["delays"] = {name: _delays(*crowd, chosen.appends) for name, crowd in CROWDS.items()}
        print(f"\n{_delays_table(found['delays'])}", flush=True)  # noqa: T201
        found["costs"] = {
            count: _costs(count, chosen.each, chosen.rounds) for count in chosen.writers
        }
        print(f"\n{_costs_table(found['costs'])}", flush=True)  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


# How soon


def _delays(readers: int, sessions: int, pause: float, appends: int) -> dict[str, Any]:
    """Milliseconds from an append's call, and from its return, until each reader has the event."""
    from asm_store.backends.database import DatabaseSessionStore
    from asm_store.models import Session

    store = DatabaseSessionStore(ALIAS)
    ids = [
        store.save_session(Session(agent_id="assistant", status="active")).pk
        for _ in range(sessions)
    ]
    # A reader has no more work than one event of 500 would have.
    count = appends if readers == sessions else max(appends // 10, 20)
    with _appending(1) as pool:
        read, sent = asyncio.run(_follow(pool, ids, readers, count, pause))
    delays = [
        [(at - sent[event][side]) * 1_000 for event, at in read.items_of(sent)] for side in (0, 1)
    ]
    return {"from the call": delays[0], "from its return": delays[1]}


class Read:
    """When which reader had which event."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    def items_of(self, sent: dict[str, Any]) -> Iterable[tuple[str, float]]:
        return ((event, at) for event, at in self.times if event in sent)


async def _follow(
    pool: ProcessPoolExecutor, ids: list[str], readers: int, count: int, pause: float
) -> tuple[Read, dict[str, Any]]:
    from asgiref.sync import sync_to_async
    from django.db import connections

    from asm_store.backends.database import DatabaseSessionStore
    from asm_store.waiting import hub_of

    store, read, hub = DatabaseSessionStore(ALIAS), Read(), hub_of(ALIAS)
    assert hub is not None

    async def follow(session_id: str) -> None:
        async for event in store.astream_events(session_id):
            read.times.append((event.pk, time.monotonic()))

    tasks = [asyncio.create_task(follow(ids[n % len(ids)])) for n in range(readers)]
    while not (hub.is_listening and hub.count == readers):
        await asyncio.sleep(0.05)
    await asyncio.sleep(QUIET)
    loop = asyncio.get_running_loop()
    sent = await loop.run_in_executor(pool, _append_paced, ids, count, pause)
    for session_id in ids:
        await store.aupdate_session(session_id, status="completed")
    await asyncio.gather(*tasks)
    await sync_to_async(connections.close_all)()
    deliveries = sum(1 for _ in read.items_of(sent))
    assert deliveries == count * readers // len(ids), f"{deliveries} events were read"
    return read, sent


def _append_paced(ids: list[str], count: int, pause: float) -> dict[str, tuple[float, float]]:
    """In a process of its own: when each append began and ended, by event."""
    sent = {}
    for number, [event] in enumerate(_events(ids, count)):
        began = time.monotonic()
        _store("as the store does").append_event(event)
        if number >= 10:  # imports, and what a driver does once, are over
            sent[event.pk] = began, time.monotonic()
        time.sleep(pause)
    return sent


def _events(ids: list[str], count: int) -> Iterable[list[Any]]:
    from asm_store.models import Run

    from .records import tool_calls

    for number in range(count + 10):
        found = tool_calls(Run(session_id=ids[number % len(ids)]), 1, Sizes())
        for event in found:
            event.run_id = None
        yield found


def _delays_table(found: dict[str, dict[str, list[float]]]) -> str:
    rows = [["who waits", "events read", "p50, ms", "p99", "p50 from the commit", "p99"]]
    for name, delays in found.items():
        cells = [
            f"{value:.1f}"
            for side in delays.values()
            for value in (median(side), quantiles(side, n=100)[-1])
        ]
        rows.append([name, f"{len(delays['from the call']):,}", *cells])
    return report.aligned(rows)


# At what cost


def _costs(writers: int, each: int, rounds: int) -> dict[str, list[float]]:
    """Appends a second, round by round, for each way of telling; who begins changes."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with _appending(writers) as pool:
        for way in WAYS:
            _speed(pool, way, writers, 20)
        for number in range(rounds):
            for way in (*WAYS[number % len(WAYS) :], *WAYS[: number % len(WAYS)]):
                found[way].append(_speed(pool, way, writers, each))
    return found


def _speed(pool: ProcessPoolExecutor, way: str, writers: int, each: int) -> float:
    tasks = [pool.submit(_append, way, each) for _ in range(writers)]
    starts, ends = zip(*(task.result() for task in tasks), strict=True)
    return float(writers * each / (max(ends) - min(starts)))


def _append(way: str, each: int) -> tuple[float, float]:
    """In a process of its own: when it began and ended."""
    from asm_store.models import Session

    store = _store(way)
    session = store.save_session(Session(agent_id="assistant", status="active"))
    events = [event for [event] in _events([session.pk], each)]
    _together.wait(PATIENCE)
    began = time.monotonic()
    for event in events:
        store.append_event_with_sequence(event)
    return began, time.monotonic()


def _store(way: str) -> Any:
    """A store that tells what it appends in that way."""
    from django.conf import settings
    from django.db import connections

    from asm_store.backends.database import DatabaseSessionStore

    settings.ASM_STORE_NOTIFY = way == "as the store does"

    def tell(events: list[Any]) -> None:
        with connections[ALIAS].cursor() as cursor:
            told = f"{events[-1].sequence_number} {events[-1].session_id}"
            cursor.execute("SELECT pg_notify('asm_store', %s)", [told])

    class InTheTransaction(DatabaseSessionStore):
        def _append(self, *arguments: Any) -> list[Any]:
            def body() -> list[Any]:
                events = self._store_events(*arguments)
                tell(events)
                return events

            return self._write(body)

    class AfterIt(DatabaseSessionStore):
        def _append(self, *arguments: Any) -> list[Any]:
            events = super()._append(*arguments)
            tell(events)
            return events

    kinds = {"in the transaction": InTheTransaction, "after it": AfterIt}
    return kinds.get(way, DatabaseSessionStore)(ALIAS)


def _appending(writers: int) -> ProcessPoolExecutor:
    context = get_context("spawn")
    return ProcessPoolExecutor(
        writers, context, initializer=_prepare, initargs=(context.Barrier(writers),)
    )


def _prepare(together: Barrier) -> None:
    global _together  # noqa: PLW0603
    _together = together
    django.setup()


def _costs_table(found: dict[int, dict[str, list[float]]]) -> str:
    rows = [["writers", "not told, appends/s", *WAYS[1:]]]
    for writers, speeds in found.items():
        plain = speeds["none"]
        ratios = [
            median(told / untold for told, untold in zip(speeds[way], plain, strict=True))
            for way in WAYS[1:]
        ]
        rows.append([f"{writers}", f"{median(plain):,.0f}", *(f"{ratio:.2f}" for ratio in ratios)])
    return report.aligned(rows)


if __name__ == "__main__":
    main()
