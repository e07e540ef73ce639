"""What agents did in a period, what it cost and what went wrong, by `asm_store.queries`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import queries
from ..queries import Interval
from ..queries.sampling import estimate_run_durations
from ..templatetags.asm_store import grouped, usd
from .charts import Chart, chart
from .places import database

DAYS = 1  # until somebody asks for more
# What looks at each run is shown for so many: what it costs grows with them.
MOST_RUNS = 30_000
MOST_MODELS, TOP = 50, 10
EARLIEST, LATEST = date(1970, 1, 1), date(9998, 12, 31)
# Intervals of a chart: a bar of more could not be seen.
MOST_INTERVALS = 400
LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d"}


class DayField(forms.DateField):
    """A day that every database has hours for."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateInput({"type": "date"}, "%Y-%m-%d")
        between = [MinValueValidator(EARLIEST), MaxValueValidator(LATEST)]
        super().__init__(required=False, widget=widget, validators=between, **kwargs)


class PeriodForm(forms.Form):
    """The period and the filters; days are of UTC, as the intervals are.

    A run belongs to the day in which it started, a session to that in which it was created.
    """

    since = DayField(label=_("from"))
    until = DayField(label=_("until"))
    step = forms.ChoiceField(
        label=_("by"),
        required=False,
        choices=[("hour", _("hour")), ("day", _("day")), ("week", _("week"))],
    )
    agent_id = forms.CharField(label=_("agent"), required=False, max_length=255, strip=False)
    provider = forms.CharField(label=_("provider"), required=False, max_length=255, strip=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        until = values.get("until") or timezone.now().astimezone(UTC).date()
        since = values.get("since") or _days_before(until, DAYS - 1)
        step = values.get("step") or ("hour" if (until - since).days < 2 else "day")
        if since > until:
            self.add_error("since", _("The period ends before it begins."))
        elif (until - since + timedelta(days=1)) / LENGTHS[step] > MOST_INTERVALS:
            self.add_error("step", _("The period is too long for this step."))
        return {**values, "since": since, "until": until, "step": step}


def _days_before(day: date, days: int) -> date:
    return date.fromordinal(max(1, day.toordinal() - days))


@dataclass(frozen=True, slots=True)
class Period:
    """A checked question."""

    since: date
    until: date
    step: str
    agent_id: str | None
    provider: str | None

    @property
    def filters(self) -> dict[str, Any]:
        """As `asm_store.queries` take them."""
        return {
            "using": database(),
            "since": datetime.combine(self.since, time.min, UTC),
            "until": datetime.combine(self.until, time.max, UTC),
            "agent_id": self.agent_id,
            "provider": self.provider,
        }


def period_of(request: HttpRequest) -> tuple[PeriodForm, Period]:
    """What the address asks for; where it is not valid, the usual period, and the form says why."""
    form = PeriodForm(request.GET)
    values = form.cleaned_data if form.is_valid() else _usual()
    period = Period(
        values["since"],
        values["until"],
        values["step"],
        values.get("agent_id") or None,
        values.get("provider") or None,
    )
    return form, period


def _usual() -> dict[str, Any]:
    form = PeriodForm({})
    form.is_valid()
    return form.cleaned_data


def context_of(request: HttpRequest) -> dict[str, Any]:
    """What the template shows: about a dozen statements, whatever the period."""
    form, period = period_of(request)
    filters = period.filters
    overview = queries.get_overview(
        step=period.step, most_runs=MOST_RUNS, top_sessions=TOP, **filters
    )
    is_sampled = overview.run_count > MOST_RUNS
    trend = list(_filled(overview.intervals, period))
    by_runs = sorted(overview.entries, key=lambda entry: -entry.run_count)
    return {
        "form": form,
        "period": period,
        "shortcuts": _shortcuts(),
        "overview": overview,
        "agents": overview.agents,
        "expensive": overview.expensive,
        "slowest": overview.slowest,
        "figures": _figures(overview, trend),
        "charts": list(_charts(trend, period.step, has_sessions=overview.has_sessions)),
        "entries": by_runs[:MOST_MODELS],
        "hidden_models": len(by_runs[MOST_MODELS:]),
        "is_live": overview.live_runs > MOST_RUNS,
        "failures": queries.get_latest_failures(**filters),
        "is_sampled": is_sampled,
        "durations": _durations(period, overview, is_sampled=is_sampled),
        "most_runs": grouped(MOST_RUNS),
    }


def _durations(
    period: Period, overview: queries.Overview, *, is_sampled: bool
) -> queries.RunDurations:
    """Asked of each run, or of some of them."""
    if not is_sampled:
        return queries.get_run_durations(**period.filters)
    is_every = period.agent_id is None and period.provider is None
    return estimate_run_durations(**period.filters, count=overview.run_count if is_every else None)


def _shortcuts() -> list[tuple[str, Any]]:
    """Addresses of usual periods up to now."""
    today = timezone.now().astimezone(UTC).date()
    return [
        ("?", _("Today")),
        (f"?since={_days_before(today, 6)}", _("The last 7 days")),
        (f"?since={_days_before(today, 29)}", _("The last 30 days")),
    ]


def _filled(trend: list[Interval], period: Period) -> Iterator[Interval]:
    """The trend with its empty intervals."""
    found = {interval.begin: interval for interval in trend}
    begin = datetime.combine(period.since, time.min, UTC)
    if period.step == "week":
        begin -= timedelta(days=begin.weekday())
    end = datetime.combine(period.until, time.max, UTC)
    while begin <= end:
        yield found.get(begin, Interval(begin))
        begin += LENGTHS[period.step]


def _figures(overview: queries.Overview, trend: list[Interval]) -> list[tuple[Any, str]]:
    entries = overview.entries
    costs = [entry.cost_usd for entry in entries if entry.cost_usd is not None]
    unpriced = sum(entry.run_count for entry in entries if entry.cost_usd is None)
    cached = sum(entry.cache_read_tokens for entry in entries)
    read = cached + sum(entry.input_tokens + entry.cache_creation_tokens for entry in entries)
    sessions = grouped(sum(interval.session_count for interval in trend))
    return [
        (_("sessions"), sessions if overview.has_sessions else "-"),
        (_("runs"), grouped(overview.run_count)),
        (_("errors"), grouped(sum(interval.error_count for interval in trend))),
        (_("tokens"), grouped(sum(entry.total_tokens for entry in entries))),
        (_("stored cost (USD)"), usd(math.fsum(interval.cost_usd for interval in trend))),
        (_("cost, stored or calculated (USD)"), usd(math.fsum(costs))),
        (_("runs without a price"), grouped(unpriced)),
        (_("cache share"), f"{100 * cached / read:.1f} %" if read else "-"),
    ]


def _charts(trend: list[Interval], step: str, *, has_sessions: bool) -> Iterator[Chart]:
    labels = [interval.begin.strftime(FORMATS[step]) for interval in trend]
    for name, title, shown in (
        ("session_count", _("Sessions"), grouped),
        ("run_count", _("Runs"), grouped),
        ("error_count", _("Errors"), grouped),
        ("total_tokens", _("Tokens"), grouped),
        ("cost_usd", _("Stored cost (USD)"), usd),
    ):
        if name != "session_count" or has_sessions:
            values = [getattr(interval, name) for interval in trend]
            yield chart(name, title, labels, values, shown)
