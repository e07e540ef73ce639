"""PostgreSQL's plans for what a search really sends, on tables that are worth an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.test.utils import CaptureQueriesContext

from asm_store.marks import PROGRESS
from asm_store.models import Run
from asm_store.sums import UsageSum

SESSIONS = 100_000

# A few agents, most sessions completed, one in a hundred "rare", one in ten thousand "single".
FILL_SESSIONS = """
    INSERT INTO asm_sessions
        (id, agent_id, status, metadata, context, tags, created_at, updated_at, deleted_at)
    SELECT 'ses_' || lpad(n::text, 8, '0'),
        'agent_' || CASE WHEN n %% 1000 = 0 THEN 'rare' ELSE (n %% 3)::text END,
        CASE WHEN n %% 500 = 0 THEN 'failed' WHEN n %% 50 = 0 THEN 'active' ELSE 'completed' END,
        '{}', '{}',
        CASE WHEN n %% 10000 = 7 THEN '["common", "single"]'
            WHEN n %% 100 = 7 THEN '["common", "rare"]'
            WHEN n %% 2 = 0 THEN '["common"]' ELSE '[]' END::jsonb,
        '2026-01-01'::timestamptz + n * interval '1 second',
        '2026-02-01'::timestamptz + (n * 7919 %% 100000) * interval '1 second',
        CASE WHEN n %% 20 = 0 THEN '2026-03-01'::timestamptz END
    FROM generate_series(1, %s) AS n
"""

# A run of each session; a large session has one in ten of all.
FILL_RUNS = """
    INSERT INTO asm_runs
        (id, session_id, status, metadata, turn_count, token_usage, started_at, provider,
         provider_metadata)
    SELECT 'run_' || lpad(n::text, 8, '0'),
        CASE WHEN n %% 10 = 0 THEN 'ses_00000001' ELSE 'ses_' || lpad(n::text, 8, '0') END,
        CASE WHEN n %% 500 = 0 THEN 'failed' ELSE 'completed' END, '{}', 1,
        jsonb_build_object('input_tokens', n %% 5000),
        '2026-01-01'::timestamptz + n * interval '1 second',
        CASE WHEN n %% 10000 = 7 THEN 'rare' ELSE 'claude' END, '{}'
    FROM generate_series(1, %s) AS n
"""
# An event of each run; the large session's are numbered on, every hundredth has a correlation id.
FILL_EVENTS = """
    INSERT INTO asm_events
        (id, type, timestamp, session_id, run_id, sequence_number, data, metadata,
         schema_version, correlation_id)
    SELECT 'evt_' || lpad(n::text, 8, '0'), 'message_sent',
        '2026-01-01'::timestamptz + n * interval '1 second',
        CASE WHEN n %% 10 = 0 THEN 'ses_00000001' ELSE 'ses_' || lpad(n::text, 8, '0') END,
        'run_' || lpad(n::text, 8, '0'), n, '{}', '{}', 1,
        CASE WHEN n %% 100 = 0 THEN 'call_' || n %% 1000 END
    FROM generate_series(1, %s) AS n
"""
FILL_COUNTERS = """
    INSERT INTO asm_session_sequences (session_id, last_sequence, updated_at)
    SELECT 'ses_' || lpad(n::text, 8, '0'), n, '2026-03-01'
    FROM generate_series(1, %s) AS n
"""
FILL_SUMS = """
    INSERT INTO asm_session_sums
        (session_id, summed_at, first_started_at, last_started_at, run_count, error_count,
         total_tokens, cost_usd, duration)
    SELECT session_id, now(), min(started_at), max(started_at), count(*), 0, sum(total_tokens),
        count(*) * random(), count(*) * interval '1 second'
    FROM asm_runs WHERE started_at < %s GROUP BY session_id
"""
FILL_PROGRESS = "INSERT INTO asm_usage_progress (name, until) VALUES (%s, %s)"
TABLES = "asm_sessions, asm_runs, asm_events, asm_session_sequences"


def execute(using: str, sql: str, *parameters: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)


def fill(using: str) -> None:
    for sql in (FILL_SESSIONS, FILL_RUNS, FILL_EVENTS, FILL_COUNTERS):
        execute(using, sql, SESSIONS)
    execute(using, f"ANALYZE {TABLES}")


def fill_sums(using: str, until: datetime) -> None:
    """As maintenance does it; of hours only how many runs they have, in the last one."""
    execute(using, FILL_SUMS, until)
    execute(using, FILL_PROGRESS, PROGRESS, until)
    counted = Run.objects.using(using).filter(started_at__lt=until).count()
    begin = until - timedelta(hours=1)
    UsageSum._base_manager.using(using).create(begin=begin, is_stored=True, run_count=counted)
    execute(using, "ANALYZE asm_session_sums")


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a plan: how a table is read, or what is done with its rows."""

    kind: str
    table: str | None
    index: str | None


def sent(using: str, query: Callable[[], object]) -> list[str]:
    """The statements that `query` sends, with their values in them."""
    with CaptureQueriesContext(connections[using]) as captured:
        query()
    return [entry["sql"] for entry in captured]


def steps(using: str, sql: str) -> Iterator[Step]:
    with connections[using].cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        [[explained]] = cursor.fetchall()
    [top] = json.loads(explained) if isinstance(explained, str) else explained
    nodes = [top["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", [])
        yield Step(node["Node Type"], node.get("Relation Name"), node.get("Index Name"))


def scanned(using: str, sql: str) -> set[str | None]:
    """The tables that are read from end to end."""
    return {step.table for step in steps(using, sql) if step.kind == "Seq Scan"}


def indexes(using: str, sql: str) -> set[str]:
    return {step.index for step in steps(using, sql) if step.index is not None}
