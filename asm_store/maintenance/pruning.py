"""Events that are too many: the least valuable first, then the oldest, and never the protected.

What to prune of a session is told by numbers: everything of a kind up to one. So it does not
matter how often, or by how many at once, it is pruned; what is appended meanwhile has higher ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest

from ..models import Event, SessionSequence
from ..queries.paging import Order, pages
from ..querysets import EventQuerySet
from .archive import EventLines
from .orphans import remove, without_session
from .policy import PROTECTED_TYPES
from .selecting import disposable, unprotected
from .work import Work

BY_SESSION = Order(("session_id",))
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Cut:
    """What to prune of a session: low-value events up to number `low`, others up to `other`."""

    session_id: str
    low: int
    other: int
    count: int


def prune_each(work: Work) -> dict[str, int]:
    """Prune sessions with more events than one may have; how many events of which."""
    pruned: dict[str, int] = {}
    most = work.policy.max_events_per_session
    if most is None:
        return pruned
    counters = SessionSequence.objects.using(work.using).filter(last_sequence__gt=most)
    for page in pages(counters.only("session_id"), BY_SESSION, work.size):
        for counter in page:
            if count := prune_session(work, counter.session_id, most):
                pruned[counter.session_id] = count
    return pruned


def prune_session(work: Work, session_id: str, most: int) -> int:
    """Prune one session; how many events it were."""
    if work.read(_events(work, session_id).count) <= most:
        return 0

    def plan() -> Cut | None:
        if not _is_open(work, session_id):
            return None
        return _cut_by(work, session_id, _events(work, session_id).count() - most)

    cut = _planned(work, session_id, plan)
    return 0 if cut is None else _apply(work, cut)


def _is_open(work: Work, session_id: str) -> bool:
    """Whether the session is there, with no tag that protects it."""
    sessions = unprotected(work).filter(pk=session_id)
    if work.dry_run:
        sessions = sessions.exclude(pk__in=disposable(work).values("pk"))
    return sessions.exists()


def _planned(work: Work, session_id: str, plan: Callable[[], R]) -> R:
    """`plan()`, while nobody else prunes or appends: what is counted fits together."""
    if work.dry_run:
        return work.read(plan)

    def body() -> R:
        _lock(work, session_id)
        return plan()

    return work.write(body)


def _lock(work: Work, session_id: str) -> None:
    list(SessionSequence.objects.using(work.using).locked([session_id]))


def _cut_by(work: Work, session_id: str, excess: int) -> Cut:
    """What to prune so that the session has so many events less, if that can be."""
    low, low_count = _last_of(_low(work, session_id), excess)
    other, other_count = _last_of(_other(work, session_id), excess - low_count)
    return Cut(session_id, low, other, low_count + other_count)


def _last_of(events: EventQuerySet, most: int) -> tuple[int, int]:
    """The number of the last of the first `most` events, and how many these are."""
    if most <= 0:
        return 0, 0
    numbers = events.values_list("sequence_number", flat=True)
    last = numbers[most - 1 : most].first()
    return (last, most) if last is not None else (numbers.last() or 0, events.count())


def _events(work: Work, session_id: str) -> EventQuerySet:
    return Event.objects.using(work.using).of_session(session_id)


def _low(work: Work, session_id: str) -> EventQuerySet:
    return _events(work, session_id).of_types(work.policy.prune_event_types_first)


def _other(work: Work, session_id: str) -> EventQuerySet:
    kept = {*PROTECTED_TYPES, *work.policy.prune_event_types_first}
    return _events(work, session_id).exclude(type__in=kept)


def _apply(work: Work, cut: Cut) -> int:
    """Delete what the cut says, piece by piece; how many events it were."""
    if work.dry_run:
        work.add("events_pruned", cut.count)
        return cut.count
    total = 0
    for events in (
        _low(work, cut.session_id).filter(sequence_number__lte=cut.low),
        _other(work, cut.session_id).filter(sequence_number__lte=cut.other),
    ):
        piece = events.values_list("pk", flat=True)[: work.size]
        ids: list[str]
        while ids := work.read(partial(list, piece.all())):
            archived = None if work.archive is None else work.archive.store_events(ids)
            pruned = work.write(partial(_delete, work, cut.session_id, ids, archived))
            if pruned is None:
                return total
            total += pruned
            work.add("events_pruned", pruned)
    return total


def _delete(work: Work, session_id: str, ids: list[str], archived: EventLines | None) -> int | None:
    """How many events it were; None when the session is protected by now, or gone."""
    _lock(work, session_id)
    # Locked, so that no tag is given to it meanwhile.
    rows = unprotected(work).filter(pk=session_id).select_for_update()
    if not list(rows.values_list("pk")):
        return None
    if archived is not None:
        archived.check()
    return remove(Event.objects.using(work.using).filter(pk__in=ids))


def prune_total(work: Work, pruned: Mapping[str, int]) -> None:
    """Prune the least recently used sessions while there are too many events.

    `pruned`: how many events of which session a dry run takes for pruned already.
    """
    most = work.policy.max_total_events
    if most is None:
        return
    pretended = sum(pruned.values()) if work.dry_run else 0
    total = _total(work)
    for page in _by_use(work):
        if total - pretended <= most:
            return
        cuts = _cuts(work, page, total - pretended - most, pruned)
        if work.dry_run:
            pretended += sum(_apply(work, cut) for cut in cuts)
            continue
        # Where somebody else prunes too, this may be more than there is too much: count again.
        while (now := _total(work)) < total:
            total = now
            cuts = _cuts(work, page, total - most, pruned)
        for cut in cuts:
            _apply(work, cut)
        total = _total(work)


def _total(work: Work) -> int:
    events = Event.objects.using(work.using).order_by()
    if work.dry_run:
        for gone in (disposable(work), without_session(work.using)):
            events = events.exclude(Exists(gone.filter(pk=OuterRef("session_id"))))
    return work.read(events.count)


def _by_use(work: Work) -> Iterator[list[str]]:
    """The ids of sessions that can be pruned, the least recently used first, page by page."""
    counters = SessionSequence.objects.filter(session_id=OuterRef("pk"))
    appended_at = Subquery(counters.values("updated_at"))
    used_at = Greatest("updated_at", Coalesce(appended_at, "updated_at"))
    rows = unprotected(work)
    if work.dry_run:
        rows = rows.exclude(pk__in=disposable(work).values("pk"))
    used: Any = rows.annotate(used_at=used_at).order_by("used_at", "pk")
    found = used.values_list("used_at", "pk")
    page: list[Any] = work.read(partial(list, found[: work.size]))
    while page:
        yield [pk for _, pk in page]
        moment, last = page[-1]
        beyond = Q(used_at__gt=moment) | Q(used_at=moment, pk__gt=last)
        page = work.read(partial(list, found.filter(beyond)[: work.size]))


def _cuts(work: Work, ids: list[str], excess: int, pruned: Mapping[str, int]) -> list[Cut]:
    """What to prune of these sessions, one after the other, so that there are so many less."""
    events = Event.objects.using(work.using).filter(session_id__in=ids).order_by()
    groups = events.exclude(type__in=PROTECTED_TYPES).values_list("session_id")
    counted = groups.annotate(Count("pk"), Max("sequence_number"))
    rows: list[Any] = work.read(partial(list, counted))
    found = {pk: (count, last) for pk, count, last in rows}
    cuts: list[Cut] = []
    for pk in ids:
        count, last = found.get(pk, (0, 0))
        count -= pruned.get(pk, 0) if work.dry_run else 0
        if count > 0 and excess > 0:
            whole = Cut(pk, last, last, count)
            cuts.append(whole if count <= excess else _part(work, pk, excess))
            excess -= cuts[-1].count
    return cuts


def _part(work: Work, session_id: str, excess: int) -> Cut:
    if work.dry_run:
        return Cut(session_id, 0, 0, excess)
    return _planned(work, session_id, partial(_cut_by, work, session_id, excess))
