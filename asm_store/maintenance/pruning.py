"""Events that are too many: the least valuable first, then the oldest, and never the protected.

What to prune of a session is told by numbers: everything of a kind up to one. So it does not
matter how often, or by how many at once, it is pruned; what is appended meanwhile has higher ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from ..expressions import OneOf
from ..models import Event, SessionSequence
from ..queries.paging import Order, pages
from ..querysets import EventQuerySet, SessionQuerySet
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
    pruning = _Pruning(work)
    counters = SessionSequence.objects.using(work.using).filter(last_sequence__gt=most)
    for page in pages(counters.only("session_id"), BY_SESSION, work.size):
        for counter in page:
            work.check_time()
            if (cut := _cut_to(work, counter.session_id, most)) is not None:
                pruned[cut.session_id] = cut.count
                pruning.add(cut)
    pruning.finish()
    return pruned


def prune_session(work: Work, session_id: str, most: int) -> int:
    """Prune one session; how many events it were."""
    pruning = _Pruning(work)
    if (cut := _cut_to(work, session_id, most)) is not None:
        pruning.add(cut)
    pruning.finish()
    return pruning.pruned


def _cut_to(work: Work, session_id: str, most: int) -> Cut | None:
    """What to prune of a session that has more events; None where there is nothing."""
    if work.read(_events(work, session_id).count) <= most:
        return None

    def plan() -> Cut | None:
        if not _is_open(work, session_id):
            return None
        return _cut_by(work, session_id, _events(work, session_id).count() - most)

    return _planned(work, session_id, plan)


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
        _lock(work, [session_id])
        return plan()

    return work.write(body)


def _lock(work: Work, ids: Collection[str]) -> None:
    list(SessionSequence.objects.using(work.using).locked(ids))


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


class _Pruning:
    """Deletes what cuts say, as many events of as many sessions at a time as a transaction may.

    Nothing of a session that is protected by now or gone, or that was used since the moment that
    `used` has for it: others are older by now. `is_whole`: nothing was left for such a reason.
    """

    def __init__(self, work: Work, used: Mapping[str, datetime] | None = None) -> None:
        self._work = work
        self._used = used or {}
        self._ids: dict[str, list[str]] = {}
        self._count = 0
        self.pruned = 0
        self.is_whole = True

    def add(self, cut: Cut) -> None:
        if self._work.dry_run:
            self._add_up(cut.count)
            return
        for events, last in (
            (_low(self._work, cut.session_id), cut.low),
            (_other(self._work, cut.session_id), cut.other),
        ):
            self._take(cut.session_id, events.filter(sequence_number__lte=last))

    def _take(self, session_id: str, events: EventQuerySet) -> None:
        rows = events.values_list("sequence_number", "pk")
        after = 0
        while True:
            most = self._work.size - self._count
            page = rows.filter(sequence_number__gt=after)[:most]
            found: list[tuple[int, str]] = self._work.read(partial(list, page))
            self._ids.setdefault(session_id, []).extend(pk for _, pk in found)
            self._count += len(found)
            if len(found) < most:
                return
            after = found[-1][0]
            self.finish()

    def finish(self) -> None:
        """Delete what was taken so far."""
        taken, self._ids, self._count = self._ids, {}, 0
        ids = [pk for some in taken.values() for pk in some]
        if ids:
            archive = self._work.archive
            archived = None if archive is None else archive.store_events(ids)
            delete = partial(_delete, self._work, taken, self._used, archived)
            count, is_whole = self._work.write(delete)
            self.is_whole &= is_whole
            self._add_up(count)

    def _add_up(self, count: int) -> None:
        self.pruned += count
        self._work.add("events_pruned", count)


def _delete(
    work: Work,
    taken: Mapping[str, list[str]],
    used: Mapping[str, datetime],
    archived: EventLines | None,
) -> tuple[int, bool]:
    """How many events it were, and whether of all the sessions."""
    _lock(work, taken)
    # Locked, so that no tag is given to one meanwhile.
    rows = _with_use(unprotected(work)).filter(pk__in=taken).order_by("pk").select_for_update()
    now: list[tuple[str, datetime]] = list(rows.values_list("pk", "used_at"))
    due = [pk for pk, moment in now if used.get(pk) in (None, moment)]
    if archived is not None:
        archived.check()
    ids = [event for pk in due for event in taken[pk]]
    events = Event.objects.using(work.using).filter(OneOf("pk", ids))
    return remove(events), len(due) == len(taken)


def prune_total(work: Work, pruned: Mapping[str, int]) -> None:
    """Prune the least recently used sessions while there are too many events.

    `pruned`: how many events of which session a dry run takes for pruned already.
    """
    most = work.policy.max_total_events
    is_wary = True
    while most is not None:
        before = work.counts["events_pruned"]
        if not _prune_by_use(work, most, pruned, is_wary=is_wary) or not is_wary:
            return
        # Where every session is used all the time, none of them is older than the others.
        is_wary = work.counts["events_pruned"] > before


def _prune_by_use(work: Work, most: int, pruned: Mapping[str, int], *, is_wary: bool) -> bool:
    """Whether to begin again: there are still too many, because sessions were used meanwhile.

    Who is wary leaves these. Two at once that prune in two orders would prune too much; so
    everything before what is pruned must be gone.
    """
    pretended = sum(pruned.values()) if work.dry_run else 0
    total = _total(work)
    for page in _by_use(work):
        work.check_time()
        if (excess := total - pretended - most) <= 0:
            return False
        cuts = _cuts(work, page, excess, pruned)
        # Where somebody else prunes too, this may be more than there is too much: count again.
        while not work.dry_run and (now := _total(work)) < total:
            total, excess = now, now - most
            cuts = _cuts(work, page, excess, pruned)
        pruning = _Pruning(work, page if is_wary else None)
        for cut in cuts:
            pruning.add(cut)
        pruning.finish()
        if work.dry_run:
            pretended += pruning.pruned
            continue
        total = _total(work)
        if not pruning.is_whole:
            return total > most
        if sum(cut.count for cut in cuts) >= excess:
            # What was appended meanwhile is for the next time.
            return False
    return False


def _total(work: Work) -> int:
    events = Event.objects.using(work.using).order_by()
    if work.dry_run:
        for gone in (disposable(work), without_session(work.using)):
            events = events.exclude(Exists(gone.filter(pk=OuterRef("session_id"))))
    return work.read(events.count)


def _with_use(sessions: SessionQuerySet) -> Any:
    """With `used_at`, the moment at which each was saved or appended to for the last time."""
    counters = SessionSequence.objects.filter(session_id=OuterRef("pk"))
    appended_at = Subquery(counters.values("updated_at"))
    return sessions.annotate(used_at=Greatest("updated_at", Coalesce(appended_at, "updated_at")))


def _by_use(work: Work) -> Iterator[dict[str, datetime]]:
    """The sessions that can be pruned and when each was used, the least recently used first.

    One that is used meanwhile comes once more, and ends it when it would come a third time:
    what is still to come was all used meanwhile, and whoever is used all the time never ends.
    """
    begun, again = timezone.now(), set[str]()
    rows = unprotected(work)
    if work.dry_run:
        rows = rows.exclude(pk__in=disposable(work).values("pk"))
    found = _with_use(rows).order_by("used_at", "pk").values_list("used_at", "pk")
    page: list[Any] = work.read(partial(list, found[: work.size]))
    while page:
        used = {pk: moment for moment, pk in page}
        yield {pk: moment for pk, moment in used.items() if pk not in again}
        if not again.isdisjoint(used):
            return
        again.update(pk for pk, moment in used.items() if moment > begun)
        moment, last = page[-1]
        beyond = Q(used_at__gt=moment) | Q(used_at=moment, pk__gt=last)
        page = work.read(partial(list, found.filter(beyond)[: work.size]))


def _cuts(work: Work, ids: Collection[str], excess: int, pruned: Mapping[str, int]) -> list[Cut]:
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
