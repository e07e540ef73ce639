from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from django.conf import settings

from asm_store.formats import lines
from asm_store.formats.lines import Line, UnreadableFileError, open_log, read_lines
from asm_store.formats.reports import MAX_REASONS, OTHER, Skipped, Tally


def read(path: Path, content: bytes) -> tuple[list[Line], dict[str, Skipped]]:
    path.write_bytes(content)
    tally = Tally()
    with open_log(path) as handle:
        return list(read_lines(handle, tally)), tally.skipped


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_every_object_comes_with_its_line_number_and_size(log: Path) -> None:
    found, skipped = read(log, b'{"a": 1}\n\n  \n{"b": "\xc3\xa9"}\n')
    assert found == [Line(1, 9, {"a": 1}), Line(4, 12, {"b": "é"})]
    assert skipped == {}


def test_a_last_line_without_a_newline_is_a_line(log: Path) -> None:
    assert read(log, b'{"a": 1}\n{"b": 2}')[0][1] == Line(2, 8, {"b": 2})


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_lines(log: Path) -> None:
    found, skipped = read(log, b'\xef\xbb\xbf{"a": 1}\r\n{"b": 2}\r\n')
    assert [line.record for line in found] == [{"a": 1}, {"b": 2}]
    assert skipped == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"// a comment", "comment line"),
        (b"  # another", "comment line"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": -Infinity}', "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b"[1, 2]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_line_is_counted_by_its_reason_and_number(
    log: Path, line: bytes, reason: str
) -> None:
    found, skipped = read(log, b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
    assert [line.number for line in found] == [1, 3]
    assert skipped == {reason: Skipped(1, (2,))}


def test_a_line_that_is_still_being_written_is_told_from_a_broken_one(log: Path) -> None:
    assert read(log, b'{"a": 1}\n{"b": ')[1] == {"unfinished last line": Skipped(1, (2,))}


@pytest.mark.parametrize("excess", [1, 2, 5000])
def test_a_line_over_the_limit_is_counted_and_the_next_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch, excess: int
) -> None:
    monkeypatch.setattr(settings, "ASM_STORE_MAX_EVENT_BYTES", 250, raising=False)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 900)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 64)
    longest = b'{"a": "' + b"x" * (1000 - 10) + b'"}\n'
    too_long = b'{"a": "' + b"x" * (1000 - 10 + excess) + b'"}\n'
    found, skipped = read(log, longest + too_long + b'{"b": 2}\n')
    assert len(longest) == 1000
    assert [line.number for line in found] == [1, 3]
    assert skipped == {"line longer than 0 MiB": Skipped(1, (2,))}


def test_only_the_first_lines_of_a_reason_are_named(log: Path) -> None:
    skipped = read(log, b"{}\n" + b"//\n" * 100)[1]
    assert skipped == {"comment line": Skipped(100, (2, 3, 4, 5, 6))}


def test_a_summary_stays_short_whatever_the_log_names() -> None:
    tally = Tally()
    for number in range(10 * MAX_REASONS):
        tally.skip(f"reason {number}", number)
        tally.ignore(f"kind {number}")
    assert len(tally.skipped) == len(tally.ignored) == MAX_REASONS + 1
    assert tally.skipped[OTHER].count == tally.ignored[OTHER] == 9 * MAX_REASONS


def test_progress_is_told_in_bytes_and_ends_with_all(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 20)
    log.write_bytes(b'{"a": 1}\n' * 10)
    told: list[tuple[str, int, int]] = []
    with open_log(log) as handle:
        list(read_lines(handle, Tally(), lambda *step: told.append(step)))
    assert told == [(str(log), done, 90) for done in (27, 54, 81, 90)]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"\x7fELF\0\0", "a binary file, not a log")],
)
def test_a_file_without_text_is_refused(log: Path, content: bytes, message: str) -> None:
    log.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=message):
        open_log(log)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(UnreadableFileError, match="not a regular file"):
            open_log(path)
    with pytest.raises(UnreadableFileError, match="cannot be read: No such file"):
        open_log(tmp_path / "missing")


def test_reading_takes_the_memory_of_a_line_and_not_of_the_file(log: Path) -> None:
    with log.open("wb") as handle:
        for number in range(20_000):
            handle.write(b'{"a": "%s", "n": %d}\n' % (b"x" * 1000, number))
    assert log.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        with open_log(log) as handle:
            assert sum(1 for _line in read_lines(handle, Tally())) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
