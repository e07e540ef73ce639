"""Until when hours are added up, and which have other runs or sessions than they had then."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain

from django.db.models import QuerySet
from django.utils import timezone

from .expressions import HourOf, OneOf, Texts
from .models import Run, Session
from .sums import UsageMark, UsageProgress

HOUR = timedelta(hours=1)
# Of younger hours no sums are made, so that what is written in them needs no mark. What lies
# between is the time that a writer's transaction may take, and that clocks may differ.
CLOSED_AFTER = HOUR
SUMMED_AFTER = 3 * HOUR
# Another name than that of earlier builds, which added up hours and not their sessions.
PROGRESS = "hours and sessions"


def hour_of(moment: datetime) -> datetime:
    """When the hour of UTC began that it belongs to."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def progress(using: str) -> QuerySet[UsageProgress]:
    """The row that says until when hours, and the sessions with runs in them, are added up."""
    return UsageProgress._base_manager.using(using).filter(pk=PROGRESS)


def closed() -> datetime:
    """Before it, what is written must be marked."""
    return timezone.now() - CLOSED_AFTER


def mark(using: str, moments: Iterable[datetime]) -> None:
    """Say, in the transaction that changes them, what began when: a run, or a session."""
    end = closed()
    hours = sorted({hour_of(moment) for moment in moments if moment < end})
    if hours:
        UsageMark._base_manager.using(using).bulk_create(UsageMark(begin=hour) for hour in hours)


def mark_runs(using: str, runs: QuerySet[Run]) -> None:
    """The same of runs that will be changed or deleted, or whose session will."""
    mark(using, _closed(runs).values_list("started_at", flat=True))


def mark_sessions(using: str, ids: Iterable[str], *, locking: bool = False) -> None:
    """The same of sessions that will be deleted, and of their runs.

    With `locking` also what the snapshot of the caller's block does not hold.
    """
    known = Texts(ids)
    sessions = Session.objects.using(using).filter(OneOf("pk", known)).order_by()
    runs = Run.objects.using(using).filter(OneOf("session_id", known))
    if locking:
        sessions, runs = sessions.select_for_update(), runs.select_for_update()
    mark(using, sessions.values_list("created_at", flat=True))
    mark_runs(using, runs)


def mark_removed(using: str, ids: Texts) -> None:
    """The same of many sessions."""
    sessions = Session.objects.using(using).filter(OneOf("pk", ids), created_at__lt=closed())
    runs = Run.objects.using(using).filter(OneOf("session_id", ids))
    hours = [
        rows.order_by().values_list(HourOf(column), flat=True).distinct()
        for rows, column in ((sessions, "created_at"), (_closed(runs), "started_at"))
    ]
    mark(using, chain(*hours))


def _closed(runs: QuerySet[Run]) -> QuerySet[Run]:
    return runs.filter(started_at__lt=closed()).order_by()


def mark_saved(using: str, session: Session, before: Session | None, *, has_events: bool) -> None:
    """The same of a session that is stored, and of its runs when their agent is another now.

    Without a row before, it has events only when it was removed and its runs are left.
    """
    moments = {session.created_at, session.created_at if before is None else before.created_at}
    if before is None or len(moments) > 1 or before.agent_id != session.agent_id:
        mark(using, moments)
    if has_events if before is None else before.agent_id != session.agent_id:
        mark_runs(using, Run.objects.using(using).of_session(session.id).select_for_update())
