"""The command: removes expired sessions, and appends meanwhile; beside the same by plain SQL.

`python -m tests.benchmarks.maintenance --sessions 100000` removes 600,000 events each time.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from statistics import quantiles
from typing import Any

import django
from django.db import connections

from . import filling, report
from .commands import begun
from .measuring import timed
from .plan import OPTIONS, Sizes, alias_of, vendor_of

EVENTS = 6
BATCH = 2_000  # rows that a transaction deletes, the policy's default
DAY = 24 * 60 * 60
# Seconds between two appends, and for how long they are measured with nothing beside them.
PAUSE, ALONE = 0.005, 5.0
# What is a session's, by its column `session_id`.
CONTENTS = (
    "asm_artifacts", "asm_events", "asm_runs", "asm_session_sequences", "asm_session_sums",
)  # fmt: skip
# How a list of ids is given to a statement.
LISTS = {"postgresql": "= ANY(%s)"}

# In the process that appends: it ends when the one is set, and sets the other when it has begun.
_over: Signal
_begun: Signal


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.maintenance", description=__doc__)
    add = parser.add_argument
    add("--on", nargs="+", choices=OPTIONS, default=["postgresql", "sqlite"], metavar="DATABASE")
    add("--sessions", type=int, default=5_000, help="expired sessions, 6 events each (5,000)")
    add("--rounds", type=int, default=1, help="how often each side removes them (1)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser)

    from . import run

    found: dict[str, Any] = {"sessions": chosen.sessions}
    with run.prepared(chosen.on, Sizes(processes=1)):
        found["environment"] = report.environment(chosen.on)
        print(report.described(found["environment"]))  # noqa: T201
        for vendor in chosen.on:
            alias = alias_of(vendor, "recommended")
            found[vendor] = [_round(alias, chosen.sessions) for _ in range(chosen.rounds)]
            print(f"\n{vendor}\n\n{_table(found[vendor])}", flush=True)  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _round(alias: str, sessions: int) -> dict[str, Any]:
    """Both sides, each on tables filled anew."""
    found: dict[str, Any] = {"alone": _p99(alias, lambda: time.sleep(ALONE))}
    for side, remove in (("baseline", remove_by_sql), ("ours", remove_by_maintenance)):
        for is_beside in (False, True):
            fill(alias, sessions)
            sample: dict[str, float] = {}

            def work(remove: Any = remove, sample: Any = sample) -> None:
                sample.update(_elsewhere(remove, alias, sessions))

            if is_beside:
                found[side]["p99"] = _p99(alias, work)
            else:
                work()
                found[side] = {
                    **sample,
                    "per_second": sessions / sample["seconds"],
                    "cpu": sample["cpu"] / sessions * 1e6,
                }
    return found


def _table(rounds: list[dict[str, Any]]) -> str:
    rows = [
        [
            "plain SQL, sessions/s", "maintenance", "ratio", "CPU us a session", "peak memory, MB",
            "p99 of appends, alone, ms", "beside plain SQL", "beside maintenance", "times",
        ]
    ]  # fmt: skip
    for found in rounds:
        ours, baseline, alone = found["ours"], found["baseline"], found["alone"]
        rows.append(
            [
                f"{baseline['per_second']:,.0f}",
                f"{ours['per_second']:,.0f}",
                f"{ours['per_second'] / baseline['per_second']:.2f}",
                f"{baseline['cpu']:.0f} / {ours['cpu']:.0f}",
                f"{ours['peak']:.0f}",
                f"{alone:.1f}",
                f"{baseline['p99']:.1f}",
                f"{ours['p99']:.1f}",
                f"{ours['p99'] / alone:.1f}",
            ]
        )
    return report.aligned(rows)


def fill(alias: str, sessions: int) -> None:
    """Sessions that were soft-deleted long ago, each with a run, a counter and its events."""
    filling.empty(alias)
    long_ago = filling.moment(-100 * DAY)
    rows: dict[str, Iterator[filling.Row]] = {
        "asm_sessions": ((*row[:-1], long_ago) for row in filling.session_rows(sessions)),
        "asm_session_sequences": (
            (filling.session_id(n), EVENTS, long_ago) for n in range(sessions)
        ),
        "asm_runs": (
            row for n, row in enumerate(filling.run_rows(sessions)) if n % filling.RUNS == 0
        ),
        "asm_events": (row for row in filling.event_rows(sessions) if row[5] <= EVENTS),
    }
    for table, values in rows.items():
        filling.LOADERS[vendor_of(alias)](alias, table, values)
    filling.analyze(alias)
    print(f"{alias}: {sessions:,} sessions", file=sys.stderr, flush=True)  # noqa: T201


# What a process of its own does


def _elsewhere(remove: Callable[..., None], alias: str, sessions: int) -> dict[str, float]:
    """Seconds, those of the processor, and peak memory of the removal in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=django.setup) as pool:
        return pool.submit(_measured, remove, alias, sessions).result()


