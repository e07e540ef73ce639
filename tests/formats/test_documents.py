"""Logs that are one JSON document: which files are some, and what is wrong with others."""

from __future__ import annotations

import json
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import RecordCounts, documents, import_paths
from asm_store.models import Session
from example_project.sample_data import Transcript, broken_lamp
from tests.formats.logs import import_log, stored
from tests.formats.rollouts import Rollout, squall, tide_table
from tests.formats.trajectories import Document, knots, leak, voyage, write
from tests.threads import run_threads

LOGS = {"tide.jsonl": tide_table, "squall.jsonl": squall}
DOCUMENTS = {"leak.traj": leak, "knots.traj.json": knots, "voyage.json": voyage}


def write_all(folder: Path) -> None:
    for name, make in LOGS.items():
        make().write(folder / name)
    for name, document in DOCUMENTS.items():
        write(document(), folder / name)


class TestFolder:
    def test_every_log_is_found_and_other_json_is_left_out(
        self, using: str, tmp_path: Path
    ) -> None:
        write_all(tmp_path)
        broken_lamp().write(tmp_path / "lamp.jsonl")
        others = {
            "package.json": '{\n"name": "x"\n}',
            "one-line.json": '{"name": "x"}',
            "list.json": "[1]",
            "broken.json": "{\n",
            "deep.json": '{"a":\n' + "[" * 200_000,
            "odd.json": '{"a":\n"\\ud800"}',
            "settings.yaml": "schema_version: ATIF-v1.7",
        }
        for name, content in others.items():
            (tmp_path / name).write_text(content)
        (tmp_path / "bytes.json").write_bytes(b'{\n"\xff": 1}')
        report = import_paths([tmp_path], using=using)
        assert report.failed == ()
        assert {Path(file.path).name: file.format for file in report.imported} == {
            "tide.jsonl": "codex",
            "squall.jsonl": "codex",
            "leak.traj": "swe-agent",
            "knots.traj.json": "swe-agent",
            "voyage.json": "atif",
            "lamp.jsonl": "claude-code",
        }
        assert report.left_out == report.to_dict()["left_out"] == 7

    def test_the_command_tells_how_many_were_left_out(self, using: str, tmp_path: Path) -> None:
        write_all(tmp_path)
        (tmp_path / "package.json").write_text("{\n}")
        out = StringIO()
        call_command("asm_import", str(tmp_path), using=using, stdout=out)
        assert "left out 1 x .json file that is no log" in out.getvalue()

    def test_a_format_of_lines_does_not_look_at_documents(self, using: str, tmp_path: Path) -> None:
        (tmp_path / "package.json").write_text("{\n}")
        tide_table().write(tmp_path / "tide.jsonl")
        report = import_paths([tmp_path], using=using, format="codex")
        assert (len(report.files), report.left_out) == (1, 0)

    @pytest.mark.parametrize(("name", "format"), [("leak.traj", "swe-agent"), ("a.json", "atif")])
    def test_a_named_format_leaves_out_the_other(
        self, using: str, tmp_path: Path, name: str, format: str
    ) -> None:
        write(leak() if format == "swe-agent" else voyage(), tmp_path / name)
        (tmp_path / "package.json").write_text("{\n}")
        report = import_paths([tmp_path], using=using, format=format)
        assert [file.error for file in report.files] == [None]
        assert report.left_out == 1


