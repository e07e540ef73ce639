"""Finds the logs, tells their formats, and reads each into a database with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..exceptions import StorageError, StoreError, ValidationError
from ..models import Event, Session
from . import compression
from .compression import CutOffFileError
from .detecting import AUTO, FORMATS, Log, UnknownFileError, detect, reads_documents
from .lines import Line, Progress, SkippedLineError, UnreadableFileError
from .reader import LogReader
from .reports import FileReport, ImportReport, Tally
from .storing import LACKING, Destination, Ledger

LINE_SUFFIX = ".jsonl"
SUFFIXES = (*(LINE_SUFFIX + compressed for compressed in compression.SUFFIXES), ".traj")
# Any JSON file may have this name: in a directory it is a log if it looks like one.
DOCUMENT_SUFFIX = ".json"
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

    A path is a file, compressed with gzip or Zstandard or not, or a directory in which every
    `*.jsonl`, `*.jsonl.gz`, `*.jsonl.zst` and `*.traj` is one, and every `*.json` that looks like
    one. `format` is one of `FORMATS`; `auto` looks into each file. `dry_run` writes nothing. With
    `strict` nothing is stored of a file that has a broken or an unknown line or is cut off. Each
    batch of a file is a transaction of its own.

    What is wrong with a file is in its report. `ValidationError` for an unknown format,
    `StorageError` when the database fails (`MigrationRequired`: its tables are missing).
    """
    if format not in FORMATS:
        raise ValidationError(f"Unknown format {format!r}; known are {', '.join(FORMATS)}.")
    given = [Path(path) for path in paths]
    suffixes = (*SUFFIXES, DOCUMENT_SUFFIX) if reads_documents(format) else SUFFIXES
    found = list(_logs(given, suffixes))
    importer = _Importer(Destination(using, dry_run=dry_run), format, strict, progress)
    importer.named = frozenset(given)
    failed = [FileReport(_name(path), error=error) for path, error in found if error is not None]
    files = importer.import_all([path for path, error in found if error is None])
    return ImportReport((*files, *failed), dry_run=dry_run, left_out=importer.left_out)


def _logs(paths: Sequence[Path], suffixes: tuple[str, ...]) -> Iterator[tuple[Path, str | None]]:
    """Every log once, or what is wrong with its path; a subagent's after those of sessions."""
    found: dict[Path, str | None] = {}
    for path in paths:
        # Not Path's own, which raises for a name that is too long.
        is_directory = os.path.isdir(path)  # noqa: PTH112
        logs = list(_logs_below(found, path, suffixes)) if is_directory else [path]
        if not logs:
            found[path] = f"no {', '.join(suffixes)} file in this directory"
        found.update(dict.fromkeys(logs))
    yield from sorted(found.items(), key=lambda item: item[0].name.startswith("agent-"))


def _logs_below(
    found: dict[Path, str | None], directory: Path, suffixes: tuple[str, ...]
) -> Iterator[Path]:
    def note(error: OSError) -> None:
        found[Path(error.filename)] = f"cannot be read: {error.strerror}"

    for folder, folders, names in os.walk(directory, onerror=note):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(suffixes))


