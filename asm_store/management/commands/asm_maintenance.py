from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from asm_store.backends.database import DatabaseSessionStore
from asm_store.events.sanitizing import shown
from asm_store.exceptions import StoreError
from asm_store.maintenance import (
    HealthIssue,
    MaintenanceReport,
    RetentionPolicy,
    erase_events,
    execute,
    health_check,
    prune_session_events,
    repair,
    sum_up_usage,
)
from asm_store.maintenance.work import TimeUpError
from asm_store.management.databases import known_database
from asm_store.management.interruptions import Interruption
from asm_store.management.policy_options import (
    FIELDS,
    add_policy_options,
    option_name,
    policy_from,
)
from asm_store.management.progress import progress_line

SWITCHES = ("dry_run", "health_check", "repair", "deep", "max_seconds", "sum_up", "anew")
# What each thing to do can be told.
PRUNING = {
    "dry_run", "max_events_per_session", "archive_before_prune", "archive_storage", "exempt_tags",
    "prune_event_types_first", "batch_size",
}  # fmt: skip
MAINTENANCE = {"dry_run", "max_seconds", *FIELDS}
COUNTS = {
    "sessions_soft_deleted": "sessions soft-deleted",
    "sessions_hard_deleted": "sessions removed",
    "artifacts_cleaned": "orphaned artifacts cleaned",
    "orphaned_sequences_cleaned": "orphaned counters cleaned",
    "events_pruned": "events pruned",
    "runs_timed_out": "runs timed out",
}
NOT_ALL = "Not all was done; the next run tries again."
QUESTION = "Type 'yes' to do this, or 'no' to cancel: "


@dataclass
class Outcome:
    """What `--json` prints; None is what was not asked for, or not reached."""

    using: str | None = None
    maintenance: MaintenanceReport | None = None
    repaired: dict[str, int] | None = None
    issues: list[HealthIssue] | None = None
    erased: int | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        issues = self.issues
        return {
            "ok": self.error is None,
            "error": self.error,
            "using": self.using,
            "maintenance": None if self.maintenance is None else self.maintenance.to_dict(),
            "repaired": self.repaired,
            "issues": None if issues is None else [issue.to_dict() for issue in issues],
            "erased": self.erased,
        }


