"""Mends what has one right answer."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from django.db.models import F, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from ..backends.arguments import flag
from ..backends.reading import session_not_found
from ..exceptions import SessionNotFound
from ..models import Artifact, Event, Run, Session, SessionSequence
from ..queries.paging import Order, pages
from . import defects
from .artifacts import discard_orphans
from .defects import Defect, Scope
from .locking import lock_sessions
from .orphans import BY_SESSION, clear_session
from .policy import RetentionPolicy
from .work import Work

BY_ID = Order(("id",))
# Sessions that nobody can append to meanwhile.
BATCH = 100

REMOVED: dict[type[Model], Defect] = {
    SessionSequence: defects.COUNTERS_WITHOUT_SESSION,
    Event: defects.EVENTS_WITHOUT_SESSION,
    Run: defects.RUNS_WITHOUT_SESSION,
    Artifact: defects.ARTIFACTS_WITHOUT_SESSION,
}


def repair(
    *, using: str | None = None, session_id: str | None = None, dry_run: bool = False
) -> dict[str, int]:
    """Mend what `health_check()` calls repairable: how many records, by the code of the issue.

    What is left of removed sessions goes, after it was archived where `ASM_STORE_RETENTION` says
    `archive_before_prune`; counters that are missing or behind are brought to the highest number
    of their session's events; parents that are not stored are forgotten. Everything is looked at
    once more under the locks that every write takes, in short transactions: it is safe while
    others append, or maintain. `dry_run` changes nothing and says what would have been mended.

    Raises `ValidationError` for bad arguments, `SessionNotFound` when nothing is stored of the
    session, `MaintenanceError` when the archive cannot be written, `StorageError` when the
    database fails. Call it outside of your own transactions.
    """
    scope = Scope.of(using, session_id)
    work = Work(RetentionPolicy.from_settings(), scope.using, flag(dry_run, "dry_run"))
    if scope.session_id is not None and scope.is_empty():
        raise session_not_found(scope.session_id)
    mended = _planned(work, scope) if work.dry_run else _mended(work, scope)
    codes = (defect.code for defect in defects.REPAIRABLE)
    return {code: mended[code] for code in codes if mended[code]}


def _planned(work: Work, scope: Scope) -> Counter[str]:
    return Counter({d.code: work.read(d.rows(scope).count) for d in defects.REPAIRABLE})


def _mended(work: Work, scope: Scope) -> Counter[str]:
    _ = work.archive  # before anything is done: is it there?
    mended = _clear_removed(work, scope)
    steps = (
        (defects.ARTIFACTS_WITHOUT_SESSION, BY_ID, _discard),
        (defects.COUNTERS_MISSING, BY_ID, _make_counters),
        (defects.COUNTERS_BEHIND, BY_SESSION, _raise_counters),
        (defects.PARENTS_MISSING, BY_ID, _forget_parents),
    )
    for defect, order, mend in steps:
        rows = defect.rows(scope)
        for page in pages(rows.only("pk"), order, BATCH):
            mended[defect.code] += mend(work, rows, [row.pk for row in page])
    return mended


def _clear_removed(work: Work, scope: Scope) -> Counter[str]:
    mended: Counter[str] = Counter()
    counters = defects.COUNTERS_WITHOUT_SESSION.rows(scope).only("pk")
    for page in pages(counters, BY_SESSION, BATCH):
        for counter in page:
            for kind, count in clear_session(work, counter.pk).items():
                mended[REMOVED[kind].code] += count
    return mended


def _discard(work: Work, orphans: QuerySet[Artifact], ids: list[str]) -> int:
    return work.write(partial(discard_orphans, orphans, ids))


def _make_counters(work: Work, without: QuerySet[Session], ids: list[str]) -> int:
    return sum(_make_counter(work, pk) for pk in ids)


def _make_counter(work: Work, session_id: str) -> int:
    def body() -> int:
        # Before the lock, as a save does; of now, so that the session does not look unused.
        work.operations.make_counter(SessionSequence(session_id=session_id, updated_at=work.now))
        if not lock_sessions(work.using, [session_id]):
            raise session_not_found(session_id)  # and the counter is not made
        counter = SessionSequence.objects.using(work.using).filter(pk=session_id)
        is_ours = counter.filter(updated_at=work.now).exists()
        _raise(work, counter)
        return int(is_ours)

    try:
        return work.write(body)
    except SessionNotFound:
        return 0


def _raise_counters(work: Work, behind: QuerySet[SessionSequence], ids: list[str]) -> int:
    def body() -> int:
        lock_sessions(work.using, ids)
        return _raise(work, behind.filter(pk__in=ids))

    return work.write(body)


def _raise(work: Work, counters: QuerySet[SessionSequence]) -> int:
    """Bring locked counters to the highest number of their events; how many were lower."""
    events = Event.objects.filter(session_id=OuterRef("pk")).order_by("-sequence_number")
    last = Coalesce(Subquery(events.values("sequence_number")[:1]), 0)
    wanted: Any = counters.annotate(wanted=Greatest(last, 0)).filter(last_sequence__lt=F("wanted"))
    lower = list(wanted.values_list("pk", "wanted"))
    rows = SessionSequence.objects.using(work.using)
    for pk, number in lower:
        rows.filter(pk=pk).update(last_sequence=number, updated_at=work.now)
    return len(lower)


def _forget_parents(work: Work, orphaned: QuerySet[Session], ids: list[str]) -> int:
    def body() -> int:
        lock_sessions(work.using, ids)
        still = list(orphaned.filter(pk__in=ids).values_list("pk", flat=True))
        rows = Session.objects.using(work.using).filter(pk__in=still)
        return rows.update(parent_session_id=None)

    return work.write(body)
