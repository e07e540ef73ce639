"""Maintenance by the settings' policy: tried, or done for a while, when somebody asks for it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django.contrib import messages
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import StoreError
from ..maintenance import MaintenanceReport, RetentionPolicy, execute
from . import history
from .places import database

# A request is no place for more: what is left is for the next time, or for the command.
SECONDS = 20
# So long after it was tried it may be run without being tried again.
TRIAL_SECONDS = 15 * 60
SALT = "asm_store.admin.upkeep"
COUNTS = (
    ("sessions_soft_deleted", _("sessions soft-deleted")),
    ("sessions_hard_deleted", _("sessions deleted for good")),
    ("events_pruned", _("events pruned")),
    ("runs_timed_out", _("runs timed out")),
    ("artifacts_cleaned", _("artifacts cleaned")),
    ("orphaned_sequences_cleaned", _("orphaned counters cleaned")),
)
POLICY = {
    "max_session_age_days": _("soft-delete sessions that were not used for so many days"),
    "max_completed_session_age_days": _("the same, of those that have ended"),
    "max_events_per_session": _("events of a session, at most"),
    "max_total_events": _("events in all, at most"),
    "hard_delete_after_days": _("days until a soft-deleted session is deleted for good"),
    "archive_before_prune": _("archive what is deleted"),
    "archive_storage": _("storage of the archive"),
    "exempt_statuses": _("statuses that count as not ended"),
    "exempt_tags": _("tags of sessions that are left alone"),
    "prune_event_types_first": _("types of events that are pruned first"),
    "batch_size": _("rows that one transaction changes, about"),
    "max_run_age_hours": _("hours after which a run is timed out"),
}


def context_of(request: HttpRequest) -> dict[str, Any]:
    """The policy, and on a POST what was done by it, or would be."""
    policy = RetentionPolicy.from_settings()
    values = [(field.name, getattr(policy, field.name)) for field in fields(policy)]
    context: dict[str, Any] = {
        "policy": [(POLICY[name], name, _said(value)) for name, value in values],
        "seconds": SECONDS,
    }
    if request.method == "POST":
        context |= _done(request, policy)
    return context


def _said(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _done(request: HttpRequest, policy: RetentionPolicy) -> dict[str, Any]:
    is_trial = "run" not in request.POST
    if not is_trial and not _was_tried(request, policy):
        messages.error(request, gettext("Try it first: what it would do may be another by now."))
        is_trial = True
    try:
        report = execute(policy, using=database(), dry_run=is_trial, max_seconds=SECONDS)
    except (StoreError, ImproperlyConfigured) as error:
        messages.error(request, str(error))
        return {}
    if not is_trial and not report.skipped:
        history.record_of_all(request, "Maintenance", _told(report))
    return {
        "report": report,
        "counts": [(label, getattr(report, name)) for name, label in COUNTS],
        "trial": signing.dumps(_trial(request, policy), salt=SALT) if is_trial else "",
    }


def _was_tried(request: HttpRequest, policy: RetentionPolicy) -> bool:
    """Whether this user has seen a moment ago what this policy would do."""
    try:
        said = signing.loads(request.POST.get("trial", ""), salt=SALT, max_age=TRIAL_SECONDS)
    except signing.BadSignature:
        return False
    return bool(said == _trial(request, policy))


def _trial(request: HttpRequest, policy: RetentionPolicy) -> list[str]:
    user: Any = request.user
    return [str(user.pk), repr(policy)]


def _told(report: MaintenanceReport) -> str:
    return ", ".join(f"{name}: {getattr(report, name)}" for name, _label in COUNTS)
