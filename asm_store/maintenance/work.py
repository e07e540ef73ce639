"""One run of maintenance: what it may do, until when, and how far it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, TypeVar

from django.utils import timezone

from ..backends import transactions
from ..db import BaseOperations, get_operations
from ..exceptions import MaintenanceError, StoreError
from .archive import Archive
from .policy import RetentionPolicy
from .reports import MaintenanceReport, Progress

R = TypeVar("R")

# Seconds that the clocks of this machine and of the database may differ: ages are counted by the
# one, and what is stored was stamped by it or by another's.
CLOCK_TOLERANCE = 300


class TimeUpError(Exception):
    """The work is not done, and its time is up."""


@dataclass
class Work:
    """Steps add to `counts`, whose names are those of the report, and check the time."""

    policy: RetentionPolicy
    using: str
    dry_run: bool = False
    progress: Progress | None = None
    max_seconds: float | None = None
    # All ages are as of now: a clock that jumps meanwhile changes nothing.
    now: datetime = field(default_factory=timezone.now)
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    is_complete: bool = True
    started: float = field(default_factory=time.monotonic)

    @property
    def operations(self) -> BaseOperations:
        return get_operations(self.using)

    @property
    def size(self) -> int:
        """How many ids one statement takes."""
        return min(self.policy.batch_size, self.operations.max_parameters)

    @cached_property
    def archive(self) -> Archive | None:
        """Where to write what is going to be deleted; `MaintenanceError` when it is not there."""
        if not self.policy.archive_before_prune:
            return None
        return Archive(str(self.policy.archive_storage), self.using, self.now)

    def days_ago(self, days: int) -> datetime:
        return self.now - timedelta(days=days)

    def write(self, body: Callable[[], R]) -> R:
        """`body()` in a short transaction of its own, planned for the tables as they are by now: a
        plan of when they were empty would read them whole. It may run several times.
        """
        return transactions.write(self.using, partial(self._planned, body))

    def read(self, body: Callable[[], R]) -> R:
        """`body()`, planned for the values that it asks for."""
        return transactions.read(self.using, partial(self._planned, body))

    def _planned(self, body: Callable[[], R]) -> R:
        with self.operations.planned_anew():
            return body()

    def add(self, name: str, count: int) -> None:
        """Count what was done, tell of it, and end here when the time is up."""
        self.counts[name] += count
        if self.progress is not None:
            self.progress(self.report())
        self.check_time()

    def check_time(self) -> None:
        seconds = time.monotonic() - self.started
        if self.max_seconds is not None and seconds >= self.max_seconds:
            raise TimeUpError

    def check_clock(self) -> None:
        """`MaintenanceError` when this machine and the database do not agree on the time."""
        there = transactions.read(self.using, self.operations.now)
        apart = 0.0 if there is None else abs((there - timezone.now()).total_seconds())
        if there is not None and apart > CLOCK_TOLERANCE:
            raise MaintenanceError(
                f"The clock here says {timezone.now():%Y-%m-%d %H:%M:%S} UTC, that of the database "
                f"{self.using!r} {there:%Y-%m-%d %H:%M:%S} UTC. Nothing was deleted: set the clock "
                f"that is wrong, and run again."
            )

    @contextmanager
    def errors_kept(self, step: str) -> Iterator[None]:
        """What fails in the block is in the report, and the next step may do its part."""
        try:
            yield
        except TimeUpError:
            self.is_complete = False
        except (StoreError, OSError) as error:
            self.errors.append(f"{step}: {error}")

    def report(self) -> MaintenanceReport:
        counts: dict[str, Any] = dict(self.counts)
        return MaintenanceReport(
            **counts,
            duration_ms=round((time.monotonic() - self.started) * 1000),
            errors=tuple(self.errors),
            archives=() if self.archive is None else tuple(self.archive.names),
            dry_run=self.dry_run,
            is_complete=self.is_complete,
        )
