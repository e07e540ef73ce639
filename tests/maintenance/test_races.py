"""What others do while maintenance works: between any two of its statements, and all the time."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import RunNotFound, SessionDeleted, SessionNotFound
from asm_store.formats import import_paths
from asm_store.maintenance import PROTECTED_TYPES, MaintenanceReport, RetentionPolicy, execute
from asm_store.models import Event, Run, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from asm_store.test.contract.interleavings import GRACE
from asm_store.test.contract.workers import SECONDS, Worker, start
from tests.artifacts.places import configured
from tests.databases import vendor_of
from tests.maintenance.histories import (
    POLICY,
    History,
    clear,
    counters,
    days_ago,
    left,
    orphans,
    rows,
)
from tests.processes import run_processes
from tests.threads import run_threads

NOTHING = RetentionPolicy(max_completed_session_age_days=None, hard_delete_after_days=None)
SOFT = replace(NOTHING, max_completed_session_age_days=90)
HARD = replace(NOTHING, hard_delete_after_days=30)
PRUNE = replace(NOTHING, max_events_per_session=4, batch_size=3)
TOTAL = replace(NOTHING, max_total_events=10, batch_size=3)
ARCHIVED = replace(HARD, archive_before_prune=True, archive_storage="other")

Write = Callable[[str, str], object]
Told = list[MaintenanceReport]


@pytest.fixture(autouse=True)
def stores(tmp_path: Path) -> Iterator[Path]:
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path


def add(using: str, pk: str, *, days: float = 100, deleted: float | None = None) -> None:
    """A session with a run and six events, last used so many days ago."""
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session(id=pk, status="completed", updated_at=days_ago(days)))
    store.save_run(make_run(session, id=f"run_{pk}"))
    store.append_events([make_event(pk, id=f"{pk}_{n}") for n in range(1, 7)])
    SessionSequence.objects.using(using).filter(pk=pk).update(updated_at=days_ago(days))
    if deleted is not None:
        Session.objects.using(using).filter(pk=pk).update(deleted_at=days_ago(deleted))


def numbers(using: str, pk: str) -> list[int]:
    events = Event.objects.using(using).of_session(pk)
    return list(events.values_list("sequence_number", flat=True).order_by("sequence_number"))


# Writes of others: to a session, on a database


def append(using: str, pk: str) -> None:
    DatabaseSessionStore(using).append_event(make_event(pk))


def restore(using: str, pk: str) -> None:
    DatabaseSessionStore(using).restore_session(pk)


def pin(using: str, pk: str) -> None:
    DatabaseSessionStore(using).update_session(pk, add_tags=["pinned"])


def pin_in_the_past(using: str, pk: str) -> None:
    """By somebody who saves the session with an old time."""
    session = DatabaseSessionStore(using).get_session(pk)
    session.tags = ["pinned"]
    DatabaseSessionStore(using).save_session(session)


def touch(using: str, pk: str) -> None:
    store = DatabaseSessionStore(using)
    store.save_session(store.get_session(pk).update_status("active"))


def end_run(using: str, pk: str) -> None:
    store = DatabaseSessionStore(using)
    store.save_run(store.get_run(f"run_{pk}").set_output({"late": True}))


class Race:
    """One run of maintenance, before one of whose statements somebody writes."""

    def __init__(self, using: str, policy: RetentionPolicy, deletes: tuple[str, str]) -> None:
        self.using, self.policy, self.deletes = using, policy, deletes
        self.position = -1
        self.statements = 0
        self.worker: Worker[object] = Worker(lambda: None)
        self.came_first = self.has_deleted = False

    def __call__(self, run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if self.statements == self.position:
            self.worker.start()
            self.worker.ended.wait(GRACE)
        self.statements += 1
        verb, table = self.deletes
        if re.search(rf"\b{verb} .?{table}\b", sql) and not self.has_deleted:
            self.has_deleted, self.came_first = True, self.worker.ended.is_set()
        return run(sql, *arguments)

    def run(self, write: Callable[[], object], position: int) -> MaintenanceReport:
        self.position, self.statements = position, 0
        self.came_first = self.has_deleted = False
        self.worker = Worker(write)
        with connections[self.using].execute_wrapper(self):
            report = execute(self.policy, using=self.using)
        assert report.errors == ()
        if self.worker.ident is None:
            self.worker.start()
        elif not self.has_deleted:
            self.came_first = True
        self.worker.wait()
        return report


def each_position(
    using: str, policy: RetentionPolicy, deletes: tuple[str, str], write: Write, **columns: Any
) -> Iterator[tuple[str, bool, BaseException | None]]:
    """A session for each statement of maintenance: its id, whether the write came before what
    deletes it, and what the write raised. It is removed after it was looked at.
    """
    race = Race(using, policy, deletes)
    add(using, "alone", **columns)
    race.run(lambda: None, -1)
    clear(using)
    for position in range(race.statements):
        pk = f"ses_{position}"
        add(using, pk, **columns)
        race.run(partial(write, using, pk), position)
        yield pk, race.came_first, race.worker.error
        assert orphans(using) == {}
        clear(using)


@pytest.mark.parametrize("write", [append, pin, pin_in_the_past, touch])
def test_what_is_used_meanwhile_is_not_marked(using: str, write: Write) -> None:
    firsts = 0
    for pk, came_first, error in each_position(using, SOFT, ("UPDATE", "asm_sessions"), write):
        session = DatabaseSessionStore(using).get_session(pk)
        firsts += came_first
        if came_first:
            assert error is None
            assert session.deleted_at is None
        elif write is append:
            # Nobody who was told that his event is stored loses it.
            assert isinstance(error, SessionDeleted if session.deleted_at else type(None))
    assert firsts


@pytest.mark.parametrize(
    ("policy", "write"),
    [
        *((HARD, write) for write in (restore, pin, touch)),
        *((ARCHIVED, write) for write in (restore, pin_in_the_past, end_run)),
    ],
    ids=lambda value: {HARD: "plain", ARCHIVED: "archived"}.get(value) or value.__name__,
)
def test_what_is_wanted_meanwhile_is_not_removed(
    using: str, stores: Path, policy: RetentionPolicy, write: Write
) -> None:
    kept = []  # of those that came first
    deletes = ("DELETE FROM", "asm_events")
    for pk, came_first, error in each_position(using, policy, deletes, write, deleted=31):
        is_there = Session.objects.using(using).filter(pk=pk).exists()
        if came_first:
            kept.append(is_there)
        if error is not None:
            assert isinstance(error, SessionNotFound | RunNotFound)
            assert not is_there
        elif write is end_run:
            _check_run(using, stores, pk)
        elif came_first and is_there:
            assert numbers(using, pk) == [1, 2, 3, 4, 5, 6]
    # What is saved before it is selected is due as it is.
    assert all(kept) or write in (touch, end_run)
    assert any(kept)


def _check_run(using: str, stores: Path, pk: str) -> None:
    """A run's end is part of no version of the session: it is in the table, or archived."""
    import_paths([stores / "other"], using=using)
    assert Run.objects.using(using).get(pk=f"run_{pk}").output == {"late": True}


