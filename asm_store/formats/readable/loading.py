"""Events, page by page, with what of their content a page can show."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Left

from ...events.types import EventType
from ...expressions import JSONText, StoredSize
from ...models import Event
from ...queries.paging import ask

PAGE = 100
# Characters of JSON; what is longer stays in the database, so that a page is never large.
MOST_SHOWN = 32_768
# What takes so many bytes is longer: of a short number PostgreSQL makes four times as much.
MOST_STORED = 4 * MOST_SHOWN
# So far from a page a tool's call is looked for, or its result, and so many of them.
FAR = 500
COLUMNS = ("sequence_number", "id", "type", "timestamp", "run_id", "call", "tool")
RESULTS = frozenset({EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED})
OF_TOOLS = RESULTS | {EventType.TOOL_CALL_STARTED}


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as far as it is shown: `data` is None when it is too long, or not to be seen.

    `key` is what a tool's call and its result have in common, to find each other by; it is content,
    and never shown.
    """

    number: int
    id: str
    type: str
    timestamp: datetime
    run_id: str | None
    key: str = ""
    tool_name: str = ""
    data: dict[str, Any] | None = None
    is_too_long: bool = False

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

    def whole(self, event: SeenEvent) -> SeenEvent:
        """The same event with its data, however long they are."""
        if not event.is_too_long:
            return event
        rows = Event.objects.using(self.using).filter(pk=event.id).values_list("data", flat=True)
        [data] = self._asked(rows) or [None]  # pruned meanwhile
        return replace(event, data=data, is_too_long=data is None)

    def _rows(self) -> QuerySet[Event]:
        rows = Event.objects.using(self.using).filter(session_id=self.session_id)
        return rows.annotate(call=_of_tools("tool_call_id"), tool=_of_tools("tool_name"))

    def _load(self, rows: QuerySet[Event]) -> list[SeenEvent]:
        if not self.with_content:
            return [_without_content(row) for row in self._asked(rows.values_list(*COLUMNS))]
        # One character more than is shown tells that there are more.
        text = Left(Cast("data", TextField()), MOST_SHOWN + 1)
        short = Case(When(stored__lte=MOST_STORED, then=text), default=Value(None))
        whole = rows.annotate(stored=StoredSize("data")).annotate(text=short)
        return [_seen(row) for row in self._asked(whole.values_list(*COLUMNS, "text"))]

    def _asked(self, rows: QuerySet[Event, Any]) -> list[Any]:
        return ask(self.using, partial(list[Any], rows))


def _of_tools(name: str) -> Case:
    return Case(When(type__in=sorted(OF_TOOLS), then=JSONText("data", name)), default=Value(None))


def _without_content(row: Any) -> SeenEvent:
    number, pk, kind, timestamp, run_id, call, tool = row
    return SeenEvent(number, pk, kind, timestamp, run_id, call or tool or "")


def _seen(row: Any) -> SeenEvent:
    *plain, text = row
    is_too_long = text is None or len(text) > MOST_SHOWN
    data = None if is_too_long else json.loads(text)
    name = plain[-1] or ""
    return replace(_without_content(plain), tool_name=name, data=data, is_too_long=is_too_long)
