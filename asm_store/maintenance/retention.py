"""Sessions that are old: first marked as deleted, later removed with all that is theirs.

They are found without locks, by pages of an index, and looked at once more under the locks that
every write takes, each page in a short transaction: what was used meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import CharField, F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Cast

from .. import signals
from ..backends.database import DatabaseSessionStore
from ..contents import ContentError, Place, discard_after_commit
from ..db import Locker
from ..expressions import Beyond, OneOf, Row, Texts, Version
from ..marks import closed, mark_removed
from ..models import Event, Run, Session, SessionSequence
from ..queries.paging import Order, pages
from ..querysets import SessionQuerySet
from ..sums import SessionSum
from ..waiting import tell
from .archive import Fingerprint, fingerprints
from .locking import lock_sessions
from .orphans import clear_session, discard_artifacts, remove
from .selecting import LOOKED, disposable, expired
from .work import Work

BY_USE = Order(("updated_at", "id"))

# Sessions that are found at a time: the last batch of them is a small one.
PAGE = 10_000
# What tells that a session was changed or appended to since it was selected.
CHANGED = Version("id", "agent_id", "status", "parent_session_id", "updated_at")
VERSION = ("id", "changed", "last_sequence")

Found = Any  # a named tuple of VERSION, `parent_session_id` and `deleted`


class ByDeletion(Order):
    """Where a page ends is told as the database writes it: a moment is made of it for nobody."""

    def after(self, rows: QuerySet[Any], position: tuple[Any, ...]) -> QuerySet[Any]:
        return rows.filter(Beyond(Row(*map(F, self.columns)), Row(*map(Value, position))))

    def position(self, row: Found) -> tuple[Any, ...]:
        return row.deleted, row.id


BY_DELETION = ByDeletion(("deleted_at", "id"))


def soft_delete(work: Work) -> None:
    """Mark what is expired; until it is removed it can be restored."""
    due = expired(work)
    if work.dry_run:
        work.add("sessions_soft_deleted", work.read(due.count))
        return
    for page in pages(due.values_list(*BY_USE.columns, named=True), BY_USE, work.size):
        mark = partial(_mark, work, [row.id for row in page])
        work.add("sessions_soft_deleted", work.write(mark))


def _mark(work: Work, ids: list[str]) -> int:
    lock_sessions(work.using, ids)
    still_due = list(expired(work).filter(OneOf("pk", ids)).values_list("pk", flat=True))
    sessions = Session.objects.using(work.using)
    wake = partial(tell, work.using, dict.fromkeys(still_due, 0))
    transaction.on_commit(wake, using=work.using, robust=True)
    return sessions.filter(OneOf("pk", still_due)).update(deleted_at=work.now)


def hard_delete(work: Work) -> None:
    """Remove what was soft-deleted long enough ago."""
    due = disposable(work)
    if work.dry_run:
        work.add("sessions_hard_deleted", work.read(due.count))
        return
    again = disposable(work, LOOKED).annotate(changed=CHANGED)
    lock = work.operations.locker(again.values_list("id", "changed"))
    for page in pages(_versions(due), BY_DELETION, PAGE):
        for batch in _batches(work, _with_descendants(work, page)):
            _remove_batch(work, lock, batch)


def _with_descendants(work: Work, page: list[Found]) -> list[Found]:
    """These sessions and the due ones below them, children before their parents.

    A child whose parent went before it would have lost its parent by the time it is archived.
    """
    found = {row.id: row for row in page}
    parents = set(found)
    while parents:
        children = list(_children(work, parents))
        parents = {row.id for row in children} - found.keys()
        found |= {row.id: row for row in children}
    return sorted(found.values(), key=partial(_depth, found), reverse=True)


def _depth(found: Mapping[str, Found], row: Found) -> int:
    """How many of the found sessions are above this one; those of a circle count once."""
    above: set[str] = set()
    parent = row.parent_session_id
    while parent in found and parent not in above:
        above.add(parent)
        parent = found[parent].parent_session_id
    return len(above)


def _versions(due: SessionQuerySet) -> QuerySet[Any, Any]:
    counters = SessionSequence.objects.filter(session_id=OuterRef("pk"))
    last_sequence = Subquery(counters.values("last_sequence"))
    deleted = Cast("deleted_at", CharField())
    rows = due.annotate(changed=CHANGED, last_sequence=last_sequence, deleted=deleted)
    return rows.values_list(*VERSION, "parent_session_id", "deleted", named=True)


def _children(work: Work, parents: Collection[str]) -> Iterator[Found]:
    known, due = sorted(parents), _versions(disposable(work, LOOKED))
    for start in range(0, len(known), PAGE):
        below = OneOf("parent_session_id", known[start : start + PAGE])
        yield from work.read(partial(list, due.filter(below).order_by("id")))


def _batches(work: Work, rows: Iterable[Found]) -> Iterator[list[Found]]:
    """Some sessions at a time, with no more events together than a transaction should delete."""
    batch: list[Found] = []
    events, most = 0, work.size
    for row in rows:
        count = 0 if _is_large(work, row) else row.last_sequence or 0
        if batch and (len(batch) == most or events + count > work.policy.batch_size):
            yield batch
            batch, events = [], 0
        batch.append(row)
        events += count
    if batch:
        yield batch


def _is_large(work: Work, row: Found) -> bool:
    return (row.last_sequence or 0) > work.policy.batch_size


def _remove_batch(work: Work, lock: Locker, batch: list[Found]) -> None:
    try:
        ids = [row.id for row in batch]
        archived = None if work.archive is None else work.archive.store_sessions(ids)
    except ContentError as error:
        _remove_others(work, lock, batch, error)
        return
    removed = work.write(partial(_remove, work, lock, batch, archived))
    work.add("sessions_hard_deleted", len(removed))
    for row in removed:
        if _is_large(work, row):
            clear_session(work, row.id, is_archived=archived is not None)


def _remove_others(work: Work, lock: Locker, batch: list[Found], error: ContentError) -> None:
    """A session with an artifact that cannot be archived stays; it must not keep the others."""
    if len(batch) == 1:
        work.errors.append(f"hard delete: session {batch[0].id} stays: {error}")
        return
    for row in batch:
        _remove_batch(work, lock, [row])


def _remove(
    work: Work, lock: Locker, batch: list[Found], archived: Mapping[str, Fingerprint] | None
) -> list[Found]:
    """Remove those that are as they were when they were selected, and as they are archived.

    Of a large session only its own row: nobody can use it any more, and `clear_session()` removes
    the rest piece by piece.
    """
    ids = Texts(row.id for row in batch)
    now = lock(ids)
    due = [row for row in batch if now.get(row.id) == row[: len(VERSION)]]
    if archived is not None:
        stored = fingerprints(work.using, ids)
        due = [row for row in due if row.id in archived and archived[row.id] == stored[row.id]]
    if whole := Texts(row.id for row in due if not _is_large(work, row)):
        _remove_whole(work, whole)
    if large := Texts(row.id for row in due if _is_large(work, row)):
        _remove_rows(work, large)
    tell_after_commit(work, [row.id for row in due])
    return due


def _remove_whole(work: Work, ids: Texts) -> None:
    if work.operations.removes_together:
        places = work.operations.remove_sessions(ids, closed())
        discard_after_commit(work.using, [Place(*place) for place in places])
    else:
        _remove_rows(work, ids)
        _remove_contents(work, ids)


def _remove_rows(work: Work, ids: Texts) -> None:
    sessions = Session.objects.using(work.using)
    sessions.filter(OneOf("parent_session_id", ids)).update(parent_session_id=None)
    mark_removed(work.using, ids)
    remove(sessions.filter(OneOf("pk", ids)))


def _remove_contents(work: Work, ids: Texts) -> None:
    of_these = OneOf("session_id", ids)
    discard_artifacts(work.using, of_these)
    for kind in (Event, Run, SessionSequence, SessionSum):
        remove(kind._base_manager.using(work.using).filter(of_these))


def tell_after_commit(work: Work, session_ids: list[str]) -> None:
    store = DatabaseSessionStore(using=work.using)

    def send() -> None:
        tell(work.using, dict.fromkeys(session_ids, 0))
        for pk in session_ids:
            signals.session_deleted.send_robust(type(store), store=store, session_id=pk)

    transaction.on_commit(send, using=work.using, robust=True)
