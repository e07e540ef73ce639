"""All steps of a policy, in the order in which each finds what the one before has left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from django.db import transaction

from .. import signals
from ..backends import transactions
from ..events.sanitizing import shown
from ..exceptions import ValidationError
from ..fields import clean_id
from ..queries.paging import database
from . import pruning
from .artifacts import clean_artifacts
from .locking import lock_held
from .orphans import clear_orphans
from .policy import RetentionPolicy
from .reports import MaintenanceReport, Progress
from .retention import hard_delete, soft_delete
from .summing import sum_up
from .timeouts import end_runs
from .work import Work


def execute(
    policy: RetentionPolicy,
    *,
    using: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    locked: bool = True,
) -> MaintenanceReport:
    """Delete what the policy says is due; what was done.

    `using` is an alias of `DATABASES`, by default the default store's. `dry_run` changes nothing
    and reports what would have been done now. `progress` is called after each transaction. After
    `max_seconds` it ends between two transactions, and the next time goes on from there. While
    another one works on the database it does nothing and reports `skipped`; `locked=False` does
    not ask: two at once do the same together.

    What fails is in the report's `errors`, and the other steps do their part. Raises
    `ValidationError` for bad arguments, `ImproperlyConfigured` for an alias that is not in
    `DATABASES`, `MaintenanceError` before anything is done when there is
    no archive storage of that name, or when the clocks of this machine and of the database
    differ, `StorageError` when the database cannot be asked at all. Work is done in many short
    transactions: call it outside of your own.
    """
    work = _work(policy, using, dry_run=dry_run, progress=progress, max_seconds=max_seconds)
    work.check_clock()
    with nullcontext(True) if dry_run or not locked else lock_held(work.using) as is_ours:
        if not is_ours:
            return replace(work.report(), skipped=True, is_complete=False)
        _run(work)
    report = work.report()
    if not dry_run:
        _tell(report, work.using)
    return report


def _run(work: Work) -> None:
    pruned: dict[str, int] = {}
    steps: dict[str, Callable[[], object]] = {
        "soft delete": lambda: soft_delete(work),
        "hard delete": lambda: hard_delete(work),
        "artifacts": lambda: clean_artifacts(work),
        "orphans": lambda: clear_orphans(work),
        "events of a session": lambda: pruned.update(pruning.prune_each(work)),
        "all events": lambda: pruning.prune_total(work, pruned),
        # After what uses a session: the event that ends a run says that its session was used now.
        "runs": lambda: end_runs(work),
        "sums": lambda: sum_up(work),
    }
    for name, step in steps.items():
        if work.is_complete:
            with work.errors_kept(name):
                work.check_time()
                step()


def _work(
    policy: RetentionPolicy,
    using: str | None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    max_seconds: float | None = None,
) -> Work:
    if not isinstance(policy, RetentionPolicy):
        raise ValidationError(f"policy: expected a RetentionPolicy, got {shown(policy)}.")
    _check_seconds(max_seconds)
    work = Work(policy, database(using), dry_run, progress, max_seconds)
    # Now, before anything is done: are they there?
    transactions.is_joined(work.using)
    _ = work.archive
    return work


def _check_seconds(value: object) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and value > 0):  # type: ignore[operator]
        raise ValidationError(f"max_seconds: expected seconds > 0, got {shown(value)}.")


def _tell(report: MaintenanceReport, using: str) -> None:
    def send() -> None:
        signals.maintenance_finished.send_robust(
            sender=MaintenanceReport, report=report, using=using
        )

    transaction.on_commit(send, using=using, robust=True)


def soft_delete_expired_sessions(
    policy: RetentionPolicy, *, using: str | None = None, dry_run: bool = False
) -> int:
    """The step of `execute()` alone: how many sessions were marked as deleted.

    Each of these steps takes no notice of another maintenance, and raises what goes wrong.
    """
    return _step(_work(policy, using, dry_run=dry_run), soft_delete, "sessions_soft_deleted")


def hard_delete_expired_sessions(
    policy: RetentionPolicy, *, using: str | None = None, dry_run: bool = False
) -> int:
    """The step of `execute()` alone: how many sessions were removed with all that was theirs."""
    return _step(_work(policy, using, dry_run=dry_run), hard_delete, "sessions_hard_deleted")


def prune_session_events(
    session_id: str, policy: RetentionPolicy, *, using: str | None = None, dry_run: bool = False
) -> int:
    """Prune one session to `max_events_per_session`: how many events it were.

    None for a session that is not stored, or has a tag that protects it.
    """
    pk, work = clean_id(session_id, "session_id"), _work(policy, using, dry_run=dry_run)
    work.check_clock()
    most = policy.max_events_per_session
    return 0 if most is None else pruning.prune_session(work, pk, most)


def clean_orphaned_artifacts(
    policy: RetentionPolicy | None = None, *, using: str | None = None, dry_run: bool = False
) -> int:
    """The step of `execute()` alone: how many rows without session, and contents without row."""
    work = _work(policy or RetentionPolicy(), using, dry_run=dry_run)
    return _step(work, clean_artifacts, "artifacts_cleaned")


def _step(work: Work, step: Callable[[Work], object], count: str) -> int:
    work.check_clock()
    step(work)
    return work.counts[count]
