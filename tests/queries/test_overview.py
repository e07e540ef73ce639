"""get_overview gives what the functions give that add up all runs, whatever happens meanwhile."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import QueryError
from asm_store.formats import export_sessions, import_paths
from asm_store.maintenance import (
    RetentionPolicy,
    execute,
    execution,
    health_check,
    sum_up_usage,
    summing,
)
from asm_store.maintenance.removing import remove_session
from asm_store.marks import hour_of
from asm_store.models import Run, Session
from asm_store.queries import (
    aget_overview,
    coverage,
    get_overview,
    top_sessions,
)
from asm_store.sums import UsageMark
from asm_store.test import make_event, make_run, make_session
from tests.queries.overviews import Life, assert_equal
from tests.threads import run_threads

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
STEPS = ("hour", "day", "week")


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_all_runs_add_up_to_whatever_was_written(
    using: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_sessions, "MOST_SESSIONS", 3)
    monkeypatch.setattr(top_sessions, "MOST_FILTERED", 4)
    life = Life(using, seed)
    for number in range(80):
        life.step()
        if number % 4 == 0:
            assert_equal(using, life.random.choice(STEPS), **life.filters())
    sum_up_usage(using=using)
    for step in STEPS:
        assert assert_equal(using, step).live_runs < Run.objects.using(using).count()


def save(using: str, *, after: timedelta = timedelta(0), **columns: Any) -> Run:
    """A run of a new session, which was created then or so long before."""
    store, columns = DatabaseSessionStore(using), {"started_at": timezone.now() - DAY, **columns}
    session = make_session(agent_id="clerk", created_at=columns["started_at"] - after)
    return store.save_run(make_run(store.save_session(session), **columns))


def marks(using: str) -> int:
    return UsageMark._base_manager.using(using).count()


def test_what_many_write_at_once_is_in_it_while_it_is_added_up(using: str) -> None:
    runs = [save(using, started_at=timezone.now() - number * HOUR) for number in range(4, 8)]

    def write(run: Run) -> None:
        store, changes = DatabaseSessionStore(using), random.Random(run.id)
        for number in range(12):
            run.cost_usd, run.status = None, changes.choice(["running", "failed", "completed"])
            run.started_at -= timedelta(minutes=changes.choice([0, 0, 45]))
            run.token_usage = {"input_tokens": number}
            store.save_run(run)
            if number % 4 == 1:
                store.save_run(make_run(run.session_id, started_at=run.started_at))
            if number == 6:
                session = store.get_session(run.session_id)
                session.agent_id = "pilot"
                store.save_session(session)

    def read() -> None:
        for _ in range(8):
            sum_up_usage(using=using)

    writers: list[Any] = [partial(write, run) for run in runs]
    run_threads([*writers, read, read])
    for _ in range(2):
        for step in STEPS:
            assert_equal(using, step)
        sum_up_usage(using=using)
    assert marks(using) == 0
    assert get_overview(using=using).live_runs == 0


def test_what_is_not_committed_yet_is_seen_when_it_is(server: str) -> None:
    run = save(server)
    sum_up_usage(using=server)
    with transaction.atomic(using=server):
        run.status = "failed"
        DatabaseSessionStore(server).save_run(run)
        run_threads([lambda: sum_up_usage(using=server)])
        [before] = run_threads([lambda: get_overview(using=server)])
    assert [agent.error_count for agent in before.agents] == [0]
    assert marks(server) == 1
    assert_equal(server, "day")
    sum_up_usage(using=server)
    assert [agent.error_count for agent in assert_equal(server, "day").agents] == [1]
    assert marks(server) == 0


def test_a_mark_that_comes_while_it_adds_up_stays(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sums = save(server), summing._sums

    def late(*args: Any) -> list[Any]:
        found = list(sums(*args))
        run_threads([lambda: DatabaseSessionStore(server).save_run(run.update_status("failed"))])
        return found

    monkeypatch.setattr(summing, "_sums", late)
    sum_up_usage(using=server)  # and the hour that is written to all the time not for ever
    sum_up_usage(using=server)
    monkeypatch.undo()
    assert marks(server) == 1
    assert assert_equal(server, "day").agents[0].error_count == 1


def test_current_runs_and_events_cost_no_statement_more(using: str) -> None:
    with CaptureQueriesContext(connections[using]) as captured:
        run = save(using, started_at=timezone.now())
        DatabaseSessionStore(using).save_run(run.update_status("failed"))
    assert not [entry for entry in captured if "asm_usage" in entry["sql"]]
    with CaptureQueriesContext(connections[using]) as captured:
        save(using)
    assert len([entry for entry in captured if "asm_usage_marks" in entry["sql"]]) == 2


def test_imports_and_removals_by_maintenance_are_noticed(
    using: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = save(using, started_at=timezone.now() - 40 * DAY), tmp_path / "log.jsonl"
    store = DatabaseSessionStore(using)
    store.save_run(make_run(run.session_id, started_at=run.started_at + 5 * HOUR))
    export_sessions([run.session_id], using=using).save(log)
    monkeypatch.setattr(execution, "sum_up", lambda work: None)
    policy = RetentionPolicy(hard_delete_after_days=30)
    for remove in (
        lambda: store.delete_session(run.session_id),
        lambda: execute(policy, using=using),
        lambda: remove_session(run.session_id, using=using, max_seconds=60),
    ):
        sum_up_usage(using=using)
        Session.objects.using(using).update(deleted_at=run.started_at)
        remove()
        assert assert_equal(using, "day").run_count == 0
        sum_up_usage(using=using)
        assert import_paths([log], using=using).files[0].error is None
        assert assert_equal(using, "day").run_count == 2


def test_a_session_without_runs_that_is_removed_counts_no_more(using: str) -> None:
    began = timezone.now() - 40 * DAY
    session = DatabaseSessionStore(using).save_session(make_session(created_at=began))
    sum_up_usage(using=using)
    assert sum(each.session_count for each in assert_equal(using, "day").intervals) == 1
    assert remove_session(session.id, using=using, max_seconds=60)
    assert sum(each.session_count for each in assert_equal(using, "day").intervals) == 0


def test_what_a_killed_removal_left_belongs_to_nobody_until_it_is_gone(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = save(using, after=5 * HOUR), DatabaseSessionStore(using)
    session = store.get_session(run.session_id)
    store.append_event(make_event(session))
    monkeypatch.setattr(execution, "sum_up", lambda work: None)
    for agents, bring_back in ((1, True), (0, False)):
        Session.objects.using(using).all()._raw_delete(using)
        sum_up_usage(using=using, anew=True)
        assert assert_equal(using, "day").agents == []
        if bring_back:
            store.save_session(session)
        else:
            assert execute(RetentionPolicy(), using=using).orphaned_sequences_cleaned == 1
        found = assert_equal(using, "day")
        assert (len(found.agents), found.run_count) == (agents, agents)


def test_what_was_written_by_others_is_seen_when_all_is_added_up_anew(using: str) -> None:
    run = save(using)
    sum_up_usage(using=using)
    assert health_check(using=using) == []
    Run.objects.using(using).update(status="failed")
    assert get_overview(using=using).agents[0].error_count == 0
    [issue] = health_check(using=using)
    assert (issue.code, issue.count, issue.is_repairable) == ("usage_sums_differ", 1, False)
    assert issue.examples == (hour_of(run.started_at).isoformat(),)
    assert health_check(using=using, session_id=run.session_id) == []
    call_command("asm_maintenance", "--sum-up", "--using", using, verbosity=0)
    assert health_check(using=using) == [issue]
    with pytest.raises(CommandError, match="--anew needs --sum-up"):
        call_command("asm_maintenance", "--anew", "--using", using)
    call_command("asm_maintenance", "--sum-up", "--anew", "--using", using, verbosity=0)
    assert health_check(using=using) == []
    assert assert_equal(using, "day").agents[0].error_count == 1
    later = save(using, started_at=run.started_at + 5 * HOUR)
    sum_up_usage(using=using)
    Run.objects.using(using).filter(pk=run.pk).delete()
    Session.objects.using(using).filter(pk=run.session_id).delete()
    assert get_overview(using=using).run_count == 2
    sum_up_usage(using=using, anew=True)
    assert assert_equal(using, "day").run_count == 1
    Run.objects.using(using).filter(pk=later.pk)._raw_delete(using)
    Session.objects.using(using).filter(pk=later.session_id)._raw_delete(using)
    sum_up_usage(using=using, anew=True)
    assert assert_equal(using, "day").run_count == 0


def test_changes_far_apart_are_added_up_now_with_what_is_between(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "MOST_RANGES", 2)
    runs = [save(using, started_at=timezone.now() - days * DAY) for days in range(1, 8)]
    sum_up_usage(using=using)
    for number, live in ((1, 1), (3, 2), (5, 5)):
        DatabaseSessionStore(using).save_run(runs[number])
        assert assert_equal(using, "day").live_runs == live


def test_one_session_is_always_added_up_now(using: str) -> None:
    run = save(using)
    sum_up_usage(using=using)
    assert assert_equal(using, "day", session_id=run.session_id).live_runs == 1


def test_times_at_the_ends_of_the_calendar(using: str) -> None:
    for moment in (datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)):
        save(using, started_at=moment)
    sum_up_usage(using=using)
    assert assert_equal(using, "day").live_runs == 1
    assert_equal(using, "day", since=datetime(1000, 1, 1, 0, 30, tzinfo=UTC))
    assert_equal(using, "day", until=datetime.max.replace(tzinfo=UTC))


def test_it_takes_what_the_others_take(using: str) -> None:
    save(using)
    assert async_to_sync(aget_overview)(using=using, step="hour").run_count == 1
    wrong: list[Any] = [{"step": "year"}, {"limit": 0}, {"since": "now"}, {"what": 1}]
    for nonsense in wrong:
        with pytest.raises(QueryError):
            get_overview(using=using, **nonsense)


def test_a_dry_run_and_one_out_of_time_add_up_nothing_or_the_rest_later(using: str) -> None:
    for days in range(1, 5):
        save(using, started_at=timezone.now() - days * DAY)
    execute(RetentionPolicy(), using=using, dry_run=True)
    assert get_overview(using=using).live_runs == 4
    report = execute(RetentionPolicy(), using=using, max_seconds=1e-9)
    assert not report.is_complete
    assert execute(RetentionPolicy(), using=using).is_complete
    assert get_overview(using=using).live_runs == 0
