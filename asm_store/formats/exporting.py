"""Writes sessions as a format wants them, while they are read, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Unpack

from django.db.models import QuerySet

from ..backends import transactions
from ..events.sanitizing import shown
from ..exceptions import QueryError, SessionNotFound, ValidationError
from ..filters import MAX_VALUES, SessionFilterSet
from ..models import Artifact, Event, Run, Session
from ..queries.paging import checked_id, matching
from ..queries.search import SessionFilters
from ..queries.walking import SessionWalk
from . import files, jsonl
from .atif_export import trajectory_lines
from .readable.html import write_html
from .requests import ExportFormat, ExportRequest


def _write_trajectories(request: ExportRequest) -> Iterator[bytes]:
    return trajectory_lines(request.using, request.session_ids, request.counts)


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "jsonl": ExportFormat(jsonl.write_lines, has_artifacts=True, needs_parents=True),
    "atif": ExportFormat(_write_trajectories),
    "html": ExportFormat(write_html),
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """How many records an export holds, so far.

    `without_parent`: how many of the sessions name a parent that is no part of the export, and
    can be imported only where that parent is stored.
    """

    sessions: int = 0
    runs: int = 0
    events: int = 0
    artifacts: int = 0
    without_parent: int = 0

    def to_dict(self) -> dict[str, int]:
        """JSON-ready."""
        return asdict(self)


Progress = Callable[[ExportReport], None]
"""Called again and again while an export is made."""


class Export:
    """An export that is made while it is iterated over, once: pieces of UTF-8 text.

    Again it is a `RuntimeError`, for nothing or half of it would be left to give.
    """

    def __init__(
        self, rows: QuerySet[Session], format: ExportFormat, include_artifacts: bool, is_all: bool
    ) -> None:
        self._rows = rows
        self._needs_parents = format.needs_parents
        self._walk = SessionWalk(rows)
        self._request = ExportRequest(self._walk, rows.db, include_artifacts, is_all)
        self._pieces = format.write(self._request)
        self._has_begun = False

    def __iter__(self) -> Iterator[bytes]:
        if self._has_begun:
            raise RuntimeError("This export was begun before: call export_sessions() again.")
        self._has_begun = True
        return self._pieces

    @property
    def report(self) -> ExportReport:
        """What was written so far."""
        without_parent = self._walk.without_parent if self._needs_parents else 0
        return ExportReport(**self._request.counts, without_parent=without_parent)

    def count(self) -> ExportReport:
        """What there is to write, counted by the database; nothing is written."""
        return transactions.read(self._rows.db, self._count)

    def _count(self) -> ExportReport:
        rows, using = self._rows.order_by(), self._rows.db
        chosen = {} if self._request.is_all else {"session_id__in": rows.values("pk")}
        artifacts = Artifact._base_manager.using(using).filter(**chosen)
        children = rows.filter(parent_session_id__isnull=False)
        orphans = children.exclude(parent_session_id__in=rows.values("pk"))
        return ExportReport(
            rows.count(),
            Run.objects.using(using).filter(**chosen).count(),
            Event.objects.using(using).filter(**chosen).count(),
            artifacts.count() if self._request.include_artifacts else 0,
            orphans.count() if self._needs_parents else 0,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write it to a file, compressed when its name ends in `.gz` or `.zst`.

        The file is there when it is whole, and not before. Raises `FileExistsError` for one that
        is there already, unless `overwrite`; `OSError` when it cannot be written;
        `ImproperlyConfigured` when the package for Zstandard is missing.
        """
        with files.replacing(path, overwrite=overwrite) as file:
            for piece in self:
                file.write(piece)
                if progress is not None:
                    progress(self.report)
        return self.report


def export_sessions(
    session_ids: Iterable[str] | None = None,
    *,
    using: str = "default",
    format: str = "jsonl",
    include_artifacts: bool = False,
    **filters: Unpack[SessionFilters],
) -> Export:
    """These sessions, soft-deleted or not, or else all that match the filters, as a file has them.

    `session_ids`: up to 1,000. The filters are those of `search_sessions()`; with only
    `include_deleted=True` it is the whole database. `format` is one of `EXPORT_FORMATS`.
    `include_artifacts`: the registry's rows too, not the contents.

    Raises `SessionNotFound` for an id that is not stored, `QueryError` for a bad id or filter,
    `ValidationError` for a bad format, before anything is written; while it is written
    `SessionNotFound` for a session that is deleted meanwhile, and `StorageError` when the
    database fails. Use it outside of transactions, which would have to last as long.
    """
    if format not in tuple(EXPORT_FORMATS):
        known = ", ".join(EXPORT_FORMATS)
        raise ValidationError(f"Unknown format {shown(format)}; known are {known}.")
    chosen = EXPORT_FORMATS[format]
    if include_artifacts and not chosen.has_artifacts:
        raise ValidationError(f"The format {format} has no place for artifacts.")
    if session_ids is None:
        rows = matching(SessionFilterSet, filters, using)
        given = {name: value for name, value in filters.items() if value is not None}
        return Export(rows, chosen, include_artifacts, is_all=given == {"include_deleted": True})
    if filters:
        raise QueryError(f"{', '.join(filters)}: no filters where sessions are named.")
    return Export(_named(session_ids, using), chosen, include_artifacts, is_all=False)


def _named(session_ids: Iterable[str], using: str) -> QuerySet[Session]:
    if isinstance(session_ids, str):
        raise QueryError("session_ids: expected a list of ids, got a string.")
    ids = list(dict.fromkeys(checked_id(pk) for pk in islice(session_ids, MAX_VALUES + 1)))
    if len(ids) > MAX_VALUES:
        raise QueryError(f"session_ids: more than {MAX_VALUES}.")
    rows = Session.objects.using(using).filter(pk__in=ids)
    stored: set[Any] = transactions.read(using, lambda: set(rows.values_list("pk", flat=True)))
    for pk in ids:
        if pk not in stored:
            raise SessionNotFound(f"session {pk} is not stored.")
    return rows
