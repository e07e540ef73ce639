"""The package's own JSON lines: a header, then one line for each record, lossless.

    {"format": "asm_store", "version": 1}
    {"kind": "session", "record": {...}, "last_sequence": 2}
    {"kind": "run", "record": {...}}
    {"kind": "event", "record": {...}}

`record` is what `to_dict()` gives. A session stands before its runs, its parent before it, a run
before its events; `last_sequence` is the latest number that the session has given out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from ..events.sanitizing import ENCODER, shown
from ..exceptions import ValidationError
from ..fields import clean_whole_number
from ..models import Event, Run, Session
from .lines import Line, SkippedLineError, UnreadableFileError
from .reader import LogReader
from .reports import Tally, Tokens

if TYPE_CHECKING:
    from ..backends.base import BaseSessionStore

FORMAT = "asm_store"
VERSION = 1
PAGE = 500


class JsonLinesReader(LogReader):
    """Reads one file of the own format; ids, numbers and times stay what they are."""

    name = "jsonl"
    keeps_numbers = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._sessions: list[Session] = []
        self._runs: list[Run] = []
        self._tokens = Tokens()
        self._last_sequences: dict[str, int] = {}

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        return record.get("format") == FORMAT

    @property
    def tokens(self) -> Tokens:
        return self._tokens

    def feed(self, line: Line) -> list[Event]:
        if self.recognises(line.record):
            _require_known_version(line.record)
            return []
        kind, record = line.record.get("kind"), line.record.get("record")
        try:
            if kind == "event":
                return [_numbered_event(record)]
            self._feed_other(kind, record, line)
        except ValidationError as error:
            raise SkippedLineError(f"{kind}: {error}") from error
        return []

    def _feed_other(self, kind: object, record: Any, line: Line) -> None:
        if kind == "session":
            session = Session.from_dict(record)
            last = line.record.get("last_sequence", 0)
            self._last_sequences[session.id] = clean_whole_number(last, "last_sequence")
            self._sessions.append(session)
        elif kind == "run":
            run = Run.from_dict(record)
            self._tokens += _tokens(run)
            self._runs.append(run)
        else:
            raise SkippedLineError(f"unknown kind {shown(kind)}")

    def take_sessions(self, *, final: bool) -> list[Session]:
        taken, self._sessions = self._sessions, []
        return taken

    def take_runs(self, *, final: bool) -> list[Run]:
        taken, self._runs = self._runs, []
        return taken

    def take_last_sequences(self) -> dict[str, int]:
        taken, self._last_sequences = self._last_sequences, {}
        return taken

    def merged_session(self, stored: Session, given: Session) -> Session:
        """The later of the two; what was soft-deleted stays deleted."""
        merged = copy(given)
        merged.deleted_at = given.deleted_at or stored.deleted_at
        older = given.updated_at < stored.updated_at
        return stored if older or merged.to_dict() == stored.to_dict() else merged

    def merged_run(self, stored: Run, given: Run) -> Run:
        """A run that has ended is final."""
        return given if stored.ended_at is None and given.ended_at is not None else stored


def _require_known_version(header: Mapping[str, Any]) -> None:
    if header.get("version") != VERSION:
        raise UnreadableFileError(
            f"version {shown(header.get('version'))} of the format; this package reads {VERSION}"
        )


def _numbered_event(record: Any) -> Event:
    event = Event.from_dict(record)
    if event.sequence_number is None:
        raise ValidationError("sequence_number: is missing.")
    return event


def _tokens(run: Run) -> Tokens:
    counts = {name: run.token_usage.get(name) for name in Tokens().to_dict()}
    return Tokens(**{name: value for name, value in counts.items() if type(value) is int})


def dump_sessions(store: BaseSessionStore, session_ids: Iterable[str]) -> Iterator[bytes]:
    """The lines of the sessions and of all that belongs to them, each ending in a newline.

    Name a parent before its children. Events are read page by page; what is appended meanwhile
    may be in it or not.
    """
    yield _encoded({"format": FORMAT, "version": VERSION})
    for session_id in session_ids:
        yield from _session_lines(store, session_id)


def _session_lines(store: BaseSessionStore, session_id: str) -> Iterator[bytes]:
    session = store.get_session(session_id)
    last = store.get_latest_sequence(session_id)
    yield _encoded({"kind": "session", "record": session.to_dict(), "last_sequence": last})
    for run in store.list_runs(session_id):
        yield _encoded({"kind": "run", "record": run.to_dict()})
    after = 0
    while events := store.get_events(session_id, after=after, before=last + 1, limit=PAGE):
        for event in events:
            yield _encoded({"kind": "event", "record": event.to_dict()})
        after = events[-1].sequence_number


def _encoded(line: dict[str, Any]) -> bytes:
    return ENCODER.encode(line).encode() + b"\n"
