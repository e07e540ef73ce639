from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import ExportReport, export_sessions, import_paths
from asm_store.test import make_event
from tests.exports import EXTRA_TYPE, empty, fill, held, hide_zstd, require_zstd
from tests.management.terminals import Terminal
from tests.processes import start_command

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def extra_types() -> Iterator[None]:
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE]):
        yield


@pytest.fixture
def filled(using: str) -> None:
    fill(using)


@pytest.fixture
def filled_default(transactional_db: None) -> None:
    fill("default")


def run(*args: str, **options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    options = {"stdout": out, "stderr": err, "no_color": True, **options}
    call_command("asm_export", *args, **options)
    return out.getvalue(), err.getvalue()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def expected(**options: Any) -> str:
    return b"".join(export_sessions(**options)).decode()


class TestWhat:
    @pytest.mark.usefixtures("filled")
    def test_all_has_the_deleted_ones_too(self, using: str, tmp_path: Path) -> None:
        out, err = run("--all", "--using", using, "--include-artifacts")
        assert out == expected(using=using, include_deleted=True, include_artifacts=True)
        assert err == ""
        before = held(using)
        empty(using)
        (tmp_path / "all.jsonl").write_text(out, "utf-8")
        assert import_paths([tmp_path], using=using, strict=True).failed == ()
        assert held(using) == before

    @pytest.mark.usefixtures("filled")
    def test_named_sessions(self, using: str) -> None:
        out, _err = run("GONE", "child", "z-parent", "--using", using)
        assert out == expected(session_ids=["child", "GONE", "z-parent"], using=using)

    @pytest.mark.parametrize(
        ("arguments", "filters"),
        [
            (["--agent-id", "a"], {"agent_id": "a"}),
            (["--agent-id", ""], {"agent_id": ""}),
            (["--agent-id", "a", "--include-deleted"], {"agent_id": "a", "include_deleted": True}),
            (["--status", "failed", "--status", "active"], {"status": ["failed", "active"]}),
            (["--provider", "claude"], {"provider": ["claude"]}),
            (["--tag", "x", "--tag", "é"], {"tags": ["x", "é"]}),
        ],
    )
    @pytest.mark.usefixtures("filled_default")
    def test_filters(self, arguments: list[str], filters: dict[str, Any]) -> None:
        assert run(*arguments)[0] == expected(**filters)

    @pytest.mark.usefixtures("filled_default")
    def test_filters_by_time(self) -> None:
        after = run("--created-after", "2026-03-02T12:00:00Z")[0]
        assert after == expected(session_ids=["child", "z-parent"])
        before = run("--created-before", "2026-03-02T12:59:59+01:00")[0]
        assert '"id":"empty"' in before
        assert '"id":"child"' not in before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Say what to export: ids of sessions, or --all, or a filter"),
            (["--include-deleted"], "Say what to export"),
            (["--all", "child"], "Say what to export"),
            (["--all", "--status", "failed"], "Say what to export"),
            (["child", "--status", "failed"], "Say what to export"),
            (["child", "--include-deleted"], "--include-deleted is for filters"),
            (["child", "lost"], "session lost is not stored"),
            (["child", ""], "session_id: must have 1 to 255"),
            (["--status", "blue"], "unknown status 'blue'"),
            (["--created-after", "tomorrow"], "'tomorrow' is not an ISO 8601 time"),
            (["--created-after", "2026-03-02"], "has no zone"),
            (["--all", "--using", "nowhere"], "no database 'nowhere'; DATABASES has .*default"),
            (["--all", "--format", "yaml"], "invalid choice: 'yaml'"),
            (["--all", "--json"], "--json needs --output"),
        ],
    )
    @pytest.mark.usefixtures("filled_default")
    def test_what_is_wrong_is_told_before_anything_is_written(
        self, arguments: list[str], message: str
    ) -> None:
        out = StringIO()
        with pytest.raises(CommandError, match=message):
            run(*arguments, stdout=out)
        assert out.getvalue() == ""

    @pytest.mark.usefixtures("filled")
    def test_a_dry_run_counts(self, using: str) -> None:
        out, err = run("child", "GONE", "--using", using, "--dry-run", "--include-artifacts")
        assert out == "Would be exported: 2 sessions, 4 runs, 4 events, 3 artifacts\n"
        assert err.startswith("1 of the sessions name a parent that is no part of the export")
        out, _err = run("child", "--using", using, "--dry-run", "--json")
        assert json.loads(out) == {
            "output": None,
            "dry_run": True,
            "sessions": 1,
            "runs": 3,
            "events": 3,
            "artifacts": 0,
            "without_parent": 1,
        }


