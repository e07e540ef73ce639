"""What the sessions of one page hold, asked once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, OuterRef, Q, Subquery
from django.utils import timezone

from ..models import Run, Session, SessionSequence
from ..queries import trends
from ..queries.summaries import whole
from ..sums import SessionSum

SUMS = {
    **trends.SUMS,
    "running": Count("id", filter=Q(status=Run.Status.RUNNING)),
    "began": Min("started_at"),
    "ended": Max("ended_at"),
}
# The runs of a session with more are not added up for a page, once maintenance has done it.
MOST_RUNS = 1_000


@dataclass(slots=True)
class SessionSums:
    """The sums of one session's runs, and the number of its latest event.

    `cost` is of the runs that have one stored, None when none has. `as_of`: when maintenance
    added up the runs, where they are too many to do it now; `sources` has the latest one's then.
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
    as_of: datetime | None = None

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
        self._add_source(group)

    def take(self, row: Mapping[str, Any]) -> None:
        """What maintenance has added up, and of now the latest run."""
        self.runs, self.errors = row["run_count"], row["error_count"]
        self.tokens, self.cost = whole(row["total_tokens"]), row["cost_usd"]
        self.began, self.ended = row["first_started_at"], row["last_ended_at"]
        self.running, self.as_of = int(row["status"] == Run.Status.RUNNING), row["summed_at"]
        self._add_source(row)

    def _add_source(self, row: Mapping[str, Any]) -> None:
        if (source := _source(row["provider"] or "", row["model"] or "")) not in self.sources:
            self.sources.append(source)


def _source(provider: str, model: str) -> str:
    """Both, unless the model's name says the provider's."""
    return model if model.startswith(provider) and model else f"{provider} {model}".strip() or "?"


def sums_of(sessions: Iterable[Session], using: str) -> dict[str, SessionSums]:
    """The sums of each of these sessions, by its id: three statements."""
    sums = {session.pk: SessionSums() for session in sessions}
    if not sums:
        return sums
    for row in _of_many_runs(sums, using):
        sums[row["session_id"]].take(row)
    few = [pk for pk, known in sums.items() if known.as_of is None]
    runs = Run.objects.using(using).filter(session_id__in=few).order_by()
    groups = runs.values("session_id", "provider", "model").annotate(**SUMS)
    for group in groups.order_by("session_id", "provider", "model"):
        sums[group["session_id"]].add(group)
    counters = SessionSequence.objects.using(using).filter(session_id__in=sums)
    for pk, latest in counters.values_list("session_id", "last_sequence"):
        sums[pk].events = latest
    return sums


def _of_many_runs(ids: Collection[str], using: str) -> Iterable[Mapping[str, Any]]:
    """The sums of those sessions whose runs are too many, with what the latest one is."""
    latest = Run.objects.filter(session_id=OuterRef("session_id")).latest_first()
    of_latest = {
        name: Subquery(latest.values(name)[:1]) for name in ("status", "provider", "model")
    }
    rows: Any = SessionSum._base_manager.using(using)
    rows = rows.filter(session_id__in=ids, run_count__gt=MOST_RUNS).annotate(**of_latest)
    found: Iterable[Mapping[str, Any]] = rows.values()
    return found
