from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from asm_store.exceptions import StoreError
from asm_store.formats import EXPORT_FORMATS, Export, ExportReport, export_sessions
from asm_store.formats.exporting import Progress
from asm_store.management.databases import known_database
from asm_store.management.output import write_bytes, writing
from asm_store.management.progress import progress_line

FILTERS = ("agent_id", "status", "provider", "tags", "created_after", "created_before")
CHOOSE = (
    "Say what to export: ids of sessions, or --all, or a filter (--agent-id, --status, --provider, "
    "--tag, --created-after, --created-before)."
)
ORPHANS = (
    "of the sessions name a parent that is no part of the export: they can be imported only where "
    "that parent is stored."
)


class Command(BaseCommand):
    help = "Exports sessions with all that belongs to them, to standard output or to a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sessions", nargs="*", metavar="SESSION", help="the id of a session")
        parser.add_argument(
            "--all", action="store_true", help="every session, with the soft-deleted ones"
        )
        self._add_filters(parser)
        parser.add_argument("--using", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="a database")
        parser.add_argument("--format", default="jsonl", choices=tuple(EXPORT_FORMATS))
        parser.add_argument(
            "--output", metavar="PATH", help="a file, compressed by its suffix .gz or .zst"
        )
        parser.add_argument("--force", action="store_true", help="replace the file")
        parser.add_argument(
            "--include-artifacts", action="store_true", help="the registry's rows, no contents"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count what there is")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    @staticmethod
    def _add_filters(parser: CommandParser) -> None:
        filters = parser.add_argument_group("filters, all of which a session must match")
        filters.add_argument("--agent-id", metavar="ID")
        filters.add_argument("--status", action="append", help="one of those given")
        filters.add_argument("--provider", action="append", help="one of those given, of a run")
        filters.add_argument("--tag", action="append", dest="tags", help="all of those given")
        filters.add_argument("--created-after", type=_time, metavar="TIME", help="or at that time")
        filters.add_argument("--created-before", type=_time, metavar="TIME", help="or at that time")
        filters.add_argument(
            "--include-deleted", action="store_true", help="soft-deleted sessions too"
        )

    def handle(self, *, sessions: list[str], output: str | None, **options: Any) -> None:
        known_database(options["using"])
        if options["json"] and output is None and not options["dry_run"]:
            raise CommandError("--json needs --output: standard output has the export.")
        try:
            export = self._export(sessions, options)
            if options["dry_run"]:
                self._tell(export.count(), None, options)
            elif output is None:
                self._write(export, options)
            else:
                self._save(export, output, options)
        except (StoreError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def _export(self, sessions: list[str], options: dict[str, Any]) -> Export:
        filters = {name: options[name] for name in FILTERS if options[name] is not None}
        if sum(map(bool, (sessions, options["all"], filters))) != 1:
            raise CommandError(CHOOSE)
        if sessions and options["include_deleted"]:
            raise CommandError("--include-deleted is for filters: a named session may be deleted.")
        if not sessions:
            filters["include_deleted"] = options["all"] or options["include_deleted"]
        return export_sessions(
            sessions or None,
            using=options["using"],
            format=options["format"],
            include_artifacts=options["include_artifacts"],
            **filters,
        )

    def _save(self, export: Export, path: str, options: dict[str, Any]) -> None:
        try:
            with self._progress(options, shown=True) as progress:
                report = export.save(path, overwrite=options["force"], progress=progress)
        except FileExistsError as error:
            raise CommandError(f"{error} --force replaces a file.") from error
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}") from error
        self._tell(report, path, options)

    def _write(self, export: Export, options: dict[str, Any]) -> None:
        with (
            writing(self.stdout),
            self._progress(options, shown=not self.stdout.isatty()) as progress,
        ):
            for piece in export:
                write_bytes(self.stdout, piece)
                progress(export.report)
        self._tell_of_parents(export.report, options)

    def _progress(
        self, options: dict[str, Any], *, shown: bool
    ) -> AbstractContextManager[Progress]:
        return progress_line(self.stderr, _counts, shown=shown and options["verbosity"] >= 1)

    def _tell(self, report: ExportReport, path: str | None, options: dict[str, Any]) -> None:
        if options["json"]:
            told = {"output": path, "dry_run": path is None, **report.to_dict()}
            self.stdout.write(json.dumps(told, indent=2))
        elif options["verbosity"] >= 1:
            title = "Would be exported" if path is None else f"Exported to {path}"
            self.stdout.write(f"{title}: {_counts(report)}")
        self._tell_of_parents(report, options)

    def _tell_of_parents(self, report: ExportReport, options: dict[str, Any]) -> None:
        if report.without_parent and options["verbosity"] >= 1:
            self.stderr.write(self.style.WARNING(f"{report.without_parent:,} {ORPHANS}"))


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time.") from None


def _counts(report: ExportReport) -> str:
    kinds = ("sessions", "runs", "events", "artifacts")
    return ", ".join(f"{getattr(report, kind):,} {kind}" for kind in kinds)