@pytest.mark.usefixtures("filled_default")
class TestStandardOutput:
    def test_bytes_whatever_the_encoding_is(self) -> None:
        file = BytesIO()
        stdout = TextIOWrapper(file, encoding="ascii")
        run("--all", stdout=stdout)
        assert file.getvalue().decode() == expected(include_deleted=True)

    def test_orphans_are_told_on_standard_error(self) -> None:
        out, err = run("child")
        assert out == expected(session_ids=["child"])
        assert err.startswith("1 of the sessions name a parent")
        assert run("child", verbosity=0)[1] == ""

    def test_progress_is_for_terminals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written = StringIO()
        monkeypatch.setattr("sys.stderr", written)
        monkeypatch.setattr("asm_store.management.progress.SHOWN_EVERY", 0)
        run("z-parent", stderr=Terminal())
        assert "1 sessions, 1 runs, 0 events" in written.getvalue()
        assert written.getvalue().endswith("\r")
        shown = written.getvalue()
        run("z-parent")
        run("z-parent", stderr=Terminal(), verbosity=0)
        run("z-parent", stderr=Terminal(), stdout=Terminal())
        assert written.getvalue() == shown

    def test_a_pipe_that_is_closed_ends_it_quietly(self) -> None:
        store = DatabaseSessionStore()
        store.append_events([make_event("child", data={"x": "y" * 9_000}) for _ in range(100)])
        with start_command("asm_export", "--all") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(10) == b'{"format":'
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 141

    def test_a_disk_that_is_full_is_told(self) -> None:
        with (
            Path("/dev/full").open("wb") as full,
            start_command("asm_export", "--all", stdout=full) as process,
        ):
            assert process.stderr is not None
            told = "CommandError: Standard output cannot be written: No space left on device\n"
            assert process.stderr.read().decode() == told
            assert process.wait(60) == 1


class TestFiles:
    @pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
    @pytest.mark.usefixtures("filled")
    def test_compressed_by_the_suffix(self, using: str, tmp_path: Path, suffix: str) -> None:
        if suffix == ".zst":
            require_zstd()
        path = tmp_path / f"all.jsonl{suffix}"
        out, err = run("--all", "--using", using, "--output", str(path))
        assert out == f"Exported to {path}: 4 sessions, 5 runs, 4 events, 0 artifacts\n"
        assert err == ""
        magic = {"": b'{"fo', ".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}[suffix]
        assert path.read_bytes().startswith(magic)
        before = held(using)
        assert import_paths([path], using=using, strict=True).failed == ()
        assert held(using) == before
        assert names(tmp_path) == [path.name]

    @pytest.mark.usefixtures("filled_default")
    def test_the_same_export_is_the_same_file(self, tmp_path: Path) -> None:
        for name in ("a.jsonl.gz", "b.jsonl.gz"):
            run("--all", "--output", str(tmp_path / name))
        one, other = (path.read_bytes() for path in tmp_path.iterdir())
        assert one == other
        assert gzip.decompress(one).decode() == expected(include_deleted=True)

    @pytest.mark.usefixtures("filled_default")
    def test_the_report_as_json(self, tmp_path: Path) -> None:
        path = str(tmp_path / "one.jsonl")
        out, _err = run("child", "--output", path, "--json", "--include-artifacts")
        assert json.loads(out) == {
            "output": path,
            "dry_run": False,
            "sessions": 1,
            "runs": 3,
            "events": 3,
            "artifacts": 2,
            "without_parent": 1,
        }

    @pytest.mark.usefixtures("filled_default")
    def test_a_file_is_replaced_by_force_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("precious")
        with pytest.raises(CommandError, match=r"a.jsonl is there already\. --force replaces"):
            run("--all", "--output", str(path))
        assert path.read_text() == "precious"
        path.chmod(0o600)
        run("--all", "--output", str(path), "--force")
        assert path.read_text("utf-8") == expected(include_deleted=True)
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.usefixtures("filled_default")
    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "target.jsonl").write_text("old")
        (tmp_path / "link.jsonl").symlink_to("target.jsonl")
        run("--all", "--output", str(tmp_path / "link.jsonl"), "--force")
        assert (tmp_path / "link.jsonl").is_symlink()
        assert (tmp_path / "target.jsonl").read_text("utf-8") == expected(include_deleted=True)

    @pytest.mark.parametrize("force", [[], ["--force"]])
    @pytest.mark.usefixtures("filled_default")
    def test_only_a_regular_file_is_replaced(self, tmp_path: Path, force: list[str]) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
            with pytest.raises(CommandError, match=r"is not a regular file\.$"):
                run("--all", "--output", str(path), *force)
        with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
            run("--all", "--output", str(tmp_path / "no" / "folder"), *force)

    @pytest.mark.usefixtures("filled_default")
    def test_an_error_on_the_way_leaves_no_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        DatabaseSessionStore().append_events([make_event("child") for _ in range(100)])
        path = tmp_path / "a.jsonl"
        path.write_text("precious")
        export = export_sessions(["z-parent", "child"])

        def delete_meanwhile(report: Any) -> None:
            if report.events == 5:
                DatabaseSessionStore().delete_session("child")

        with pytest.raises(LookupError, match="child was deleted while it was read"):
            export.save(path, overwrite=True, progress=delete_meanwhile)
        with pytest.raises(RuntimeError, match="was begun before"):
            export.save(path, overwrite=True)
        assert path.read_text() == "precious"
        assert names(tmp_path) == ["a.jsonl"]

    @pytest.mark.usefixtures("filled_default")
    def test_a_killed_export_leaves_nothing_that_looks_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        code = (
            f"import django; django.setup(); import {__name__} as tests; tests.die({str(path)!r})"
        )
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
        assert died.returncode == -signal.SIGKILL
        assert not path.exists()
        (part,) = tmp_path.iterdir()
        assert part.name.startswith(".a.jsonl.")
        assert part.suffix == ".part"
        error = import_paths([tmp_path]).files[0].error or ""
        assert error.startswith("no .jsonl")

    @pytest.mark.usefixtures("filled_default")
    def test_without_the_package_for_zstandard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hide_zstd(monkeypatch)
        with pytest.raises(CommandError, match=r"pip install 'django-asm-store\[zstd\]'"):
            run("--all", "--output", str(tmp_path / "a.jsonl.zst"))
        assert names(tmp_path) == []
        run("--all", "--output", str(tmp_path / "a.jsonl.gz"))


