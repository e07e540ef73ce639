"""No search reads a table of 100,000 rows from end to end: PostgreSQL's plans say so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db import connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.queries import get_overview, search_events, search_runs, search_sessions
from asm_store.queries.search import RUN_ORDERS, SESSION_ORDERS
from asm_store.test import make_session
from tests.cases import only_on
from tests.queries import plans

USING = "postgresql"
DAY = datetime(2026, 1, 2, tzinfo=UTC)

Search = Callable[..., Any]

# The filters and orders of each search, and an index that its plan must have.
SESSIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "asm_sessions_updated"),
    ({"order_by": "created_at_asc"}, "asm_sessions_created"),
    ({"order_by": "created_at_desc"}, "asm_sessions_created"),
    ({"include_deleted": True}, "asm_sessions_updated"),
    ({"agent_id": "agent_1"}, "asm_sessions_updated"),
    ({"agent_id": "agent_rare"}, "asm_sessions_agent"),
    ({"agent_id": "agent_rare", "order_by": "created_at_desc"}, "asm_sessions_agent"),
    ({"status": "failed", "order_by": "created_at_asc"}, "asm_sessions_status"),
    ({"status": ["failed", "active"]}, ""),
    ({"created_after": DAY, "order_by": "created_at_asc"}, "asm_sessions_created"),
    ({"created_before": DAY}, ""),
    ({"tags": ["common"]}, ""),
    ({"tags": ["rare"]}, ""),
    ({"tags": ["single"]}, "asm_sessions_tags"),
    ({"tags": ["nobody has it"]}, "asm_sessions_tags"),
    ({"tags": ["single", "common"], "order_by": "created_at_asc"}, "asm_sessions_tags"),
    ({"provider": "claude"}, "asm_runs_"),
]


RUNS: list[tuple[dict[str, Any], str]] = [
    ({}, "asm_runs_started"),
    ({"order_by": "started_at_asc"}, "asm_runs_started"),
    ({"order_by": "token_usage_desc"}, "asm_runs_tokens"),
    ({"order_by": "token_usage_desc", "include_deleted": True}, "asm_runs_tokens"),
    ({"order_by": "token_usage_desc", "min_tokens": 4_990}, "asm_runs_tokens"),
    ({"session_id": "ses_00000003"}, "asm_runs_session"),
    ({"session_id": "ses_00000001"}, "asm_runs_session"),
    ({"status": "failed"}, "asm_runs_status"),
    ({"provider": "claude"}, "asm_runs_"),
    ({"provider": "rare"}, "asm_runs_provider"),
]
EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"session_ids": ["ses_00000001"]}, "asm_events_session_sequence"),
    ({"session_ids": ["ses_00000001", "ses_00000003"]}, "asm_events_session_sequence"),
    ({"run_ids": ["run_00000007"]}, "asm_events_run"),
    ({"run_ids": ["run_00000007", "run_00000008"]}, "asm_events_run"),
    ({"correlation_id": "call_100"}, "asm_events_correlation"),
    ({"correlation_id": "call_100", "order_by": "timestamp_desc"}, "asm_events_correlation"),
    ({"order_by": "timestamp_asc"}, "asm_events_timestamp"),
    ({"order_by": "timestamp_desc"}, "asm_events_timestamp"),
    ({"order_by": "timestamp_desc", "until": DAY}, "asm_events_timestamp"),
    ({"order_by": "timestamp_asc", "types": ["message_sent"]}, "asm_events_timestamp"),
]
# What reads a page from an index of its order, without sorting; beside it only looks whether the
# session is deleted.
IN_ORDER: list[tuple[Search, dict[str, Any]]] = [
    *((search_sessions, {"order_by": order_by}) for order_by in SESSION_ORDERS),
    *(
        (search_sessions, {"order_by": order_by, "agent_id": "agent_1"})
        for order_by in SESSION_ORDERS
    ),
    *((search_runs, {"order_by": order_by}) for order_by in RUN_ORDERS),
    (search_events, {"order_by": "timestamp_asc"}),
    (search_events, {"order_by": "timestamp_desc"}),
    (search_events, {"session_ids": ["ses_00000001"]}),
    (search_runs, {"session_id": "ses_00000001"}),
]
ASKED: list[tuple[Search, list[tuple[dict[str, Any], str]]]] = [
    (search_sessions, SESSIONS),
    (search_runs, RUNS),
    (search_events, EVENTS),
]


def statements(search: Search, wanted: dict[str, Any]) -> list[str]:
    """Of the first page, and of the second."""
    total = {"include_total": False} if search is search_sessions else {}
    first = partial(search, using=USING, limit=50, **total, **wanted)
    cursor = first().cursor
    pages = [first] + ([partial(first, cursor=cursor)] if cursor else [])
    return [sql for page in pages for sql in plans.sent(USING, page)]


@only_on(USING)
def test_searches_of_large_tables_read_indexes_alone(using: str) -> None:
    plans.fill(USING)
    for search, questions in ASKED:
        for wanted, index in questions:
            for sql in statements(search, wanted):
                used = plans.indexes(USING, sql)
                assert plans.scanned(USING, sql) == set(), (search, wanted)
                assert any(name.startswith(index) for name in used), (search, wanted, used)
                assert "OFFSET" not in sql
    for search, wanted in IN_ORDER:
        for sql in statements(search, wanted):
            kinds = {step.kind for step in plans.steps(USING, sql)}
            assert kinds <= {"Limit", "Index Scan", "Index Only Scan", "Nested Loop", "Memoize"}, (
                search,
                wanted,
                kinds,
            )


@only_on("postgresql_other")
def test_a_search_is_planned_for_its_values_however_often_it_is_asked(using: str) -> None:
    """The alias prepares what it has sent a few times, and then one plan may be for all values."""
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session())
    for _ in range(8):
        search_sessions(using=using, agent_id="agent_rare")
        store.get_session(session.id)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = [statement for (statement,) in cursor.fetchall()]
    assert any("asm_sessions" in statement for statement in prepared)
    assert not [text for text in prepared if text.startswith("SELECT") and '"agent_id" = $' in text]


@only_on(USING)
def test_sessions_stand_out_without_a_look_at_all_runs(using: str) -> None:
    plans.fill(using)
    plans.fill_sums(using, DAY + timedelta(hours=3))
    question = partial(get_overview, using=using, since=DAY - timedelta(hours=12), top_sessions=10)
    sent = plans.sent(using, question)
    asked = [sql for sql in sent if "asm_session_sums" in sql or "jsonb_array_elements" in sql]
    used = [plans.indexes(using, sql) for sql in asked]
    assert used == [
        {"asm_runs_started", "asm_session_sums_pkey"},
        {"asm_session_sums_cost"},
        {"asm_session_sums_duration"},
        {"asm_runs_session"},
    ]
    assert not {table for sql in asked for table in plans.scanned(using, sql)}


@only_on(USING)
def test_an_overview_of_a_day_reads_what_has_no_sums_by_time(using: str) -> None:
    plans.fill(using)
    plans.fill_sums(using, DAY + timedelta(hours=4))
    since = DAY - timedelta(minutes=2)
    sent = plans.sent(using, partial(get_overview, using=using, since=since))
    used = [plans.indexes(using, sql) for sql in sent if '"started_at"' in sql]
    assert used == [{"asm_runs_started"}, {"asm_runs_started", "asm_sessions_pkey"}]
    [sessions] = [sql for sql in sent if '"created_at"' in sql]
    assert plans.indexes(using, sessions) == {"asm_sessions_created"}
    assert not {"asm_runs", "asm_sessions"} & {
        table for sql in sent for table in plans.scanned(using, sql)
    }
