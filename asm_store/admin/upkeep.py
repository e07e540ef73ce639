"""Maintenance by the settings' policy: tried, or done for a while, when somebody asks for it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import StoreError
from ..maintenance import MaintenanceReport, RetentionPolicy, execute
from ..models import Session
from .places import database

# A request is no place for more: what is left is for the next time, or for the command.
SECONDS = 20
COUNTS = (
    ("sessions_soft_deleted", _("sessions soft-deleted")),
    ("sessions_hard_deleted", _("sessions deleted for good")),
    ("events_pruned", _("events pruned")),
    ("runs_timed_out", _("runs timed out")),
    ("artifacts_cleaned", _("artifacts cleaned")),
    ("orphaned_sequences_cleaned", _("orphaned counters cleaned")),
)


def context_of(request: HttpRequest) -> dict[str, Any]:
    """The policy, and on a POST what was done by it, or would be."""
    policy = RetentionPolicy.from_settings()
    context: dict[str, Any] = {
        "policy": [(field.name, _said(getattr(policy, field.name))) for field in fields(policy)],
        "seconds": SECONDS,
    }
    if request.method == "POST":
        context |= _done(request, policy)
    return context


def _said(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _done(request: HttpRequest, policy: RetentionPolicy) -> dict[str, Any]:
    is_trial = "run" not in request.POST
    try:
        report = execute(policy, using=database(), dry_run=is_trial, max_seconds=SECONDS)
    except (StoreError, ImproperlyConfigured) as error:
        messages.error(request, str(error))
        return {}
    if not is_trial:
        _record(request, report)
    return {
        "report": report,
        "counts": [(label, getattr(report, name)) for name, label in COUNTS],
    }


def _record(request: HttpRequest, report: MaintenanceReport) -> None:
    """In the admin's history, with what was done: it belongs to no single session."""
    user: Any = request.user
    done = ", ".join(f"{name}: {getattr(report, name)}" for name, _label in COUNTS)
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(Session),
        object_repr=gettext("Maintenance"),
        action_flag=CHANGE,
        change_message=done,
    )
