"""What the admin's own history keeps of actions: in English, whatever the user's language is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

from ..models import Session


def record(
    request: HttpRequest, sessions: Iterable[Session], message: str, flag: int = CHANGE
) -> None:
    """Leave an entry for each session."""
    _create(request, [(session.pk, str(session)) for session in sessions], message, flag)


def record_of_all(request: HttpRequest, title: str, message: str) -> None:
    """Leave an entry that belongs to no single session."""
    _create(request, [(None, title)], message, CHANGE)


@contextmanager
def recorded(
    request: HttpRequest, session: Session, message: str, flag: int = CHANGE
) -> Iterator[None]:
    """Leave an entry before the block does what it says, so that nothing is done without one.

    A block that fails has done nothing, and takes it back.
    """
    [entry] = _create(request, [(session.pk, str(session))], message, flag)
    try:
        yield
    except Exception:
        entry.delete()
        raise


def _create(
    request: HttpRequest, objects: Iterable[tuple[str | None, str]], message: str, flag: int
) -> list[LogEntry]:
    user: Any = request.user
    kind = ContentType.objects.get_for_model(Session)
    entries = [
        LogEntry(
            user_id=user.pk,
            content_type=kind,
            object_id=pk,
            object_repr=title[:200],
            action_flag=flag,
            change_message=message,
        )
        for pk, title in objects
    ]
    for entry in entries[:1]:
        entry.save()  # for its key, which not every database gives back of many
    LogEntry.objects.bulk_create(entries[1:])
    return entries
