"""What maintenance did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """How many records maintenance changed, or with `dry_run` would have changed.

    `artifacts_cleaned`: rows without their session, and contents without a row.
    `orphaned_sequences_cleaned`: counters without their session, with all that was left of it.
    `errors`: what went wrong, one text each; what a step could not do is left for the next time.
    `skipped`: another maintenance of this database was running, and nothing was done.
    `is_complete`: False when the time was up before the work was done.
    """

    sessions_soft_deleted: int = 0
    sessions_hard_deleted: int = 0
    events_pruned: int = 0
    artifacts_cleaned: int = 0
    orphaned_sequences_cleaned: int = 0
    runs_timed_out: int = 0
    duration_ms: int = 0
    errors: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    """The names of the files that were written to the archive, without their manifests."""
    dry_run: bool = False
    skipped: bool = False
    is_complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "errors": list(self.errors), "archives": list(self.archives)}


Progress = Callable[[MaintenanceReport], None]
"""Called after each transaction of a maintenance, with what it did so far."""
