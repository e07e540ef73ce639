"""Events, page by page, with what of their content a page can show."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Length

from ...events.types import EventType
from ...models import Event
from ...queries.paging import ask

PAGE = 100
# Characters of JSON; what is longer stays in the database, so that a page is never large.
MOST_SHOWN = 32_768
# So far from a page a tool's call is looked for, or its result, and so many of them.
FAR = 500
COLUMNS = ("sequence_number", "id", "type", "timestamp", "run_id")


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as far as it is shown: `data` is None when it is too long, or not to be seen."""

    number: int
    id: str
    type: str
    timestamp: datetime
    run_id: str | None
    size: int | None = None
    data: dict[str, Any] | None = None

    @property
    def is_too_long(self) -> bool:
        return self.size is not None and self.data is None

    @property
    def label(self) -> Any:
        """The type for people."""
        known = self.type in EventType.values
        return EventType(self.type).label if known else self.type


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in their order, and whether there are others before and behind them."""

    events: list[SeenEvent]
    has_earlier: bool
    has_later: bool


@dataclass(frozen=True, slots=True)
class EventLog:
    """The events of one session; without `with_content` their data stays in the database."""

    session_id: str
    using: str
    with_content: bool = True

    def page_after(self, number: int, size: int = PAGE) -> EventPage:
        """Those that follow a number."""
        rows = self._rows().filter(sequence_number__gt=number).order_by("sequence_number")
        found = self._load(rows[: size + 1])
        return EventPage(found[:size], number > 0, len(found) > size)

    def page_before(self, number: int, size: int = PAGE) -> EventPage:
        """Those that come before a number."""
        rows = self._rows().filter(sequence_number__lt=number).order_by("-sequence_number")
        found = self._load(rows[: size + 1])
        return EventPage(found[:size][::-1], len(found) > size, True)

    def after(self, number: int, types: Collection[str]) -> list[SeenEvent]:
        """Those of some types not far behind a number, in their order."""
        near = self._rows().filter(
            sequence_number__gt=number, sequence_number__lte=number + FAR, type__in=types
        )
        return self._load(near.order_by("sequence_number")[:PAGE])

    def before(self, number: int, types: Collection[str]) -> list[SeenEvent]:
        """Those of some types not far before a number, the latest first."""
        near = self._rows().filter(
            sequence_number__lt=number, sequence_number__gte=number - FAR, type__in=types
        )
        return self._load(near.order_by("-sequence_number")[:PAGE])

    def _rows(self) -> QuerySet[Event]:
        return Event.objects.using(self.using).filter(session_id=self.session_id)

    def _load(self, rows: QuerySet[Event]) -> list[SeenEvent]:
        if not self.with_content:
            plain = rows.values_list(*COLUMNS)
            return [SeenEvent(*row) for row in self._asked(plain)]
        text = Cast("data", TextField())
        short = Case(When(size__lte=MOST_SHOWN, then=text), default=Value(None))
        whole = rows.annotate(size=Length(text)).annotate(text=short)
        return [_seen(row) for row in self._asked(whole.values_list(*COLUMNS, "size", "text"))]

    def _asked(self, rows: QuerySet[Event, Any]) -> list[Any]:
        return ask(self.using, partial(list[Any], rows))


def _seen(row: Any) -> SeenEvent:
    number, pk, kind, timestamp, run_id, size, text = row
    data = None if text is None else json.loads(text)
    return SeenEvent(number, pk, kind, timestamp, run_id, size, data)
