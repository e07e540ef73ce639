"""Logs for the tests, and what an import of them has stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from asm_store.events.types import EventType
from asm_store.formats import FileReport, import_paths
from asm_store.formats.claude_code import ClaudeCodeReader
from asm_store.formats.detecting import detect
from asm_store.formats.lines import SkippedLineError
from asm_store.formats.reader import LogReader
from asm_store.formats.reports import Tally
from asm_store.models import Event, Run, Session
from example_project.sample_data import Transcript, text, usage

USED = usage(1, 2, 3, 4)

R = TypeVar("R", bound=LogReader)
Events = Callable[[Transcript], list[Event]]
Runs = Callable[[Transcript], list[Run]]


def kinds(events: list[Event]) -> list[str]:
    return [str(event.type) for event in events]


def of_type(events: list[Event], event_type: EventType) -> list[Event]:
    return [event for event in events if event.type == event_type]


def read(path: Path) -> tuple[ClaudeCodeReader, list[Event], list[Run]]:
    """A transcript read without a store."""
    return read_as(ClaudeCodeReader, path)


def read_as(reader_class: type[R], path: Path) -> tuple[R, list[Event], list[Run]]:
    """A log read without a store."""
    reader = reader_class(Tally())
    events: list[Event] = []
    for line in detect(path, reader.name).lines(reader):
        try:
            events += reader.feed(line)
        except SkippedLineError as skipped:
            reader.tally.skip(str(skipped), line.number)
    events += reader.finish()
    return reader, events, reader.take_runs(final=True)


def import_log(log: Transcript | Path, folder: Path, using: str, **options: Any) -> FileReport:
    """Import one transcript and return its report."""
    path = log if isinstance(log, Path) else log.write(folder / f"{log.session_id}.jsonl")
    (report,) = import_paths([path], using=using, **options).files
    return report


def stored(using: str) -> dict[str, list[dict[str, Any]]]:
    """Every record of the database, events in the order of their numbers."""
    sessions = Session.objects.using(using).order_by("id")
    runs = Run.objects.using(using).order_by("session_id", "started_at", "id")
    events = Event.objects.using(using).order_by("session_id", "sequence_number")
    return {
        "sessions": [session.to_dict() for session in sessions],
        "runs": [run.to_dict() for run in runs],
        "events": [event.to_dict() for event in events],
    }


def question(name: str = "test") -> Transcript:
    """The smallest transcript of a whole turn."""
    log = Transcript(name)
    log.user("Go")
    log.answer(text("Done"), usage=USED, stop="end_turn")
    return log
