"""What actions do to the sessions that were chosen, one by one, and what is told of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext, ngettext

from ..backends import transactions
from ..exceptions import SessionNotFound, StoreError
from ..formats import export_sessions
from ..handler import default_store
from ..maintenance import RetentionPolicy
from ..maintenance.removing import remove_session
from ..models import Session
from . import history
from .places import database
from .serving import streamed

logger = logging.getLogger("asm_store")

# A request is no place for more.
SECONDS = 20
MOST_TOLD = 3
FILES = {
    "jsonl": ("sessions.jsonl", "application/x-ndjson"),
    "atif": ("sessions.atif.jsonl", "application/x-ndjson"),
    "html": ("sessions.html", "text/html; charset=utf-8"),
}

Answer = HttpResponseBase | None
Step = Callable[[str], object]
Done = Callable[[int], str]


@dataclass(slots=True)
class Outcome:
    """How it went: a step may have failed for one session and not for the others."""

    done: int = 0
    unfinished: int = 0
    failed: list[str] = field(default_factory=list)
    not_begun: int = 0

    def tell(self, request: HttpRequest, said: Done) -> None:
        if self.done or not (self.failed or self.not_begun):
            messages.success(request, said(self.done) % {"count": self.done})
        if self.unfinished:
            text = gettext("Of %(count)d of them the next maintenance removes the rest.")
            messages.warning(request, text % {"count": self.unfinished})
        if self.failed:
            count = len(self.failed)
            text = ngettext(
                "%(count)d session failed: %(errors)s",
                "%(count)d sessions failed: %(errors)s",
                count,
            )
            errors = " ".join(self.failed[:MOST_TOLD])
            messages.error(request, text % {"count": count, "errors": errors})
        if self.not_begun:
            text = gettext("The time was up before %(count)d of the sessions: choose them again.")
            messages.warning(request, text % {"count": self.not_begun})


def each(
    step: Step, said: Done, log: str = "", flag: int = CHANGE
) -> Callable[[HttpRequest, list[Session]], None]:
    """Do `step` to every session that is still there; `log` stays in the admin's history."""

    def work(request: HttpRequest, sessions: list[Session]) -> None:
        outcome = Outcome()
        until = time.monotonic() + SECONDS
        for position, session in enumerate(sessions):
            if time.monotonic() >= until:
                outcome.not_begun = len(sessions) - position
                break
            _do(step, request, session, outcome, log, flag)
        outcome.tell(request, said)

    return work


def _do(
    step: Step, request: HttpRequest, session: Session, outcome: Outcome, log: str, flag: int
) -> None:
    try:
        if not log:
            with _apart():
                step(session.pk)
        else:
            with history.recorded(request, session, log, flag), _apart():
                outcome.unfinished += step(session.pk) is False
    except SessionNotFound:
        return
    except StoreError as error:
        logger.exception("An action of the admin failed for the session %r.", session.pk)
        outcome.failed.append(f"{session.pk}: {error}")
        return
    outcome.done += 1


@contextmanager
def _apart() -> Iterator[None]:
    """What fails within a transaction of the request is taken back to here."""
    using = database()
    if not transactions.is_joined(using):
        yield
        return
    with transaction.atomic(using):
        yield


def of_store(method: str) -> Step:
    """A method of the default store, which is asked for each time: it may be another by then."""

    def call(session_id: str) -> object:
        return getattr(default_store, method)(session_id)

    return call


def hard_delete(session_id: str) -> bool:
    """Whether all of it is gone; `SessionNotFound` when it was before."""
    is_all = remove_session(session_id, using=database(), max_seconds=SECONDS)
    if is_all is None:
        raise SessionNotFound(f"session {session_id} is not stored.")
    return is_all


def pinning_tags() -> tuple[str, ...]:
    """The tags that retention leaves alone."""
    return RetentionPolicy.from_settings().exempt_tags


def pin(session_id: str) -> None:
    default_store.update_session(session_id, add_tags=pinning_tags()[:1])


def unpin(session_id: str) -> None:
    default_store.update_session(session_id, remove_tags=pinning_tags())


def export(format: str) -> Callable[[HttpRequest, list[Session]], Answer]:
    """Send the sessions in this format, while they are read."""

    def work(request: HttpRequest, sessions: list[Session]) -> Answer:
        ids = [session.pk for session in sessions]
        try:
            pieces: Any = export_sessions(ids, using=database(), format=format)
        except StoreError as error:
            messages.error(request, str(error))
            return None
        history.record(request, sessions, f"Exported as {format}.")
        return streamed(request, pieces, *FILES[format])

    return work
