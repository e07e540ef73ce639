"""Parents and children that stand in whatever order, in one file or in several."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import ExportReport, RecordCounts, export_sessions, import_paths
from asm_store.formats.importing import BATCH_EVENTS
from asm_store.test import make_event, make_session
from tests.exports import NOON, empty, held


@pytest.fixture
def store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using=using)


def save(store: DatabaseSessionStore, *family: tuple[str, str | None]) -> None:
    """Sessions with their parents, each a minute younger than the one before it."""
    for minute, (name, parent) in enumerate(family):
        created = NOON + timedelta(minutes=minute)
        store.save_session(make_session(id=name, parent_session_id=parent, created_at=created))


def dump(store: DatabaseSessionStore, path: Path, *session_ids: str) -> None:
    export_sessions(session_ids, using=store.using).save(path)


def test_a_circle(store: DatabaseSessionStore, using: str, tmp_path: Path) -> None:
    save(store, ("a", None), ("b", "a"), ("c", "b"), ("a", "b"))
    store.append_events([make_event("a") for _ in range(BATCH_EVENTS + 1)])
    before = held(using)
    export = export_sessions(include_deleted=True, using=using)
    report = export.save(tmp_path / "all.jsonl")
    assert report == ExportReport(sessions=3, events=BATCH_EVENTS + 1) == export.count()
    empty(using)
    for dry_run in (True, False):
        (file,) = import_paths([tmp_path], using=using, strict=True, dry_run=dry_run).files
        assert (file.error, file.sessions) == (None, RecordCounts(new=3))
        assert file.events == RecordCounts(new=BATCH_EVENTS + 1)
    assert held(using) == before


def test_a_parent_that_is_missed_in_the_middle_of_a_file(
    store: DatabaseSessionStore, using: str, tmp_path: Path
) -> None:
    save(store, ("long", None), ("parent", None), ("child", "parent"))
    store.append_events([make_event("long") for _ in range(BATCH_EVENTS + 1)])
    before = held(using)
    dump(store, tmp_path / "1.jsonl", "long", "child")
    dump(store, tmp_path / "2.jsonl", "parent")
    empty(using)
    for dry_run in (True, False):
        files = import_paths([tmp_path], using=using, dry_run=dry_run).imported
        assert [file.sessions for file in files] == [RecordCounts(new=1), RecordCounts(new=2)]
        assert files[1].events == RecordCounts(new=BATCH_EVENTS + 1)
    assert held(using) == before


def test_files_that_wait_for_each_other(
    store: DatabaseSessionStore, using: str, tmp_path: Path
) -> None:
    save(store, ("a", None), ("b", None), ("a's", "a"), ("b's", "b"))
    before = held(using)
    save(store, ("stray", "a"))
    dump(store, tmp_path / "1.jsonl", "a", "b's")
    dump(store, tmp_path / "2.jsonl", "b", "a's")
    save(store, ("gone", None), ("stray", "gone"))
    dump(store, tmp_path / "3.jsonl", "stray")
    empty(using)
    report = import_paths([tmp_path], using=using)
    errors = [file.error for file in report.files]
    assert errors == [None, None, "The parent session 'gone' is not stored."]
    assert report.total.sessions == RecordCounts(new=4)
    assert held(using) == before
    again = import_paths([tmp_path], using=using)
    assert again.total.sessions == RecordCounts(stored=4)


def test_of_two_events_with_one_id_the_first_is_kept(
    store: DatabaseSessionStore, using: str, tmp_path: Path
) -> None:
    save(store, ("a", None))
    store.append_events([make_event("a", id=name) for name in ("one", "two")])
    path = tmp_path / "a.jsonl"
    dump(store, path, "a")
    path.write_text(path.read_text("utf-8").replace('"id":"two"', '"id":"one"'))
    empty(using)
    (report,) = import_paths([path], using=using).files
    assert (report.error, report.events) == (None, RecordCounts(new=1, stored=1))
    assert [event.sequence_number for event in store.get_events("a")] == [1]
