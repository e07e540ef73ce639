"""get_top_sessions finds the same sessions by their sums as by a look at all runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import RetentionPolicy, execute, health_check, sum_up_usage
from asm_store.maintenance.removing import remove_session
from asm_store.models import Run, Session
from asm_store.queries import (
    get_agent_usage,
    get_overview,
    get_top_sessions,
    get_trend,
    top_sessions,
)
from asm_store.sums import SessionSum, UsageMark
from asm_store.test import make_event, make_run, make_session

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def every_period_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that sums are asked for, and few of them."""
    monkeypatch.setattr(top_sessions, "MOST_SESSIONS", 3)
    monkeypatch.setattr(top_sessions, "MOST_FILTERED", 4)
    monkeypatch.setattr(top_sessions.Ranking, "is_worth_it", lambda self: True)


@pytest.fixture
def from_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The orders in which all runs were looked at."""
    asked: list[str] = []
    look = top_sessions.Ranking.from_runs

    def counted(ranking: top_sessions.Ranking, column: str) -> Any:
        asked.append(column)
        return look(ranking, column)

    monkeypatch.setattr(top_sessions.Ranking, "from_runs", counted)
    return asked


def run(using: str, cost: float | None, session: str | None = None, **columns: Any) -> Run:
    """Of a new session unless one is given, two days ago, of as many minutes as it cost dollars."""
    store = DatabaseSessionStore(using)
    columns = {"started_at": timezone.now() - 2 * DAY, **columns}
    columns = {"ended_at": columns["started_at"] + timedelta(minutes=cost or 0), **columns}
    if session is None:
        agent = columns.pop("agent_id", "clerk")
        session = store.save_session(make_session(agent_id=agent)).id
    return store.save_run(make_run(session, cost_usd=cost, **columns))


def top(using: str, limit: int = 1, order_by: str = "cost_desc", **filters: Any) -> list[str]:
    found = get_top_sessions(using=using, order_by=order_by, limit=limit, **filters)
    return [usage.session_id for usage in found]


def summed(using: str) -> dict[str, Any]:
    rows = SessionSum._base_manager.using(using)
    return dict(rows.values_list("session_id", "run_count"))


@pytest.mark.parametrize("order_by", ["cost_desc", "duration_desc"])
@pytest.mark.parametrize("hours", [1, 24])
def test_what_was_written_since_is_added_to_what_was_there(
    using: str, order_by: str, hours: int, from_runs: list[str]
) -> None:
    runs = [run(using, cost) for cost in (9, 8, 7, 6, 5, 1)]
    sum_up_usage(using=using)
    assert top(using, 2, order_by) == [each.session_id for each in runs[:2]]
    assert from_runs == []
    late = timezone.now() - hours * HOUR
    run(using, 5, runs[-2].session_id, started_at=late)  # late, or of an hour without sums
    assert top(using, 1, order_by) == [runs[-2].session_id]
    assert from_runs == []
    sum_up_usage(using=using)
    assert top(using, 1, order_by) == [runs[-2].session_id]


def test_those_with_the_same_figure_come_by_id(using: str, from_runs: list[str]) -> None:
    ids = sorted(run(using, 0.5).session_id for _ in range(12))
    sum_up_usage(using=using)
    for limit in (1, 3):
        assert top(using, limit) == ids[:limit]
    run(using, 0.25, ids[-1])
    assert top(using, 3) == [ids[-1], *ids[:2]]
    assert from_runs == []


def test_only_runs_of_the_period_count(using: str, from_runs: list[str]) -> None:
    now = timezone.now()
    runs = [run(using, cost) for cost in (3, 2, 1)]
    for each, cost in zip(runs, (1, 50, 60), strict=True):
        run(using, cost, each.session_id, started_at=now - 9 * DAY)
    sum_up_usage(using=using)
    assert top(using, 3, since=now - 3 * DAY) == [each.session_id for each in runs]
    assert top(using, 3, until=now - 8 * DAY) == [each.session_id for each in runs[::-1]]
    assert top(using, 3, since=now - 8 * DAY, until=now - 7 * DAY) == []
    assert from_runs == []


def test_filters_and_what_is_not_sure(using: str, from_runs: list[str]) -> None:
    many = [run(using, 10 + number, provider="a") for number in range(9)]
    rare = run(using, 1, agent_id="pilot", provider="b")
    sum_up_usage(using=using)
    assert top(using, 1, agent_id="clerk", provider="a") == [many[-1].session_id]
    assert from_runs == []
    assert top(using, 1, agent_id="pilot") == [rare.session_id]
    assert top(using, 1, provider="b") == [rare.session_id]
    assert from_runs == ["cost_usd"] * 2


def test_no_session_stands_out_without_a_cost_or_an_end(using: str) -> None:
    run(using, None, ended_at=None, status="running")
    sum_up_usage(using=using)
    assert (top(using), top(using, order_by="duration_desc")) == ([], [])
    assert list(summed(using).values()) == [1]


def test_a_run_without_a_stored_cost_costs_nothing(using: str) -> None:
    run(using, 2, run(using, None).session_id)
    for _ in range(2):
        assert [usage.cost_usd for usage in get_top_sessions(using=using)] == [2.0]
        assert sum(interval.cost_usd for interval in get_trend(using=using)) == 2.0
        assert [agent.cost_usd for agent in get_agent_usage(using=using)] == [2.0]
        overview = get_overview(using=using)
        assert sum(interval.cost_usd for interval in overview.intervals) == 2.0
        assert [agent.cost_usd for agent in overview.agents] == [2.0]
        sum_up_usage(using=using)


def test_a_session_with_too_many_runs_is_left_to_all_runs(
    using: str, from_runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_sessions, "MOST_OF_SESSIONS", 2)
    large = run(using, 9)
    for _ in range(2):
        run(using, 1, large.session_id)
    sum_up_usage(using=using)
    assert top(using) == [large.session_id]
    assert from_runs == ["cost_usd"]


def test_few_runs_and_hours_without_sums_are_not_asked_for(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    runs = [run(using, cost) for cost in (1, 2)]
    for most, is_summed, is_asked in ((9, True, False), (1, True, True), (1, False, False)):
        monkeypatch.setattr(top_sessions, "MOST_RUNS", most)
        sum_up_usage(using=using, anew=True)
        if not is_summed:
            for each in runs:
                DatabaseSessionStore(using).save_run(each)
        with CaptureQueriesContext(connections[using]) as captured:
            assert top(using, 2) == [each.session_id for each in runs[::-1]]
        asked = [entry for entry in captured if "asm_session_sums" in entry["sql"]]
        assert bool(asked) is is_asked


def delete(using: str, pk: str) -> None:
    DatabaseSessionStore(using).delete_session(pk)


def expire(using: str, pk: str) -> None:
    old = timezone.now() - 40 * DAY
    Session.objects.using(using).filter(pk=pk).update(deleted_at=old, updated_at=old)
    assert execute(RetentionPolicy(hard_delete_after_days=30), using=using).sessions_hard_deleted


def remove_now(using: str, pk: str) -> None:
    assert remove_session(pk, using=using, max_seconds=60)


@pytest.mark.parametrize("remove", [delete, expire, remove_now])
def test_the_sums_of_a_session_go_with_it(using: str, remove: Callable[[str, str], None]) -> None:
    gone, kept = run(using, 2), run(using, 1)
    sum_up_usage(using=using)
    assert summed(using) == {gone.session_id: 1, kept.session_id: 1}
    remove(using, gone.session_id)
    assert summed(using) == {kept.session_id: 1}
    assert top(using) == [kept.session_id]


def test_sums_of_a_session_that_was_removed_meanwhile_go_the_next_time(using: str) -> None:
    gone = run(using, 2)
    sum_up_usage(using=using)
    [left] = SessionSum._base_manager.using(using)
    delete(using, gone.session_id)
    left.save(using=using, force_insert=True)  # as who added up at the same time stores it
    assert top(using) == []
    sum_up_usage(using=using)
    assert summed(using) == {}
    assert not UsageMark._base_manager.using(using).exists()


def test_what_a_killed_removal_left_is_found_too(using: str) -> None:
    left = run(using, 2)
    DatabaseSessionStore(using).append_event(make_event(left.session_id))
    sum_up_usage(using=using)
    Session.objects.using(using).all()._raw_delete(using)
    assert top(using) == [left.session_id]
    execute(RetentionPolicy(), using=using)
    assert (top(using), summed(using)) == ([], {})


def test_a_run_that_has_another_time_now_is_where_it_is(using: str) -> None:
    moved, other = run(using, 2), run(using, 1)
    run(using, 0.5, moved.session_id, started_at=timezone.now() - 5 * DAY)
    sum_up_usage(using=using)
    moved.started_at -= 9 * DAY
    DatabaseSessionStore(using).save_run(moved)
    since = timezone.now() - 3 * DAY
    for _ in range(2):
        assert top(using, 2, since=since) == [other.session_id]
        sum_up_usage(using=using)
    [row] = SessionSum._base_manager.using(using).filter(pk=moved.session_id)
    assert (row.first_started_at, row.run_count) == (moved.started_at, 2)


def test_all_are_made_anew(using: str) -> None:
    kept, gone = run(using, 2), run(using, 1)
    sum_up_usage(using=using)
    Run.objects.using(using).filter(pk=gone.pk)._raw_delete(using)
    Run.objects.using(using).filter(pk=kept.pk).update(cost_usd=3)
    sum_up_usage(using=using, anew=True)
    [row] = SessionSum._base_manager.using(using)
    assert (row.session_id, row.cost_usd) == (kept.session_id, 3.0)
    assert row.duration == timedelta(minutes=2)
    assert health_check(using=using) == []
