from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from asm_store.models import Session
from example_project.sample_data import broken_lamp, crowded_harbour, write_samples


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def samples(tmp_path: Path) -> str:
    write_samples(tmp_path)
    return str(tmp_path)


def run(*args: str, **options: object) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("asm_import", *args, stdout=out, stderr=err, no_color=True, **options)
    return out.getvalue(), err.getvalue()


def test_the_summary_names_what_is_new_and_what_was_skipped(using: str, samples: str) -> None:
    out, err = run(samples, "--using", using)
    assert err == ""
    lines = out.splitlines()
    lamp = next(n for n, line in enumerate(lines) if broken_lamp().session_id in line)
    assert lines[lamp].endswith(".jsonl (claude-code)")
    assert lines[lamp + 1 : lamp + 5] == [
        "  sessions 1 new; runs 2 new; events 33 new",
        "  tokens: 62 input, 724 output, 135,790 cache read, 5,870 cache creation",
        "  skipped 1 x comment line (line 1)",
        "  skipped 1 x unknown type 'moon-phase' (line 44)",
    ]
    total = lines.index("Imported: 5 files")
    assert " ".join(lines[total + 1].split()) == "sessions 5 new 0 updated 0 stored already"
    assert "  skipped 1 x not JSON" in lines[total:]


def test_again_everything_is_stored_already(using: str, samples: str) -> None:
    run(samples, "--using", using)
    out, _err = run(samples, "--using", using)
    assert "  sessions 1 stored already; runs 2 stored already; events 33 stored already" in out


def test_json_is_all_that_stdout_has(using: str, samples: str) -> None:
    out, err = run(samples, str(Path(samples) / "missing"), "--using", using, "--json")
    report = json.loads(out)
    assert err == ""
    assert report["total"]["sessions"] == {"new": 5, "updated": 0, "stored": 0}
    assert [file["error"] for file in report["files"] if file["error"]] == [
        "cannot be read: No such file or directory"
    ]


def test_a_dry_run_says_so_and_writes_nothing(using: str, samples: str) -> None:
    out, _err = run(samples, "--using", using, "--dry-run")
    assert "Would be stored: 5 files" in out
    assert not Session.objects.using(using).exists()


def test_what_is_left_out_is_told_on_request(using: str, samples: str) -> None:
    out, _err = run(samples, "--using", using, verbosity=2)
    assert "  left out 18 x repeated line" in out


def test_quiet_tells_only_what_went_wrong(using: str, samples: str) -> None:
    out, err = run(samples, str(Path(samples) / "missing"), "--using", using, verbosity=0)
    assert out == ""
    assert err.splitlines() == [f"{samples}/missing: cannot be read: No such file or directory"]


def test_progress_is_for_terminals(
    using: str, samples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = StringIO()
    monkeypatch.setattr("sys.stderr", written)
    call_command("asm_import", samples, using=using, stdout=StringIO(), stderr=Terminal())
    assert written.getvalue().startswith("\r")
    assert written.getvalue().endswith("\r")
    shown = written.getvalue()
    run(samples, using=using)
    assert written.getvalue() == shown


def test_nothing_to_import_is_a_failure(using: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\0")
    with pytest.raises(CommandError, match="Nothing was imported: 1 file failed"):
        run(str(tmp_path), "--using", using)


def test_strict_fails_and_keeps_the_clean_files(using: str, samples: str) -> None:
    with pytest.raises(CommandError, match="2 files failed"):
        run(samples, "--using", using, "--strict")
    assert Session.objects.using(using).filter(id=crowded_harbour().session_id).exists()
    assert not Session.objects.using(using).filter(id=broken_lamp().session_id).exists()


def test_an_unknown_database_is_named_with_the_known_ones(samples: str) -> None:
    with pytest.raises(CommandError, match=r"no database 'nowhere'; DATABASES has .*default"):
        run(samples, "--using", "nowhere")


def test_a_database_without_tables_names_the_command(using: str, samples: str) -> None:
    connection = connections[using]
    table = Session._meta.db_table
    rename = "ALTER TABLE {} RENAME TO {}"
    quoted = [connection.ops.quote_name(name) for name in (table, f"{table}_away")]
    with connection.cursor() as cursor:
        cursor.execute(rename.format(*quoted))
    try:
        with pytest.raises(CommandError, match="migrate"):
            run(samples, "--using", using)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format(*reversed(quoted)))
