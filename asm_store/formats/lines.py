"""Reads a log line by line with bounded memory; what cannot be read is counted, not fatal.

A log may be compressed with gzip or Zstandard.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from .compression import CutOffFileError, open_decompressed
from .reports import Tally

# A record may have 8 MiB, or what the settings say; a tool's result stands twice in some logs'
# lines, and characters may be escaped.
MAX_LINE_BYTES = 32 * 1024 * 1024
RECORDS_IN_A_LINE = 4
CHUNK_BYTES = 1024 * 1024
SNIFFED_BYTES = 8192
BOM = b"\xef\xbb\xbf"
COMMENT_MARKS = (b"//", b"#")

Progress = Callable[[str, int, int], None]
"""Called with a file's path, the bytes read so far and its size in bytes, both as it is stored."""


class UnreadableFileError(Exception):
    """The file is no text that could hold a log; the message says what it is."""


class SkippedLineError(Exception):
    """The line cannot be imported; the message is the reason under which it is counted."""


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a log: `number` counts from 1, `size` is in bytes."""

    number: int
    size: int
    record: dict[str, Any]


def open_log(path: Path) -> io.BufferedReader:
    """The file, open for reading bytes, decompressed if it is compressed.

    `UnreadableFileError` unless it is a regular file of text. What is wrong with a compressed
    file further on is a `CutOffFileError` of the read that meets it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFileError("not a regular file")
        handle = open_decompressed(path)
    except ImproperlyConfigured as error:
        raise UnreadableFileError(str(error)) from error
    except OSError as error:
        raise _unreadable(error) from error
    try:
        _refuse_binary(handle)
    except BaseException:
        handle.close()
        raise
    return handle


def _unreadable(error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"cannot be read: {error.strerror or error}")


def _refuse_binary(handle: io.BufferedReader) -> None:
    try:
        start = handle.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
    except CutOffFileError:
        raise
    except OSError as error:
        raise _unreadable(error) from error
    if not start:
        raise UnreadableFileError("the file is empty")
    if b"\0" in start:
        raise UnreadableFileError("a binary file, not a log")


def max_line_bytes() -> int:
    """What a line may have: in any case what the largest record of this project needs."""
    return max(MAX_LINE_BYTES, RECORDS_IN_A_LINE * conf.max_event_bytes())


def read_lines(
    handle: io.BufferedReader, tally: Tally, progress: Progress | None = None
) -> Iterator[Line]:
    """The JSON objects of `handle`; every other line is counted in `tally`, blank ones are not.

    Where a compressed file is cut off or damaged the lines end, and `tally.cut_off` says so.
    """
    size = os.fstat(handle.fileno()).st_size
    done = reported = 0
    for number, (raw, length) in enumerate(_lines_there_are(handle, tally), start=1):
        done += length
        if progress is not None and done - reported >= CHUNK_BYTES:
            progress(handle.name, min(_position(handle, done), size), size)
            reported = done
        text = raw.removeprefix(BOM) if number == 1 else raw
        if length <= max_line_bytes() and not text.strip():
            continue
        try:
            yield Line(number, length, parse_line(text, length))
        except SkippedLineError as skipped:
            tally.skip(str(skipped), number)
    if progress is not None:
        progress(handle.name, size, size)


def _position(handle: io.BufferedReader, done: int) -> int:
    """How many bytes of the file are read; of a compressed one those that its reader has taken."""
    if isinstance(handle.raw, io.FileIO):
        return done
    return os.lseek(handle.fileno(), 0, os.SEEK_CUR)


def _lines_there_are(handle: io.BufferedReader, tally: Tally) -> Iterator[tuple[bytes, int]]:
    try:
        yield from _raw_lines(handle)
    except CutOffFileError as error:
        tally.cut_off = str(error)


def _raw_lines(handle: io.BufferedReader) -> Iterator[tuple[bytes, int]]:
    """Each line with its length; of a line over the limit only the beginning."""
    limit = max_line_bytes()
    while raw := handle.readline(limit + 1):
        length = len(raw)
        if length > limit:
            length += 0 if raw.endswith(b"\n") else _skip_rest(handle)
            raw = raw[:SNIFFED_BYTES]
        yield raw, length


def _skip_rest(handle: io.BufferedReader) -> int:
    skipped = 0
    while part := handle.readline(CHUNK_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def parse_line(raw: bytes, length: int) -> dict[str, Any]:
    """The JSON object that the line is, or `SkippedLineError`."""
    if length > max_line_bytes():
        raise SkippedLineError(f"line longer than {max_line_bytes() >> 20} MiB")
    if raw.lstrip().startswith(COMMENT_MARKS):
        raise SkippedLineError("comment line")
    try:
        record = json.loads(raw.decode(), parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise SkippedLineError("not UTF-8") from None
    except RecursionError:
        raise SkippedLineError("nested too deeply") from None
    except ValueError:
        ended = raw.endswith(b"\n")
        raise SkippedLineError("not JSON" if ended else "unfinished last line") from None
    if not isinstance(record, dict):
        raise SkippedLineError("not a JSON object")
    return record


def refuse_constant(name: str) -> NoReturn:
    """NaN and the infinities, which Python's `json` would let pass."""
    raise ValueError(f"{name} is not JSON")


def first_records(handle: io.BufferedReader, limit: int) -> Iterator[dict[str, Any]]:
    """The JSON objects among the first `limit` lines: enough to see what the file is."""
    for number, (raw, length) in enumerate(islice(_raw_lines(handle), limit)):
        with suppress(SkippedLineError):
            yield parse_line(raw if number else raw.removeprefix(BOM), length)