class _Importer:
    def __init__(
        self, destination: Destination, format: str, strict: bool, progress: Progress | None
    ) -> None:
        self.destination = destination
        self.format = format
        self.strict = strict
        self.progress = progress
        # The paths that somebody gave, not found in a directory.
        self.named: frozenset[Path] = frozenset()
        self.left_out = 0
        # Of the files that are to be begun again: what they have brought so far.
        self._ledgers: dict[Path, Ledger] = {}

    def import_all(self, paths: Sequence[Path]) -> list[FileReport]:
        """Each file once; one that lacks what others may bring is begun again after them."""
        reports: list[FileReport] = []
        waiting = list(paths)
        were_expected = False
        while waiting:
            deferred: dict[Path, FileReport] = {}
            for path in waiting:
                report, error = self._import_file(path)
                if self._is_no_log(path, error):
                    self.left_out += 1
                elif isinstance(error, LACKING):
                    deferred[path] = report
                else:
                    reports.append(report)
            if len(deferred) == len(waiting):
                if were_expected or not self._store_those_expected(deferred):
                    return reports + list(deferred.values())
                were_expected = True
            waiting = list(deferred)
        return reports

    def _store_those_expected(self, paths: Iterable[Path]) -> bool:
        """Store the files that have all the parents they need among them, each session without a
        parent that is still to come; whether there are any. It gets it when it is read again.
        """
        families = {path: self._parents_in(path) for path in paths}
        while True:
            expected = {pk for parents in families.values() for pk in parents}
            needed = {pk for parents in families.values() for pk in parents.values() if pk}
            missing = self.destination.missing_sessions(needed - expected)
            if not missing:
                break
            families = {
                path: parents
                for path, parents in families.items()
                if missing.isdisjoint(parents.values())
            }
        self.destination.expected = frozenset(expected)
        for path in families:
            self._import_file(path)
        self.destination.expected = frozenset()
        return bool(families)

    def _parents_in(self, path: Path) -> dict[str, str | None]:
        """The sessions of a log that could be read before, each with its parent."""
        try:
            log = detect(path, self.format)
            sessions = _sessions_in(log, log.reader_class(Tally()))
            return {session.pk: session.parent_session_id for session in sessions}
        except (UnreadableFileError, OSError):
            return {}  # it has changed meanwhile: importing it tells how

    def _is_no_log(self, path: Path, error: Exception | None) -> bool:
        """Whether this is some other JSON file that happens to lie in the directory."""
        guessed = path.name.endswith(DOCUMENT_SUFFIX) and path not in self.named
        return guessed and isinstance(error, UnknownFileError)

    def _import_file(self, path: Path) -> tuple[FileReport, Exception | None]:
        ledger = self._ledgers.pop(path, None) or Ledger()
        ledger.begin_again(dry_run=self.destination.dry_run)
        reader: LogReader | None = None
        error: Exception | None = None
        try:
            log = detect(path, self.format)
            reader = log.reader_class(Tally())
            if self.strict:
                _refuse_broken(log, reader)
                reader = log.reader_class(Tally())
            self._store(log, reader, ledger)
        except StorageError:
            raise
        except (UnreadableFileError, StoreError, OSError) as caught:
            error = caught
        if isinstance(error, LACKING) or self.destination.expected:
            self._ledgers[path] = ledger
        return _report(path, reader, error, ledger), error

    def _store(self, log: Log, reader: LogReader, ledger: Ledger) -> None:
        batch: list[Event] = []
        size = 0
        for line in log.lines(reader, self.progress):
            batch += _events(reader, line)
            size += line.size
            if len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES:
                self.destination.write(reader, batch, ledger, final=False)
                batch, size = [], 0
        batch += reader.finish()
        self.destination.write(reader, batch, ledger, final=True)
        if ledger.is_empty and not (reader.is_whole or reader.tally.cut_off):
            problems = ["the file holds no session", *_bad_lines(reader.tally)]
            raise UnreadableFileError(", ".join(problems))


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
        return event.prepared().redacted()
    except ValidationError as error:
        if "original" not in event.metadata:
            reader.tally.skip(str(error), number)
            return None
        event.metadata = {"original_omitted": str(error)}
    return _storable(event, reader, number)


def _sessions_in(log: Log, reader: LogReader) -> Iterator[Session]:
    """Read the log to its end, and nothing is stored."""
    for line in log.lines(reader):
        _events(reader, line)
        yield from reader.take_sessions(final=False)
        # Taken so that they are not kept until the end of a large file.
        reader.take_runs(final=False)
        reader.take_artifacts()
        reader.take_attachments()
        reader.take_last_sequences()


def _refuse_broken(log: Log, reader: LogReader) -> None:
    """`UnreadableFileError` when anything in the file would be skipped; nothing is stored."""
    for _session in _sessions_in(log, reader):
        pass
    reader.finish()
    problems = [] if reader.tally.cut_off is None else [reader.tally.cut_off]
    if problems := [*problems, *_bad_lines(reader.tally)]:
        raise UnreadableFileError(f"nothing stored, {'; '.join(problems)}")


def _bad_lines(tally: Tally) -> list[str]:
    """What to tell of the lines that were skipped, if any were."""
    if not tally.skipped:
        return []
    count = sum(lines.count for lines in tally.skipped.values())
    reasons = "; ".join(f"{reason}{lines}" for reason, lines in tally.skipped.items())
    return [f"bad lines: {count} ({reasons})"]


def _report(
    path: Path, reader: LogReader | None, error: Exception | None, ledger: Ledger
) -> FileReport:
    message = None if error is None else str(error)
    if reader is None:
        is_cut_off = isinstance(error, CutOffFileError)
        return FileReport(_name(path), error=message, is_cut_off=is_cut_off)
    return FileReport(
        path=_name(path),
        format=reader.name,
        error=message or reader.tally.cut_off,
        is_cut_off=reader.tally.cut_off is not None,
        sessions=ledger.sessions,
        runs=ledger.runs,
        events=ledger.events,
        artifacts=ledger.artifacts,
        tokens=reader.tokens,
        skipped=reader.tally.skipped,
        ignored=dict(reader.tally.ignored),
    )


def _name(path: Path) -> str:
    """The path as it can be printed, whatever bytes it is made of."""
    return str(path).encode(errors="backslashreplace").decode()