class Command(BaseCommand):
    help = (
        "Deletes what ASM_STORE_RETENTION, or the options in its place, say is due; or checks and "
        "repairs what is stored; or erases the content of events. Exits with 1 when something "
        "failed or is not healthy."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interruption = Interruption()
        self._outcome = Outcome()

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--using", metavar="ALIAS", help="the database; by default the default store's")
        add("--dry-run", action="store_true", help="only say what would be done")
        add("--health-check", action="store_true", help="look for what is broken, delete nothing")
        add("--deep", action="store_true", help="with --health-check: read artifacts' contents too")
        add("--repair", action="store_true", help="mend what has one right answer")
        add(
            "--sum-up",
            action="store_true",
            help="only add up the runs of the hours that are over, delete nothing",
        )
        add(
            "--anew",
            action="store_true",
            help="with --sum-up: forget all sums before, after a program has written the tables",
        )
        add("--session", metavar="ID", help="prune, check or repair this session alone")
        add(
            "--erase",
            action="append",
            metavar="EVENT_ID",
            help="replace the content of this event of --session for good; may be repeated",
        )
        add(
            "--max-seconds", type=float, metavar="SECONDS", help="end in time, between transactions"
        )
        add("--json", action="store_true", help="print one JSON object")
        add(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="do not ask, on a terminal neither",
        )
        add_policy_options(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        # Only here is the process the command's own, and so are its signals.
        with self._interruption.watched():
            super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        self._outcome = Outcome()
        try:
            with self._interruption_told():
                return super().execute(*args, **options)
        except BaseException as error:
            self._outcome.error = str(error) or type(error).__name__
            raise
        finally:
            if options["json"]:
                self.stdout.write(json.dumps(self._outcome.to_dict(), indent=2))

    @contextmanager
    def _interruption_told(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if self._interruption.signal is None:
                raise
            raise self._stopped() from None

    def _stopped(self) -> CommandError:
        signal = self._interruption.signal
        return CommandError(
            f"Stopped by {signal.name if signal else 'a signal'}: what was committed is done, and "
            f"the rest is as it was.",
            returncode=self._interruption.exit_code,
        )

    def handle(self, **options: Any) -> None:
        _check_combination(options)
        try:
            self._outcome.using = options["using"] = known_database(options["using"])
            if options["erase"] is not None:
                self._erase(options)
            elif options["sum_up"]:
                self._sum_up(options)
            elif options["repair"] or options["health_check"]:
                self._repair_and_check(options)
            elif options["session"] is not None:
                self._prune(policy_from(options), options)
            else:
                self._maintain(policy_from(options), options)
        except (StoreError, ImproperlyConfigured, OSError) as error:
            raise CommandError(str(error)) from error

    def _maintain(self, policy: RetentionPolicy, options: dict[str, Any]) -> None:
        run = partial(self._run, policy, options)
        if self._asks(options):
            due = run(dry_run=True)
            if due.is_complete and not due.errors and not _counts(due):
                self._tell_report(due, options)
                return
            self._ask(_report_lines(due, options))
        self._tell_report(run(dry_run=options["dry_run"]), options)

    def _run(
        self, policy: RetentionPolicy, options: dict[str, Any], *, dry_run: bool
    ) -> MaintenanceReport:
        is_shown = options["verbosity"] >= 1
        with (
            progress_line(self.stderr, _progress_text, shown=is_shown) as show,
            self._interruption.deferred(),
        ):

            def progress(report: MaintenanceReport) -> None:
                show(report)
                if self._interruption.signal is not None:
                    raise TimeUpError  # as with max_seconds: it is told, and the report is whole

            report = execute(
                policy,
                using=options["using"],
                dry_run=dry_run,
                progress=progress,
                max_seconds=options["max_seconds"],
            )
        if self._interruption.signal is not None and (dry_run or not report.is_complete):
            self._outcome.maintenance = report
            raise self._stopped()
        return report

    def _prune(self, policy: RetentionPolicy, options: dict[str, Any]) -> None:
        session_id, using = options["session"], options["using"]
        if policy.max_events_per_session is None:
            raise CommandError("--session prunes: say to how many by --max-events-per-session.")
        DatabaseSessionStore(using=using).get_session(session_id)  # is it there?
        prune = partial(prune_session_events, session_id, policy, using=using)
        if self._asks(options):
            due = MaintenanceReport(events_pruned=prune(dry_run=True), dry_run=True)
            if not due.events_pruned:
                self._tell_report(due, options)
                return
            self._ask(_report_lines(due, options))
        started = time.monotonic()
        count = prune(dry_run=options["dry_run"])
        report = MaintenanceReport(
            events_pruned=count,
            duration_ms=round((time.monotonic() - started) * 1000),
            dry_run=options["dry_run"],
        )
        self._tell_report(report, options)

    def _repair_and_check(self, options: dict[str, Any]) -> None:
        about = {"using": options["using"], "session_id": options["session"]}
        if options["repair"]:
            self._repair(about, options)
        if options["health_check"]:
            self._check_health(about, options)

    def _check_health(self, about: dict[str, Any], options: dict[str, Any]) -> None:
        issues = self._outcome.issues = health_check(**about, deep=options["deep"])
        lines = [line for issue in issues for line in _issue_lines(issue)]
        self._tell(lines or ["Healthy: nothing was found."], options)
        if issues:
            raise CommandError(f"Not healthy: {', '.join(issue.code for issue in issues)}.")

    def _repair(self, about: dict[str, Any], options: dict[str, Any]) -> None:
        if self._asks(options):
            due = repair(**about, dry_run=True)
            if any(due.values()):
                self._ask(_repair_lines(due, dry_run=True))
        self._outcome.repaired = repair(**about, dry_run=options["dry_run"])
        self._tell(_repair_lines(self._outcome.repaired, dry_run=options["dry_run"]), options)

    def _sum_up(self, options: dict[str, Any]) -> None:
        sum_up_usage(using=options["using"], anew=options["anew"])
        self._tell(["All hours that are over have their sums."], options)

    def _erase(self, options: dict[str, Any]) -> None:
        session_id, ids = options["session"], options["erase"]
        what = f"{_number(len(set(ids)), 'event')} of the session {shown(session_id)}"
        if self._asks(options):
            self._ask([f"The content of {what} will be replaced for good."])
        erased = self._outcome.erased = erase_events(session_id, ids=ids, using=options["using"])
        self._tell([f"Erased the content of {erased:,} of {what}."], options)

    def _asks(self, options: dict[str, Any]) -> bool:
        """Whether somebody sits there who can be asked."""
        has_stdin = sys.stdin is not None and sys.stdin.isatty()
        if not (options["interactive"] and has_stdin) or options["dry_run"]:
            return False
        if not self.stderr.isatty():
            raise CommandError("There is nobody to ask on standard error: --noinput goes on.")
        return True

    def _ask(self, lines: Iterable[str]) -> None:
        # On standard error: standard output may be a file, or JSON.
        for line in lines:
            self.stderr.write(line, style_func=str)
        self.stderr.write(QUESTION, style_func=str, ending="")
        self.stderr.flush()
        try:
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("Cancelled: nothing was changed.")

    def _tell_report(self, report: MaintenanceReport, options: dict[str, Any]) -> None:
        self._outcome.maintenance = report
        self._tell(_report_lines(report, options), options)
        if report.errors:
            raise CommandError("\n".join([NOT_ALL, *map(_printable, report.errors)]))

    def _tell(self, lines: Iterable[str], options: dict[str, Any]) -> None:
        if options["verbosity"] >= 1 and not options["json"]:
            self.stdout.write("\n".join(lines))


def _check_combination(options: dict[str, Any]) -> None:
    """`CommandError` for options that would have no effect."""
    if options["deep"] and not options["health_check"]:
        raise CommandError("--deep needs --health-check.")
    if options["anew"] and not options["sum_up"]:
        raise CommandError("--anew needs --sum-up.")
    if options["erase"] is not None and options["session"] is None:
        raise CommandError("--erase needs --session: the events' session.")
    what, takes = _task(options)
    given = [name for name in SWITCHES if options[name] not in (None, False)]
    given += [name for name in FIELDS if name in options]
    if excess := [option_name(name) for name in given if name not in takes]:
        raise CommandError(f"{what} takes no {', '.join(excess)}.")


def _task(options: dict[str, Any]) -> tuple[str, set[str]]:
    """What is to be done, and the names of the options that it takes."""
    if options["erase"] is not None:
        return "--erase", set()
    if options["sum_up"]:
        return "--sum-up", {"sum_up", "anew"}
    if options["repair"]:
        return "--repair", {"repair", "health_check", "deep", "dry_run"}
    if options["health_check"]:
        return "--health-check", {"health_check", "deep"}
    if options["session"] is not None:
        return "Pruning one session", PRUNING
    return "Maintenance", MAINTENANCE


def _counts(report: MaintenanceReport) -> dict[str, int]:
    counts = {label: getattr(report, name) for name, label in COUNTS.items()}
    return {label: count for label, count in counts.items() if count}


def _progress_text(report: MaintenanceReport) -> str:
    return ", ".join(f"{count:,} {label}" for label, count in _counts(report).items())


def _report_lines(report: MaintenanceReport, options: dict[str, Any]) -> Iterator[str]:
    of = f"the database {options['using']!r}"
    if report.skipped:
        yield f"Another maintenance of {of} is running: nothing was done."
        return
    counts = _counts(report)
    would = " would do" if report.dry_run else ""
    yield f"Maintenance of {of}{would}:{'' if counts else ' nothing, for nothing is due.'}"
    yield from (f"  {count:>9,} {label}" for label, count in counts.items())
    if report.archives:
        yield f"  {len(report.archives):>9,} files written to the archive"
    if options["verbosity"] > 1:
        yield from (f"            {name}" for name in report.archives)
    if not report.is_complete:
        yield "The time was up before the work was done: the next run goes on from there."


def _issue_lines(issue: HealthIssue) -> Iterator[str]:
    yield f"{issue.code} ({issue.count:,}): {issue.message}"
    yield f"  such as {', '.join(map(_printable, issue.examples))}"
    if issue.is_repairable:
        yield "  --repair mends it."


def _printable(text: str) -> str:
    # Whoever wrote the log chose the ids: they are not to write into the terminal.
    return text if text.isprintable() else ascii(text)


def _repair_lines(repaired: dict[str, int], *, dry_run: bool) -> Iterator[str]:
    found = {code: count for code, count in repaired.items() if count}
    if not found:
        yield "There is nothing to repair." if dry_run else "Nothing had to be repaired."
        return
    yield "Would be repaired:" if dry_run else "Repaired:"
    yield from (f"  {count:>9,} {code}" for code, count in found.items())


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
