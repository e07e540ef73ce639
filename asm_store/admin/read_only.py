"""A ModelAdmin that shows tables of millions of rows and changes none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

if TYPE_CHECKING:
    ModelAdminBase = admin.ModelAdmin[models.Model]
    PaginatorBase = Paginator[models.Model]
else:
    ModelAdminBase, PaginatorBase = admin.ModelAdmin, Paginator

MAX_ROWS_LISTED = 10_000
MAX_JSON_SHOWN = 200_000


class BoundedPaginator(PaginatorBase):
    """Counts and pages to `MAX_ROWS_LISTED`: COUNT(*) and OFFSET cost what they pass over."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, models.QuerySet)
        return self.object_list.order_by().values("pk")[:MAX_ROWS_LISTED].count()


class NarrowChangeList(ChangeList):
    """Leaves the columns that `defer_in_list` names in the database."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> models.QuerySet[models.Model]:
        queryset = super().get_queryset(request, exclude_parameters)
        assert isinstance(self.model_admin, ReadOnlyAdmin)
        return queryset.defer(*self.model_admin.defer_in_list)


class ReadOnlyAdmin(ModelAdminBase):
    """Browse only; each list costs one page, however long the table is.

    A list must be narrowed and ordered by indexed columns; searching is for an exact id.
    """

    defer_in_list: tuple[str, ...] = ()
    # What the page of one record shows: columns, methods and functions of the record.
    shown: tuple[str | Callable[[Any], SafeString], ...] = ()
    search_fields = ("id__exact",)
    search_help_text = "id"
    actions = None
    list_per_page = 100
    list_max_show_all = 100
    list_select_related = ()
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return self.shown

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NarrowChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        limits = gettext("The latest %(number)d that match, at most") % {"number": MAX_ROWS_LISTED}
        return super().changelist_view(request, {"subtitle": limits, **(extra_context or {})})


def pretty_json(name: str) -> Callable[[models.Model], SafeString]:
    """A read-only field that shows the JSON column `name` indented, its content inert."""

    @admin.display(description=name.replace("_", " "))
    def show(record: models.Model) -> SafeString:
        text = json.dumps(getattr(record, name), indent=2, ensure_ascii=False)
        cut = gettext(" ... cut, %(number)d characters in all") % {"number": len(text)}
        return format_html(
            "<pre>{}{}</pre>", text[:MAX_JSON_SHOWN], cut if len(text) > MAX_JSON_SHOWN else ""
        )

    return show
