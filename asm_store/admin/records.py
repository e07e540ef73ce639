"""What the admin shows of each kind of record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.files.storage import InvalidStorageError
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..exceptions import ArtifactNotFound, StorageError
from ..filters import EventFilterSet, RunFilterSet
from ..models import Event, Run
from .columns import COST, NONE, STATUS, TOKEN_COUNTS, TOTAL, TYPE, column, columns, pretty_json
from .filtering import choice, period, typed
from .places import address, database
from .read_only import ReadOnlyAdmin
from .serving import download, raw_json

if TYPE_CHECKING:
    from django.contrib.admin.options import ModelAdmin

OF_SESSION = "session__id__exact"
OF_RUN = "run__id__exact"
# What soft-deleted sessions hold is in the lists of it: a look at each row's session costs more.
WITH_DELETED = {"include_deleted": "true"}


class RunAdmin(ReadOnlyAdmin):
    list_display = (
        *columns("id", "session_id"),
        STATUS,
        *columns("provider", "model", "turn_count"),
        TOTAL,
        COST,
        *columns("started_at", "ended_at"),
    )
    filter_set = RunFilterSet
    filters_said = WITH_DELETED
    lookups = frozenset({OF_SESSION})
    search_help_text = _("An exact id, or how it begins: run_01*")
    list_filter = (
        choice("status", _("status"), Run.Status.choices),
        typed("provider", _("provider")),
        period("started_after", "started_before"),
    )
    ordering = ("-started_at", "-id")
    defer_in_list = ("input", "output", "error", "metadata", "provider_metadata", "token_usage")
    shown = (
        column("id"),
        "session_link",
        "place",
        STATUS,
        *columns("provider", "model", "turn_count"),
        *TOKEN_COUNTS,
        COST,
        *columns("started_at", "ended_at"),
        "events",
    )
    content = tuple(
        map(
            pretty_json,
            ("input", "output", "error", "token_usage", "provider_metadata", "metadata"),
        )
    )

    @admin.display(description=_("in the conversation"))
    def place(self, run: Run) -> SafeString | str:
        """Where it begins."""
        events = Event.objects.using(database()).filter(run_id=run.pk).order_by("sequence_number")
        number = events.values_list("sequence_number", flat=True).first()
        return NONE if number is None else place_link(self, run.session_id, number)

    @admin.display(description=_("events"))
    def events(self, run: Run) -> SafeString:
        return self.list_link(Event, OF_RUN, run.pk)


def place_link(model_admin: ReadOnlyAdmin, session_id: str, number: int) -> SafeString:
    """To an event in the conversation."""
    url = address(model_admin.admin_site.name, "session_change", session_id)
    return format_html('<a href="{}?at={}#e{}">{}</a>', url, number, number, number)


class TypeFilter(admin.SimpleListFilter):
    """By event type, within one session or run: over the whole table no index would serve it."""

    title = _("type")
    parameter_name = "type"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Sequence[tuple[str, Any]]:
        if {OF_SESSION, OF_RUN} & request.GET.keys():
            return Event.Type.choices
        if self.parameter_name in request.GET:
            raise IncorrectLookupParameters
        return []

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[models.Model]
    ) -> models.QuerySet[models.Model]:
        return queryset.filter(type=self.value()) if self.value() else queryset


class EventAdmin(ReadOnlyAdmin):
    list_display = (*columns("id", "session_id"), "place", TYPE, *columns("timestamp", "run_id"))
    filter_set = EventFilterSet
    filters_said = WITH_DELETED
    lookups = frozenset({OF_SESSION, OF_RUN})
    search_help_text = _("An exact id, or how it begins: evt_01*")
    list_filter = (
        TypeFilter,
        typed("correlation_id", _("correlation id")),
        period("since", "until"),
    )
    ordering = ("-timestamp", "-id")
    defer_in_list = ("data", "metadata")
    shown = (
        column("id"),
        "session_link",
        "place",
        "run_link",
        TYPE,
        *columns("timestamp", "provider", "correlation_id", "schema_version"),
    )
    content = (pretty_json("data"), pretty_json("metadata"))

    @admin.display(description=_("in the conversation"))
    def place(self, event: Event) -> SafeString:
        return place_link(self, event.session_id, event.sequence_number)

    def get_urls(self) -> list[Any]:
        raw = self.admin_site.admin_view(self.raw_view)
        own = [path("<path:object_id>/raw/", raw, name="asm_store_event_raw")]
        return own + super().get_urls()

    def raw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The whole event as JSON."""
        return raw_json(self.content_object(request, object_id))

    def get_ordering(self, request: HttpRequest) -> Any:
        """In one session or run by number, which its index gives; else by time."""
        if {OF_SESSION, OF_RUN} & request.GET.keys():
            return ("-sequence_number",)
        return super().get_ordering(request)


class ArtifactAdmin(ReadOnlyAdmin):
    searched = ("id", "key")
    lookups = frozenset({OF_SESSION})
    search_help_text = _("An exact id or key, or how it begins: reports/*")
    list_display = columns("id", "key", "session_id", "content_type", "byte_size", "created_at")
    ordering = ("-id",)
    defer_in_list = ("metadata",)
    shown = (
        *columns("id", "key"),
        "session_link",
        "run_link",
        *columns("content_type", "byte_size", "checksum_sha256", "storage_backend", "storage_ref"),
        *columns("created_at", "deleted_at"),
    )
    content = (pretty_json("metadata"),)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.download_view)
        own = [path("<path:object_id>/download/", view, name="asm_store_artifact_download")]
        return own + super().get_urls()

    def download_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The content as a file; 404 when it is deleted, or cannot be read."""
        artifact = self.content_object(request, object_id)
        try:
            return download(request, artifact, database())
        except (ArtifactNotFound, StorageError, TypeError, InvalidStorageError) as error:
            raise Http404(str(error)) from error
