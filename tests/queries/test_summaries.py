"""get_session_stats and get_usage_summary: sums by the database, equal to sums of lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test.utils import CaptureQueriesContext

from asm_store.exceptions import QueryError, SessionNotFound
from asm_store.filters import UsageFilterSet
from asm_store.models import Event, Run, Session
from asm_store.queries import (
    UsageSummary,
    aget_session_stats,
    aget_usage_summary,
    get_session_stats,
    get_usage_summary,
)
from asm_store.queries.summaries import UsageFilters
from asm_store.test import make_event, make_run, make_session
from tests.queries.usage import COUNTS, HOSTILE, counts

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
AGENTS = {"ses_1": "assistant", "SES_1": "Assistant", "ses_2": "assistant", "ses_deleted": "x"}
PROVIDERS = ["claude", "Claude", "claude ", "unknown", "", None]
# Sums of floats depend on their order: not those of these, which are whole and small.
WHOLE = [
    usage for usage in HOSTILE if all(n.is_integer() and n < 2**40 for n in counts(usage).values())
]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def make_corpus() -> list[Run]:
    chance = random.Random(7)
    return [
        make_run(
            chance.choice(list(AGENTS)),
            status=chance.choice(Run.Status.values),
            provider=chance.choice(PROVIDERS),
            started_at=moment(chance.randrange(9) / 1_000_000),
            token_usage=chance.choice([*WHOLE, {name: chance.randrange(2**40) for name in COUNTS}]),
        )
        for _ in range(200)
    ]


def save(using: str, runs: list[Run], events: Iterable[Event] = ()) -> None:
    sessions = [make_session(id=pk, agent_id=AGENTS[pk]) for pk in AGENTS]
    sessions[-1].deleted_at = START
    Session.objects.using(using).bulk_create(sessions)
    Run.objects.using(using).bulk_create(runs)
    Event.objects.using(using).bulk_create(events)


def totals(runs: Iterable[Run]) -> dict[str, float]:
    found = [counts(run.token_usage) for run in runs]
    return {
        **{name: sum(counted[name] for counted in found) for name in COUNTS},
        "run_count": len(found),
    }


def expected(runs: list[Run]) -> UsageSummary:
    total = totals(runs)
    names = sorted({run.provider or "unknown" for run in runs})
    return UsageSummary(
        total["input_tokens"],
        total["output_tokens"],
        total["total_tokens"],
        len(runs),
        {
            name: totals(run for run in runs if (run.provider or "unknown") == name)
            for name in names
        },
    )


def matches(
    run: Run,
    *,
    session_id: str | None = None,
    agent_id: str | None = None,
    provider: list[str] | None = None,
    since: datetime = START,
    until: datetime = END,
) -> bool:
    return (
        session_id in {None, run.session_id}
        and agent_id in {None, AGENTS[run.session_id]}
        and (provider is None or run.provider in provider)
        and since <= run.started_at <= until
    )


def some_filters(chance: random.Random) -> dict[str, Any]:
    every: dict[str, Callable[[], Any]] = {
        "session_id": lambda: chance.choice([*AGENTS, "ses_3"]),
        "agent_id": lambda: chance.choice([*AGENTS.values(), "nobody"]),
        "provider": lambda: chance.sample(["claude", "Claude", "unknown", ""], chance.randrange(4)),
        "since": lambda: moment(chance.randrange(9) / 1_000_000),
        "until": lambda: moment(chance.randrange(9) / 1_000_000),
    }
    return {name: every[name]() for name in chance.sample(sorted(every), chance.choice([0, 1, 2]))}


def test_usage_is_the_sum_of_the_runs(using: str) -> None:
    runs = make_corpus()
    save(using, runs)
    chance = random.Random(8)
    for _ in range(30):
        wanted = some_filters(chance)
        found = get_usage_summary(using=using, **wanted)
        assert found == expected([run for run in runs if matches(run, **wanted)]), wanted


def test_the_sum_of_nothing_is_nothing(using: str) -> None:
    assert get_usage_summary(using=using) == UsageSummary(0, 0, 0, 0, {})
    assert get_usage_summary(using=using, provider=[]) == UsageSummary(0, 0, 0, 0, {})


def test_whole_sums_are_ints(using: str) -> None:
    save(using, [make_run("ses_1", token_usage={"input_tokens": 2**52, "output_tokens": 0.5})])
    found = get_usage_summary(using=using)
    assert repr(found.total_input_tokens) == str(2**52)
    assert repr(found.total_output_tokens) == "0.5"
    [entry] = found.by_provider.values()
    assert repr(entry["run_count"]) == "1"


def test_absurd_counts_break_no_sum(using: str) -> None:
    save(using, [make_run("ses_1", token_usage=usage) for usage in HOSTILE * 3])
    found = get_usage_summary(using=using)
    runs = [make_run("ses_1", token_usage=usage) for usage in HOSTILE * 3]
    assert found.total_input_tokens == pytest.approx(totals(runs)["input_tokens"])
    assert found.by_provider["unknown"]["total_tokens"] == pytest.approx(
        totals(runs)["total_tokens"]
    )
    assert found.run_count == len(runs)


def test_the_database_adds_up(using: str) -> None:
    save(using, make_corpus())
    with CaptureQueriesContext(connections[using]) as captured:
        get_usage_summary(using=using)
    [statement] = captured
    assert "GROUP BY" in statement["sql"]
    assert "token_usage" not in statement["sql"]


def test_a_sessions_stats(using: str) -> None:
    runs = make_corpus()
    events = [
        make_event("ses_1", id=f"e{n}", sequence_number=n, timestamp=moment(10 - n))
        for n in range(1, 8)
    ]
    save(using, runs, events)
    mine = [run for run in runs if run.session_id == "ses_1"]
    found = get_session_stats("ses_1", using=using)
    assert (found.event_count, found.run_count) == (7, len(mine))
    assert (found.first_event_at, found.last_event_at) == (moment(3), moment(9))
    assert found.token_totals == totals(mine)
    assert found.providers_used == sorted({run.provider for run in mine if run.provider})
    statuses = [run.status for run in mine]
    assert found.status_counts == {status: statuses.count(status) for status in sorted(statuses)}


def test_an_empty_session_has_empty_stats(using: str) -> None:
    save(using, [])
    found = get_session_stats("ses_deleted", using=using)
    assert (found.event_count, found.run_count, found.status_counts) == (0, 0, {})
    assert (found.first_event_at, found.last_event_at, found.providers_used) == (None, None, [])
    assert found.token_totals == dict.fromkeys([*COUNTS, "run_count"], 0)


def test_an_unknown_session_has_none(using: str) -> None:
    with pytest.raises(SessionNotFound):
        get_session_stats("ses_nowhere", using=using)


@pytest.mark.parametrize("session_id", ["", "x" * 256, "a\0", "\ud800", 5, None, ["ses_1"]])
def test_what_can_be_no_id_is_refused_before_any_sql(session_id: Any) -> None:
    with pytest.raises(QueryError):
        get_session_stats(session_id)


@pytest.mark.parametrize(
    "filters",
    [
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"until": "now"},
        {"provider": 5},
        {"agent_id": ["a"]},
        {"session_id": ""},
        {"include_deleted": True},
        {"status": "completed"},
    ],
)
def test_bad_filters_are_refused_before_any_sql(filters: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        get_usage_summary(**filters)


def test_the_async_twins_are_the_same_calls(using: str) -> None:
    save(using, make_corpus())
    assert async_to_sync(aget_usage_summary)(using=using) == get_usage_summary(using=using)
    stats = async_to_sync(aget_session_stats)("ses_1", using=using)
    assert stats == get_session_stats("ses_1", using=using)


def test_the_types_name_every_filter() -> None:
    assert list(UsageFilters.__annotations__) == list(UsageFilterSet.base_filters)
