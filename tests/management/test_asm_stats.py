from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.management.commands.asm_stats import HINT
from asm_store.test import make_event, make_run, make_session

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
ESCAPE = "\x1b[2J"


def run(*args: str) -> str:
    out = StringIO()
    call_command("asm_stats", *args, stdout=out, no_color=True)
    return out.getvalue()


def fill(using: str) -> None:
    store = DatabaseSessionStore(using)
    for number, agent in enumerate(("assistant", "reviewer"), start=1):
        at = MONDAY + timedelta(days=number)
        session = store.save_session(
            make_session(id=f"ses_{number}", agent_id=agent, status="active", created_at=at)
        )
        for model, cost in (("opus", 1.5), ("haiku", 0.25), (ESCAPE, None)):
            store.save_run(
                make_run(
                    session,
                    status="running",
                    provider="claude",
                    provider_metadata={"model": model},
                    token_usage={"input_tokens": 1_000 * number, "output_tokens": 7},
                    cost_usd=cost,
                    started_at=at,
                )
            )
        store.append_events([make_event(session, timestamp=at) for _ in range(number)])
    store.soft_delete_session("ses_2")


def test_the_table(using: str) -> None:
    fill(using)
    assert run("--using", using).splitlines() == [
        "sessions  2 (2 active), 1 soft-deleted",
        "runs      6 (6 running)",
        "events    3",
        "",
        "provider  model      runs  input  output  cache read  cache creation  total       USD",
        "claude    '\\x1b[2J'     2  3,000      14           0               0  3,014  no price",
        "claude    haiku         2  3,000      14           0               0  3,014    0.5000",
        "claude    opus          2  3,000      14           0               0  3,014    3.0000",
        "all                     6  9,000      42           0               0  9,042    3.5000",
        "",
        f"2 runs have no price. {HINT}",
    ]


def test_an_empty_database_has_nothing(using: str) -> None:
    assert run("--using", using).splitlines() == ["sessions  0", "runs      0", "events    0"]


def test_json_is_all_that_stdout_has(using: str) -> None:
    fill(using)
    report = json.loads(run("--using", using, "--json"))
    entries = report.pop("by_model")
    assert report == {
        "session_count": 2,
        "deleted_sessions": 1,
        "sessions_by_status": {"active": 2},
        "run_count": 6,
        "runs_by_status": {"running": 6},
        "event_count": 3,
        "input_tokens": 9_000,
        "output_tokens": 42,
        "cache_read_tokens": 0,
        "cache_creation_tokens": 0,
        "total_tokens": 9_042,
        "cost_usd": 3.5,
        "unmapped_runs": 2,
    }
    costs = [(entry["model"], entry["run_count"], entry["cost_usd"]) for entry in entries]
    assert costs == [(ESCAPE, 2, None), ("haiku", 2, 0.5), ("opus", 2, 3.0)]


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["--agent-id", "reviewer"], (1, 3, 2)),
        (["--agent-id", "nobody"], (0, 0, 0)),
        (["--session-id", "ses_1"], (1, 3, 1)),
        (["--provider", "claude", "--provider", "codex"], (2, 6, 0)),
        (["--provider", "codex"], (0, 0, 0)),
        (["--since", "2026-03-04T00:00:00+00:00"], (1, 3, 2)),
        (["--until", "2026-03-03T00:00:00Z"], (1, 3, 1)),
    ],
)
def test_filters(using: str, options: list[str], counts: tuple[int, int, int]) -> None:
    fill(using)
    report = json.loads(run("--using", using, "--json", *options))
    assert (report["session_count"], report["run_count"], report["event_count"]) == counts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "since: 'yesterday' cannot be read"),
        (["--until", "2026-03-03T00:00:00"], "until"),
        (["--session-id", "x" * 300], "session_id"),
        (["--session-id", ""], "session_id: is empty"),
        (["--provider", "claude", "--provider", ""], "provider: is empty"),
        (["--since", ""], "since: is empty"),
        (["--using", "nowhere"], "nowhere"),
    ],
)
@pytest.mark.django_db
def test_what_is_wrong_is_said(options: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*options)


def test_it_takes_four_statements(using: str) -> None:
    fill(using)
    with CaptureQueriesContext(connections[using]) as captured:
        run("--using", using)
    assert len(captured) == 4