def _measured(remove: Callable[..., None], alias: str, sessions: int) -> dict[str, float]:
    connections[alias].ensure_connection()
    remove(alias, dry_run=True)  # imports, and what a driver does once
    sample = timed(sessions, lambda: remove(alias))
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM asm_sessions WHERE deleted_at IS NOT NULL")
        [left] = cursor.fetchone()
    assert left == 0, f"{left} of {sessions} sessions are left"
    # KiB on Linux, bytes on macOS: https://docs.python.org/3/library/resource.html
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return {"seconds": sample.seconds, "cpu": sample.cpu, "peak": peak}


def remove_by_maintenance(alias: str, *, dry_run: bool = False) -> None:
    from asm_store.maintenance import RetentionPolicy, execute

    policy = RetentionPolicy(max_completed_session_age_days=None, batch_size=BATCH)
    done = execute(policy, using=alias, dry_run=dry_run)
    assert not done.errors, done.errors


def remove_by_sql(alias: str, *, dry_run: bool = False) -> None:
    """The least that has to be done, in the same batches."""
    if dry_run:
        return
    connection = connections[alias]
    listed = LISTS.get(connection.vendor)
    last = ""
    with connection.cursor() as django_cursor:
        cursor = django_cursor.cursor  # the driver's own
        while ids := _next(cursor, connection.vendor, last):
            marks = ", ".join([_mark(connection.vendor)] * len(ids))
            with _transaction(connection):
                for sql in _statements(listed or f"IN ({marks})"):
                    cursor.execute(sql, [ids] if listed else ids)
            last = ids[-1]


def _mark(vendor: str) -> str:
    return "?" if vendor == "sqlite" else "%s"


def _next(cursor: Any, vendor: str, last: str) -> list[str]:
    cursor.execute(
        f"SELECT id FROM asm_sessions WHERE deleted_at < '{filling.BEGIN}' "
        f"AND id > {_mark(vendor)} ORDER BY id LIMIT {BATCH // EVENTS}",
        [last],
    )
    return [pk for [pk] in cursor.fetchall()]


def _statements(listed: str) -> list[str]:
    return [
        f"UPDATE asm_sessions SET parent_session_id = NULL WHERE parent_session_id {listed}",
        *(f"DELETE FROM {table} WHERE session_id {listed}" for table in CONTENTS),
        f"DELETE FROM asm_sessions WHERE id {listed}",
    ]


@contextmanager
def _transaction(connection: Any) -> Iterator[None]:
    begin = "BEGIN IMMEDIATE" if connection.vendor == "sqlite" else "BEGIN"
    with connection.cursor() as cursor:
        cursor.execute(begin)
        yield
        cursor.execute("COMMIT")


# Appends meanwhile


def _p99(alias: str, work: Callable[[], object]) -> float:
    """In milliseconds, of appends from another process while `work()` goes on."""
    context = get_context("spawn")
    over, begun = context.Event(), context.Event()
    with ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(over, begun)) as pool:
        appends = pool.submit(_append_until_over, alias)
        begun.wait()
        work()
        over.set()
        return quantiles(appends.result(), n=100)[-1] * 1_000


def _prepare(over: Signal, begun: Signal) -> None:
    global _over, _begun
    _over, _begun = over, begun
    django.setup()


def _append_until_over(alias: str) -> list[float]:
    """How long each append took, in seconds."""
    from asm_store.backends.database import DatabaseSessionStore

    from .records import new_run, tool_calls

    store = DatabaseSessionStore(alias)
    session, run = new_run()
    store.flush(session, run)
    found: list[float] = []
    while not _over.is_set():
        [event] = tool_calls(run, 1, Sizes())
        begin = time.perf_counter()
        store.append_event(event)
        found.append(time.perf_counter() - begin)
        _begun.set()
        time.sleep(PAUSE)
    return found


if __name__ == "__main__":
    main()
