"""What can be done to chosen sessions: each action with a permission and a page that asks first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..models import Artifact, Run, Session, SessionSequence
from . import access, steps
from .places import address, database
from .steps import Answer, each, of_store

if TYPE_CHECKING:
    from .sessions import SessionAdmin

# A form has up to 1,000 fields by Django's own limit.
MOST_CHOSEN = 900


@dataclass(frozen=True, slots=True)
class SessionAction:
    """One action: `work` does it, and answers with None or with what the browser is to get."""

    name: str
    label: str | Promise
    permissions: tuple[str, ...]
    warning: str | Promise
    work: Callable[[HttpRequest, list[Session]], Answer]
    # Does it make sense for this session?
    fits: Callable[[Session], bool] = field(default=lambda session: True)
    # Does it make sense in this project?
    is_offered: Callable[[], bool] = field(default=lambda: True)

    def is_permitted(self, request: HttpRequest, session: Session | None = None) -> bool:
        """For all sessions, or for this one."""
        needed = ("view_session", *self.permissions)
        return access.may(request, *needed, record=session) and self.is_offered()

    # Not `__call__`: templates would call it.
    def answer(
        self,
        model_admin: SessionAdmin,
        request: HttpRequest,
        sessions: list[Session],
        target: str,
        back: str,
    ) -> Answer:
        """Ask first, by a form for the address `target`; do it when that is what was posted."""
        if len(sessions) > MOST_CHOSEN:
            text = gettext("Choose at most %(number)d sessions at once.")
            messages.error(request, text % {"number": MOST_CHOSEN})
            return None
        if request.POST.get("confirmed") == "yes":
            return self.work(request, sessions)
        context = {
            **model_admin.admin_site.each_context(request),
            "title": self.label,
            "opts": Session._meta,
            "action": self,
            "sessions": sessions,
            "counts": counts_of([session.pk for session in sessions]),
            "media": model_admin.media,
            "target": target,
            "back": back,
        }
        return TemplateResponse(request, "admin/asm_store/session/confirm.html", context)


def counts_of(ids: list[str]) -> list[tuple[str, int]]:
    """How many records are meant; of events their numbers, which pruned ones had too."""
    using = database()
    counters = SessionSequence.objects.using(using).filter(session_id__in=ids)
    artifacts = Artifact.objects.using(using).filter(session_id__in=ids, deleted_at=None)
    return [
        (gettext("sessions"), len(ids)),
        (gettext("runs"), Run.objects.using(using).filter(session_id__in=ids).count()),
        (gettext("events"), counters.aggregate(sum=Sum("last_sequence"))["sum"] or 0),
        (gettext("artifacts"), artifacts.count()),
    ]


def _is_deleted(session: Session) -> bool:
    return session.deleted_at is not None


def _is_kept(session: Session) -> bool:
    return session.deleted_at is None


def _is_pinned(session: Session) -> bool:
    return not set(steps.pinning_tags()).isdisjoint(session.tags)


def _is_loose(session: Session) -> bool:
    return not _is_pinned(session)


def _can_pin() -> bool:
    return bool(steps.pinning_tags())


ACTIONS = (
    SessionAction(
        "soft_delete",
        _("Soft-delete"),
        ("soft_delete_session",),
        _("They take no more events, and can be restored until retention deletes them for good."),
        each(
            of_store("soft_delete_session"),
            lambda n: ngettext(
                "%(count)d session was soft-deleted.", "%(count)d sessions were soft-deleted.", n
            ),
        ),
        _is_kept,
    ),
    SessionAction(
        "restore",
        _("Restore"),
        ("restore_session",),
        _("They are no longer soft-deleted, and take events again."),
        each(
            of_store("restore_session"),
            lambda n: ngettext(
                "%(count)d session was restored.", "%(count)d sessions were restored.", n
            ),
            log="Restored.",
        ),
        _is_deleted,
    ),
    SessionAction(
        "pin",
        _("Pin"),
        ("pin_session",),
        _("Retention leaves them alone from now on."),
        each(
            steps.pin,
            lambda n: ngettext(
                "%(count)d session was pinned.", "%(count)d sessions were pinned.", n
            ),
        ),
        _is_loose,
        _can_pin,
    ),
    SessionAction(
        "unpin",
        _("Unpin"),
        ("pin_session",),
        _("Retention treats them as all others from now on."),
        each(
            steps.unpin,
            lambda n: ngettext(
                "%(count)d session was unpinned.", "%(count)d sessions were unpinned.", n
            ),
        ),
        _is_pinned,
        _can_pin,
    ),
    *(
        SessionAction(
            f"export_{format}",
            label,
            ("export_session", "view_event_payload", "view_run", "view_event"),
            _("The file holds all that was said in them."),
            steps.export(format),
        )
        for format, label in (
            ("jsonl", _("Export as JSON lines")),
            ("atif", _("Export as ATIF trajectories")),
            ("html", _("Export as an HTML file")),
        )
    ),
    SessionAction(
        "hard_delete",
        _("Delete for good"),
        ("hard_delete_session",),
        _("Sessions, runs, events and artifacts are gone then. This cannot be undone."),
        each(
            steps.hard_delete,
            lambda n: ngettext(
                "%(count)d session was deleted for good.",
                "%(count)d sessions were deleted for good.",
                n,
            ),
            "Deleted for good.",
            DELETION,
        ),
    ),
)


def as_admin_action(action: SessionAction) -> Any:
    """The same as Django wants it: a function with a name, a description and a permission."""

    def run(model_admin: SessionAdmin, request: HttpRequest, chosen: QuerySet[Any]) -> Answer:
        back = address(model_admin.admin_site.name, "session_changelist")
        sessions = list(chosen.order_by("pk")[: MOST_CHOSEN + 1])
        return action.answer(model_admin, request, sessions, f"{back}?deleted=with", back)

    run.__name__ = action.name
    label: Any = action.label
    return admin.action(run, permissions=[action.name], description=label)
