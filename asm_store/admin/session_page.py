"""What the page of one session shows, each part asked once, however long the session is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.http import urlencode

from ..formats.readable.entries import Entry, read_entries
from ..formats.readable.loading import PAGE, EventLog, EventPage
from ..models import Artifact, Run, Session
from . import access
from .places import address
from .sums import sums_of
from .waterfall import waterfall

# Of children and artifacts; beyond it there is the list of them.
MOST_LISTED = 50
# How often the page looks for new events, in milliseconds.
POLL = 2_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the log a page begins or ends: `?after=`, `?before=` or `?at=` a number."""

    after: int | None = None
    before: int | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Place:
        """What the address says; nonsense is the beginning."""
        at = _number(request, "at")
        if at is not None:
            return cls(after=max(0, at - 1))
        before = _number(request, "before")
        return cls(_number(request, "after"), before)

    def page(self, log: EventLog) -> EventPage:
        if self.before is not None and self.after is None:
            return log.page_before(self.before)
        return log.page_after(self.after or 0)


def _number(request: HttpRequest, name: str) -> int | None:
    """A sequence number of the address; None when it says none that can be."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def context_of(request: HttpRequest, session: Session, using: str) -> dict[str, Any]:
    """What the template needs, as far as the user may see it."""
    context: dict[str, Any] = {
        "session": session,
        "sums": sums_of([session], using)[session.pk],
        "children": _children(session, using),
        "most_listed": MOST_LISTED,
    }
    if access.may(request, "view_event", record=session):
        context |= conversation(request, session, using, Place.of(request))
        context["waterfall"] = _waterfall(request, session, context, using)
        context |= _links(request, session, context)
    if access.may(request, "view_artifact", record=session):
        context["artifacts"] = _artifacts(session, using)
        context["may_download"] = access.may_see_content(request, session)
    return context


def conversation(
    request: HttpRequest, session: Session, using: str, place: Place
) -> dict[str, Any]:
    """One page of the log, for the template of entries."""
    log = EventLog(session.pk, using, access.may_see_content(request, session))
    page = place.page(log)
    return {
        "page": page,
        "entries": read_entries(log, page.events),
        "with_content": log.with_content,
        "with_raw": log.with_content,
    }


def _children(session: Session, using: str) -> list[Session]:
    rows = Session.objects.using(using).filter(parent_session_id=session.pk)
    rows = rows.only("id", "agent_id", "status", "deleted_at").order_by("id")
    return list(rows[: MOST_LISTED + 1])


def _artifacts(session: Session, using: str) -> list[Artifact]:
    rows = Artifact.objects.using(using).filter(session_id=session.pk, deleted_at=None)
    return list(rows.defer("metadata").order_by("created_at", "id")[: MOST_LISTED + 1])


def _waterfall(request: HttpRequest, session: Session, context: dict[str, Any], using: str) -> Any:
    events = context["page"].events
    ids = {event.run_id for event in events} - {None}
    runs: list[Run] = []
    if ids and access.may(request, "view_run", record=session):
        rows = Run.objects.using(using).filter(pk__in=ids)
        runs = list(rows.only("id", "status", "started_at", "ended_at"))
    return waterfall(events, context["entries"], runs)


def _links(request: HttpRequest, session: Session, context: dict[str, Any]) -> dict[str, Any]:
    """The addresses around the page; `news` while new events are to be expected there."""
    page: EventPage = context["page"]
    numbers = [event.number for event in page.events]
    latest = context["sums"].events
    first, last = min(numbers, default=1), max(numbers, default=latest)
    has_later = page.has_later and last < latest
    links: dict[str, Any] = {
        "earlier": _at(before=first) if page.has_earlier and first > 1 else "",
        "later": _at(after=last) if has_later else "",
        "first": _at(after=0),
        "latest": _at(before=latest + 1),
        "last_number": _seen_to(context["entries"], latest),
        "poll": POLL,
    }
    if not session_has_ended(session) and not has_later:
        links["news"] = address(request, "session_news", session.pk)
    return links


def session_has_ended(session: Session) -> bool:
    return session.status in Session.TERMINAL_STATUSES or session.deleted_at is not None


def _seen_to(entries: list[Entry], otherwise: int) -> int:
    """The number behind which news begin.

    A text that is still streamed comes once more, with what was added; one that is as long as a
    page does not.
    """
    if not entries:
        return otherwise
    last = entries[-1]
    if last.kind == "stream" and last.parts < PAGE:
        return last.event.number - 1
    return max(entry.last_number for entry in entries)


def news(request: HttpRequest, session: Session, using: str) -> dict[str, Any]:
    """What came after `?after=`, in entries that stand for those of the same number on the page."""
    place = Place.of(request)
    shown = conversation(request, session, using, place)
    entries: list[Entry] = shown["entries"]
    last = _seen_to(entries, place.after or 0)
    for entry in entries:
        entry.begin_with_call()
    return {
        "html": render_to_string("asm_store/entries.html", shown, request),
        "last": last,
        "has_more": shown["page"].has_later,
        "has_ended": session_has_ended(session),
    }


def _at(**place: int) -> str:
    return f"?{urlencode(place)}"
