"""What can be done to chosen sessions: each action with a permission and a page that asks first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import SessionNotFound
from ..formats import export_sessions
from ..handler import default_store
from ..maintenance import RetentionPolicy
from ..models import Artifact, Run, Session, SessionSequence
from . import access
from .places import database
from .serving import streamed

if TYPE_CHECKING:
    from .sessions import SessionAdmin

# A form has up to 1,000 fields by Django's own limit.
MOST_CHOSEN = 900
PINNED = "pinned"
EXPORTS = {
    "jsonl": (_("JSON lines"), "sessions.jsonl", "application/x-ndjson"),
    "atif": (_("ATIF trajectories"), "sessions.atif.jsonl", "application/x-ndjson"),
    "html": (_("HTML"), "sessions.html", "text/html; charset=utf-8"),
}

Answer = HttpResponseBase | None


@dataclass(frozen=True, slots=True)
class SessionAction:
    """One action: `work` does it, and answers with None or with what the browser is to get."""

    name: str
    label: str | Promise
    permissions: tuple[str, ...]
    warning: str | Promise
    work: Callable[[HttpRequest, list[Session]], Answer]
    # Is it offered on the page of this session?
    fits: Callable[[Session], bool] = field(default=lambda session: True)

    def is_permitted(self, request: HttpRequest) -> bool:
        return access.may(request, "view_session", *self.permissions)

    # Not `__call__`: templates would call it.
    def answer(
        self, model_admin: SessionAdmin, request: HttpRequest, chosen: QuerySet[Any]
    ) -> Answer:
        sessions = list(chosen.order_by("pk")[: MOST_CHOSEN + 1])
        if len(sessions) > MOST_CHOSEN:
            text = gettext("Choose at most %(number)d sessions at once.")
            messages.error(request, text % {"number": MOST_CHOSEN})
            return None
        if request.POST.get("confirmed") != "yes":
            return self._asked(model_admin, request, sessions)
        return self.work(request, sessions)

    def _asked(
        self, model_admin: SessionAdmin, request: HttpRequest, sessions: list[Session]
    ) -> Answer:
        context = {
            **model_admin.admin_site.each_context(request),
            "title": self.label,
            "opts": Session._meta,
            "action": self,
            "sessions": sessions,
            "counts": counts_of([session.pk for session in sessions]),
            "media": model_admin.media,
            "back": reverse("admin:asm_store_session_changelist"),
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


def each(
    step: Callable[[str], object], done: Callable[[int], str], log: str | None = None
) -> Callable[[HttpRequest, list[Session]], None]:
    """Do `step` to every session that is still there; `log` is said in the admin's history."""

    def work(request: HttpRequest, sessions: list[Session]) -> None:
        count = 0
        for session in sessions:
            try:
                step(session.pk)
            except SessionNotFound:
                continue
            count += 1
            if log is not None:
                record(request, [session], DELETION if log == "" else CHANGE, log)
        messages.success(request, done(count) % {"count": count})

    return work


def record(request: HttpRequest, sessions: Iterable[Session], flag: int, message: str) -> None:
    """Leave entries in the admin's history."""
    user: Any = request.user
    rows: Any = list(sessions)
    LogEntry.objects.log_actions(user.pk, rows, flag, change_message=message)


def of_store(method: str) -> Callable[[str], object]:
    """A method of the default store, which is asked for each time: it may be another by then."""

    def call(session_id: str) -> object:
        return getattr(default_store, method)(session_id)

    return call


def export(format: str) -> Callable[[HttpRequest, list[Session]], Answer]:
    """Send the sessions in this format, while they are read."""

    def work(request: HttpRequest, sessions: list[Session]) -> Answer:
        label, filename, content_type = EXPORTS[format]
        pieces = export_sessions(
            [session.pk for session in sessions], using=database(), format=format
        )
        record(request, sessions, CHANGE, gettext("Exported as %(format)s.") % {"format": label})
        return streamed(request, pieces, filename, content_type)

    return work


def _pin(session_id: str) -> None:
    default_store.update_session(session_id, add_tags=[_pinning_tag()])


def _unpin(session_id: str) -> None:
    default_store.update_session(session_id, remove_tags=[_pinning_tag()])


def _pinning_tag() -> str:
    """The first tag that retention leaves alone."""
    return next(iter(RetentionPolicy.from_settings().exempt_tags), PINNED)


def _is_deleted(session: Session) -> bool:
    return session.deleted_at is not None


def _is_kept(session: Session) -> bool:
    return session.deleted_at is None


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
            "Restored.",
        ),
        _is_deleted,
    ),
    SessionAction(
        "pin",
        _("Pin"),
        ("pin_session",),
        _("Retention leaves them alone from now on."),
        each(
            _pin,
            lambda n: ngettext(
                "%(count)d session was pinned.", "%(count)d sessions were pinned.", n
            ),
        ),
    ),
    SessionAction(
        "unpin",
        _("Unpin"),
        ("pin_session",),
        _("Retention treats them as all others from now on."),
        each(
            _unpin,
            lambda n: ngettext(
                "%(count)d session was unpinned.", "%(count)d sessions were unpinned.", n
            ),
        ),
    ),
    *(
        SessionAction(
            f"export_{format}",
            label,
            ("export_session", "view_event_payload"),
            _("The file holds all that was said in them."),
            export(format),
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
            of_store("delete_session"),
            lambda n: ngettext(
                "%(count)d session was deleted for good.",
                "%(count)d sessions were deleted for good.",
                n,
            ),
            "",
        ),
    ),
)


def as_admin_action(action: SessionAction) -> Any:
    """The same as Django wants it: a function with a name, a description and a permission."""

    def run(model_admin: SessionAdmin, request: HttpRequest, chosen: QuerySet[Any]) -> Answer:
        return action.answer(model_admin, request, chosen)

    run.__name__ = action.name
    label: Any = action.label
    return admin.action(run, permissions=[action.name], description=label)
