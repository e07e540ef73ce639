"""The dashboard shows the numbers of `asm_store.queries`, in a dozen statements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from asm_store import queries as asm_queries
from asm_store.admin import dashboard
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import QueryError
from asm_store.maintenance import RetentionPolicy, execute
from asm_store.models import Run, Session
from asm_store.queries import get_overview, overview, sampling
from asm_store.templatetags.asm_store import grouped, usd
from asm_store.test import make_run, make_session
from tests.admin.conftest import LogIn
from tests.admin.pages import MOST_QUERIES, address, get, queries

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
PERIOD = {"since": "2026-03-02", "until": "2026-03-15"}
FILTERS: dict[str, Any] = {"since": START, "until": START + timedelta(days=14, microseconds=-1)}


@pytest.fixture
def sessions(database_store: DatabaseSessionStore) -> list[Session]:
    """Three sessions of two agents, with runs on ten days."""
    found = []
    for number, agent in enumerate(("clerk", "clerk", "pilot")):
        session = make_session(agent_id=agent, created_at=START + timedelta(days=number))
        found.append(database_store.save_session(session))
    for number in range(10):
        started = START + timedelta(days=number, hours=number)
        database_store.save_run(
            make_run(
                found[number % 3].id,
                provider="claude" if number % 2 else "gpt",
                provider_metadata={"model": f"m{number % 2}"},
                status="failed" if number == 4 else "completed",
                started_at=started,
                ended_at=started + timedelta(seconds=number + 1),
                token_usage={
                    "input_tokens": 100,
                    "output_tokens": 10,
                    "cache_read_tokens": 300,
                },
                cost_usd=0.5 * number,
            )
        )
    return found


def shown(client: Client, **query: str) -> Any:
    response = client.get(address("dashboard"), {**PERIOD, **query})
    assert response.status_code == 200
    return response.context


@pytest.mark.parametrize("is_summed", [False, True])
@pytest.mark.parametrize("step", ["hour", "day", "week"])
@pytest.mark.parametrize("filters", [{}, {"agent_id": "clerk"}, {"provider": "gpt"}])
def test_the_numbers_are_those_of_queries(
    admin_client: Client,
    using: str,
    sessions: list[Session],
    step: str,
    filters: dict[str, str],
    is_summed: bool,
) -> None:
    if is_summed:
        execute(RetentionPolicy(), using=using)
    context = shown(admin_client, step=step, **filters)
    assert (context["overview"].live_runs == 0) is is_summed
    wanted: Any = {**FILTERS, **filters, "using": using}
    totals = asm_queries.get_totals(**wanted)
    usage = asm_queries.get_usage_summary(**wanted)
    cost = asm_queries.get_cost_summary(**wanted)
    figures = {str(name): value for name, value in context["figures"]}
    assert figures["sessions"] == grouped(totals.session_count)
    assert figures["runs"] == grouped(usage.run_count)
    assert figures["errors"] == grouped(totals.runs_by_status.get("failed", 0))
    assert figures["tokens"] == grouped(usage.total_tokens)
    assert figures["cost, stored or calculated (USD)"] == usd(cost.total_cost_usd)
    assert figures["cache share"] == "75.0 %"
    charts = {chart.name: chart.total for chart in context["charts"]}
    assert charts["session_count"] == figures["sessions"]
    assert charts["run_count"] == figures["runs"]
    assert charts["error_count"] == figures["errors"]
    assert charts["total_tokens"] == figures["tokens"]
    assert charts["cost_usd"] == figures["stored cost (USD)"]
    bars = {"hour": 14 * 24, "day": 14, "week": 2}
    assert {len(chart.bars) for chart in context["charts"]} == {bars[step]}


def test_what_stands_out_comes_first(admin_client: Client, sessions: list[Session]) -> None:
    context = shown(admin_client)
    assert [row.session_id for row in context["expensive"]] == [
        sessions[0].id,
        sessions[2].id,
        sessions[1].id,
    ]
    assert [agent.agent_id for agent in context["agents"]] == ["clerk", "pilot"]
    [failure] = context["failures"]
    assert failure.session_id == sessions[1].id
    assert context["slowest"][0].session_id == sessions[0].id


def test_percentiles_are_durations_of_runs(using: str, sessions: list[Session]) -> None:
    durations = asm_queries.get_run_durations(using=using, **FILTERS)
    assert [durations.p50, durations.p90, durations.p99, durations.longest] == [
        timedelta(seconds=seconds) for seconds in (5, 9, 10, 10)
    ]
    none = asm_queries.get_run_durations(using=using, agent_id="nobody")
    assert none == asm_queries.RunDurations(None, None, None, None)


def test_percentiles_of_many_runs_are_estimated(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = DatabaseSessionStore(using).save_session(make_session(created_at=START))
    minutes = [START + timedelta(minutes=number) for number in range(2_000)]
    Run.objects.using(using).bulk_create(
        make_run(session, started_at=at, ended_at=at + timedelta(seconds=number * 7 % 100 + 1))
        for number, at in enumerate(minutes)
    )
    period: Any = {"since": START, "until": minutes[-1], "using": using}
    exact = asm_queries.get_run_durations(**period)
    whole = sampling.estimate_run_durations(**period)
    assert (whole.p50, whole.p90, whole.longest) == (exact.p50, exact.p90, None)
    execute(RetentionPolicy(), using=using)
    monkeypatch.setattr(sampling, "SAMPLE", 500)
    about = sampling.estimate_run_durations(**period)
    assert abs(about.p50 / exact.p50 - 1) < 0.15  # type: ignore[operator]
    assert abs(about.p90 / exact.p90 - 1) < 0.1  # type: ignore[operator]
    assert about == sampling.estimate_run_durations(**period)


def test_trends_take_known_steps_and_orders(using: str) -> None:
    for call in (
        lambda: asm_queries.get_trend(using=using, step="year"),
        lambda: asm_queries.get_top_sessions(using=using, order_by="name"),
        lambda: asm_queries.get_agent_usage(using=using, limit=0),
        lambda: asm_queries.get_latest_failures(using=using, nonsense=1),  # type: ignore[call-arg]
    ):
        with pytest.raises(QueryError):
            call()


def test_what_looks_at_each_run_is_left_out_where_they_are_many(
    admin_client: Client, using: str, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "MOST_RUNS", 9)
    page = get(admin_client, address("dashboard"), **PERIOD)
    assert page.count("Too many runs would have to be looked at") == 2
    assert "About, from the runs of some parts of the period" in page
    assert "10 runs were added up for this page" in page
    execute(RetentionPolicy(), using=using)
    page = get(admin_client, address("dashboard"), **PERIOD)
    assert "were added up" not in page
    assert "Too many runs" not in page
    monkeypatch.setattr(dashboard, "MOST_RUNS", 2)
    monkeypatch.setattr(dashboard, "MOST_MODELS", 1)
    page = get(admin_client, address("dashboard"), provider="gpt", **PERIOD)
    assert "asm-chart-session_count" not in page
    page = get(admin_client, address("dashboard"), **PERIOD)
    assert "and 1 more, with fewer runs" in page


@pytest.mark.parametrize("filters", [{}, {"agent_id": "clerk"}, {"provider": "gpt"}])
@pytest.mark.parametrize("is_current", [False, True])
def test_what_stands_out_among_many_runs_is_found_by_the_sums_of_sessions(
    admin_client: Client,
    using: str,
    sessions: list[Session],
    monkeypatch: pytest.MonkeyPatch,
    filters: dict[str, str],
    is_current: bool,
) -> None:
    execute(RetentionPolicy(), using=using)
    if not is_current:
        late = {"started_at": START + timedelta(days=1), "provider": "gpt", "cost_usd": 99}
        DatabaseSessionStore(using).save_run(make_run(sessions[1].id, **late))
    wanted: Any = {"using": using, **FILTERS, **filters}
    found = {
        "expensive": asm_queries.get_top_sessions(**wanted),
        "slowest": asm_queries.get_top_sessions(order_by="duration_desc", **wanted),
    }
    monkeypatch.setattr(dashboard, "MOST_RUNS", 1)
    with queries(using) as statements:
        context = shown(admin_client, **filters)
    assert {name: context[name] for name in found} == found
    assert len(statements) <= MOST_QUERIES
    assert [sql for sql in statements if "asm_session_sums" in sql]


def test_prices_of_many_runs_are_left_to_others(
    admin_client: Client, using: str, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("genai_prices", reason="genai-prices is missing")
    Run.objects.using(using).update(
        cost_usd=None, provider="claude", provider_metadata={"model": "claude-sonnet-4-5"}
    )
    assert get_overview(using=using, **FILTERS).unpriced_runs == 0
    assert get_overview(using=using, most_runs=9, **FILTERS).unpriced_runs == 10
    monkeypatch.setattr(overview, "MOST_PRICED", 9)
    found = get_overview(using=using, **FILTERS)
    assert found.unpriced_runs == 10
    assert [(entry.run_count, entry.cost_usd) for entry in found.entries] == [(10, None)]
    assert "10 runs without a stored cost" in get(admin_client, address("dashboard"), **PERIOD)


def test_times_are_of_utc(admin_client: Client, sessions: list[Session], settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    page = get(admin_client, address("dashboard"), **PERIOD)
    assert "2026-03-06 04:00:00" in page
    assert "started (UTC)" in page


def test_the_period_is_in_the_address(admin_client: Client, sessions: list[Session]) -> None:
    context = shown(admin_client, since="2026-03-05", until="2026-03-05")
    assert len(context["charts"][1].bars) == 24
    assert context["charts"][1].total == "1"
    assert 'value="2026-03-05"' in get(admin_client, address("dashboard"), since="2026-03-05")


@pytest.mark.parametrize(
    "query",
    [
        {"since": "nonsense"},
        {"since": "2026-03-16"},
        {"since": "2020-01-01", "step": "hour"},
        {"step": "year"},
        {"agent_id": "x" * 300},
        {"until": "9999-12-31"},
        {"since": "0900-01-01", "until": "0900-01-02"},
    ],
)
def test_a_period_that_cannot_be_is_told(admin_client: Client, query: dict[str, str]) -> None:
    context = shown(admin_client, **query)
    assert context["form"].errors
    assert len(context["charts"][0].bars) == 24


def test_many_rows_cost_as_many_statements_as_none(
    admin_client: Client, using: str, sessions: list[Session]
) -> None:
    with queries(using) as empty:
        get(admin_client, address("dashboard"), since="2025-01-01", until="2025-01-02")
    with queries(using) as full:
        get(admin_client, address("dashboard"), **PERIOD)
    assert len(full) == len(empty) <= MOST_QUERIES


def test_the_index_leads_to_it_for_those_who_may(using: str, log_in: LogIn) -> None:
    client = log_in("view_session", "view_run")
    assert f'href="{address("dashboard")}"' in get(client, reverse("admin:index"))
    assert "asm-chart-run_count" in get(client, address("dashboard"))


def test_nobody_else_sees_it(using: str, log_in: LogIn) -> None:
    client = log_in("view_session")
    assert address("dashboard") not in get(client, reverse("admin:index"))
    assert client.get(address("dashboard")).status_code == 403
