"""The predicates and orders of the tables, named once."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db import models

from .expressions import HasTags

if TYPE_CHECKING:
    from .models import Event, Run, Session, SessionSequence  # noqa: F401  (the strings below)


class SessionQuerySet(models.QuerySet["Session"]):
    def alive(self) -> Self:
        """Sessions that are not soft-deleted."""
        return self.filter(deleted_at__isnull=True)

    def tagged(self, *tags: str) -> Self:
        """Sessions that have all of these tags, at least one."""
        return self.filter(HasTags(models.F("tags"), tags))

    def tagged_with_none(self, tags: Collection[str]) -> Self:
        """Sessions that have none of these tags."""
        rows = self
        for tag in tags:
            rows = rows.exclude(HasTags(models.F("tags"), [tag]))
        return rows

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-id")


class RunQuerySet(models.QuerySet["Run"]):
    def of_session(self, session_id: str) -> Self:
        return self.filter(session_id=session_id)

    def running(self) -> Self:
        return self.filter(status="running")

    def oldest_first(self) -> Self:
        return self.order_by("started_at", "id")

    def latest_first(self) -> Self:
        return self.order_by("-started_at", "-id")


class EventQuerySet(models.QuerySet["Event"]):
    def of_session(self, session_id: str) -> Self:
        """The session's events in the order that the store gave them."""
        return self.filter(session_id=session_id).order_by("sequence_number")

    def of_types(self, types: Collection[str]) -> Self:
        return self.filter(type__in=types)

    def later_than(self, moment: datetime) -> Self:
        return self.filter(timestamp__gt=moment)


class SessionSequenceQuerySet(models.QuerySet["SessionSequence"]):
    def locked(self, session_ids: Collection[str]) -> Self:
        """The sessions' counters, locked in the one order that every write locks them in."""
        return self.filter(session_id__in=session_ids).order_by("session_id").select_for_update()
