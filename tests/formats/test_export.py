"""Export then import gives the same records, on each database and from one to the next."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import QueryError, SessionNotFound, ValidationError
from asm_store.formats import (
    EXPORT_FORMATS,
    ExportReport,
    RecordCounts,
    export_sessions,
    import_paths,
)
from asm_store.formats import lines as lines_of_logs
from asm_store.formats.requests import ExportFormat
from asm_store.models import Artifact, Event, Run
from asm_store.queries import walking
from asm_store.test import make_event, make_run, make_session
from tests.cases import EMPTIED_APPS
from tests.databases import ALIASES, vendor_of
from tests.exports import EXTRA_TYPE, NOON, empty, fill, held, require_zstd
from tests.records import artifact
from tests.threads import run_threads

AVAILABLE = [alias for alias in ALIASES if alias in settings.DATABASES]
SUFFIXES = [".jsonl", ".jsonl.gz", ".jsonl.zst"]
Store = DatabaseSessionStore


@pytest.fixture
def store(using: str) -> Store:
    return Store(using=using)


@pytest.fixture
def filled(using: str) -> Iterator[None]:
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE]):
        fill(using)
        yield


def lines(*args: Any, **options: Any) -> list[dict[str, Any]]:
    """An export, decoded."""
    return [json.loads(line) for line in b"".join(export_sessions(*args, **options)).splitlines()]


def ids(*args: Any, **options: Any) -> list[str]:
    """The sessions of an export in their order."""
    return [
        line["record"]["id"] for line in lines(*args, **options) if line.get("kind") == "session"
    ]


class TestRoundTrip:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.usefixtures("filled")
    def test_everything_comes_back_identical(self, using: str, tmp_path: Path, suffix: str) -> None:
        if suffix.endswith(".zst"):
            require_zstd()
        path = tmp_path / f"all{suffix}"
        before = held(using)
        everything = export_sessions(using=using, include_deleted=True, include_artifacts=True)
        written = everything.save(path)
        assert written == ExportReport(4, 5, 4, 4)
        empty(using)
        (report,) = import_paths([path], using=using, strict=True).files
        assert (report.error, report.skipped) == (None, {})
        assert (report.sessions, report.runs) == (RecordCounts(new=4), RecordCounts(new=5))
        assert (report.events, report.artifacts) == (RecordCounts(new=4), RecordCounts(new=4))
        assert held(using) == before
        again = import_paths([path], using=using).total
        assert (again.sessions, again.artifacts) == (RecordCounts(stored=4), RecordCounts(stored=4))
        assert held(using) == before

    @pytest.mark.django_db(transaction=True, databases=AVAILABLE, available_apps=EMPTIED_APPS)
    @override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE])
    def test_from_one_database_to_the_next(self, tmp_path: Path) -> None:
        fill("default")
        hops = [*AVAILABLE, "default"]
        exports = []
        for number, (source, target) in enumerate(pairwise(hops)):
            path = tmp_path / f"{number}.jsonl"
            options: Any = {"include_deleted": True, "include_artifacts": True}
            export_sessions(using=source, **options).save(path)
            exports.append(path.read_bytes())
            before = held(source)
            empty(source)
            assert import_paths([path], using=target, strict=True).failed == ()
            assert held(target) == before
        assert len({_canonical(export) for export in exports}) == 1
        # jsonb has its own order of keys; within a vendor each byte is the same.
        vendors = [vendor_of(alias) for alias in AVAILABLE]
        assert len(set(zip(vendors, exports, strict=True))) == len(set(vendors))

    def test_the_largest_record_of_a_project_comes_back(
        self, store: Store, using: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lines_of_logs, "MAX_LINE_BYTES", 1000)
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=5000):
            session = store.save_session(make_session())
            # Of a character that is escaped in JSON: six bytes each.
            store.append_event(make_event(session, data={"text": "\x01" * 800}))
            before = held(using)
            export_sessions([session.id], using=using).save(tmp_path / "a.jsonl")
            empty(using)
            (report,) = import_paths([tmp_path], using=using).files
        assert (report.error, report.skipped) == (None, {})
        assert held(using) == before

    @pytest.mark.usefixtures("filled")
    def test_without_artifacts_none_is_in_it(self, using: str) -> None:
        everything = lines(using=using, include_deleted=True)
        assert {line.get("kind") for line in everything} == {None, "session", "run", "event", "end"}
        assert everything[-1] == {
            "kind": "end", "sessions": 4, "runs": 5, "events": 4, "artifacts": 0,
        }  # fmt: skip

    @pytest.mark.usefixtures("filled")
    def test_the_artifacts_of_some_sessions(self, using: str) -> None:
        some = lines(["child", "empty"], using=using, include_artifacts=True)
        found = [line["record"]["id"] for line in some if line.get("kind") == "artifact"]
        assert found == ["art_2", "art_1"]


def _canonical(export: bytes) -> str:
    """With the keys of each object sorted; 1 and 1.0 stay two things."""
    decoded = [json.loads(line) for line in export.splitlines()]
    return "\n".join(json.dumps(line, sort_keys=True) for line in decoded)


class TestSelection:
    def test_parents_stand_before_their_children(
        self, store: Store, using: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(walking, "PAGE", 3)
        # Each is older than its parent: a chain of ten, and leaves on it.
        parent = None
        for number in range(10):
            created = NOON - timedelta(minutes=number)
            family = [make_session(id=f"s{number}", created_at=created, parent_session_id=parent)]
            if parent:
                leaf = {"created_at": NOON + timedelta(hours=1), "parent_session_id": parent}
                family.append(make_session(id=f"leaf{number}", **leaf))
            for session in family:
                store.save_session(session)
            parent = f"s{number}"
        found = ids(using=using)
        assert found[:10] == [f"s{number}" for number in range(10)]
        assert sorted(found[10:]) == [f"leaf{number}" for number in range(1, 10)]

    def test_a_circle_of_parents_ends(self, store: Store, using: str) -> None:
        for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c")):
            session = make_session(id=name, parent_session_id=parent, created_at=NOON)
            store.save_session(session)
        store.save_session(make_session(id="b", parent_session_id="d", created_at=NOON))
        export = export_sessions(using=using)
        assert b"".join(export).count(b'"kind":"session"') == 4
        assert export.report.without_parent == 0
        store.save_session(make_session(id="a", parent_session_id="b", created_at=NOON))
        assert sorted(ids(using=using)) == ["a", "b", "c", "d"]

    @pytest.mark.usefixtures("filled")
    def test_a_child_whose_parent_is_not_in_it_is_counted(self, using: str, tmp_path: Path) -> None:
        export = export_sessions(["child", "GONE"], using=using)
        assert export.count().without_parent == 1
        assert export.save(tmp_path / "some.jsonl").without_parent == 1
        empty(using)
        (report,) = import_paths([tmp_path], using=using).files
        assert report.error == "The parent session 'z-parent' is not stored."

    @pytest.mark.usefixtures("filled")
    def test_filters_are_those_of_a_search(self, using: str) -> None:
        assert ids(using=using) == ["empty", "z-parent", "child"]
        assert ids(using=using, status="failed") == ["child"]
        assert ids(using=using, tags=["é"], created_after=NOON) == ["z-parent"]
        assert ids(using=using, agent_id="a", include_deleted=True) == ["GONE", "empty"]
        assert ids(using=using, status=[]) == []

    @pytest.mark.usefixtures("filled")
    def test_what_there_is_can_be_counted_before(self, using: str) -> None:
        for options in (
            {"include_deleted": True, "include_artifacts": True},
            {"include_deleted": True},
            {"provider": "claude", "include_artifacts": True},
            {"session_ids": ["child", "z-parent"]},
        ):
            export = export_sessions(using=using, **options)
            counted = export.count()
            list(export)
            assert export.report == counted

    def test_pages_leave_nothing_out(
        self, store: Store, using: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(walking, "PAGE", 4)
        for number in range(20):
            store.save_session(make_session(id=f"s{number:02}", created_at=NOON))
        assert ids(using=using) == [f"s{number:02}" for number in range(20)]

    def test_it_is_made_once(self, using: str, tmp_path: Path) -> None:
        export = export_sessions(using=using)
        assert next(iter(export)).startswith(b'{"format"')
        for again in (lambda: list(export), lambda: export.save(tmp_path / "again.jsonl")):
            with pytest.raises(RuntimeError, match="was begun before"):
                again()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"session_ids": ["lost"]}, SessionNotFound, "session lost is not stored"),
            ({"session_ids": [""]}, QueryError, "session_id: must have 1 to"),
            ({"session_ids": "child"}, QueryError, "expected a list of ids"),
            ({"session_ids": map(str, range(1001))}, QueryError, "more than 1000"),
            ({"session_ids": ["a"], "status": "failed"}, QueryError, "status: no filters where"),
            ({"colour": "red"}, QueryError, "unknown filter 'colour'"),
            ({"status": "blue"}, ValidationError, "unknown status 'blue'"),
            ({"format": "yaml"}, ValidationError, "Unknown format 'yaml'; known are jsonl"),
        ],
    )
    @pytest.mark.django_db
    def test_what_is_wrong_is_told_before_anything_is_read(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            export_sessions(**arguments)

    @pytest.mark.django_db
    def test_a_format_may_have_no_place_for_artifacts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ExportFormat(lambda request: (pk.encode() for pk in request.session_ids))
        monkeypatch.setitem(EXPORT_FORMATS, "names", names)
        Store().save_session(make_session(id="s"))
        assert list(export_sessions(format="names")) == [b"s"]
        with pytest.raises(ValidationError, match="names has no place for artifacts"):
            export_sessions(format="names", include_artifacts=True)


class TestWhileOthersWrite:
    def test_a_writer_beside_leaves_it_whole(
        self, store: Store, using: str, tmp_path: Path
    ) -> None:
        store.save_session(make_session(id="s", created_at=NOON))
        done = threading.Event()

        def write() -> int:
            try:
                for number in range(40):
                    child = make_session(created_at=NOON - timedelta(hours=number))
                    child.parent_session_id = "s"
                    run = make_run(child)
                    store.flush(child, run, [make_event(child, run_id=run.id) for _ in range(9)])
                    own = store.save_run(make_run("s", started_at=child.created_at))
                    store.append_events([make_event("s", run_id=own.id) for _ in range(2)])
            finally:
                done.set()
            return 0

        def export() -> int:
            times = 0
            while not done.is_set() or not times:
                export_sessions(using=using).save(tmp_path / f"{times}.jsonl")
                times += 1
            return times

        _written, times = run_threads([write, export])
        for number in range(times):
            path = tmp_path / f"{number}.jsonl"
            assert import_paths([path], using=using, strict=True).failed == ()
            _check(path)
        last = tmp_path / f"{times - 1}.jsonl"
        empty(using)
        assert import_paths([last], using=using, strict=True).failed == ()

    def test_a_session_that_is_gone_by_its_turn_is_left_out(self, store: Store, using: str) -> None:
        for name in ("a", "b"):
            store.save_session(make_session(id=name))
        export = export_sessions(["a", "b"], using=using)
        store.delete_session("b")
        assert export.count() == ExportReport(sessions=1)
        list(export)
        assert export.report == ExportReport(sessions=1)


def _check(path: Path) -> None:
    """Each run stands before its events, each session's events are whole appends."""
    runs, numbers = set(), dict[str, list[int]]()
    for line in map(json.loads, path.read_text().splitlines()):
        record = line.get("record", {})
        if line.get("kind") == "run":
            runs.add(record["id"])
        elif line.get("kind") == "event":
            assert record["run_id"] in runs
            numbers.setdefault(record["session_id"], []).append(record["sequence_number"])
    for session_id, found in numbers.items():
        assert found == list(range(1, len(found) + 1))
        assert len(found) % (2 if session_id == "s" else 9) == 0