class TestImportOfWhatWasCutOff:
    @pytest.mark.usefixtures("filled_default")
    def test_the_exit_code_says_so_beside_whole_files(self, tmp_path: Path) -> None:
        run("empty", "--output", str(tmp_path / "a.jsonl"))
        run("--all", "--output", str(tmp_path / "b.jsonl.gz"))
        content = (tmp_path / "b.jsonl.gz").read_bytes()
        (tmp_path / "b.jsonl.gz").write_bytes(content[:-30])
        err = StringIO()
        with pytest.raises(CommandError, match=r"^1 file failed\.$"):
            call_command("asm_import", str(tmp_path), stdout=StringIO(), stderr=err, no_color=True)
        assert "b.jsonl.gz: the compressed file is cut off" in err.getvalue()

    @pytest.mark.usefixtures("filled_default")
    def test_the_summary_counts_artifacts_where_there_are_some(self, tmp_path: Path) -> None:
        run("--all", "--include-artifacts", "--output", str(tmp_path / "a.jsonl"))
        out = StringIO()
        call_command("asm_import", str(tmp_path), stdout=out)
        assert "artifacts 4 stored already" in out.getvalue()


class TestTrajectories:
    @pytest.mark.usefixtures("filled")
    def test_one_for_each_run_that_an_import_knows(self, using: str, tmp_path: Path) -> None:
        path = tmp_path / "all.jsonl.gz"
        out, err = run("child", "--using", using, "--format", "atif", "--output", str(path))
        assert "1 sessions, 3 runs, 2 events" in out
        assert err == ""
        documents = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert len(documents) == 3
        empty(using)
        (report,) = import_paths([path], using=using).files
        assert (report.format, report.error, report.runs.new) == ("atif", None, 3)

    @pytest.mark.usefixtures("filled_default")
    def test_they_have_no_artifacts(self) -> None:
        with pytest.raises(CommandError, match="atif has no place for artifacts"):
            run("--all", "--format", "atif", "--include-artifacts")


def die(path: str) -> None:
    """Write some of an export, and end as a process that is killed."""

    def kill(report: ExportReport) -> None:
        if report.events == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    export_sessions(["child"]).save(path, progress=kill)
