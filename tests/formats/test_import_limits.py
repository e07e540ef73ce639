"""What is too large, what is no log, and what the report says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from asm_store.exceptions import ValidationError
from asm_store.formats import Skipped, import_paths
from asm_store.models import Event, Session
from example_project.sample_data import (
    Transcript,
    text,
    write_samples,
)
from tests.formats.logs import USED, import_log, question

KNOWN = "atif, claude-code, codex, jsonl, swe-agent"


class TestLimits:
    def test_an_event_that_is_too_large_is_counted(self, using: str, tmp_path: Path) -> None:
        log = question()
        log.user("x" * 30_000)
        log.answer(text("Fine"), usage=USED)
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=20_000):
            report = import_log(log, tmp_path, using)
        ((reason, skipped),) = report.skipped.items()
        assert "larger than 20000 bytes" in reason
        assert skipped == Skipped(1, (3,))
        assert (report.error, report.runs.new) == (None, 2)

    def test_an_event_that_fits_only_without_its_line_says_so(
        self, using: str, tmp_path: Path
    ) -> None:
        log = question()
        log.user("x" * 12_000)
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=20_000):
            report = import_log(log, tmp_path, using)
        assert report.skipped == {}
        sent = Event.objects.using(using).filter(type="message_sent").latest("timestamp")
        assert sent.data["content"] == "x" * 12_000
        assert "larger than 20000 bytes" in sent.metadata["original_omitted"]

    def test_a_line_of_20_megabytes_does_not_stop_the_import(
        self, using: str, tmp_path: Path
    ) -> None:
        log = Transcript("test")
        log.user("Go")
        log.user("x" * 20_000_000)
        log.answer(text("Done"), usage=USED)
        report = import_log(log, tmp_path, using)
        assert [skipped.lines for skipped in report.skipped.values()] == [(2,)]
        assert Event.objects.using(using).filter(type="message_received").count() == 1

    def test_json_that_is_too_deep_for_the_store_is_left_out_of_the_original(
        self, using: str, tmp_path: Path
    ) -> None:
        log = question()
        deep: Any = "x"
        for _level in range(150):
            deep = [deep]
        log.user("Deep", toolUseResult=deep)
        log.user([{"type": "tool_result", "tool_use_id": "c", "content": deep}])
        report = import_log(log, tmp_path, using)
        ((reason, skipped),) = report.skipped.items()
        assert "nested deeper" in reason
        assert skipped.lines == (4,)
        sent = Event.objects.using(using).filter(type="message_sent").latest("timestamp")
        assert sent.data["content"] == "Deep"
        assert "nested deeper" in sent.metadata["original_omitted"]


class TestFiles:
    def test_what_is_no_log_is_told_and_the_rest_imported(self, using: str, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        contents = {
            "a-empty.jsonl": b"",
            "b-binary.jsonl": b"\x00\x01\x02",
            "c-prose.jsonl": b"Once upon a time\n",
            "d-other.jsonl": b'{"level": "info", "message": "started"}\n' * 2000,
            "e-headless.jsonl": b'{"type": "summary", "summary": "x", "leafUuid": "y"}\n',
            "f-newer.jsonl": b'{"format": "asm_store", "version": 3}\n',
            "g-newer.json": b'{"schema_version": "ATIF-v2.0", "steps": []}',
            "no-log.txt": b"not looked at",
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        log = question()
        log.write(tmp_path / "z.jsonl")
        missing = tmp_path / "missing.jsonl"
        report = import_paths([tmp_path, tmp_path / "empty", missing], using=using)
        assert [Path(file.path).name for file in report.imported] == ["z.jsonl"]
        errors = {Path(file.path).name: file.error for file in report.failed}
        assert errors == {
            "a-empty.jsonl": "the file is empty",
            "b-binary.jsonl": "a binary file, not a log",
            "c-prose.jsonl": f"no log of a known format ({KNOWN})",
            "d-other.jsonl": f"no log of a known format ({KNOWN})",
            "e-headless.jsonl": "the file holds no session",
            "f-newer.jsonl": "version 3 of the format; this package reads 1 to 2",
            "g-newer.json": "the file holds no session, bad lines: 1 "
            "(ATIF version 'ATIF-v2.0'; this package reads 1.0 to 1.8 (line 1))",
            "missing.jsonl": "cannot be read: No such file or directory",
            "empty": "no .jsonl, .jsonl.gz, .jsonl.zst, .traj, .json file in this directory",
        }
        assert Session.objects.using(using).get().id == log.session_id

    def test_a_file_is_imported_once_however_it_is_named(self, using: str, tmp_path: Path) -> None:
        path = question().write(tmp_path / "log.jsonl")
        report = import_paths([path, tmp_path, str(path)], using=using)
        assert len(report.files) == 1

    def test_a_name_that_is_no_text_can_be_told(self, using: str, tmp_path: Path) -> None:
        path = tmp_path / os.fsdecode(b"\xff.jsonl")
        path.write_bytes(b"")
        (report,) = import_paths([path], using=using).files
        assert report.path.endswith("\\udcff.jsonl")

    def test_a_format_can_be_named(self, using: str, tmp_path: Path) -> None:
        path = question().write(tmp_path / "log.jsonl")
        (report,) = import_paths([path], using=using, format="jsonl").files
        reason = "before the header, which names the version (line 1, 2)"
        assert report.error == f"the file holds no session, bad lines: 2 ({reason})"
        assert sum(skipped.count for skipped in report.skipped.values()) == 2
        with pytest.raises(ValidationError, match="Unknown format 'pdf'"):
            import_paths([path], using=using, format="pdf")


def test_a_report_is_json_ready_and_adds_up(using: str, tmp_path: Path) -> None:
    write_samples(tmp_path)
    report = import_paths([tmp_path], using=using)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["total"]["tokens"] == report.total.tokens.to_dict()
    assert told["total"]["skipped"]["comment line"] == {"count": 1, "lines": []}
    assert sum(file["events"]["new"] for file in told["files"]) == report.total.events.total
    assert (report.failed, told["dry_run"]) == ((), False)