@pytest.mark.django_db
def test_the_memory_does_not_grow_with_the_events_or_the_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walking, "PAGE", 50)
    peaks = []
    for count in (600, 6_000):
        session = Store().save_session(make_session())
        events = (make_event(session, sequence_number=n + 1) for n in range(count))
        Event.objects.bulk_create(events, batch_size=90)
        Store().save_session(session)
        for _ in range(count // 20):
            Store().save_session(make_session(parent_session_id=session.id))
        list(export_sessions())  # what is made once is made now
        tracemalloc.start()
        try:
            pieces = sum(1 for _piece in export_sessions())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert pieces >= count
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 4_000_000


class TestArtifacts:
    @pytest.fixture
    def path(self, store: Store, using: str, tmp_path: Path) -> Path:
        """A session with two artifacts, exported."""
        session = store.save_session(make_session(id="s"))
        store.save_run(make_run(session, id="r"))
        rows = [artifact(id=f"art_{key}", key=key, session_id="s", run_id="r") for key in "ab"]
        Artifact._base_manager.using(using).bulk_create(rows)
        path = tmp_path / "artifacts.jsonl"
        export_sessions(["s"], using=using, include_artifacts=True).save(path)
        return path

    def test_what_is_stored_is_skipped(self, using: str, path: Path) -> None:
        rows = Artifact._base_manager.using(using)
        rows.filter(pk="art_a").delete()
        rows.filter(pk="art_b").update(byte_size=99)
        report = import_paths([path], using=using).total
        assert report.artifacts == RecordCounts(new=1, stored=1)
        assert rows.get(pk="art_b").byte_size == 99

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_key_that_another_has_is_an_error(
        self, using: str, path: Path, dry_run: bool
    ) -> None:
        rows = Artifact._base_manager.using(using)
        rows.filter(pk="art_b").delete()
        rows.filter(pk="art_a").update(id="other")
        Run.objects.using(using).all().delete()
        before = held(using)
        (report,) = import_paths([path], using=using, dry_run=dry_run).files
        assert report.error == "The key 'a' is taken by another artifact."
        assert report.artifacts == RecordCounts()
        assert held(using) == before

    def test_a_key_twice_in_a_file_is_an_error(self, store: Store, using: str, path: Path) -> None:
        store.delete_session("s")
        path.write_text(path.read_text().replace('"key":"b"', '"key":"a"'))
        (report,) = import_paths([path], using=using).files
        assert report.error == "The key 'a' is taken by another artifact."
        assert held(using)["Session"] == []

    @pytest.mark.parametrize("dry_run", [True, False])
    @pytest.mark.parametrize(
        ("kind", "message"),
        [("session", "The session 's' is not stored."), ("run", "The run 'r' is not stored.")],
    )
    def test_its_session_and_its_run_must_be_stored(
        self, store: Store, using: str, path: Path, kind: str, message: str, dry_run: bool
    ) -> None:
        store.delete_session("s")
        kept = [line for line in path.read_text().splitlines() if f'"kind":"{kind}"' not in line]
        if kind == "session":
            kept = [line for line in kept if '"kind":"run"' not in line]
            store.save_session(make_session(id="other"))
            store.save_run(make_run("other", id="r"))
        path.write_text("\n".join(kept))
        (report,) = import_paths([path], using=using, dry_run=dry_run).files
        assert report.error == message
        assert held(using)["Artifact"] == []
