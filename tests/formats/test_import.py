"""Transcripts in a store: what is new, what is stored already, and what is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import RecordCounts, Skipped, import_paths, importing
from asm_store.models import Event, Run, Session
from example_project.sample_data import (
    Transcript,
    broken_lamp,
    crowded_harbour,
    harbour_agents,
    storm,
    text,
    tool_use,
    usage,
    write_samples,
)
from tests.formats.logs import USED, import_log, question, read, stored


class TestOnce:
    def test_the_samples_are_stored_as_they_are_read(self, using: str, tmp_path: Path) -> None:
        paths = write_samples(tmp_path)
        report = import_paths([tmp_path], using=using)
        assert [file.error for file in report.files] == [None] * len(paths)
        assert report.total.sessions == RecordCounts(new=5)
        assert report.total.runs == RecordCounts(new=8)
        records = stored(using)
        assert report.total.events == RecordCounts(new=len(records["events"]))
        for path in paths:
            reader, events, runs = read(path)
            (session,) = reader.take_sessions(final=True)
            assert session.prepared().to_dict() in records["sessions"]
            numbered = [event for event in records["events"] if event["session_id"] == session.id]
            assert [event["sequence_number"] for event in numbered] == [
                number for number, _event in enumerate(events, start=1)
            ]
            for was_read, is_stored in zip(events, numbered, strict=True):
                was_read.sequence_number = is_stored["sequence_number"]
                assert was_read.prepared().to_dict() == is_stored
            costs = {record["id"]: record["cost_usd"] for record in records["runs"]}
            for run in runs:
                run.cost_usd = costs[run.id]  # the store's own addition
                assert run.prepared().to_dict() in records["runs"]

    def test_subagents_have_their_parent_whatever_comes_first(
        self, using: str, tmp_path: Path
    ) -> None:
        write_samples(tmp_path)
        paths = sorted(tmp_path.rglob("*.jsonl"), key=lambda path: not path.match("agent-*"))
        import_paths(paths, using=using)
        parents = Session.objects.using(using).exclude(parent_session_id=None)
        assert {session.parent_session_id for session in parents} == {crowded_harbour().session_id}
        assert len(parents) == 2

    def test_a_subagent_is_linked_when_its_parent_has_come(
        self, using: str, tmp_path: Path
    ) -> None:
        agent = harbour_agents()[0]
        path = agent.write(tmp_path / "agent-a.jsonl")
        import_log(path, tmp_path, using)
        assert Session.objects.using(using).get().parent_session_id is None
        import_log(crowded_harbour(), tmp_path, using)
        report = import_log(path, tmp_path, using)
        assert report.sessions == RecordCounts(updated=1)
        child = Session.objects.using(using).get(id=f"{agent.session_id}/agent-{agent.agent_id}")
        assert child.parent_session_id == crowded_harbour().session_id


class TestAgain:
    def test_the_same_files_store_nothing_new(self, using: str, tmp_path: Path) -> None:
        write_samples(tmp_path)
        first = import_paths([tmp_path], using=using).total
        before = stored(using)
        again = import_paths([tmp_path], using=using).total
        assert stored(using) == before
        for kind in ("sessions", "runs", "events"):
            assert getattr(again, kind) == RecordCounts(stored=getattr(first, kind).new)
        assert again.tokens == first.tokens

    @pytest.mark.parametrize("make", [broken_lamp, crowded_harbour, storm])
    def test_a_log_that_grew_ends_as_if_it_had_been_imported_once(
        self, using: str, tmp_path: Path, make: Any
    ) -> None:
        log = make()
        lines = log.lines
        for count in (2, 3, 5, 8, 13, 21, 34, len(lines)):
            log.lines = lines[:count]
            import_log(log, tmp_path, using)
        grown = stored(using)
        DatabaseSessionStore(using=using).delete_session(log.session_id)
        import_log(log, tmp_path, using)
        once = stored(using)
        assert grown["sessions"] == once["sessions"]
        assert grown["runs"] == once["runs"]
        assert {event["id"] for event in grown["events"]} == {
            event["id"] for event in once["events"]
        }

    def test_what_a_message_uses_more_is_added(self, using: str, tmp_path: Path) -> None:
        log = Transcript("test")
        log.user("Go")
        log.answer(text("a"), usage=usage(10, 1))
        import_log(log, tmp_path, using)
        last = json.loads(log.lines[-1])
        last["message"].update(usage=usage(10, 250), content=[text("b")])
        log.line(last)
        report = import_log(log, tmp_path, using)
        assert report.runs == RecordCounts(updated=1)
        run = Run.objects.using(using).get()
        assert run.token_usage["output_tokens"] == 250
        used = Event.objects.using(using).filter(type="token_usage_updated")
        assert sorted(event.data["output_tokens"] for event in used) == [1, 249]

    def test_a_turn_that_goes_on_is_ended_anew(self, using: str, tmp_path: Path) -> None:
        log = Transcript("test")
        log.user("Go")
        log.answer(tool_use("call", "Read"), usage=USED)
        import_log(log, tmp_path, using)
        run = Run.objects.using(using).get()
        assert run.status == Run.Status.CANCELLED
        log.result("call", "found")
        log.answer(text("Done"), usage=USED)
        import_log(log, tmp_path, using)
        grown = Run.objects.using(using).get()
        assert (grown.id, grown.status) == (run.id, Run.Status.COMPLETED)
        assert grown.ended_at is not None
        assert run.ended_at is not None
        assert grown.ended_at - run.ended_at == timedelta(seconds=2)

    def test_an_older_copy_takes_nothing_back(self, using: str, tmp_path: Path) -> None:
        log = crowded_harbour()
        import_log(log, tmp_path, using)
        before = stored(using)
        log.lines = log.lines[:3]
        report = import_log(log, tmp_path, using)
        assert (report.sessions, report.runs) == (RecordCounts(stored=1), RecordCounts(stored=1))
        assert stored(using) == before

    def test_what_people_changed_since_is_left_alone(self, using: str, tmp_path: Path) -> None:
        log = question()
        import_log(log, tmp_path, using)
        store = DatabaseSessionStore(using=using)
        store.update_session(log.session_id, add_tags=["pinned"], status="paused")
        run = store.list_runs(log.session_id)[0]
        run.metadata["note"] = "mine"
        run.cost_usd = 0.25
        store.save_run(run)
        log.now = datetime(2100, 1, 1, tzinfo=UTC)
        log.user("More")
        import_log(log, tmp_path, using)
        session = store.get_session(log.session_id)
        assert (session.tags, session.status) == (["pinned"], "paused")
        assert session.updated_at == log.now
        kept = store.list_runs(log.session_id)[0]
        assert (kept.metadata["note"], kept.cost_usd) == ("mine", 0.25)

    def test_a_cost_is_forgotten_when_the_usage_changes(self, using: str, tmp_path: Path) -> None:
        log = Transcript("test")
        log.user("Go")
        log.answer(text("Done"), usage=USED, model="no-such-model")
        import_log(log, tmp_path, using)
        Run.objects.using(using).update(cost_usd=0.25)
        log.answer(text("More"), usage=USED, model="no-such-model")
        import_log(log, tmp_path, using)
        assert Run.objects.using(using).get().cost_usd is None

    def test_a_price_is_of_what_the_log_says_now(
        self, using: str, tmp_path: Path, settings: Any
    ) -> None:
        rates = {"input": 0.001, "output": 0.01}
        settings.ASM_STORE_PRICING = {"claude": {"default": rates}}
        log = Transcript("test")
        log.user("Go")
        for expected in (1, 2):
            log.answer(text("More"), usage=usage(500, 50))
            import_log(log, tmp_path, using)
            assert Run.objects.using(using).get().cost_usd == expected

    def test_events_that_others_appended_stay_in_between(self, using: str, tmp_path: Path) -> None:
        log = question()
        import_log(log, tmp_path, using)
        store = DatabaseSessionStore(using=using)
        own = Event(type="policy_violation", session_id=log.session_id, data={"policy": "mine"})
        number = store.append_event_with_sequence(own).sequence_number
        log.user("More")
        report = import_log(log, tmp_path, using)
        assert report.events == RecordCounts(new=2, stored=number - 1)
        numbers = [event.sequence_number for event in store.get_events(log.session_id)]
        assert numbers == list(range(1, number + 3))


class TestDeleted:
    def test_nothing_is_added_to_a_deleted_session(self, using: str, tmp_path: Path) -> None:
        log = question()
        import_log(log, tmp_path, using)
        DatabaseSessionStore(using=using).soft_delete_session(log.session_id)
        before = stored(using)
        assert import_log(log, tmp_path, using).error is None
        log.user("More")
        for dry_run in (True, False):
            report = import_log(log, tmp_path, using, dry_run=dry_run)
            assert report.error is not None
            assert "soft-deleted" in report.error
            assert report.events == RecordCounts()
        assert stored(using) == before


class TestDryRun:
    def test_it_tells_what_a_real_run_does_and_writes_nothing(
        self, using: str, tmp_path: Path
    ) -> None:
        write_samples(tmp_path)
        for _time in range(2):
            before = stored(using)
            pretended = import_paths([tmp_path], using=using, dry_run=True)
            assert stored(using) == before
            real = import_paths([tmp_path], using=using)
            assert pretended.dry_run
            assert pretended.files == real.files

    def test_it_tells_what_a_grown_log_brings(self, using: str, tmp_path: Path) -> None:
        log = broken_lamp()
        lines = log.lines
        log.lines = lines[:12]
        import_log(log, tmp_path, using)
        log.lines = lines
        pretended = import_log(log, tmp_path, using, dry_run=True)
        real = import_log(log, tmp_path, using)
        assert pretended == real
        assert real.runs == RecordCounts(new=1, updated=1)


class TestStrict:
    def test_nothing_of_a_file_with_a_bad_line_is_stored(self, using: str, tmp_path: Path) -> None:
        write_samples(tmp_path)
        report = import_paths([tmp_path], using=using, strict=True)
        assert {file.path.rsplit("/", 1)[1][:8] for file in report.failed} == {
            broken_lamp().session_id[:8],
            storm().session_id[:8],
        }
        (failed,) = [file for file in report.failed if "not JSON" in file.skipped]
        assert failed.error == "nothing stored, bad lines: 1 (not JSON (line 10))"
        assert failed.skipped == {"not JSON": Skipped(1, (10,))}
        assert report.total.sessions == RecordCounts(new=3)
        assert Session.objects.using(using).count() == 3

    def test_a_clean_file_is_stored_whole(self, using: str, tmp_path: Path) -> None:
        report = import_log(crowded_harbour(), tmp_path, using, strict=True)
        assert (report.error, report.sessions) == (None, RecordCounts(new=1))


class TestBatches:
    def test_small_batches_store_the_same(
        self, using: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_samples(tmp_path)
        expected = import_paths([tmp_path], using=using, dry_run=True)
        monkeypatch.setattr(importing, "BATCH_EVENTS", 2)
        report = import_paths([tmp_path], using=using)
        assert report.files == expected.files
        records = stored(using)
        monkeypatch.setattr(importing, "BATCH_BYTES", 1)
        assert import_paths([tmp_path], using=using).total.events.new == 0
        assert stored(using) == records

    def test_more_turns_than_are_remembered(self, using: str, tmp_path: Path) -> None:
        log = Transcript("test")
        for number in range(50):
            log.user(f"Question {number}")
            log.answer(text(f"Answer {number}"), usage=USED)
        report = import_log(log, tmp_path, using)
        assert report.runs == RecordCounts(new=50)
        runs = Run.objects.using(using).order_by("started_at")
        assert [run.output for run in runs] == [{"content": f"Answer {n}"} for n in range(50)]
        assert {run.status for run in runs} == {Run.Status.COMPLETED}

    def test_what_was_imported_before_a_failure_is_whole(
        self, using: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importing, "BATCH_EVENTS", 4)
        log = broken_lamp()
        taken = read(log.write(tmp_path / "log.jsonl"))[1][9]
        other = Transcript("other")
        import_log(question("other"), tmp_path, using)
        store = DatabaseSessionStore(using=using)
        thief = Event(id=taken.id, type="message_sent", session_id=other.session_id)
        store.append_event_with_sequence(thief)
        report = import_log(log, tmp_path, using)
        assert report.error is not None
        assert "another session" in report.error
        events = store.get_events(log.session_id)
        assert len(events) == report.events.new
        assert 0 < len(events) < 10
        assert store.get_latest_sequence(log.session_id) == len(events)
