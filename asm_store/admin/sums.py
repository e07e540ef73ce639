"""What the sessions of one page hold, asked once for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from ..models import Run, Session, SessionSequence
from ..queries import trends
from ..queries.summaries import whole

SUMS = {
    **trends.SUMS,
    "running": Count("id", filter=Q(status=Run.Status.RUNNING)),
    "began": Min("started_at"),
    "ended": Max("ended_at"),
}


@dataclass(slots=True)
class SessionSums:
    """The sums of one session's runs, and the number of its latest event.

    `cost` is of the runs that have one stored, None when none has.
    """

    runs: int = 0
    errors: int = 0
    running: int = 0
    tokens: float = 0
    cost: float | None = None
    events: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    sources: list[str] = field(default_factory=list)

    @property
    def duration(self) -> timedelta | None:
        """From the first run's start to the last one's end; to now while one is running."""
        end = timezone.now() if self.running else self.ended
        return None if self.began is None or end is None else max(end - self.began, timedelta(0))

    def add(self, group: Any) -> None:
        """Add the runs of one provider's model."""
        self.runs += group["run_count"]
        self.errors += group["error_count"]
        self.running += group["running"]
        self.tokens += whole(group["total_tokens"])
        if group["cost_usd"] is not None:
            self.cost = (self.cost or 0.0) + group["cost_usd"]
        begins = [moment for moment in (self.began, group["began"]) if moment]
        ends = [moment for moment in (self.ended, group["ended"]) if moment]
        self.began, self.ended = min(begins, default=None), max(ends, default=None)
        if (source := _source(group["provider"] or "", group["model"] or "")) not in self.sources:
            self.sources.append(source)


def _source(provider: str, model: str) -> str:
    """Both, unless the model's name says the provider's."""
    return model if model.startswith(provider) and model else f"{provider} {model}".strip() or "?"


def sums_of(sessions: Iterable[Session], using: str) -> dict[str, SessionSums]:
    """The sums of each of these sessions, by its id: two statements."""
    sums = {session.pk: SessionSums() for session in sessions}
    if not sums:
        return sums
    runs = Run.objects.using(using).filter(session_id__in=sums).order_by()
    groups = runs.values("session_id", "provider", "model").annotate(**SUMS)
    for group in groups.order_by("session_id", "provider", "model"):
        sums[group["session_id"]].add(group)
    counters = SessionSequence.objects.using(using).filter(session_id__in=sums)
    for pk, latest in counters.values_list("session_id", "last_sequence"):
        sums[pk].events = latest
    return sums
