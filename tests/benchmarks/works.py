"""The rows of the table: each is done by the store, and by a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from django.db import connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run

from .baselines import make_baseline
from .clients import Client, StoreClient
from .measuring import Sample, counted, timed
from .plan import Sizes
from .records import new_run, tokens, tool_calls
from .team import Team

BATCH = 100
LARGE_BATCH = 1_000
READ = 1_000
TAIL = 50
FLUSHED = 50


@dataclass(frozen=True, slots=True)
class Bench:
    """What a measurement needs beside its client."""

    sizes: Sizes
    team: Team


Measure = Callable[[Any, Bench], Sample]


@dataclass(frozen=True, slots=True)
class Work:
    measure: Measure
    baseline: Measure | None = None  # when it is another measure, that the baseline does
    against_store: bool = False  # the baseline is the store too


def stored_run(alias: str) -> Run:
    """A new session with a run, for the events of one measurement."""
    session, run = new_run()
    DatabaseSessionStore(alias).flush(session, run)
    return run


def expect(alias: str, run: Run, count: int) -> None:
    """No figure for what was not done."""
    latest = DatabaseSessionStore(alias).get_latest_sequence(run.session_id)
    stored = Event.objects.using(alias).filter(session_id=run.session_id).count()
    if not latest == stored == count:
        raise AssertionError(f"{alias}: {stored} events, the latest {latest}, expected {count}")


def _append_all(client: Client, events: list[Any]) -> None:
    for event in events:
        client.append(event)


def one_writer(client: Client, bench: Bench) -> Sample:
    run = stored_run(client.alias)
    events = client.packed(tool_calls(run, bench.sizes.appends, bench.sizes))
    sample = counted(client, len(events), partial(_append_all, client, events))
    expect(client.alias, run, len(events))
    return sample


def many_sessions(client: Client, bench: Bench) -> Sample:
    return _together(client, bench, [stored_run(client.alias) for _ in range(bench.team.size)])


def hot_session(client: Client, bench: Bench) -> Sample:
    return _together(client, bench, [stored_run(client.alias)] * bench.team.size)


def _together(client: Client, bench: Bench, runs: list[Run]) -> Sample:
    is_store = isinstance(client, StoreClient)
    sample = bench.team.append(client.alias, by_store=is_store, runs=runs, sizes=bench.sizes)
    for run in runs:
        expect(client.alias, run, bench.sizes.each * runs.count(run))
    return sample


def batches_of_100(client: Client, bench: Bench) -> Sample:
    return _batches(client, bench, bench.sizes.batches, BATCH)


def batches_of_1000(client: Client, bench: Bench) -> Sample:
    return _batches(client, bench, bench.sizes.large, LARGE_BATCH)


def _batches(client: Client, bench: Bench, count: int, size: int) -> Sample:
    run = stored_run(client.alias)
    batches = [client.packed(tool_calls(run, size, bench.sizes)) for _ in range(count)]

    def body() -> None:
        for batch in batches:
            client.append_batch(batch)

    sample = counted(client, count, body)
    expect(client.alias, run, count * size)
    return sample


@cache
def _session_of(alias: str, count: int, sizes: Sizes) -> str:
    """A session that has so many events, among others."""
    run = stored_run(alias)
    client = make_baseline(alias)
    for start in range(0, count, LARGE_BATCH):
        size = min(LARGE_BATCH, count - start)
        client.append_batch(client.packed(tool_calls(run, size, sizes)))
    client.close()
    if connections[alias].vendor == "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("ANALYZE")  # as autovacuum does it before long
    return str(run.session_id)


def _reading(client: Client, times: int, read: Callable[[], int], expected: int) -> Sample:
    found: list[int] = []
    sample = counted(client, times, lambda: found.extend(read() for _ in range(times)))
    if found != [expected] * times:
        raise AssertionError(f"{client.alias}: read {found}, expected {expected} each time")
    return sample


def read(client: Client, bench: Bench) -> Sample:
    session_id = _session_of(client.alias, READ, bench.sizes)
    return _reading(client, bench.sizes.reads, lambda: client.read(session_id), READ)


def read_lines(client: StoreClient, bench: Bench) -> Sample:
    session_id = _session_of(client.alias, READ, bench.sizes)
    return _reading(client, bench.sizes.reads, lambda: client.read_lines(session_id), READ)


def read_last(client: Client, bench: Bench) -> Sample:
    session_id = _session_of(client.alias, bench.sizes.history, bench.sizes)
    return _reading(client, bench.sizes.tails, lambda: client.read_last(session_id, TAIL), TAIL)


def writer(client: StoreClient, bench: Bench) -> Sample:
    run = stored_run(client.alias)
    events = tokens(run, bench.sizes.tokens)
    sample = timed(len(events), lambda: client.write(run.session_id, events))
    expect(client.alias, run, len(events))
    return sample


def small_appends(client: Client, bench: Bench) -> Sample:
    run = stored_run(client.alias)
    events = client.packed(tokens(run, bench.sizes.appends))
    sample = timed(len(events), partial(_append_all, client, events))
    expect(client.alias, run, len(events))
    return sample


def flush(client: Client, bench: Bench) -> Sample:
    records = [new_run() for _ in range(bench.sizes.flushes)]
    events = [client.packed(tool_calls(run, FLUSHED, bench.sizes)) for _, run in records]

    def body() -> None:
        for (session, run), some in zip(records, events, strict=True):
            client.flush(session, run, some)

    sample = counted(client, len(records), body)
    for _, run in records:
        expect(client.alias, run, FLUSHED)
    return sample


# As `plan.ROWS` names them.
WORKS = {
    "append": Work(one_writer),
    "sessions": Work(many_sessions),
    "hot": Work(hot_session),
    "batch-100": Work(batches_of_100),
    "batch-1000": Work(batches_of_1000),
    "read": Work(read),
    "lines": Work(read_lines, baseline=read),
    "tail": Work(read_last),
    "writer": Work(writer, baseline=small_appends, against_store=True),
    "flush": Work(flush),
}
