"""What is going to be deleted, written to a storage before: files of the own format.

Beside each file lies a manifest. Both are read back from the storage, whatever it said when they
were written; and what is deleted is compared, under its locks, with what was archived.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db.models import Count, OuterRef, Subquery

from ..backends import lines as event_lines
from ..backends import transactions
from ..contents import CHUNK, flush
from ..db import get_operations
from ..exceptions import MaintenanceError, SessionNotFound
from ..formats import jsonl
from ..formats.compression import GZIP_SUFFIX, compressor
from ..formats.requests import ExportRequest
from ..models import Artifact, Event, Run, Session, SessionSequence
from ..queries.walking import SessionWalk

PREFIX = "asm_archive"
FORMAT = "asm_store_archive"
VERSION = 1


@dataclass(slots=True)
class Fingerprint:
    """What tells whether a session is as it was: its records but the events, and how many these
    are. Events do not change, but for what an erasure does, and that changes the session.
    """

    events: int = 0
    records: int = 0

    def add(self, line: bytes) -> None:
        # A sum: in whatever order the records are read, it is the same.
        self.records += int.from_bytes(hashlib.sha256(line).digest())


@dataclass(slots=True)
class SessionEntry:
    """What a file holds of a session, for the manifest."""

    events: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None

    def add(self, number: int) -> None:
        self.events += 1
        self.first_sequence = number if self.first_sequence is None else self.first_sequence
        self.last_sequence = number


@dataclass(slots=True)
class Contents:
    """What a file holds, noted while its lines are written."""

    counts: Counter[str] = field(default_factory=Counter)
    sessions: dict[str, SessionEntry] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    def noted(self, written: Iterable[bytes]) -> Iterator[bytes]:
        for line in written:
            self.note(line)
            yield line

    def note(self, line: bytes) -> None:
        entry = json.loads(line)
        kind, record = entry.get("kind"), entry.get("record")
        if record is None:
            return
        if entry.pop("has_content", False):
            line = jsonl.encoded(entry)
        self.counts[jsonl.COUNTS[kind]] += 1
        session_id = record["id"] if kind == "session" else record["session_id"]
        if kind == "event":
            self.sessions.setdefault(session_id, SessionEntry()).add(record["sequence_number"])
        fingerprint = self.fingerprints.setdefault(session_id, Fingerprint())
        if kind == "event":
            fingerprint.events += 1
        else:
            fingerprint.add(line)


@dataclass(frozen=True, slots=True)
class EventLines:
    """Events as they are archived."""

    using: str
    lines: dict[str, bytes]

    @classmethod
    def read(cls, using: str, ids: Collection[str]) -> EventLines:
        events = (
            Event.objects.using(using).filter(pk__in=ids).order_by("session", "sequence_number")
        )
        found = transactions.read(using, partial(event_lines.of, events))
        return cls(using, {json.loads(line)["id"]: line for _, line in found})

    def check(self) -> None:
        """`MaintenanceError` unless those that are still stored are as they are here."""
        now = self.read(self.using, self.lines.keys())
        if any(self.lines[pk] != line for pk, line in now.lines.items()):
            raise MaintenanceError(
                "Events were changed after they had been archived, and were not deleted."
            )


class Archive:
    """Writes below `PREFIX` in the storage `alias`; `MaintenanceError` when that cannot be used.

    `names` are those of the files written so far.
    """

    def __init__(self, alias: str, using: str, now: datetime) -> None:
        self.alias = alias
        self.using = using
        self.names: list[str] = []
        self._folder = f"{PREFIX}/{using}/{now:%Y/%m/%d}"
        try:
            self._storage = storages[alias]
        except Exception as error:  # whatever a storage raises that cannot be made
            what = f"{type(error).__name__}: {error}"
            raise MaintenanceError(f"archive_storage: {what} Nothing was deleted.") from error

    def store_sessions(self, ids: Collection[str]) -> dict[str, Fingerprint]:
        """Archive whole sessions: what each was, by id; not those that are deleted meanwhile.

        `ContentError` when the content of an artifact is not what was stored.
        """
        walk = SessionWalk(Session.objects.using(self.using).filter(pk__in=ids))
        contents = Contents()
        try:
            request = ExportRequest(walk, self.using, include_artifacts=True, include_contents=True)
            self._store("sessions", jsonl.write_lines(request), contents)
        except SessionNotFound:
            return {}
        return contents.fingerprints

    def store_events(self, ids: Collection[str]) -> EventLines:
        """Archive some events of sessions that stay, or are gone."""
        events = EventLines.read(self.using, ids)
        contents = Contents()
        self._store("events", jsonl.write_event_lines(events.lines.values()), contents)
        return events

    def _store(self, kind: str, written: Iterable[bytes], contents: Contents) -> None:
        stem = f"{self._folder}/{kind}-{uuid.uuid4().hex}"
        try:
            with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
                self._write(file, contents.noted(written))
                name, checksum, size = self._save(f"{stem}.jsonl{GZIP_SUFFIX}", file)
        except OSError as error:  # of the file: `_save()` says what the storage raises
            raise MaintenanceError(
                f"The archive {stem} could not be written to a temporary file, and nothing of it "
                f"was deleted: {error}"
            ) from error
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "file": name,
            "bytes": size,
            "sha256": checksum,
            **{count: contents.counts[count] for count in jsonl.COUNTS.values()},
            "sequences": {
                pk: [entry.first_sequence, entry.last_sequence, entry.events]
                for pk, entry in contents.sessions.items()
            },
        }
        text = json.dumps(manifest, indent=1).encode() + b"\n"
        self._save(f"{stem}.manifest.json", ContentFile(text))
        self.names.append(name)

    def _write(self, file: Any, written: Iterable[bytes]) -> None:
        with compressor(GZIP_SUFFIX)(file) as writer:
            for line in written:
                writer.write(line)
        file.flush()

    def _save(self, name: str, file: Any) -> tuple[str, str, int]:
        """Write the file and read it back: its name in the storage, checksum and size in bytes."""
        file.seek(0)
        expected = _measured(file)
        file.seek(0)
        try:
            stored = self._storage.save(name, File(file, name))
            flush(self._storage, stored)
            with self._storage.open(stored) as copy:
                found = _measured(copy)
        # Whatever a storage raises: nothing is deleted that is not in it for certain.
        except Exception as error:
            raise MaintenanceError(
                f"The archive {name} could not be written to the storage {self.alias!r}, and "
                f"nothing of it was deleted: {type(error).__name__}: {error}"
            ) from error
        if found != expected:
            raise MaintenanceError(
                f"The archive {stored} in the storage {self.alias!r} is not what was written: "
                f"{found[1]} bytes with the SHA-256 {found[0]} instead of {expected[1]} with "
                f"{expected[0]}. Nothing of it was deleted."
            )
        return stored, *expected


def _measured(file: BinaryIO | File[bytes]) -> tuple[str, int]:
    """SHA-256 and size of what is left to read."""
    checksum, size = hashlib.sha256(), 0
    while piece := file.read(CHUNK):
        checksum.update(piece)
        size += len(piece)
    return checksum.hexdigest(), size


def fingerprints(using: str, ids: Collection[str]) -> dict[str, Fingerprint]:
    """Those of stored sessions, by id, for a transaction that has locked them."""
    counters = SessionSequence.objects.filter(session_id=OuterRef("pk")).values("last_sequence")
    found = {pk: Fingerprint() for pk in ids}
    sessions = Session.objects.using(using).annotate(last=Subquery(counters))
    for some in get_operations(using).slices(sorted(ids)):
        stored: Iterable[Any] = sessions.filter(pk__in=some)
        for session in stored:
            line = jsonl.record_line("session", session, last_sequence=session.last or 0)
            found[session.pk].add(line)
        for kind, rows in (("run", Run.objects), ("artifact", Artifact._base_manager)):
            for record in rows.using(using).filter(session_id__in=some):
                found[record.session_id].add(jsonl.record_line(kind, record))
        events = Event.objects.using(using).filter(session_id__in=some).order_by()
        for pk, count in events.values_list("session_id").annotate(Count("pk")):
            found[pk].events = count
    return found
