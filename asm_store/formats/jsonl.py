"""The package's own JSON lines: a header, one line for each record, an end; lossless.

    {"format": "asm_store", "version": 2}
    {"kind": "session", "record": {...}, "last_sequence": 2}
    {"kind": "run", "record": {...}}
    {"kind": "event", "record": {...}}
    {"kind": "artifact", "record": {...}}
    {"kind": "content", "artifact_id": "art_...", "data": "..."}
    {"kind": "end", "sessions": 1, "runs": 1, "events": 1, "artifacts": 1}

`record` is what `to_dict()` gives. A session stands before its runs, its parent before it (unless
parents go round in a circle), a run before its events; `last_sequence` is the latest number that
the session has given out. Version 1 has neither artifacts nor an end. Contents of
artifacts are in archives only; `attachments` reads and writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from typing import Any

from ..events.sanitizing import ENCODER, shown
from ..exceptions import SessionNotFound, ValidationError
from ..fields import clean_whole_number
from ..models import Artifact, Event, Run, Session
from ..queries.export import SessionContents, artifacts_of, read_contents
from .attachments import Attachment, content_lines, has_content
from .lines import Line, SkippedLineError, UnreadableFileError
from .reader import LogReader
from .reports import Tally, Tokens
from .requests import ExportRequest

FORMAT = "asm_store"
VERSION = 2
FIRST_VERSION_WITH_END = 2
COUNTS = {"session": "sessions", "run": "runs", "event": "events", "artifact": "artifacts"}


class JsonLinesReader(LogReader):
    """Reads one file of the own format; ids, numbers and times stay what they are.

    Several exports may stand one after the other in a file.
    """

    name = "jsonl"
    keeps_numbers = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._sessions: list[Session] = []
        self._runs: list[Run] = []
        self._artifacts: list[Artifact] = []
        self._attachments: dict[str, Attachment] = {}
        self._attachment: Attachment | None = None  # of which more lines are to come
        self._tokens = Tokens()
        self._last_sequences: dict[str, int] = {}
        # How many lines of each kind the export has had so far.
        self._counts: Counter[str] = Counter()
        self._has_begun = self._lacks_end = self._has_ended = False

    @classmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        return record.get("format") == FORMAT

    @property
    def tokens(self) -> Tokens:
        return self._tokens

    def feed(self, line: Line) -> list[Event]:
        kind, record = line.record.get("kind"), line.record.get("record")
        if self.recognises(line.record):
            self._begin(line.record)
            return []
        if not self._has_begun:
            raise SkippedLineError("before the header, which names the version")
        if self._has_ended and kind != "end":
            raise SkippedLineError("after the end line")
        if kind == "content":
            self._feed_content(line)
            return []
        self._require_whole()
        if kind == "end":
            self._end(line.record)
            return []
        self._counts[COUNTS.get(str(kind), "others")] += 1
        try:
            if kind == "event":
                return [_numbered_event(record)]
            self._feed_other(kind, record, line)
        except ValidationError as error:
            raise SkippedLineError(f"{kind}: {error}") from error
        return []

    def _begin(self, header: Mapping[str, Any]) -> None:
        version = _known_version(header)
        self.finish()
        self._counts.clear()
        self._has_begun, self._lacks_end = True, version >= FIRST_VERSION_WITH_END
        self._has_ended = self.is_whole = False

    def _end(self, line: Mapping[str, Any]) -> None:
        self._lacks_end, self._has_ended = False, True
        told = {name: line.get(name) for name in COUNTS.values()}
        found = {name: self._counts[name] for name in COUNTS.values()}
        self.is_whole = told == found and self.tally.cut_off is None
        if told != found:
            self.tally.cut_off = f"the end tells of {_listed(told)}; there are {_listed(found)}"

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
        elif kind == "artifact":
            self._feed_artifact(Artifact.from_dict(record), line)
        else:
            raise SkippedLineError(f"unknown kind {shown(kind)}")

    def _feed_artifact(self, artifact: Artifact, line: Line) -> None:
        if not line.record.get("has_content"):
            self._artifacts.append(artifact)
            return
        self._attachment = Attachment(artifact)
        self._take_if_whole(self._attachment)

    def _feed_content(self, line: Line) -> None:
        if (attachment := self._attachment) is None:
            raise SkippedLineError("content: without its artifact")
        attachment.feed(line.record)
        self._take_if_whole(attachment)

    def _take_if_whole(self, attachment: Attachment) -> None:
        """An artifact is stored when its content can be, and not without it."""
        if attachment.is_whole:
            self._artifacts.append(attachment.artifact)
            self._attachments[attachment.artifact.id] = attachment
            self._attachment = None

    def _require_whole(self) -> None:
        """Called where no content can come any more."""
        if self._attachment is not None:
            problem = f"the content of artifact {self._attachment.artifact.id} is not whole"
            self.tally.cut_off = self.tally.cut_off or problem
            self._attachment = None

    def finish(self) -> list[Event]:
        self._require_whole()
        if self._lacks_end:
            missing = "the file is cut off: its end line is missing"
            self.tally.cut_off = self.tally.cut_off or missing
        return []

    def take_sessions(self, *, final: bool) -> list[Session]:
        taken, self._sessions = self._sessions, []
        return taken

    def take_runs(self, *, final: bool) -> list[Run]:
        taken, self._runs = self._runs, []
        return taken

    def take_artifacts(self) -> list[Artifact]:
        taken, self._artifacts = self._artifacts, []
        return taken

    def take_attachments(self) -> dict[str, Attachment]:
        taken, self._attachments = self._attachments, {}
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


def _known_version(header: Mapping[str, Any]) -> int:
    version = header.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UnreadableFileError(
            f"version {shown(version)} of the format; this package reads 1 to {VERSION}"
        )
    return version


def _listed(counts: Mapping[str, object]) -> str:
    parts = (f"{shown(count)} {name}" for name, count in counts.items())
    return ", ".join(parts)


def _numbered_event(record: Any) -> Event:
    event = Event.from_dict(record)
    if event.sequence_number is None:
        raise ValidationError("sequence_number: is missing.")
    return event


def _tokens(run: Run) -> Tokens:
    counts = {name: run.token_usage.get(name) for name in Tokens().to_dict()}
    return Tokens(**{name: value for name, value in counts.items() if type(value) is int})


def write_lines(request: ExportRequest) -> Iterator[bytes]:
    r"""The lines of an export, each ending in `\n`. A session that is deleted before its turn is
    left out; one that is deleted during it is `SessionNotFound`.
    """
    yield _header()
    for session_id in request.session_ids:
        try:
            contents = read_contents(session_id, request.using)
        except SessionNotFound:
            continue
        yield from _session_lines(contents, request)
    if request.include_artifacts and request.is_all:
        for artifact in artifacts_of(None, request.using):
            yield _line("artifact", artifact, request)
    yield _end(request.counts)


def _session_lines(contents: SessionContents, request: ExportRequest) -> Iterator[bytes]:
    yield _line("session", contents.session, request, last_sequence=contents.last_sequence)
    for run in contents.runs():
        yield _line("run", run, request)
    for line in contents.event_lines():
        request.counts["events"] += 1
        yield _event_line(line)
    if request.include_artifacts:
        for artifact in contents.artifacts():
            yield from _artifact_lines(artifact, request)


def _artifact_lines(artifact: Artifact, request: ExportRequest) -> Iterator[bytes]:
    if not (request.include_contents and has_content(artifact)):
        yield _line("artifact", artifact, request)
        return
    yield _line("artifact", artifact, request, has_content=True)
    yield from map(encoded, content_lines(artifact))


def _line(
    kind: str, record: Session | Run | Artifact, request: ExportRequest, **more: int
) -> bytes:
    request.counts[COUNTS[kind]] += 1
    return record_line(kind, record, **more)


def record_line(kind: str, record: Session | Run | Artifact, **more: int) -> bytes:
    """The line of one record."""
    return encoded({"kind": kind, "record": record.to_dict(), **more})


def write_event_lines(lines: Collection[bytes]) -> Iterator[bytes]:
    """A whole file of events alone, whose sessions and runs are stored, or in other files.

    `lines` are those of `iter_events_json()`.
    """
    yield _header()
    yield from map(_event_line, lines)
    yield _end({"events": len(lines)})


def _header() -> bytes:
    return encoded({"format": FORMAT, "version": VERSION})


def _event_line(line: bytes) -> bytes:
    return b'{"kind":"event","record":%b}\n' % line[:-1]


def _end(counts: Mapping[str, int]) -> bytes:
    return encoded({"kind": "end", **{name: counts.get(name, 0) for name in COUNTS.values()}})


def encoded(line: dict[str, Any]) -> bytes:
    """One line of a file."""
    return ENCODER.encode(line).encode() + b"\n"
