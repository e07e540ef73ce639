"""What has lost its owner: the rest of removed sessions, rows and contents of artifacts."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from .. import contents
from ..expressions import OneOf
from ..marks import mark_runs
from ..models import Artifact, Event, Run, Session, SessionSequence
from ..queries.paging import Order, pages
from ..sums import SessionSum
from .archive import EventLines
from .work import Work

BY_SESSION = Order(("session_id",))

Cleared = Counter[type[Model]]  # how many rows of which kind


def remove(rows: QuerySet[Any]) -> int:
    """Delete rows, without Django's look for what refers to them; how many there were."""
    return int(rows._raw_delete(rows.db) or 0)


def discard_artifacts(using: str, wanted: Q | OneOf) -> int:
    """Delete rows of artifacts; their contents go after the commit."""
    rows = Artifact._base_manager.using(using).filter(wanted)
    places = list(rows.select_for_update().values_list("storage_backend", "storage_ref"))
    if not places:
        return 0
    contents.discard_after_commit(using, [contents.Place(*place) for place in places])
    return remove(rows)


def without_session(using: str) -> QuerySet[SessionSequence]:
    """Counters whose session is gone: the lock, and the sign, of a removal that is not done."""
    sessions = Session.objects.using(using).filter(pk=OuterRef("session_id"))
    return SessionSequence.objects.using(using).filter(~Exists(sessions))


def clear_orphans(work: Work) -> None:
    """Finish what a removal that was killed, or a raw delete, left behind."""
    orphans = without_session(work.using)
    if work.dry_run:
        work.add("orphaned_sequences_cleaned", work.read(orphans.count))
        return
    for page in pages(orphans.only("session_id"), BY_SESSION, work.size):
        for counter in page:
            cleared = clear_session(work, counter.session_id)
            work.add("orphaned_sequences_cleaned", cleared[SessionSequence])


def clear_session(work: Work, session_id: str, *, is_archived: bool = False) -> Cleared:
    """Delete all that is left of a session without its row, piece by piece; what it was.

    The latest events go first: who reads them in their order knows by the last one that he has
    them all. Its counter goes last. Until then every piece locks it, as a save of the same id
    does: a session that somebody stores anew, or restores from an archive, keeps what is there.
    """
    cleared: Cleared = Counter()
    is_left = True
    while is_left:
        events = Event.objects.using(work.using).of_session(session_id)
        piece = events.order_by("-sequence_number").values_list("pk", flat=True)[: work.size]
        ids: list[str] = work.read(partial(list, piece))
        archived = None
        if ids and work.archive is not None and not is_archived:
            archived = work.archive.store_events(ids)
        counts, is_left = work.write(partial(_clear_piece, work, session_id, ids, archived))
        cleared.update(counts)
        work.check_time()
    return cleared


def _clear_piece(
    work: Work, session_id: str, event_ids: list[str], archived: EventLines | None
) -> tuple[dict[type[Model], int], bool]:
    """How many rows of which kind it were, and whether there may be more."""
    counters = SessionSequence.objects.using(work.using)
    list(counters.locked([session_id]))
    if Session.objects.using(work.using).filter(pk=session_id).exists():
        return {}, False
    if event_ids:
        if archived is not None:
            archived.check()
        return {Event: remove(Event.objects.using(work.using).filter(OneOf("pk", event_ids)))}, True
    runs = Run._base_manager.using(work.using)
    run_ids: list[str] = list(
        runs.filter(session_id=session_id).values_list("pk", flat=True)[: work.size]
    )
    mark_runs(work.using, runs.filter(OneOf("pk", run_ids)))
    if removed := remove(runs.filter(OneOf("pk", run_ids))):
        return {Run: removed}, True
    artifacts = discard_artifacts(work.using, Q(session_id=session_id))
    remove(SessionSum._base_manager.using(work.using).filter(pk=session_id))
    return {Artifact: artifacts, SessionSequence: remove(counters.filter(pk=session_id))}, False
