"""Files that are compressed, cut off, damaged, or larger than they look."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import FileReport, RecordCounts, export_sessions, import_paths, lines
from asm_store.formats.compression import compressor
from asm_store.formats.reports import Tally
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from tests.cases import EMPTIED_APPS
from tests.exports import hide_zstd, require_zstd
from tests.formats.logs import question

Compress = Callable[[bytes], bytes]


# What is tested here is the same for every database.
pytestmark = pytest.mark.django_db(
    transaction=True, databases=["default"], available_apps=EMPTIED_APPS
)


@pytest.fixture
def using() -> str:
    return "default"


@pytest.fixture(params=[".gz", ".zst"])
def compress(request: pytest.FixtureRequest) -> Compress:
    """As an export is compressed."""
    if request.param == ".zst":
        require_zstd()

    def compress(content: bytes) -> bytes:
        file = BytesIO()
        with compressor(request.param)(file) as compressed:
            compressed.write(content)
        return file.getvalue()

    return compress


@pytest.fixture
def export(using: str) -> bytes:
    """An export of one session with 600 events, which is no longer stored."""
    store = DatabaseSessionStore(using=using)
    session = store.save_session(make_session(id="s"))
    store.append_events([make_event(session) for _ in range(600)])
    exported = b"".join(export_sessions(["s"], using=using))
    store.delete_session("s")
    return exported


@pytest.fixture
def load(using: str, tmp_path: Path) -> Callable[..., FileReport]:
    def load(content: bytes, **options: bool) -> FileReport:
        path = tmp_path / "log"
        path.write_bytes(content)
        (report,) = import_paths([path], using=using, **options).files  # type: ignore[arg-type]
        return report

    return load


Load = Callable[..., FileReport]
CUT = "the file is cut off: its end line is missing"


class TestOwnFormat:
    @pytest.mark.parametrize("kept", [602, 550, 300, 2])
    def test_a_file_without_its_end_is_imported_so_far_and_told(
        self, using: str, load: Load, export: bytes, kept: int
    ) -> None:
        report = load(b"".join(export.splitlines(keepends=True)[:kept]))
        assert (report.error, report.is_cut_off) == (CUT, True)
        assert report.events == RecordCounts(new=kept - 2)
        assert Event.objects.using(using).count() == kept - 2

    def test_a_file_that_ends_in_the_middle_of_its_last_line(
        self, load: Load, export: bytes
    ) -> None:
        for missing in (2, 20):
            report = load(export[:-missing])
            assert (report.error, list(report.skipped)) == (CUT, ["unfinished last line"])
        assert load(export[:-1]).error is None

    def test_strict_stores_nothing_of_it(self, using: str, load: Load, export: bytes) -> None:
        report = load(b"".join(export.splitlines(keepends=True)[:-1]), strict=True)
        assert report.error == f"nothing stored, {CUT}"
        assert report.is_cut_off
        assert not Session.objects.using(using).exists()

    def test_a_line_that_is_missing_is_told(self, load: Load, export: bytes) -> None:
        found = export.splitlines(keepends=True)
        report = load(b"".join([*found[:300], *found[301:]]))
        assert report.is_cut_off
        assert report.error == (
            "the end tells of 1 sessions, 0 runs, 600 events, 0 artifacts; "
            "there are 1 sessions, 0 runs, 599 events, 0 artifacts"
        )

    @pytest.mark.parametrize("whole_one_after_it", [False, True])
    def test_what_stands_before_a_header_is_of_no_known_version(
        self, load: Load, export: bytes, *, whole_one_after_it: bool
    ) -> None:
        headless = export[export.index(b"\n") + 1 :]
        nothing = b'{"format":"asm_store","version":2}\n'
        nothing += b'{"kind":"end","sessions":0,"runs":0,"events":0,"artifacts":0}\n'
        report = load(headless + nothing * whole_one_after_it, format="jsonl")
        ((reason, skipped),) = report.skipped.items()
        assert reason == "before the header, which names the version"
        bad = f"bad lines: {skipped.count} ({reason}{skipped})"
        told = None if whole_one_after_it else f"the file holds no session, {bad}"
        assert report.error == told
        assert skipped.count == headless.count(b"\n")
        assert report.sessions.total == 0

    @pytest.mark.parametrize("end", [b'{"kind": "end"}\n', b'{"kind": "end", "events": "many"}\n'])
    def test_an_end_that_says_nothing(self, load: Load, export: bytes, end: bytes) -> None:
        report = load(b"".join([*export.splitlines(keepends=True)[:-1], end]))
        assert report.is_cut_off

    def test_what_stands_after_the_end_is_no_part_of_it(self, load: Load, export: bytes) -> None:
        event = export.splitlines(keepends=True)[2]
        assert load(export + event).skipped["after the end line"].lines == (604,)

    def test_exports_may_stand_one_after_the_other(self, load: Load, export: bytes) -> None:
        assert load(export + export).events == RecordCounts(new=600, stored=600)
        head = b"".join(export.splitlines(keepends=True)[:9])
        assert load(head + export).error == CUT

    def test_an_empty_export_is_whole(self, load: Load, using: str) -> None:
        report = load(b"".join(export_sessions(using=using)), strict=True)
        assert (report.error, report.sessions.total) == (None, 0)

    def test_version_1_has_no_end(self, load: Load, export: bytes) -> None:
        found = export.splitlines(keepends=True)[1:-1]
        report = load(b'{"format": "asm_store", "version": 1}\n' + b"".join(found), strict=True)
        assert (report.error, report.events) == (None, RecordCounts(new=600))

    @pytest.mark.parametrize("version", [3, 0, -1, "2", None, True, 2.0, 10**30])
    def test_another_version_is_refused(
        self, using: str, load: Load, export: bytes, version: object
    ) -> None:
        header = json.dumps({"format": "asm_store", "version": version})
        report = load(header.encode() + export[export.index(b"\n") :])
        assert report.error is not None
        assert report.error.startswith("version ")
        assert report.error.endswith(" of the format; this package reads 1 to 2")
        assert not Session.objects.using(using).exists()


class TestCompressed:
    def test_it_is_known_by_its_first_bytes(
        self, load: Load, export: bytes, compress: Compress
    ) -> None:
        assert load(compress(export), strict=True).events == RecordCounts(new=600)

    def test_it_may_have_several_members(
        self, load: Load, export: bytes, compress: Compress
    ) -> None:
        half = len(export) // 2
        members = compress(export[:half]) + compress(export[half:])
        assert load(members, strict=True).events == RecordCounts(new=600)

    def test_any_log_of_lines_may_be_compressed(
        self, using: str, tmp_path: Path, compress: Compress
    ) -> None:
        log = question()
        path = log.write(tmp_path / "log.jsonl")
        path.write_bytes(compress(path.read_bytes()))
        (report,) = import_paths([path], using=using).files
        assert (report.format, report.error) == ("claude-code", None)

    def test_it_can_be_read_again_from_its_beginning(
        self, tmp_path: Path, export: bytes, compress: Compress
    ) -> None:
        path = tmp_path / "log"
        path.write_bytes(compress(export))
        with lines.open_log(path) as handle:
            assert handle.read(1_000) == export[:1_000]
            handle.seek(0)
            assert handle.read() == export

    @pytest.mark.parametrize("kept", [0.97, 0.5, 0.2])
    def test_what_is_cut_off_is_imported_so_far_and_told(
        self, using: str, load: Load, export: bytes, compress: Compress, kept: float
    ) -> None:
        content = compress(export)
        report = load(content[: int(len(content) * kept)])
        assert (report.error, report.is_cut_off) == ("the compressed file is cut off", True)
        assert 0 <= report.events.new < 600
        assert Event.objects.using(using).count() == report.events.new

    def test_a_cut_off_log_of_any_format_is_told(
        self, using: str, load: Load, export: bytes, compress: Compress
    ) -> None:
        first = b'{"format": "asm_store", "version": 1}\n'
        body = b"".join(export.splitlines(keepends=True)[1:-1])
        report = load(compress(first + body)[:-3], strict=True)
        assert report.error == "nothing stored, the compressed file is cut off"
        assert not Session.objects.using(using).exists()

    @pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
    def test_what_is_damaged_is_told(
        self, using: str, load: Load, export: bytes, compress: Compress, place: float
    ) -> None:
        content = bytearray(compress(export))
        content[int(place * len(content))] ^= 0x55
        assert load(bytes(content), dry_run=True).error is not None
        report = load(bytes(content), strict=True)
        assert report.is_cut_off
        assert "the compressed file is damaged: " in (report.error or "")
        assert not Session.objects.using(using).exists()

    def test_only_its_first_bytes(self, load: Load, export: bytes, compress: Compress) -> None:
        report = load(compress(export)[:8])
        assert (report.error, report.is_cut_off) == ("the compressed file is cut off", True)

    def test_binary_and_empty_contents_are_refused(self, load: Load, compress: Compress) -> None:
        assert load(compress(b"")).error == "the file is empty"
        assert load(compress(b"\0" * 10_000)).error == "a binary file, not a log"

    def test_folders_are_searched_for_them(self, using: str, tmp_path: Path, export: bytes) -> None:
        contents = {
            "a.jsonl": export,
            "b.jsonl.gz": gzip.compress(export),
            "c.gz": b"",
            "d.zst": b"",
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        report = import_paths([tmp_path], using=using)
        assert [Path(file.path).name for file in report.files] == ["a.jsonl", "b.jsonl.gz"]
        assert report.failed == ()

    def test_progress_is_told_in_bytes_of_the_file(
        self, using: str, tmp_path: Path, export: bytes, compress: Compress
    ) -> None:
        path = tmp_path / "log.jsonl"
        path.write_bytes(compress(export * 9))
        told: list[tuple[str, int, int]] = []
        import_paths([path], using=using, progress=lambda *step: told.append(step))
        size = path.stat().st_size
        assert len(told) > 1
        assert all(0 < done <= size == of for _name, done, of in told)
        assert told[-1] == (str(path), size, size)

    def test_a_bomb_takes_no_more_memory_than_a_line_may(
        self, tmp_path: Path, compress: Compress, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "ASM_STORE_MAX_EVENT_BYTES", 1000, raising=False)
        monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1_000_000)
        path = tmp_path / "bomb.jsonl"
        path.write_bytes(compress(b'{"a": "' + b"x" * 100_000_000 + b'"}\n{"b": 2}\n'))
        assert path.stat().st_size < 200_000
        tally = Tally()
        tracemalloc.start()
        try:
            with lines.open_log(path) as handle:
                found = list(lines.read_lines(handle, tally))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [line.number for line in found] == [2]
        assert list(tally.skipped) == ["line longer than 0 MiB"]
        assert peak < 8_000_000


class TestWithoutZstandard:
    """In tox's `noextras` there is none; elsewhere it is hidden."""

    @pytest.fixture(autouse=True)
    def hide(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide_zstd(monkeypatch)

    def test_a_file_to_read_is_reported(self, load: Load, using: str) -> None:
        report = load(b"\x28\xb5\x2f\xfd and so on")
        assert report.error == (
            "Zstandard files need a package: pip install 'django-asm-store[zstd]'"
        )

    def test_the_others_are_read(self, load: Load, export: bytes) -> None:
        assert load(gzip.compress(export)).events == RecordCounts(new=600)
