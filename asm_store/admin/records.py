"""What the admin shows of each kind of record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import Event, Run, Session
from .read_only import ReadOnlyAdmin, pretty_json

if TYPE_CHECKING:
    from django.contrib.admin.options import ModelAdmin

OF_SESSION = "session__id__exact"
OF_RUN = "run__id__exact"


def records_link(model: type[models.Model], parameter: str, value: str) -> SafeString:
    """A link to the list of the `model`'s records that belong to one session or run."""
    url = reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")
    query = urlencode({parameter: value})
    return format_html('<a href="{}?{}">{}</a>', url, query, model._meta.verbose_name_plural)


class SessionAdmin(ReadOnlyAdmin):
    list_display = ("id", "agent_id", "status", "tags", "created_at", "updated_at", "deleted_at")
    list_filter = ("status", ("deleted_at", admin.EmptyFieldListFilter))
    ordering = ("-created_at", "-id")
    defer_in_list = ("metadata", "context")
    shown = (
        "id",
        "agent_id",
        "status",
        "parent_session",
        "tags",
        "created_at",
        "updated_at",
        "deleted_at",
        "runs",
        "events",
        pretty_json("context"),
        pretty_json("metadata"),
    )

    @admin.display(description=_("runs"))
    def runs(self, session: Session) -> SafeString:
        return records_link(Run, OF_SESSION, session.pk)

    @admin.display(description=_("events"))
    def events(self, session: Session) -> SafeString:
        return records_link(Event, OF_SESSION, session.pk)


class RunAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "session_id",
        "status",
        "provider",
        "turn_count",
        "token_usage",
        "cost_usd",
        "started_at",
        "ended_at",
    )
    list_filter = ("status",)
    ordering = ("-started_at", "-id")
    defer_in_list = ("input", "output", "error", "metadata", "provider_metadata")
    shown = (
        "id",
        "session",
        "status",
        "provider",
        "turn_count",
        "cost_usd",
        "started_at",
        "ended_at",
        "events",
        pretty_json("token_usage"),
        pretty_json("input"),
        pretty_json("output"),
        pretty_json("error"),
        pretty_json("provider_metadata"),
        pretty_json("metadata"),
    )

    @admin.display(description=_("events"))
    def events(self, run: Run) -> SafeString:
        return records_link(Event, OF_RUN, run.pk)


class TypeFilter(admin.SimpleListFilter):
    """By event type, within one session or run: over the whole table no index would serve it."""

    title = _("type")
    parameter_name = "type"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Sequence[tuple[str, Any]]:
        return Event.Type.choices if {OF_SESSION, OF_RUN} & request.GET.keys() else []

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[models.Model]
    ) -> models.QuerySet[models.Model]:
        chosen = self.value() if self.lookup_choices else None
        return queryset.filter(type=chosen) if chosen else queryset


class EventAdmin(ReadOnlyAdmin):
    list_display = ("id", "session_id", "sequence_number", "type", "timestamp", "run_id")
    list_filter = (TypeFilter,)
    ordering = ("-timestamp", "-id")
    defer_in_list = ("data", "metadata")
    shown = (
        "id",
        "session",
        "sequence_number",
        "run",
        "type",
        "timestamp",
        "provider",
        "correlation_id",
        "schema_version",
        pretty_json("data"),
        pretty_json("metadata"),
    )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """In one session or run by number, which its index gives; else by time."""
        if {OF_SESSION, OF_RUN} & request.GET.keys():
            return ("-sequence_number",)
        return self.ordering


class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ("id", "key", "session_id", "content_type", "byte_size", "created_at")
    ordering = ("-id",)
    defer_in_list = ("metadata",)
    shown = (
        "id",
        "key",
        "session",
        "run",
        "content_type",
        "byte_size",
        "checksum_sha256",
        "storage_backend",
        "storage_ref",
        "created_at",
        "deleted_at",
        pretty_json("metadata"),
    )
