"""Runs and tool calls of a page on one line of time, each a bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..formats.readable.entries import Entry
from ..formats.readable.loading import SeenEvent
from ..models import Run
from ..queries.trends import FAILED

ROW = 24
LABEL = 40  # characters
LEAST = 0.4  # percent of the width, so that the shortest can be seen
MOST_BARS = 60


@dataclass(frozen=True, slots=True)
class Bar:
    """A run or a tool call; `x` and `width` are percents, as text, since SVG knows one comma."""

    label: str
    kind: str
    began: datetime
    took: timedelta
    number: int | None
    has_failed: bool
    x: str
    width: str
    y: int

    @property
    def text_y(self) -> int:
        return self.y + 16


@dataclass(frozen=True, slots=True)
class Waterfall:
    bars: list[Bar]
    began: datetime
    took: timedelta

    @property
    def height(self) -> int:
        return ROW * len(self.bars)


@dataclass(frozen=True, slots=True)
class _Span:
    label: str
    kind: str
    began: datetime
    ended: datetime
    number: int | None
    has_failed: bool


def waterfall(
    events: list[SeenEvent], entries: Iterable[Entry], runs: Iterable[Run]
) -> Waterfall | None:
    """The page's runs and tool calls by their beginnings, None when there is none.

    The line goes from the page's first moment to its last: of a run that part is shown.
    """
    if not events:
        return None
    first = min(event.timestamp for event in events)
    last = max(event.timestamp for event in events)
    spans = sorted(_spans(entries, runs, last), key=lambda span: span.began)[:MOST_BARS]
    if not spans:
        return None
    last = max(last, *(span.ended for span in spans if span.kind == "tool"), last)
    whole = max(last - first, timedelta(milliseconds=1))
    bars = [_bar(span, number, first, whole) for number, span in enumerate(spans)]
    return Waterfall(bars, first, whole)


def _spans(entries: Iterable[Entry], runs: Iterable[Run], last: datetime) -> Iterator[_Span]:
    for run in runs:
        ended = max(run.started_at, run.ended_at or last)
        yield _Span(run.pk, "run", run.started_at, ended, None, run.status in FAILED)
    for entry in entries:
        if entry.kind == "tool" and (call := entry.call) is not None:
            ended = call.timestamp + (entry.took or max(last - call.timestamp, timedelta(0)))
            name = entry.tool_name or call.id
            yield _Span(name, "tool", call.timestamp, ended, entry.event.number, entry.has_failed)


def _bar(span: _Span, row: int, first: datetime, whole: timedelta) -> Bar:
    begin = min(max((span.began - first) / whole, 0.0), 1.0)
    end = min(max((span.ended - first) / whole, begin), 1.0)
    width = max((end - begin) * 100, LEAST)
    x = min(begin * 100, 100 - width)
    return Bar(
        span.label[:LABEL],
        span.kind,
        span.began,
        span.ended - span.began,
        span.number,
        span.has_failed,
        f"{x:.2f}%",
        f"{width:.2f}%",
        ROW * row,
    )
