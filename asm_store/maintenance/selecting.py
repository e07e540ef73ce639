"""Which sessions are due, as conditions of the database."""

from __future__ import annotations

from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan

from ..models import Session, SessionSequence
from ..querysets import SessionQuerySet
from .work import Work

DELETED = F("deleted_at")
# The same for those whose ids are known: no database looks for it in an index. With old statistics
# PostgreSQL takes the deleted sessions for one, and would compare each of them with all ids.
LOOKED = Coalesce(DELETED, DELETED)


def unprotected(work: Work) -> SessionQuerySet:
    """Sessions with no tag that protects them."""
    return Session.objects.using(work.using).tagged_with_none(work.policy.exempt_tags)


def expired(work: Work) -> SessionQuerySet:
    """Those to soft-delete."""
    policy, ages = work.policy, []
    if (days := policy.max_completed_session_age_days) is not None:
        is_over = ~Q(status__in=policy.exempt_statuses)
        ages.append((work.days_ago(days), is_over))
    if (days := policy.max_session_age_days) is not None:
        ages.append((work.days_ago(days), Q()))
    alive = unprotected(work).alive()
    if not ages:
        return alive.none()
    # The one bound for both lets an index serve it.
    alive = alive.filter(updated_at__lt=max(moment for moment, _ in ages))
    return alive.filter(reduce(or_, (_unused_since(moment) & also for moment, also in ages)))


def _unused_since(moment: datetime) -> Q:
    """Neither changed nor appended to since then."""
    counters = SessionSequence.objects.filter(session_id=OuterRef("pk"))
    return Q(updated_at__lt=moment) & ~Q(Exists(counters.filter(updated_at__gte=moment)))


def disposable(work: Work, deleted_at: Any = DELETED) -> SessionQuerySet:
    """Those to remove for good."""
    if work.policy.hard_delete_after_days is None:
        return unprotected(work).none()
    bound = work.days_ago(work.policy.hard_delete_after_days)
    return unprotected(work).filter(LessThan(deleted_at, bound))
