from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, reset_queries

from asm_store.exceptions import StorageError
from asm_store.formats import FORMATS, FileReport, ImportReport, RecordCounts, import_paths
from asm_store.formats.lines import Progress
from asm_store.management.databases import known_database

MIB = 1024 * 1024


class Command(BaseCommand):
    help = (
        "Imports logs of agents: Claude Code transcripts, Codex rollouts, ATIF and SWE-agent "
        "trajectories (a file or a folder of them), and the package's own JSON lines. Importing "
        "them again stores only what is new."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a log, or a folder of logs")
        parser.add_argument(
            "--using", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="the database to import into"
        )
        parser.add_argument(
            "--format", default=FORMATS[0], choices=FORMATS, help="auto looks into each file"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be stored")
        parser.add_argument(
            "--strict",
            action="store_true",
            help="store nothing of a file with bad lines",
        )
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *, paths: list[str], using: str, **options: Any) -> None:
        known_database(using)
        try:
            report = import_paths(
                paths,
                using=using,
                format=options["format"],
                dry_run=options["dry_run"],
                strict=options["strict"],
                progress=self._progress(options["verbosity"]),
            )
        except StorageError as error:
            raise CommandError(f"{error} What was imported before is stored.") from error
        self._print(report, options)
        is_cut_off = any(file.is_cut_off for file in report.files)
        if not report.imported or is_cut_off or (options["strict"] and report.failed):
            raise CommandError(_failure(report))

    def _progress(self, verbosity: int) -> Progress:
        """A line on the terminal that is written over; nothing where nobody would see it."""
        on_terminal = verbosity >= 1 and self.stderr.isatty()

        def show(path: str, done: int, size: int) -> None:
            # With DEBUG on, Django keeps the last 9,000 statements, and these hold the log.
            reset_queries()
            if not on_terminal:
                return
            line = f"{done * 100 // max(size, 1):3}% of {size / MIB:,.1f} MiB  {path}"
            sys.stderr.write(f"\r{line[:78]:<78}" if done < size else f"\r{'':<78}\r")
            sys.stderr.flush()

        return show

    def _print(self, report: ImportReport, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(report.to_dict(), indent=2))
            return
        for file in report.failed:
            self.stderr.write(self.style.ERROR(f"{file.path}: {file.error}"))
        if options["verbosity"] < 1:
            return
        for file in report.files if options["verbosity"] > 1 else report.imported:
            self.stdout.write("\n".join(_file_lines(file, options["verbosity"])))
        title = "Would be stored" if report.dry_run else "Imported"
        self.stdout.write(self.style.MIGRATE_HEADING(f"{title}: {_files(len(report.imported))}"))
        self.stdout.write("\n".join(_total_lines(report.total)))
        if report.left_out:
            self.stdout.write(f"  left out {report.left_out:,} x .json file that is no log")


def _failure(report: ImportReport) -> str:
    if report.imported or report.total.sessions.total:
        return f"{_files(len(report.failed))} failed."
    return f"Nothing was imported: {_files(len(report.failed))} failed."


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _file_lines(file: FileReport, verbosity: int) -> Iterator[str]:
    yield f"{file.path} ({file.error or file.format})"
    if file.format is None:
        return
    kinds = _kinds(file)
    counts = (f"{kind} {_counts(count)}" for kind, count in kinds.items())
    yield f"  {'; '.join(counts)}"
    yield f"  tokens: {_tokens(file)}"
    yield from _skipped_lines(file)
    if verbosity > 1:
        yield from (f"  left out {count:,} x {kind}" for kind, count in file.ignored.items())


def _total_lines(total: FileReport) -> Iterator[str]:
    for kind, counts in _kinds(total).items():
        yield (
            f"  {kind:<9}{counts.new:>9,} new {counts.updated:>9,} updated"
            f"{counts.stored:>9,} stored already"
        )
    yield f"  tokens   {_tokens(total)}"
    yield from _skipped_lines(total)


def _kinds(file: FileReport) -> dict[str, RecordCounts]:
    kinds = {"sessions": file.sessions, "runs": file.runs, "events": file.events}
    return {**kinds, "artifacts": file.artifacts} if file.artifacts.total else kinds


def _counts(counts: RecordCounts) -> str:
    parts = {"new": counts.new, "updated": counts.updated, "stored already": counts.stored}
    return ", ".join(f"{count:,} {name}" for name, count in parts.items() if count) or "0"


def _tokens(file: FileReport) -> str:
    counts = file.tokens.to_dict().items()
    return ", ".join(f"{count:,} {name.removesuffix('_tokens')}" for name, count in counts).replace(
        "_", " "
    )


def _skipped_lines(file: FileReport) -> Iterator[str]:
    for reason, skipped in file.skipped.items():
        yield f"  skipped {skipped.count:,} x {reason}{skipped}"
