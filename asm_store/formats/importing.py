"""Finds the logs, tells their formats, and reads each into a database with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..exceptions import StorageError, StoreError, ValidationError
from ..models import Event
from .claude_code import ClaudeCodeReader
from .codex import CodexReader
from .jsonl import JsonLinesReader
from .lines import (
    Line,
    Progress,
    SkippedLineError,
    UnreadableFileError,
    first_records,
    open_log,
    read_lines,
)
from .reader import LogReader
from .reports import FileReport, ImportReport, Tally
from .storing import Destination, Ledger, ParentNotStoredError

AUTO = "auto"
READERS: dict[str, type[LogReader]] = {
    reader.name: reader for reader in (ClaudeCodeReader, CodexReader, JsonLinesReader)
}
FORMATS = (AUTO, *READERS)
SUFFIX = ".jsonl"
# A transcript may begin with comments and with records that say little.
DETECTED_LINES = 1000
BATCH_EVENTS = 500
# Of the lines that a batch was read from: what is in memory is a few times that.
BATCH_BYTES = 4 * 1024 * 1024


def import_paths(
    paths: Iterable[str | os.PathLike[str]],
    *,
    using: str = "default",
    format: str = AUTO,
    dry_run: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Import logs into the database `using`; importing them again stores only what is new.

    A path is a file, or a directory in which every `*.jsonl` is one. `format` is one of `FORMATS`;
    `auto` looks into each file. `dry_run` writes nothing. With `strict` nothing is stored of a file
    that has a broken or an unknown line. Each batch of a file is a transaction of its own.

    What is wrong with a file is in its report. `ValidationError` for an unknown format,
    `StorageError` when the database fails (`MigrationRequired`: its tables are missing).
    """
    if format not in FORMATS:
        raise ValidationError(f"Unknown format {format!r}; known are {', '.join(FORMATS)}.")
    found = list(_logs([Path(path) for path in paths]))
    importer = _Importer(Destination(using, dry_run=dry_run), format, strict, progress)
    failed = [FileReport(_name(path), error=error) for path, error in found if error is not None]
    files = importer.import_all([path for path, error in found if error is None])
    return ImportReport((*files, *failed), dry_run=dry_run)


def _logs(paths: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    """Every log once, or what is wrong with its path; a subagent's after those of sessions."""
    found: dict[Path, str | None] = {}
    for path in paths:
        logs = list(_logs_below(found, path)) if path.is_dir() else [path]
        if not logs:
            found[path] = f"no {SUFFIX} file in this directory"
        found.update(dict.fromkeys(logs))
    yield from sorted(found.items(), key=lambda item: item[0].name.startswith("agent-"))


def _logs_below(found: dict[Path, str | None], directory: Path) -> Iterator[Path]:
    def note(error: OSError) -> None:
        found[Path(error.filename)] = f"cannot be read: {error.strerror}"

    for folder, folders, names in os.walk(directory, onerror=note):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIX))


class _Importer:
    def __init__(
        self, destination: Destination, format: str, strict: bool, progress: Progress | None
    ) -> None:
        self.destination = destination
        self.format = format
        self.strict = strict
        self.progress = progress

    def import_all(self, paths: Sequence[Path]) -> list[FileReport]:
        """Each file once; one whose parent session comes with a later file, after that."""
        reports: list[FileReport] = []
        waiting = list(paths)
        while waiting:
            deferred: dict[Path, FileReport] = {}
            for path in waiting:
                report, needs_parent = self._import_file(path)
                if needs_parent:
                    deferred[path] = report
                else:
                    reports.append(report)
            if len(deferred) == len(waiting):
                return reports + list(deferred.values())
            waiting = list(deferred)
        return reports

    def _import_file(self, path: Path) -> tuple[FileReport, bool]:
        ledger = Ledger()
        reader: LogReader | None = None
        error: Exception | None = None
        try:
            reader_class = self._reader_class(path)
            reader = reader_class(Tally())
            if self.strict:
                _refuse_broken(path, reader)
                reader = reader_class(Tally())
            self._store(path, reader, ledger)
        except StorageError:
            raise
        except (UnreadableFileError, StoreError, OSError) as caught:
            error = caught
        report = _report(path, reader, error, ledger)
        return report, isinstance(error, ParentNotStoredError) and ledger.is_empty

    def _reader_class(self, path: Path) -> type[LogReader]:
        with open_log(path) as handle:
            if self.format != AUTO:
                return READERS[self.format]
            for record in first_records(handle, DETECTED_LINES):
                for reader in READERS.values():
                    if reader.recognises(record):
                        return reader
        raise UnreadableFileError(f"no log of a known format ({', '.join(READERS)})")

    def _store(self, path: Path, reader: LogReader, ledger: Ledger) -> None:
        batch: list[Event] = []
        size = 0
        with open_log(path) as handle:
            for line in read_lines(handle, reader.tally, self.progress):
                batch += _events(reader, line)
                size += line.size
                if len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES:
                    self.destination.write(reader, batch, ledger, final=False)
                    batch, size = [], 0
        batch += reader.finish()
        self.destination.write(reader, batch, ledger, final=True)
        if ledger.is_empty:
            raise UnreadableFileError("the file holds no session")


def _events(reader: LogReader, line: Line) -> list[Event]:
    """The events of the line that can be stored."""
    try:
        events = reader.feed(line)
    except SkippedLineError as skipped:
        reader.tally.skip(str(skipped), line.number)
        return []
    except RecursionError:
        reader.tally.skip("nested too deeply", line.number)
        return []
    storable = (_storable(event, reader, line.number) for event in events)
    return [event for event in storable if event is not None]


def _storable(event: Event, reader: LogReader, number: int) -> Event | None:
    """The event as it will be stored; without the original line where only that is too much."""
    try:
        return event.prepared()
    except ValidationError as error:
        if "original" not in event.metadata:
            reader.tally.skip(str(error), number)
            return None
        event.metadata = {"original_omitted": str(error)}
    return _storable(event, reader, number)


def _refuse_broken(path: Path, reader: LogReader) -> None:
    """`UnreadableFileError` when anything in the file would be skipped; nothing is stored."""
    with open_log(path) as handle:
        for line in read_lines(handle, reader.tally):
            _events(reader, line)
            # Taken so that they are not kept until the end of a large file.
            reader.take_sessions(final=False)
            reader.take_runs(final=False)
            reader.take_last_sequences()
    if skipped := reader.tally.skipped:
        count = sum(lines.count for lines in skipped.values())
        reasons = "; ".join(f"{reason}{lines}" for reason, lines in skipped.items())
        raise UnreadableFileError(f"nothing stored, bad lines: {count} ({reasons})")


def _report(
    path: Path, reader: LogReader | None, error: Exception | None, ledger: Ledger
) -> FileReport:
    message = None if error is None else str(error)
    if reader is None:
        return FileReport(_name(path), error=message)
    return FileReport(
        path=_name(path),
        format=reader.name,
        error=message,
        sessions=ledger.sessions,
        runs=ledger.runs,
        events=ledger.events,
        tokens=reader.tokens,
        skipped=reader.tally.skipped,
        ignored=dict(reader.tally.ignored),
    )


def _name(path: Path) -> str:
    """The path as it can be printed, whatever bytes it is made of."""
    return str(path).encode(errors="backslashreplace").decode()
