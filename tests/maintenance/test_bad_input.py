"""Archives that cannot be trusted, clocks that jump: it is said, and nothing is deleted."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db import get_operations
from asm_store.exceptions import MaintenanceError
from asm_store.maintenance import (
    RetentionPolicy,
    clean_orphaned_artifacts,
    execute,
    hard_delete_expired_sessions,
    prune_session_events,
    soft_delete_expired_sessions,
)
from asm_store.maintenance.reports import MaintenanceReport
from asm_store.test import make_event, make_session
from tests.artifacts.places import configured
from tests.maintenance.histories import POLICY, History, rows

# Marking is no deletion: only what deletes is of interest here.
ARCHIVING = replace(
    POLICY, max_session_age_days=None, max_completed_session_age_days=None,
    max_run_age_hours=None, archive_before_prune=True, archive_storage="archive",
)  # fmt: skip
SAID = {
    "Full": "No space left on device",
    "Lossy": "is not what was written",
    "Garbling": "is not what was written",
    "Confusing": "is not what was written",
    "Forgetful": "manifest.json could not be written",
    "Torn": "the bucket does not answer",
}
LARGE = "large"
# The steps that archive.
STEPS = {"hard delete", "orphans", "events of a session", "all events"}


@pytest.fixture
def history(using: str, tmp_path: Path) -> Iterator[str]:
    """A database with something for each step; nothing of it is deleted in the end."""
    with override_settings(STORAGES=configured(tmp_path)):
        History(1).store(using)
        DatabaseSessionStore(using).save_session(make_session(id=LARGE))
        DatabaseSessionStore(using).append_events([make_event(LARGE) for _ in range(30)])
        before = rows(using)
        yield using
        after = rows(using)
        lost = {name for name, row in before.items() if after.get(name) != row}
        # A row of nobody's artifact is no record of a session.
        assert lost <= {"Artifact art_nobody_0"}


def archived_in(folder: Path, kind: str) -> override_settings:
    backend = {
        "BACKEND": f"tests.maintenance.storages.{kind}",
        "OPTIONS": {} if kind == "Unconfigured" else {"location": str(folder / "archive")},
    }
    return override_settings(STORAGES={**configured(folder), "archive": backend})


def deleted(report: MaintenanceReport) -> int:
    return report.sessions_hard_deleted + report.events_pruned + report.orphaned_sequences_cleaned


@pytest.mark.parametrize("kind", SAID)
def test_without_a_true_archive_nothing_is_deleted(history: str, tmp_path: Path, kind: str) -> None:
    with archived_in(tmp_path, kind):
        report = execute(ARCHIVING, using=history)
        assert {error.partition(":")[0] for error in report.errors} == STEPS
        assert all(SAID[kind] in error for error in report.errors)
        assert (deleted(report), report.archives) == (0, ())
        with pytest.raises(MaintenanceError, match=SAID[kind]):
            hard_delete_expired_sessions(ARCHIVING, using=history)
        with pytest.raises(MaintenanceError, match=SAID[kind]):
            prune_session_events(LARGE, ARCHIVING, using=history)


def test_a_storage_that_cannot_be_written(history: str, tmp_path: Path) -> None:
    with override_settings(STORAGES={**configured(tmp_path)}):
        (tmp_path / "other").write_text("a file where the folder should be")
        report = execute(replace(ARCHIVING, archive_storage="other"), using=history)
    assert {error.partition(":")[0] for error in report.errors} >= STEPS
    assert deleted(report) == 0


@pytest.mark.parametrize("kind", ["Unconfigured", "Missing", None])
def test_a_storage_that_is_not_there(history: str, tmp_path: Path, kind: str | None) -> None:
    with archived_in(tmp_path, kind or "Full"):
        policy = ARCHIVING if kind else replace(ARCHIVING, archive_storage="typo")
        for step in (execute, hard_delete_expired_sessions):
            with pytest.raises(MaintenanceError, match=r"archive_storage: .* Nothing was deleted"):
                step(policy, using=history)


# A compressor that could not be closed says it once more when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_room_for_the_temporary_file(
    history: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On Linux every write to it fails as on a full disk.
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip(f"there is no {full}")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("r+b", buffering=0))
    policy = replace(ARCHIVING, archive_storage="other")
    report = execute(policy, using=history)
    assert {error.partition(":")[0] for error in report.errors} == STEPS
    assert all("No space left on device" in error for error in report.errors)
    assert deleted(report) == 0
    with pytest.raises(MaintenanceError, match="No space left on device"):
        hard_delete_expired_sessions(policy, using=history)
    gc.collect()


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_wrong(
    server: str, history: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The database's; of the two nobody can say which it is."""
    operations = type(get_operations(server))
    asked: Any = operations.now

    def wrong(self: Any) -> datetime:
        moment: datetime = asked(self)
        return moment + timedelta(hours=hours)

    monkeypatch.setattr(operations, "now", wrong)
    for step in (
        execute,
        soft_delete_expired_sessions,
        hard_delete_expired_sessions,
        clean_orphaned_artifacts,
        lambda policy, using: prune_session_events("ses_004", policy, using=using),
    ):
        with pytest.raises(MaintenanceError, match="set the clock that is wrong"):
            step(POLICY, using=server)


def test_the_clocks_of_the_tests_agree(server: str) -> None:
    now: Any = get_operations(server).now()
    assert abs(now - timezone.now()) < timedelta(seconds=30)
    connections[server].close()
    assert execute(RetentionPolicy(), using=server).errors == ()
