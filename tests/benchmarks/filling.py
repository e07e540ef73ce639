"""Tables of any size, filled the fastest way that each driver has; the same rows everywhere.

Each session has three runs and ten events; the first one has one in a hundred of all events
besides. Half of the sessions are tagged "common", one in a hundred "rare", one in 100,000
"single"; one in twenty is soft-deleted. One run in three has no stored cost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

from django.db import connections, transaction

RUNS, EVENTS = 3, 10
BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001  (UTC; without a zone, as the drivers' text has it)
MODELS = [
    ("claude", "claude-haiku"), ("claude", "claude-haiku"), ("claude", "claude-opus"),
    ("codex", "codex-mini"), ("gemini", "gemini-flash"),
]  # fmt: skip
COLUMNS = {
    "asm_sessions": (
        "id", "agent_id", "status", "metadata", "context", "tags", "created_at", "updated_at",
        "deleted_at",
    ),
    "asm_session_sequences": ("session_id", "last_sequence", "updated_at"),
    "asm_runs": (
        "id", "session_id", "status", "metadata", "turn_count", "token_usage", "started_at",
        "ended_at", "provider", "provider_metadata", "cost_usd",
    ),
    "asm_events": (
        "id", "type", "timestamp", "session_id", "run_id", "sequence_number", "data", "metadata",
        "schema_version", "correlation_id",
    ),
}  # fmt: skip
SUMS = ("asm_session_sums", "asm_usage_sums", "asm_usage_marks", "asm_usage_progress")
BATCH = 5_000
Row = tuple[Any, ...]


def fill(alias: str, sessions: int) -> None:
    """Fill the empty tables of `alias`; what is done is told on stderr."""
    makers: dict[str, Callable[[int], Iterator[Row]]] = {
        "asm_sessions": session_rows,
        "asm_session_sequences": counter_rows,
        "asm_runs": run_rows,
        "asm_events": event_rows,
    }
    load = LOADERS[connections[alias].vendor]
    for table, rows in makers.items():
        print(f"{alias}: {table}", file=sys.stderr, flush=True)  # noqa: T201
        load(alias, table, rows(sessions))
    analyze(alias)


def empty(alias: str) -> None:
    """Take away what is there, children before their parents."""
    tables = ("asm_artifacts", *reversed(COLUMNS), *SUMS)
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(tables)}")
            return
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")


def analyze(alias: str) -> None:
    """Let the database plan for what is in the tables now."""
    tables = ", ".join(COLUMNS)
    statements = {"postgresql": f"VACUUM ANALYZE {tables}", "mysql": f"ANALYZE TABLE {tables}"}
    with connections[alias].cursor() as cursor:
        cursor.execute(statements.get(connections[alias].vendor, "ANALYZE"))


def session_id(number: int) -> str:
    return f"ses_{number:032x}"


def run_id(number: int) -> str:
    return f"run_{number:032x}"


def moment(seconds: float) -> str:
    return str(BEGIN + timedelta(seconds=seconds))


def session_rows(sessions: int) -> Iterator[Row]:
    for n in range(sessions):
        yield (
            session_id(n),
            "agent_rare" if n % 1_000 == 0 else f"agent_{n % 3}",
            "failed" if n % 500 == 0 else "active" if n % 50 == 0 else "completed",
            "{}",
            "{}",
            _tags(n),
            moment(n * 10),
            moment(n * 7_919 % sessions * 10 + 5),
            moment(sessions * 10) if n % 20 == 0 else None,
        )


def _tags(n: int) -> str:
    if n % 100_000 == 7:
        return '["common", "single"]'
    if n % 100 == 7:
        return '["common", "rare"]'
    return '["common"]' if n % 2 else "[]"


def counter_rows(sessions: int) -> Iterator[Row]:
    for n in range(sessions):
        yield session_id(n), EVENTS + (0 if n else sessions // 10), moment(n * 10)


def run_rows(sessions: int) -> Iterator[Row]:
    for n in range(sessions * RUNS):
        provider, model = ("rare", "rare-1") if n % 10_000 == 7 else MODELS[n % len(MODELS)]
        usage = (
            f'{{"input_tokens": {n * 7_919 % 50_000}, "output_tokens": {n % 2_000}, '
            f'"cache_read_tokens": {n % 100_000}}}'
        )
        begin = n // RUNS * 10 + n % RUNS * 3
        yield (
            run_id(n),
            session_id(n // RUNS),
            "failed" if n % 500 == 0 else "completed",
            "{}",
            1,
            usage,
            moment(begin),
            moment(begin + 2.5),
            provider,
            f'{{"model": "{model}"}}',
            None if n % 3 == 0 else n % 1_000 / 1_000,
        )


def event_rows(sessions: int) -> Iterator[Row]:
    """The events of each session, and those more that the first one has."""
    own = ((n // EVENTS, n % EVENTS + 1) for n in range(sessions * EVENTS))
    more = ((0, EVENTS + n + 1) for n in range(sessions // 10))
    for n, (owner, number) in enumerate(chain(own, more)):
        yield (
            f"evt_{n:032x}",
            ("message_sent", "message_received", "tool_call_completed")[n % 3],
            moment(owner * 10 + number),
            session_id(owner),
            run_id(owner * RUNS + number % RUNS),
            number,
            f'{{"content": "{n} light bulbs were changed", "role": "user"}}',
            "{}",
            1,
            f"call_{n % 1_000_000}" if n % 100 == 0 else None,
        )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    found = iter(rows)
    while batch := list(islice(found, BATCH)):
        yield batch


def _copy(alias: str, table: str, rows: Iterable[Row]) -> None:
    into = f"COPY {table} ({', '.join(COLUMNS[table])}) FROM STDIN"
    with connections[alias].cursor() as cursor, cursor.cursor.copy(into) as copy:
        for batch in _batches(rows):
            copy.write("".join(f"{_line(row)}\n" for row in batch))


def _line(row: Row) -> str:
    # No value of ours has a tab, a backslash or a new line in it.
    return "\t".join("\\N" if value is None else str(value) for value in row)


def _insert(alias: str, table: str, rows: Iterable[Row]) -> None:
    columns = COLUMNS[table]
    into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
    for batch in _batches(rows):
        with transaction.atomic(alias), connections[alias].cursor() as cursor:
            cursor.executemany(into, batch)


LOADERS = {"postgresql": _copy, "sqlite": _insert, "mysql": _insert}