class TestOneFile:
    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("make", [leak, knots, voyage])
    @pytest.mark.parametrize("bom", ["", "\ufeff"])
    def test_it_is_known_by_what_is_in_it(
        self, using: str, tmp_path: Path, make: Any, indent: int | None, bom: str
    ) -> None:
        path = write(make(), tmp_path / "log.txt", indent=indent)
        path.write_text(bom + path.read_text())
        report = import_log(path, tmp_path, using)
        assert (report.error, report.sessions.new) == (None, 2 if make is voyage else 1)

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ('{\n"name": "x"\n}', "no log of a known format (atif,"),
            ("{\n", "no log of a known format: not JSON, or cut off"),
            ('{\n"schema_version": "ATIF-v1.7",\n"steps": [', "not JSON, or cut off"),
            ('{\n"schema_version": "ATIF-v1.7",\n"steps": ' + "[" * 200_000, "nested too deeply"),
            ('{\n"schema_version": "ATIF-v1.7",\n"steps": NaN}', "not JSON, or cut off"),
            ('{\n"schema_version": "ATIF-v1.7"}', "steps: not a list"),
            ('{\n"schema_version": "ATIF-v3.0",\n"steps": []}', "ATIF version 'ATIF-v3.0'"),
            ('{\n"trajectory_format": "mini-swe-agent-1.1"}', "messages: not a list"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, using: str, tmp_path: Path, content: str, error: str
    ) -> None:
        path = tmp_path / "a.json"
        path.write_text(content)
        report = import_log(path, tmp_path, using)
        assert report.error is not None
        assert report.error.startswith(error)
        assert Session.objects.using(using).count() == 0

    def test_bytes_that_are_no_text(self, using: str, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(b'{\n"schema_version": "ATIF-v1.7", "notes": "\xff"}')
        assert import_log(path, tmp_path, using).error == "not UTF-8"

    def test_a_document_over_the_limit_is_told(
        self, using: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(voyage(), tmp_path / "a.json")
        monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 1024 * 1024)
        assert import_log(path, tmp_path, using).error is None
        write({**voyage(), "notes": "x" * 1024 * 1024}, path)
        assert import_log(path, tmp_path, using).error == "a document larger than 1 MiB"

    def test_a_document_of_another_format_is_not_forced(self, using: str, tmp_path: Path) -> None:
        path = write(leak(), tmp_path / "a.traj")
        (report,) = import_paths([path], using=using, format="atif").files
        assert report.error == "no document of the format atif"

    def test_a_bad_step_fails_a_strict_import(self, using: str, tmp_path: Path) -> None:
        document = voyage()
        document["steps"][1]["source"] = "sea"
        path = write(document, tmp_path / "a.json")
        report = import_log(path, tmp_path, using, strict=True)
        assert report.error == "nothing stored, bad lines: 1 (unknown source 'sea' (line 2))"
        assert Session.objects.using(using).count() == 0
        assert import_log(path, tmp_path, using).error is None


class TestAgain:
    def test_the_same_files_store_nothing_new(self, using: str, tmp_path: Path) -> None:
        write_all(tmp_path)
        first = import_paths([tmp_path], using=using)
        assert [file.error for file in first.files] == [None] * 5
        before = stored(using)
        again = import_paths([tmp_path], using=using).total
        assert stored(using) == before
        for kind in ("sessions", "runs", "events"):
            assert getattr(again, kind) == RecordCounts(stored=getattr(first.total, kind).new)
        assert again.tokens == first.total.tokens

    def test_a_dry_run_tells_the_same_and_writes_nothing(self, using: str, tmp_path: Path) -> None:
        write_all(tmp_path)
        pretended = import_paths([tmp_path], using=using, dry_run=True)
        assert Session.objects.using(using).count() == 0
        assert pretended.files == import_paths([tmp_path], using=using).files

    @pytest.mark.parametrize("make", [tide_table, squall])
    def test_a_rollout_that_grew_ends_as_if_it_had_been_imported_once(
        self, using: str, tmp_path: Path, make: Any
    ) -> None:
        log: Rollout = make()
        lines, path = log.lines, tmp_path / "log.jsonl"
        for count in range(1, len(lines) + 1, 4):
            log.lines = lines[:count]
            import_log(log.write(path), tmp_path, using)
        log.lines = lines
        import_log(log.write(path), tmp_path, using)
        grown = stored(using)
        self._empty(using)
        import_log(path, tmp_path, using)
        once = stored(using)
        assert (grown["sessions"], grown["runs"]) == (once["sessions"], once["runs"])
        assert {event["id"] for event in grown["events"]} == {e["id"] for e in once["events"]}

    @pytest.mark.parametrize(("make", "key"), [(leak, "history"), (voyage, "steps")])
    def test_a_document_that_grew_ends_as_if_it_had_been_imported_once(
        self, using: str, tmp_path: Path, make: Any, key: str
    ) -> None:
        whole: Document = make()
        for count in range(4, len(whole[key])):
            part = {**whole, key: whole[key][:count], "info": {}}
            for ending in ("final_metrics", "subagent_trajectories"):
                part.pop(ending, None)
            import_log(write(part, tmp_path / "log.json"), tmp_path, using)
        import_log(write(whole, tmp_path / "log.json"), tmp_path, using)
        grown = stored(using)
        self._empty(using)
        import_log(tmp_path / "log.json", tmp_path, using)
        once = stored(using)
        assert grown["runs"] == once["runs"]
        assert {event["id"] for event in grown["events"]} == {e["id"] for e in once["events"]}

    def _empty(self, using: str) -> None:
        for pk in Session.objects.using(using).values_list("pk", flat=True):
            DatabaseSessionStore(using).delete_session(pk)

    def test_an_older_copy_takes_nothing_back(self, using: str, tmp_path: Path) -> None:
        log = tide_table()
        import_log(log.write(tmp_path / "log.jsonl"), tmp_path, using)
        before = stored(using)
        log.lines = log.lines[:9]
        report = import_log(log.write(tmp_path / "log.jsonl"), tmp_path, using)
        assert (report.error, report.runs) == (None, RecordCounts(stored=1))
        assert stored(using) == before

    def test_the_same_files_by_three_at_once(self, using: str, tmp_path: Path) -> None:
        write_all(tmp_path)
        reports = run_threads([partial(import_paths, [tmp_path], using=using) for _ in range(3)])
        errors = [file.error for report in reports for file in report.files]
        assert errors == [None] * 15
        new = sum(report.total.events.new for report in reports)
        assert new == len(stored(using)["events"])
        before = stored(using)
        assert import_paths([tmp_path], using=using).total.events.new == 0
        assert stored(using) == before


def test_an_unknown_line_does_not_make_a_log_of_documents(using: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(voyage()), "not JSON", json.dumps({**voyage(), "session_id": "other"})]
    path.write_text("\n".join(lines) + "\n")
    report = import_log(path, tmp_path, using)
    assert (report.error, report.sessions.new) == (None, 4)
    assert report.skipped["not JSON"].lines == (2,)


def test_a_broken_first_line_does_not_hide_a_transcript(using: str, tmp_path: Path) -> None:
    log: Transcript = broken_lamp()
    log.lines[0] = '{"cut": '
    report = import_log(log.write(tmp_path / "a.jsonl"), tmp_path, using)
    assert (report.error, report.format) == (None, "claude-code")
