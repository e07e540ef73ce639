"""The list of sessions, and the page of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from ..filters import SessionFilterSet
from ..models import Artifact, Event, Run, Session
from ..templatetags.asm_store import grouped, took, usd, words
from . import access, dashboard, session_page, upkeep
from .actions import ACTIONS, as_admin_action
from .columns import STATUS, column, columns, moment, pretty_json, stacked, status_badge
from .filtering import Choice, choice, period, typed
from .places import address, database
from .read_only import ReadOnlyAdmin
from .records import OF_SESSION
from .serving import fragment
from .sums import SessionSums, sums_of

OF_PARENT = "parent_session__id__exact"
# The models of a session that a list names.
MOST_SOURCES = 2


class DeletedChoice(Choice):
    """Soft-deleted sessions too, or alone."""

    names = ("deleted",)
    title = _("deleted")
    usual = _("Without soft-deleted ones")
    options = (("with", _("With soft-deleted ones")), ("only", _("Only soft-deleted ones")))

    def given(self) -> dict[str, list[str]]:
        known = [value for value, _label in self.options]
        said = self.used_parameters.get("deleted", [])
        return {"include_deleted": ["true" if value in known else value for value in said]}

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        is_only = self.used_parameters.get("deleted") == ["only"]
        return queryset.filter(deleted_at__isnull=False) if is_only else None


class Permitting:
    """Answers Django's question for each action, `has_NAME_permission(request)`."""

    def __getattr__(self, name: str) -> Any:
        for action in ACTIONS:
            if name == f"has_{action.name}_permission":
                return action.is_permitted
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class SessionAdmin(Permitting, ReadOnlyAdmin):
    change_form_template = "admin/asm_store/session/change_form.html"
    list_display = (
        column("id"),
        "state",
        "agent",
        "started",
        "runs",
        "events",
        "tokens",
        "cost",
    )
    filter_set = SessionFilterSet
    lookups = frozenset({OF_PARENT})
    list_filter = (
        choice("status", _("status"), Session.Status.choices),
        DeletedChoice,
        typed("agent_id", _("agent")),
        typed("provider", _("provider")),
        typed("tags", _("tag")),
        period("created_after", "created_before"),
    )
    actions = tuple(map(as_admin_action, ACTIONS))
    ordering = ("-created_at", "-id")
    defer_in_list = ("metadata", "context")
    shown = (
        *columns("id", "agent_id"),
        STATUS,
        "parent",
        "shown_tags",
        *columns("created_at", "updated_at", "deleted_at"),
        "all_runs",
        "all_events",
        "all_artifacts",
        "all_children",
    )
    content = (pretty_json("context"), pretty_json("metadata"))

    def get_ordering(self, request: HttpRequest) -> Any:
        """Children by id, since their index has them so."""
        return ("-id",) if OF_PARENT in request.GET else super().get_ordering(request)

    def get_urls(self) -> list[Any]:
        news = self.admin_site.admin_view(self.news_view)
        shown = self.admin_site.admin_view(self.dashboard_view)
        act = self.admin_site.admin_view(require_POST(self.act_view))
        kept = self.admin_site.admin_view(self.maintenance_view)
        own = [
            path("dashboard/", shown, name="asm_store_dashboard"),
            path("maintenance/", kept, name="asm_store_maintenance"),
            path("<path:object_id>/news/", news, name="asm_store_session_news"),
            path("<path:object_id>/act/", act, name="asm_store_session_act"),
        ]
        return own + super().get_urls()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        session = kwargs.get("obj")
        if isinstance(session, Session):
            context |= session_page.context_of(request, session, database())
            context["status"] = status_badge(session)
            context["asm_actions"] = [
                (action.name, action.label)
                for action in ACTIONS
                if action.fits(session) and action.is_permitted(request, session)
            ]
        return super().render_change_form(request, context, *args, **kwargs)

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """What agents did in a period, for those who may see sessions and runs."""
        if not access.may(request, "view_session", "view_run"):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": _("Dashboard"),
            **dashboard.context_of(request),
        }
        return TemplateResponse(request, "admin/asm_store/dashboard.html", context)

    def maintenance_view(self, request: HttpRequest) -> HttpResponse:
        """What retention would do, and it done."""
        if not access.may(request, "run_maintenance"):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": _("Maintenance"),
            **upkeep.context_of(request),
        }
        return TemplateResponse(request, "admin/asm_store/maintenance.html", context)

    def news_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What came after a number, as the page shows it, and whether more is to be expected."""
        session = self.permitted_object(request, object_id, "view_event")
        said = session_page.news(request, session, database())
        return fragment(**said, status=status_badge(session))

    def act_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """One of the actions, for this session alone: it is enough to have its permissions here."""
        session = self.permitted_object(request, object_id)
        named = (action for action in ACTIONS if action.name == request.POST.get("action"))
        action = next(named, None)
        if action is None or not action.is_permitted(request, session):
            raise PermissionDenied
        site = self.admin_site.name
        back = address(site, "session_change", session.pk)
        answer = action.answer(self, request, [session], request.path, back)
        if answer is None and self.get_object(request, session.pk) is None:
            back = address(site, "session_changelist")
        return answer or HttpResponseRedirect(back)

    def complete_page(self, rows: Sequence[Any]) -> None:
        sums = sums_of(rows, database())
        for session in rows:
            session.sums = sums[session.pk]

    @admin.display(description=_("status, tags"))
    def state(self, session: Session) -> SafeString:
        return stacked(status_badge(session), words(session.tags))

    @admin.display(description=_("agent, models"))
    def agent(self, session: Any) -> SafeString:
        sources = session.sums.sources
        more = len(sources[MOST_SOURCES:])
        rest = gettext("and %(number)s more") % {"number": grouped(more)} if more else ""
        return stacked(session.agent_id, words(sources[:MOST_SOURCES]), rest)

    @admin.display(description=_("started, duration"))
    def started(self, session: Any) -> SafeString:
        day, time = _minute(session.created_at).split()
        shown = format_html('<span class="asm-one">{}</span> {}', day, time)
        lasted = format_html('<span class="asm-one">{}</span>', took(session.sums.duration))
        return stacked(shown, lasted)

    @admin.display(description=_("runs, errors"))
    def runs(self, session: Any) -> SafeString:
        """With too many to be added up now, the time of which all these figures are."""
        sums: SessionSums = session.sums
        errors = _failed(sums.errors) if sums.errors else ""
        as_of = "" if sums.as_of is None else _as_of(sums.as_of)
        return stacked(grouped(sums.runs), errors, as_of)

    @admin.display(description=_("events"))
    def events(self, session: Any) -> str:
        return grouped(session.sums.events)

    @admin.display(description=_("tokens"))
    def tokens(self, session: Any) -> str:
        return grouped(session.sums.tokens)

    @admin.display(description=_("cost (USD)"))
    def cost(self, session: Any) -> str:
        return usd(session.sums.cost)

    @admin.display(description=_("tags"))
    def shown_tags(self, session: Session) -> SafeString:
        return words(session.tags)

    @admin.display(description=_("parent"))
    def parent(self, session: Session) -> SafeString | str:
        return self._link("session_change", session.parent_session_id)

    @admin.display(description=_("runs"))
    def all_runs(self, session: Session) -> SafeString:
        return self.list_link(Run, OF_SESSION, session.pk)

    @admin.display(description=_("events"))
    def all_events(self, session: Session) -> SafeString:
        return self.list_link(Event, OF_SESSION, session.pk)

    @admin.display(description=_("artifacts"))
    def all_artifacts(self, session: Session) -> SafeString:
        return self.list_link(Artifact, OF_SESSION, session.pk)

    @admin.display(description=_("children"))
    def all_children(self, session: Session) -> SafeString:
        return self.list_link(Session, OF_PARENT, session.pk)


def _failed(number: int) -> SafeString:
    text = ngettext("%(number)s error", "%(number)s errors", number) % {"number": grouped(number)}
    return format_html('<strong class="asm-error asm-one">{}</strong>', text)


def _as_of(time: datetime) -> str:
    return gettext("as of %(time)s") % {"time": _minute(time)}


def _minute(time: datetime) -> str:
    return moment(time)[: -len(":00")]
