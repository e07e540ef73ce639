"""Tells what a file is by what is in it, and how it is to be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .atif import AtifReader
from .claude_code import ClaudeCodeReader
from .codex import CodexReader
from .documents import DocumentReader, read_document
from .jsonl import JsonLinesReader
from .lines import (
    BOM,
    SNIFFED_BYTES,
    Line,
    Progress,
    SkippedLineError,
    UnreadableFileError,
    first_records,
    open_log,
    read_lines,
)
from .reader import LogReader
from .swe_agent import SweAgentReader

AUTO = "auto"
READERS: dict[str, type[LogReader]] = {
    reader.name: reader
    for reader in (AtifReader, ClaudeCodeReader, CodexReader, JsonLinesReader, SweAgentReader)
}
FORMATS = (AUTO, *READERS)
# A transcript may begin with comments and with records that say little.
DETECTED_LINES = 1000
# A damaged document says so by these: it is not just any JSON file.
DOCUMENT_MARKS = (b'"ATIF-v', b'"mini-swe-agent-')


class UnknownFileError(UnreadableFileError):
    """Nothing in the file says that it is a log."""


@dataclass(frozen=True, slots=True)
class Log:
    """A file, its format, and its content where that had to be read whole."""

    path: Path
    reader_class: type[LogReader]
    document: Line | None = None

    def lines(self, reader: LogReader, progress: Progress | None = None) -> Iterator[Line]:
        """What `reader` is to be fed; what is broken is counted in its tally."""
        if self.document is not None:
            try:
                yield from reader.parts(self.document)
            except SkippedLineError as skipped:
                raise UnreadableFileError(str(skipped)) from None
            return
        with open_log(self.path) as handle:
            for line in read_lines(handle, reader.tally, progress):
                try:
                    yield from reader.parts(line)
                except SkippedLineError as skipped:
                    reader.tally.skip(str(skipped), line.number)


def reads_documents(format: str) -> bool:
    """Whether a log of this format may be one JSON document."""
    return format == AUTO or issubclass(READERS[format], DocumentReader)


def detect(path: Path, format: str) -> Log:
    """The log that the file is, in `format` unless that is `auto`; or `UnreadableFileError`."""
    if format != AUTO:
        return _named(path, READERS[format])
    with open_log(path) as handle:
        for record in first_records(handle, DETECTED_LINES):
            if (found := _reader_of(record)) is not None:
                return Log(path, found)
    found, document = _detect_document(path) if _begins_as_document(path) else (None, None)
    if found is None:
        raise UnknownFileError(f"no log of a known format ({', '.join(READERS)})")
    return Log(path, found, document)


def _named(path: Path, reader_class: type[LogReader]) -> Log:
    if not (issubclass(reader_class, DocumentReader) and _begins_as_document(path)):
        with open_log(path):
            return Log(path, reader_class)
    document = read_document(path)
    if not reader_class.recognises(document.record):
        raise UnknownFileError(f"no document of the format {reader_class.name}")
    return Log(path, reader_class, document)


def _detect_document(path: Path) -> tuple[type[LogReader] | None, Line | None]:
    try:
        document = read_document(path)
    except UnreadableFileError as error:
        if _is_marked(path):
            raise
        raise UnknownFileError(f"no log of a known format: {error}") from None
    return _reader_of(document.record), document


def _reader_of(record: Mapping[str, Any]) -> type[LogReader] | None:
    return next((reader for reader in READERS.values() if reader.recognises(record)), None)


def _begins_as_document(path: Path) -> bool:
    """Whether the file begins with an object that does not end in the same line."""
    with open_log(path) as handle:
        start = handle.read(SNIFFED_BYTES).removeprefix(BOM).lstrip()
        if not start.startswith(b"{"):
            return False
        handle.seek(0)
        return next(first_records(handle, 1), None) is None


def _is_marked(path: Path) -> bool:
    with open_log(path) as handle:
        start = handle.read(SNIFFED_BYTES)
    return any(mark in start for mark in DOCUMENT_MARKS)
