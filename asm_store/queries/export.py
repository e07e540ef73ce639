"""All that belongs to one session, read so that it fits together while others write.

There is no transaction around it: what comes later in the list below may be newer than what came
before, and never older. So a run that an event names is there when the event is.

1. the session with its latest number, in one statement;
2. its runs;
3. its events up to that number;
4. its artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from ..backends import transactions
from ..backends.database import DatabaseSessionStore
from ..backends.reading import session_not_found
from ..db import get_operations
from ..exceptions import SessionNotFound
from ..models import Artifact, Run, Session, SessionSequence
from .paging import Order, async_twin, checked_id, pages, reader

PAGE = 500
RUN_ORDER = Order(("started_at", "id"))
ARTIFACT_ORDER = Order(("created_at", "id"))


@dataclass(frozen=True, slots=True)
class SessionContents:
    """A session as it is stored, and the ways to what belongs to it, page by page."""

    session: Session
    last_sequence: int
    using: str

    def runs(self) -> Iterator[Run]:
        """By start and id; a run whose start was changed meanwhile may come last."""
        runs = Run.objects.using(self.using).of_session(self.session.id)
        seen: set[str] = set()
        for page in pages(runs, RUN_ORDER, PAGE):
            yield from (run for run in page if run.id not in seen)
            seen.update(run.id for run in page)
        # One page is of one moment; over several a run may have moved to where they had been.
        if len(seen) >= PAGE:
            yield from self._runs_that_moved(runs, seen)

    def _runs_that_moved(self, runs: QuerySet[Run], seen: set[str]) -> Iterator[Run]:
        ids = runs.order_by().values_list("id", flat=True)
        moved: list[str] = sorted(set(transactions.read(self.using, partial(list, ids))) - seen)
        for some in get_operations(self.using).slices(moved):
            yield from transactions.read(self.using, partial(list, runs.filter(id__in=some)))

    def event_lines(self) -> Iterator[bytes]:
        r"""The events in their order as `iter_events_json()` gives them.

        Raises `SessionNotFound` in the end when the session was deleted before it: then there
        may have been more.
        """
        store = DatabaseSessionStore(using=self.using)
        line = b'{"sequence_number":0}'
        for line in store.iter_events_json(self.session.id, before=self.last_sequence + 1):
            yield line
        # A session is deleted as a whole: it was there while its last event was.
        if self.last_sequence == 0 or json.loads(line)["sequence_number"] < self.last_sequence:
            self._require_stored()

    def _require_stored(self) -> None:
        stored = Session.objects.using(self.using).filter(id=self.session.id)
        if not transactions.read(self.using, stored.exists):
            raise SessionNotFound(f"session {self.session.id} was deleted while it was read.")

    def artifacts(self) -> Iterator[Artifact]:
        """The registry's rows, soft-deleted ones too, by creation and id."""
        return artifacts_of(self.session.id, self.using)


def artifacts_of(session_id: str | None, using: str) -> Iterator[Artifact]:
    """The registry's rows of a session, or of none, by creation and id, page by page."""
    rows = Artifact._base_manager.using(using)
    none = session_id is None
    of_it = rows.filter(session_id__isnull=True) if none else rows.filter(session_id=session_id)
    for page in pages(of_it, ARTIFACT_ORDER, PAGE):
        yield from page


def read_contents(session_id: str, using: str) -> SessionContents:
    """The session, soft-deleted or not, and its latest number; `SessionNotFound`."""
    counters = SessionSequence.objects.filter(session_id=OuterRef("id")).values("last_sequence")
    latest = Coalesce(Subquery(counters), Value(0))
    rows = Session.objects.using(using).filter(id=session_id).annotate(last_sequence=latest)
    found: Any = transactions.read(using, rows.first)
    if found is None:
        raise session_not_found(session_id)
    return SessionContents(found, found.last_sequence, using)


def export_session(
    session_id: str, *, include_artifacts: bool = False, using: str | None = None
) -> dict[str, Any]:
    """The session, soft-deleted or not, with all its records, each as its `to_dict()`; JSON-ready.

    `{"session": ..., "runs": [...], "events": [...]}`: runs by start and id, events by number;
    with `include_artifacts` also `"artifacts"`, the registry's rows by creation and id, with the
    soft-deleted ones, without the contents. All of it is in memory: for what is large there is
    `asm_store.formats.export_sessions()`. `using` is an alias of `DATABASES`; by default it is
    the default store's.

    What others append meanwhile is in it or not; each run that an event names is in it. Raises
    `SessionNotFound` when the session is not stored or is deleted meanwhile, `QueryError` for what
    can be no id, `StorageError` when the database fails. Within the caller's transaction it sees
    what that sees.
    """
    contents = read_contents(checked_id(session_id), reader(using))
    runs = sorted(contents.runs(), key=RUN_ORDER.position)
    exported: dict[str, Any] = {
        "session": contents.session.to_dict(),
        "runs": [run.to_dict() for run in runs],
        "events": [json.loads(line) for line in contents.event_lines()],
    }
    if include_artifacts:
        exported["artifacts"] = [artifact.to_dict() for artifact in contents.artifacts()]
    return exported


aexport_session = async_twin(export_session)
