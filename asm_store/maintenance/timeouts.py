"""Runs that nobody ended."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from ..backends.database import DatabaseSessionStore
from ..models import Event, Run, SessionSequence
from ..queries.paging import Order, pages
from ..querysets import RunQuerySet
from .selecting import expired
from .work import Work

BY_START = Order(("started_at", "id"))


def end_runs(work: Work) -> None:
    """End runs that are running for too long, each with its event."""
    if work.policy.max_run_age_hours is None:
        return
    due = _due(work, work.policy.max_run_age_hours)
    if work.dry_run:
        due = due.exclude(session_id__in=expired(work).values("pk"))
        work.add("runs_timed_out", work.read(due.count))
        return
    for page in pages(due.only(*BY_START.columns, "session_id"), BY_START, work.size):
        for run in page:
            work.add("runs_timed_out", work.write(partial(_end, work, due, run)))


def _due(work: Work, hours: int) -> RunQuerySet:
    """Of sessions that can be appended to."""
    runs = Run.objects.using(work.using).running()
    moment = work.now - timedelta(hours=hours)
    return runs.filter(started_at__lt=moment, session__deleted_at__isnull=True)


def _end(work: Work, due: RunQuerySet, found: Run) -> int:
    list(SessionSequence.objects.using(work.using).locked([found.session_id]))
    run = due.filter(pk=found.pk).first()
    if run is None:
        return 0
    hours = work.policy.max_run_age_hours
    message = f"The run was running for more than {hours} hours; maintenance ended it."
    error = {"error_code": "run_timeout", "error_message": message}
    if run.error is None:
        run.error = error
    store = DatabaseSessionStore(using=work.using)
    store.save_run(run.update_status(Run.Status.TIMEOUT))
    store.append_event(
        Event(
            type=Event.Type.RUN_TIMEOUT,
            session_id=run.session_id,
            run_id=run.pk,
            provider=run.provider,
            data=error,
        )
    )
    return 1
