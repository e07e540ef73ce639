"""What a request asks for; whatever cannot be understood is an error, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, QueryDict

from ..backends.arguments import EventFilter
from ..events.sanitizing import shown
from ..exceptions import QueryError
from ..fields import clean_id
from ..filters import FilterForm, ListFilter, ManyInputs, StrictFilterSet, clean_type, text
from ..models import Event

WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")
SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
MAX_LIMIT = 1000
MAX_WAIT = 30


class StreamFilterSet(StrictFilterSet):
    """Filters of the events of one session."""

    other_parameters: ClassVar[frozenset[str]] = frozenset({"after"})

    type = ListFilter("type", check=clean_type, widget=ManyInputs)
    run_id = text(check=clean_id)

    class Meta:
        model = Event
        fields = ()
        form = FilterForm


class PollFilterSet(StreamFilterSet):
    """The same; how many events, and how long to wait for one, can be said too."""

    other_parameters = frozenset({"after", "limit", "wait"})


def stream_filter(request: HttpRequest, session_id: str, payloads: bool) -> EventFilter:
    """What is to be streamed; `QueryError` or a kind of it for what cannot be understood."""
    after = whole_number(request.GET, "after", 0)
    if resume_point(request) is not None:
        after = whole_number(request.headers, "Last-Event-ID", after)
    return _filter(StreamFilterSet(request.GET), session_id, after, payloads)


def resume_point(request: HttpRequest) -> str | None:
    """The number that a browser, which connects anew, saw last."""
    return request.headers.get("Last-Event-ID") or None


def poll_filter(request: HttpRequest, session_id: str, payloads: bool) -> EventFilter:
    """What is asked for by one request; errors as above."""
    limit = whole_number(request.GET, "limit", 100)
    if not 1 <= limit <= MAX_LIMIT:
        raise QueryError(f"limit: must be from 1 to {MAX_LIMIT}.")
    after = whole_number(request.GET, "after", 0)
    return _filter(PollFilterSet(request.GET), session_id, after, payloads, limit)


def wait_seconds(request: HttpRequest) -> float:
    """How long the request may wait for an event."""
    said = _said(request.GET, "wait")
    if said is None:
        return 0.0
    if not SECONDS.fullmatch(said) or not (seconds := float(said)) <= MAX_WAIT:
        raise QueryError(f"wait: expected 0 to {MAX_WAIT} seconds, got {shown(said)}.")
    return seconds


def whole_number(values: Mapping[str, str], name: str, default: int) -> int:
    said = _said(values, name)
    if said is None:
        return default
    if not WHOLE_NUMBER.fullmatch(said):
        raise QueryError(f"{name}: expected a whole number >= 0, got {shown(said)}.")
    return int(said)


def _said(values: Mapping[str, str], name: str) -> str | None:
    given = values.getlist(name) if isinstance(values, QueryDict) else [values.get(name, "")]
    if len(given) > 1:
        raise QueryError(f"{name}: said {len(given)} times.")
    return given[0] or None if given else None


def _filter(
    filters: StreamFilterSet, session_id: str, after: int, payloads: bool, limit: int | None = None
) -> EventFilter:
    values: dict[str, Any] = filters.checked()
    return EventFilter(
        session_id=session_id,
        run_id=values["run_id"],
        types=values["type"],
        after=after,
        limit=limit,
        payloads=payloads,
    )
