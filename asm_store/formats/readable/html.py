"""Sessions as one HTML file that needs nothing else, and lets nothing run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from django.template import Context, Engine, TemplateDoesNotExist
from django.template.loader import render_to_string

from ...backends import transactions
from ...exceptions import SessionNotFound
from ...models import Session
from ...queries.summaries import get_session_stats
from ..requests import ExportRequest
from .entries import read_entries
from .loading import EventLog, SeenEvent

PACKAGE = Path(__file__).resolve().parents[2]
STATIC = PACKAGE / "static" / "asm_store"
STYLES = ("export.css", "admin.css")


def write_html(request: ExportRequest) -> Iterator[bytes]:
    """The file in pieces; memory holds one page of one session's events, of which one is long.

    A session that is gone by its turn is left out; one that is deleted during it is
    `SessionNotFound`.
    """
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    yield _rendered("head", style=style, digest=digest)
    for position, session_id in enumerate(request.session_ids):
        rows = Session.objects.using(request.using).filter(pk=session_id)
        session = transactions.read(request.using, rows.first)
        if session is None:
            continue
        yield from _session(request, session, f"s{position}-")
        request.counts["sessions"] += 1
    yield _rendered("foot")


def _session(request: ExportRequest, session: Session, prefix: str) -> Iterator[bytes]:
    stats = get_session_stats(session.pk, using=request.using)
    request.counts["runs"] += stats.run_count
    yield _rendered("session", session=session, stats=stats)
    log = EventLog(session.pk, request.using)
    number = 0
    while (page := log.page_after(number)).events:
        events = [log.whole(event) for event in _portion(page.events)]
        request.counts["events"] += len(events)
        number = events[-1].number
        entries = read_entries(log, events)
        yield _rendered("entries", entries=entries, with_content=True, prefix=prefix)
    # A session is deleted as a whole: what was read is whole while it is there.
    stored = Session.objects.using(request.using).filter(pk=session.pk)
    if not transactions.read(request.using, stored.exists):
        raise SessionNotFound(f"session {session.pk} was deleted while it was read.")
    yield b"</main>"


def _portion(events: list[SeenEvent]) -> list[SeenEvent]:
    """The first of them, until one is long."""
    long = (number for number, event in enumerate(events, 1) if event.is_too_long)
    return events[: next(long, None)]


@cache
def _style() -> str:
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)


def _rendered(name: str, **context: Any) -> bytes:
    folder = "asm_store" if name == "entries" else "asm_store/export"
    path = f"{folder}/{name}.html"
    try:
        return render_to_string(path, context).encode()
    except TemplateDoesNotExist:  # the project has no templates, or of another kind
        return _own_engine().get_template(path).render(Context(context)).encode()


@cache
def _own_engine() -> Engine:
    libraries = {
        "asm_store": "asm_store.templatetags.asm_store",
        "i18n": "django.templatetags.i18n",
    }
    return Engine([str(PACKAGE / "templates")], libraries=libraries)
