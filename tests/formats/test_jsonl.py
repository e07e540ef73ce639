"""The own format: everything comes back as it was, under the numbers that it had."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import (
    FileReport,
    RecordCounts,
    Skipped,
    Tokens,
    export_sessions,
    import_paths,
)
from asm_store.models import Event, Run, Session, SessionSequence
from tests.formats.logs import stored

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using=using)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive.jsonl"


def fill(store: DatabaseSessionStore) -> list[str]:
    """A parent and a child, with runs and with everything that is hard to bring back."""
    store.save_session(Session(id="parent", agent_id="a", created_at=NOON, tags=["x", "é"]))
    child = Session(id="child", agent_id="b", parent_session_id="parent", status="failed")
    store.save_session(child)
    usage = {"input_tokens": 3, "output_tokens": 4, "cache_read_tokens": 5}
    run = Run(id="run", session_id="child", token_usage=usage, cost_usd=0.125, provider="claude")
    store.save_run(run.set_output({"content": "☂", "numbers": [1, 2.5, None, 10**30]}))
    store.save_run(Run(id="open", session_id="parent", status="running"))
    events = [
        Event(id="e1", type="message_sent", session_id="child", run_id="run", timestamp=NOON),
        Event(id="e2", type="message_received", session_id="child", data={"content": "a\0\ud800"}),
        Event(id="e3", type="message_sent", session_id="parent", correlation_id="c", provider="p"),
        Event(id="e4", type="run_completed", session_id="child", run_id="run", schema_version=7),
    ]
    store.append_events(events)
    return ["parent", "child"]


def dump(store: DatabaseSessionStore, path: Path, session_ids: Iterable[str]) -> None:
    export_sessions(session_ids, using=store.using).save(path, overwrite=True)


def load(path: Path, using: str, **options: Any) -> FileReport:
    (report,) = import_paths([path], using=using, **options).files
    return report


def counters(using: str) -> dict[str, int]:
    rows = SessionSequence.objects.using(using)
    return dict(rows.values_list("session_id", "last_sequence"))


def edit(path: Path, **changes: Any) -> None:
    """Change the record of each line that is named by its record's id."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        name = line.get("record", {}).get("id", "header")
        line.update(changes.get(name, {}))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def record(path: Path, name: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    (found,) = [line["record"] for line in lines if line.get("record", {}).get("id") == name]
    return dict(found)


class TestRoundTrip:
    def test_all_records_come_back_identical(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        before = stored(using)
        dump(store, path, names)
        for name in names:
            store.delete_session(name)
        report = load(path, using)
        assert stored(using) == before
        assert (report.format, report.error, report.skipped) == ("jsonl", None, {})
        assert (report.sessions, report.runs) == (RecordCounts(new=2), RecordCounts(new=2))
        assert report.events == RecordCounts(new=4)
        assert report.tokens == Tokens(3, 4, 5)
        assert counters(using) == {"parent": 1, "child": 3}

    def test_the_second_time_it_has_no_effect(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        dump(store, path, fill(store))
        before = stored(using)
        for dry_run in (True, False):
            report = load(path, using, dry_run=dry_run)
            assert report.sessions == report.runs == RecordCounts(stored=2)
            assert report.events == RecordCounts(stored=4)
        assert stored(using) == before

    def test_a_dry_run_tells_the_same_and_writes_nothing(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        dump(store, path, names)
        for name in names:
            store.delete_session(name)
        pretended = load(path, using, dry_run=True)
        assert stored(using) == {"sessions": [], "runs": [], "events": []}
        assert load(path, using) == pretended

    def test_a_deleted_session_comes_back_deleted(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        store.soft_delete_session("child")
        before = stored(using)
        dump(store, path, names)
        for name in names:
            store.delete_session(name)
        assert load(path, using).error is None
        assert stored(using) == before
        assert load(path, using).sessions == RecordCounts(stored=2)

    def test_files_may_come_in_any_order(
        self, store: DatabaseSessionStore, using: str, tmp_path: Path
    ) -> None:
        names = fill(store)
        before = stored(using)
        dump(store, tmp_path / "2.jsonl", ["parent"])
        dump(store, tmp_path / "1.jsonl", ["child"])
        for name in names:
            store.delete_session(name)
        alone = load(tmp_path / "1.jsonl", using)
        assert alone.error == "The parent session 'parent' is not stored."
        assert stored(using)["sessions"] == []
        report = import_paths([tmp_path], using=using)
        assert report.failed == ()
        assert stored(using) == before


class TestNumbers:
    def test_events_that_were_pruned_come_back_in_their_places(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        before = stored(using)
        dump(store, path, names)
        Event.objects.using(using).filter(id__in=["e1", "e2"]).delete()
        report = load(path, using)
        assert report.events == RecordCounts(new=2, stored=2)
        assert stored(using) == before

    def test_a_counter_rises_and_never_falls(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        Event.objects.using(using).filter(id="e4").delete()
        dump(store, path, names)
        store.append_event(Event(type="message_sent", session_id="parent"))
        load(path, using)
        assert counters(using) == {"parent": 2, "child": 3}
        for name in names:
            store.delete_session(name)
        load(path, using)
        assert counters(using) == {"parent": 1, "child": 3}
        added = store.append_event_with_sequence(Event(type="message_sent", session_id="child"))
        assert added.sequence_number == 4

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_number_taken_by_another_id_is_a_conflict(
        self, store: DatabaseSessionStore, using: str, path: Path, dry_run: bool
    ) -> None:
        dump(store, path, fill(store))
        edit(path, e1={"record": {**record(path, "e1"), "id": "other"}})
        before = stored(using)
        report = load(path, using, dry_run=dry_run)
        assert report.error == "Number 1 of session 'child' is taken by another event."
        assert report.events == RecordCounts()
        assert stored(using) == before

    def test_one_number_twice_in_a_file_is_a_conflict(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        dump(store, path, names)
        edit(path, e2={"record": {**record(path, "e2"), "sequence_number": 1}})
        for name in names:
            store.delete_session(name)
        report = load(path, using)
        assert report.error == "Number 1 of session 'child' is taken by another event."
        assert stored(using)["sessions"] == []

    def test_an_id_of_another_session_is_a_conflict(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        dump(store, path, fill(store))
        edit(path, e3={"record": {**record(path, "e3"), "session_id": "child"}})
        report = load(path, using)
        assert report.error == "The event 'e3' is stored under another session."


class TestMerging:
    def test_the_later_session_wins(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        dump(store, path, fill(store))
        changed = store.update_session("child", add_tags=["kept"])
        assert load(path, using).sessions == RecordCounts(stored=2)
        assert store.get_session("child").tags == ["kept"]
        later = changed.updated_at.replace(year=2999).isoformat()
        edit(path, child={"record": {**record(path, "child"), "updated_at": later}})
        assert load(path, using).sessions == RecordCounts(updated=1, stored=1)
        assert store.get_session("child").tags == []

    def test_a_run_that_has_ended_stays_and_one_that_was_open_ends(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        dump(store, path, fill(store))
        ended = {"status": "completed", "ended_at": NOON.isoformat()}
        edit(
            path,
            run={"record": {**record(path, "run"), "status": "cancelled"}},
            open={"record": {**record(path, "open"), **ended}},
        )
        assert load(path, using).runs == RecordCounts(updated=1, stored=1)
        assert store.get_run("run").status == store.get_run("open").status == "completed"

    def test_a_run_of_another_session_is_refused(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        dump(store, path, fill(store))
        edit(path, run={"record": {**record(path, "run"), "session_id": "parent"}})
        report = load(path, using)
        assert report.error == "The run 'run' is stored under another session."


class TestBroken:
    def test_a_record_that_a_store_would_refuse_is_counted(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        store.save_session(Session(id="s", agent_id="a"))
        store.append_events([Event(id=f"e{n}", type="message_sent", session_id="s") for n in "123"])
        dump(store, path, ["s"])
        store.delete_session("s")
        edit(
            path,
            e1={"record": {**record(path, "e1"), "type": "unheard_of"}},
            e2={"record": {**record(path, "e2"), "sequence_number": None}},
        )
        bad = [
            '{"kind": "event", "record": 7}',
            '{"kind": "artifact", "record": {}}',
            '{"kind": "lamp", "record": {}}',
            '{"kind": "session", "record": {}, "last_sequence": -1}',
        ]
        path.write_text(
            path.read_text().replace('{"kind": "end"', "\n".join([*bad, '{"kind": "end"']))
        )
        report = load(path, using)
        assert [skipped.lines for skipped in report.skipped.values()] == [
            (3,),
            (4,),
            (6,),
            (7,),
            (8,),
            (9,),
        ]
        assert report.skipped["event: sequence_number: is missing."] == Skipped(1, (4,))
        assert report.skipped["unknown kind 'lamp'"] == Skipped(1, (8,))
        assert report.events == RecordCounts(new=1)
        assert counters(using) == {"s": 3}

    @pytest.mark.parametrize("dry_run", [True, False])
    @pytest.mark.parametrize(
        ("missing", "message"),
        [("run", "The run 'run' is not stored."), ("child", "The session 'child' is not stored.")],
    )
    def test_an_event_without_its_run_or_session_is_an_error(
        self,
        store: DatabaseSessionStore,
        using: str,
        path: Path,
        missing: str,
        message: str,
        dry_run: bool,
    ) -> None:
        names = fill(store)
        dump(store, path, names)
        for name in names:
            store.delete_session(name)
        edit(path, **{missing: {"kind": "lost"}})
        report = load(path, using, dry_run=dry_run)
        assert report.error == message
        assert stored(using) == {"sessions": [], "runs": [], "events": []}

    def test_an_event_of_another_sessions_run_is_an_error(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        dump(store, path, names)
        edit(path, e3={"record": {**record(path, "e3"), "run_id": "run"}})
        Event.objects.using(using).all().delete()
        report = load(path, using)
        assert report.error == "The run 'run' belongs to another session."
        assert stored(using)["events"] == []

    def test_strict_stores_nothing_of_a_file_with_a_bad_record(
        self, store: DatabaseSessionStore, using: str, path: Path
    ) -> None:
        names = fill(store)
        dump(store, path, names)
        for name in names:
            store.delete_session(name)
        edit(path, e3={"kind": "lost"})
        report = load(path, using, strict=True)
        assert report.error is not None
        assert "unknown kind 'lost'" in report.error
        assert stored(using)["sessions"] == []
