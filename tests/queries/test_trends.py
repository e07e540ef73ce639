"""What the queries of the dashboard say, beside the same added up in Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Run
from asm_store.queries import (
    get_agent_usage,
    get_latest_failures,
    get_overview,
    get_run_durations,
    get_top_sessions,
    get_trend,
)
from asm_store.test import make_run, make_session

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# None is not stored, and costs nothing here.
COSTS = (None, 0.5, None, 0.25, None)


@pytest.fixture
def runs(using: str) -> list[Run]:
    """Of two agents, an hour each, half of them failed; the last session's have no cost."""
    store = DatabaseSessionStore(using)
    found = []
    for number, agent in enumerate(("clerk", "pilot")):
        begin = NOON + number * timedelta(hours=1)
        session = make_session(id=agent, agent_id=agent, created_at=begin)
        store.save_session(session)
        for minutes, cost in enumerate(COSTS):
            run = make_run(
                session,
                status="failed" if minutes % 2 else "completed",
                token_usage={"total_tokens": 1 + minutes},
                started_at=begin,
                ended_at=begin + minutes * MINUTE,
                cost_usd=None if number else cost,
            )
            found.append(store.save_run(run))
    return found


def test_only_stored_costs_count(using: str, runs: list[Run]) -> None:
    costs = [0.75, 0.0]
    assert [each.cost_usd for each in get_trend(using=using, step="hour")] == costs
    assert [each.cost_usd for each in get_agent_usage(using=using)] == costs
    assert [each.cost_usd for each in get_top_sessions(using=using)] == costs[:1]
    longest = get_top_sessions(using=using, order_by="duration_desc")
    assert [each.cost_usd for each in longest] == costs
    overview = get_overview(using=using, step="hour")
    assert [each.cost_usd for each in overview.intervals] == costs
    assert [each.cost_usd for each in overview.agents] == costs


def test_runs_failures_and_tokens(using: str, runs: list[Run]) -> None:
    found: list[Any] = [
        *get_trend(using=using, step="hour"),
        *get_agent_usage(using=using),
        *get_top_sessions(using=using, order_by="duration_desc"),
    ]
    for each in found:
        assert (each.run_count, each.error_count, each.total_tokens) == (5, 2, 15)
    failed = sorted((run.started_at, run.pk) for run in runs if run.status == "failed")
    latest = get_latest_failures(using=using, limit=3)
    assert [(run.started_at, run.pk) for run in latest] == failed[:0:-1]


def test_durations(using: str, runs: list[Run]) -> None:
    found = get_run_durations(using=using)
    # Twice 0 to 4 minutes: the fifth, the ninth and the tenth of ten.
    assert (found.p50, found.p90) == (2 * MINUTE, 4 * MINUTE)
    assert (found.p99, found.longest) == (4 * MINUTE, 4 * MINUTE)
