"""A whole policy on data with something for each step, on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import import_paths
from asm_store.maintenance import MaintenanceReport, RetentionPolicy, execute
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from tests.artifacts.places import configured, contents
from tests.cases import only_on

NOW = timezone.now()
POLICY = RetentionPolicy(
    max_session_age_days=200,
    max_completed_session_age_days=90,
    hard_delete_after_days=30,
    max_events_per_session=20,
    max_total_events=100,
    max_run_age_hours=24,
    batch_size=7,
)
ARCHIVING = replace(POLICY, archive_before_prune=True, archive_storage="other")

# More than one line of an archive holds.
OF_GONE = bytes(range(256)) * 8_000


def days_ago(days: float) -> Any:
    return NOW - timedelta(days=days)


def add(using: str, pk: str, events: int = 5, *, used: float = 1, **columns: Any) -> Session:
    """A session that was used for the last time so many days ago."""
    store = DatabaseSessionStore(using=using)
    deleted_at = columns.pop("deleted_at", None)
    session = store.save_session(
        make_session(id=pk, created_at=days_ago(used + 1), updated_at=days_ago(used), **columns)
    )
    run = store.save_run(make_run(session, id=f"run_{pk}", status="completed"))
    types = ["run_started", "message_streamed", "message_sent", "token_usage_updated"]
    store.append_events(
        [
            make_event(session, id=f"{pk}_{n}", type=types[n % 4], run_id=run.pk)
            for n in range(events)
        ]
    )
    SessionSequence.objects.using(using).filter(pk=pk).update(updated_at=days_ago(used))
    Session.objects.using(using).filter(pk=pk).update(deleted_at=deleted_at)
    return session


def fill(using: str) -> None:
    add(using, "fresh", 30, status="completed")
    add(using, "active", 12, used=100, status="active")
    add(using, "very_old", 3, used=300, status="active")
    add(using, "expired", 4, used=91, status="completed")
    add(using, "pinned", 40, used=400, status="failed", tags=["x", "pinned"])
    add(using, "large", 60, used=2, status="completed")
    add(using, "child", 6, used=140, status="completed", deleted_at=days_ago(40))
    add(using, "gone", 6, used=150, status="completed", deleted_at=days_ago(31))
    add(using, "gone_large", 25, used=150, status="failed", deleted_at=days_ago(33))
    add(using, "deleted", 2, used=120, status="failed", deleted_at=days_ago(29))
    Session.objects.using(using).filter(pk__in=["child", "pinned"]).update(parent_session="gone")
    store = DatabaseSessionStore(using=using)
    store.save_run(make_run("fresh", id="stuck", status="running", started_at=days_ago(2)))
    store.save_run(make_run("expired", id="stuck_too", status="running", started_at=days_ago(95)))
    store.save_run(make_run("fresh", id="new", status="running"))
    SessionSequence.objects.using(using).create(session_id="nobody", last_sequence=3)
    Event.objects.using(using).bulk_create(
        [make_event("nobody", id=f"nobody_{n}", sequence_number=n) for n in (1, 2)]
    )
    files = ArtifactStore(using=using)
    files.put("kept", b"kept", session_id="fresh")
    files.put("of gone", OF_GONE)
    files.put("empty", b"")
    files.put("of nobody", b"of nobody")
    artifacts = Artifact.objects.using(using)
    artifacts.filter(key__in=["of gone", "empty"]).update(session_id="gone")
    artifacts.filter(key="of nobody").update(session_id="nobody_else", id="art_nobody")


def numbers(using: str, pk: str) -> list[int]:
    events = Event.objects.using(using).of_session(pk)
    return list(events.values_list("sequence_number", flat=True))


@pytest.fixture
def stores(tmp_path: Path) -> Any:
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path


def told(report: MaintenanceReport) -> dict[str, Any]:
    left_out = ("duration_ms", "dry_run", "archives")
    return {name: value for name, value in report.to_dict().items() if name not in left_out}


class TestExecute:
    def test_each_step_does_its_part(self, using: str, stores: Path) -> None:
        fill(using)
        report = execute(POLICY, using=using)
        assert told(report) == {
            "sessions_soft_deleted": 2,
            "sessions_hard_deleted": 3,
            "events_pruned": report.events_pruned,
            "artifacts_cleaned": 1,
            "orphaned_sequences_cleaned": 1,
            "runs_timed_out": 1,
            "errors": [],
            "skipped": False,
            "is_complete": True,
        }
        sessions = Session.objects.using(using)
        alive = set(sessions.alive().values_list("pk", flat=True))
        assert alive == {"fresh", "active", "pinned", "large"}
        left = set(sessions.values_list("pk", flat=True)) - alive
        assert left == {"very_old", "expired", "deleted"}
        assert not sessions.filter(parent_session__isnull=False).exists()
        assert set(Run.objects.using(using).values_list("session_id", flat=True)) == alive | left
        assert len(numbers(using, "pinned")) == 40
        assert contents("default") == [ArtifactStore(using=using).stat("kept").storage_ref]

    def test_a_dry_run_says_what_the_real_run_does(self, using: str, stores: Path) -> None:
        fill(using)
        before = snapshot(using)
        dry = execute(POLICY, using=using, dry_run=True)
        assert snapshot(using) == before
        assert dry.dry_run
        assert told(dry) == told(execute(POLICY, using=using))

    def test_a_storage_that_lacks_a_setting_holds_nothing(self, using: str, tmp_path: Path) -> None:
        # As the "staticfiles" of every project without STATIC_ROOT.
        static = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
        with override_settings(STORAGES={**configured(tmp_path), "staticfiles": static}):
            assert execute(POLICY, using=using).errors == ()

    def test_again_it_finds_nothing(self, using: str, stores: Path) -> None:
        fill(using)
        # Without the runs, whose events come after the pruning: there may be one too many again.
        policy = replace(POLICY, max_run_age_hours=None)
        execute(policy, using=using)
        assert told(execute(policy, using=using)) == told(MaintenanceReport())

    def test_what_is_archived_comes_back_as_it_was(self, using: str, stores: Path) -> None:
        fill(using)
        # What changes and is not deleted, and so not archived, is left out.
        policy = replace(
            ARCHIVING, max_completed_session_age_days=None, max_session_age_days=None,
            max_run_age_hours=None,
        )  # fmt: skip
        before = snapshot(using)
        report = execute(policy, using=using)
        assert report.errors == ()
        assert numbers(using, "gone") == []
        assert len(report.archives) > 3
        paths = [stores / "other" / name for name in report.archives]
        for order in (paths[::-1], paths):
            again = import_paths(order, using=using)
            errors = {file.error for file in again.files if file.error}
            assert errors == {"The session 'nobody' is not stored."}
            after = snapshot(using)
            lost = {name for name, row in before.items() if after.get(name) != row}
            assert ArtifactStore(using=using).get("of gone") == OF_GONE
            assert ArtifactStore(using=using).get("empty") == b""
            assert lost == {
                "Event nobody_1", "Event nobody_2", "Artifact art_nobody", "counters",
                "Session pinned",  # its parent is another's end
            }  # fmt: skip


def snapshot(using: str) -> dict[str, Any]:
    kinds = (Session, Run, Event, Artifact)
    rows = {
        f"{kind.__name__} {row.pk}": row.to_dict()
        for kind in kinds
        for row in kind._base_manager.using(using)
    }
    counters = SessionSequence.objects.using(using).values_list("pk", "last_sequence")
    return {**rows, "counters": dict(counters)}


@only_on("postgresql_other")
def test_its_statements_are_planned_for_the_tables_as_they_are_by_now(using: str) -> None:
    """The alias prepares what it sends: a plan of the empty tables would read full ones whole."""
    for number in range(8):
        add(using, f"ses_{number}", used=number + 40, deleted_at=days_ago(number + 35))
    connections[using].close()  # and with it what the store has prepared
    report = execute(replace(POLICY, batch_size=1), using=using)
    assert (report.errors, report.sessions_hard_deleted) == ((), 8)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = [statement for (statement,) in cursor.fetchall()]
    tables = ("asm_session_sums", "asm_usage_sums", "asm_events", "asm_runs")
    assert not [text for text in prepared if any(table in text for table in tables)]