@pytest.mark.parametrize("policy", [PRUNE, TOTAL], ids=["of a session", "of all"])
def test_what_is_pinned_meanwhile_is_not_pruned(using: str, policy: RetentionPolicy) -> None:
    policy = replace(policy, max_total_events=policy.max_total_events and 4)
    for pk, came_first, _ in each_position(using, policy, ("DELETE FROM", "asm_events"), pin):
        assert numbers(using, pk) == ([1, 2, 3, 4, 5, 6] if came_first else [3, 4, 5, 6])


def test_what_is_appended_meanwhile_is_not_pruned(using: str) -> None:
    for pk, _, error in each_position(using, PRUNE, ("DELETE FROM", "asm_events"), append):
        assert error is None
        assert numbers(using, pk) in ([3, 4, 5, 6, 7], [4, 5, 6, 7])


def test_who_is_used_all_the_time_does_not_keep_it_from_its_end(using: str) -> None:
    """There are too many events, which are all protected, and one session is always the latest."""
    for number in range(4):
        add(using, f"ses_{number}", days=100 - number)
    Event.objects.using(using).update(type="run_started")

    def use_one(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith("SELECT") and not connections[using].in_atomic_block:
            run_threads([partial(touch, using, "ses_0")])
        return run(sql, *arguments)

    policy = replace(TOTAL, batch_size=1)
    with connections[using].execute_wrapper(use_one):
        report = execute(policy, using=using, max_seconds=SECONDS)
    assert (report.is_complete, report.errors, report.events_pruned) == (True, (), 0)


def test_two_at_once_never_prune_more_than_is_too_much(using: str) -> None:
    """The second prunes at a moment of the first, after somebody used what was the oldest."""

    def use_and_prune(using: str, pk: str) -> None:
        append(using, pk)
        execute(TOTAL, using=using, locked=False)

    race = Race(using, TOTAL, ("DELETE FROM", "asm_events"))
    position = 0
    while race.statements >= position:
        for number in range(3):
            add(using, f"ses_{number}", days=100 - number)
        race.run(partial(use_and_prune, using, "ses_0"), position)
        race.worker.result()
        execute(TOTAL, using=using)
        assert Event.objects.using(using).count() == 10, f"statement {position}"
        clear(using)
        position += 2


# Two at once

# What ends a run uses its session: the second one would find another order than the first.
WITHOUT_RUNS = replace(POLICY, max_run_age_hours=None)
RUNS = replace(NOTHING, max_run_age_hours=24)
# The second may come upon the rest of a large session that the first is removing.
RESTS = {"artifacts_cleaned", "orphaned_sequences_cleaned"}


def elsewhere(using: str, folder: str) -> dict[str, Any]:
    """What each of two processes does."""
    with override_settings(STORAGES=configured(Path(folder))):
        return execute(WITHOUT_RUNS, using=using, locked=False).to_dict()


def in_threads(using: str, _: Path) -> list[dict[str, Any]]:
    job = partial(execute, WITHOUT_RUNS, using=using, locked=False)
    return [report.to_dict() for report in run_threads([job] * 2)]


def in_processes(using: str, folder: Path) -> list[dict[str, Any]]:
    return run_processes(f"{__name__}.elsewhere", [[using, str(folder)]] * 2)


@pytest.mark.parametrize("both", [in_threads, in_processes])
def test_two_at_once_delete_together_what_one_deletes(
    using: str, stores: Path, both: Callable[[str, Path], list[dict[str, Any]]]
) -> None:
    for seed in range(5) if both is in_threads else [7]:
        History(seed).store(using)
        alone = _counts(execute(WITHOUT_RUNS, using=using).to_dict())
        expected = left(using)
        clear(using)
        History(seed).store(using)
        reports = both(using, stores)
        assert [report["errors"] for report in reports] == [[], []]
        assert left(using) == expected
        together = sum(map(_counts, reports), Counter())
        assert alone <= together
        assert {name for name in alone if alone[name] != together[name]} <= RESTS
        clear(using)


def test_two_at_once_end_a_run_once(using: str) -> None:
    History(2).store(using)
    reports = run_threads([partial(execute, RUNS, using=using, locked=False)] * 2)
    ended = Run.objects.using(using).filter(error__error_code="run_timeout").count()
    assert sum(report.runs_timed_out for report in reports) == ended > 0
    assert Event.objects.using(using).of_types(["run_timeout"]).count() == ended


def _counts(report: dict[str, Any]) -> Counter[str]:
    kept = {name: value for name, value in report.items() if type(value) is int}
    return Counter(kept) - Counter(duration_ms=kept["duration_ms"])


def test_two_that_archive_lose_nothing(using: str, stores: Path) -> None:
    policy = replace(POLICY, archive_before_prune=True, archive_storage="other", batch_size=7)
    History(1).store(using)
    before = rows(using)
    reports = run_threads([partial(execute, policy, using=using, locked=False)] * 2)
    assert [report.errors for report in reports] == [(), ()]
    assert orphans(using) == {}
    due = Session.objects.using(using).filter(deleted_at__lt=days_ago(30))
    assert [s for s in due if "pinned" not in s.tags] == []
    DatabaseSessionStore(using).save_session(make_session(id="nobody"))
    import_paths([stores / "other"], using=using)
    after = rows(using)
    assert {k: v for k, v in before.items() if "Event" in k and after.get(k) != v} == {}


def test_a_second_one_says_that_it_was_skipped(server: str) -> None:
    add(server, "expired")
    told: Told = []

    def second(_: MaintenanceReport) -> None:
        told.extend(run_threads([partial(execute, SOFT, using=server)]))

    report = execute(SOFT, using=server, progress=second)
    assert (report.skipped, report.sessions_soft_deleted) == (False, 1)
    assert [(other.skipped, other.is_complete) for other in told] == [(True, False)] * len(told)
    assert told
    assert not execute(SOFT, using=server).skipped


# Appends go on meanwhile

PAUSE = 0.003


class Appender:
    """Appends to some sessions in turn, without end, until it is told to stop."""

    def __init__(self, using: str, sessions: list[str]) -> None:
        self.using, self.sessions = using, sessions
        self.is_over, self.begun = threading.Event(), threading.Event()
        self.appended: Counter[str] = Counter()

    def __call__(self) -> None:
        store = DatabaseSessionStore(self.using)
        while not self.is_over.is_set():
            for pk in self.sessions:
                event = store.append_event_with_sequence(make_event(pk, type="run_started"))
                self.appended[pk] += 1
                assert event.sequence_number == self.appended[pk]
            self.begun.set()
            # SQLite's queue is not fair: without a pause nobody else would have his turn.
            self.is_over.wait(PAUSE)


def test_appends_go_on_meanwhile(using: str) -> None:
    History(3, count=60).store(using)
    names = [f"used_{n}" for n in range(3)]
    for pk in names:
        DatabaseSessionStore(using).save_session(make_session(id=pk))
    protected = Event.objects.using(using).of_types(PROTECTED_TYPES)
    due = [s.pk for s in Session.objects.using(using) if s.deleted_at]
    before = set(protected.exclude(session_id__in=[*due, "nobody"]).values_list("pk", flat=True))
    appender = Appender(using, names)
    worker = start(appender)
    assert appender.begun.wait(SECONDS)
    reports = run_threads([partial(execute, POLICY, using=using, locked=False)] * 2)
    appender.is_over.set()
    worker.result()
    assert [report.errors for report in reports] == [(), ()]
    for pk in names:
        assert numbers(using, pk) == list(range(1, appender.appended[pk] + 1))
        assert counters(using)[pk] == appender.appended[pk]
    assert before <= set(protected.values_list("pk", flat=True))
    assert orphans(using) == {}
    most = POLICY.max_total_events or 0
    assert Event.objects.using(using).count() >= most
    if vendor_of(using) != "sqlite":
        assert sum(appender.appended.values()) > len(names)
