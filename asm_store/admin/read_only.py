"""A ModelAdmin that shows tables of millions of rows and changes none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..db import get_operations
from ..events.sanitizing import has_unstorable
from ..templatetags.asm_store import grouped
from . import access, searching
from .columns import NONE, Column
from .filtering import FilterSetFilter, filtered
from .places import address, database

if TYPE_CHECKING:
    ModelAdminBase = admin.ModelAdmin[models.Model]
    PaginatorBase = Paginator[models.Model]
else:
    ModelAdminBase, PaginatorBase = admin.ModelAdmin, Paginator

MAX_ROWS_LISTED = 10_000


class BoundedPaginator(PaginatorBase):
    """Counts and pages to `MAX_ROWS_LISTED`: COUNT(*) and OFFSET cost what they pass over."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, models.QuerySet)
        return self.object_list.order_by().values("pk")[:MAX_ROWS_LISTED].count()


class NarrowChangeList(ChangeList):
    """Leaves the columns that `defer_in_list` names in the database; adds those of the page."""

    model_admin: ReadOnlyAdmin

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> models.QuerySet[models.Model]:
        queryset = super().get_queryset(request, exclude_parameters)
        specs = [spec for spec in self.filter_specs if isinstance(spec, FilterSetFilter)]
        said = self.model_admin.filters_said
        rows = filtered(request, self.model_admin.filter_set, said, specs, queryset)
        return rows.defer(*self.model_admin.defer_in_list)

    def get_ordering(
        self, request: HttpRequest, queryset: models.QuerySet[models.Model]
    ) -> list[Any]:
        """The admin's own, each row's its own: `?o=` would sort by what no index has."""
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        self.model_admin.complete_page(self.result_list)


class ReadOnlyAdmin(ModelAdminBase):
    """Browse only; each list costs one page, however long the table is.

    A list must be narrowed and ordered by indexed columns; searching is for an exact id, or for
    how it begins.
    """

    defer_in_list: tuple[str, ...] = ()
    # The FilterSet that the filters of the class `FilterSetFilter` belong to.
    filter_set: Any = None
    # What the FilterSet is always told.
    filters_said: Mapping[str, str] = {}
    # What else an address may restrict a list by.
    lookups: frozenset[str] = frozenset()
    # What the page of one record shows: columns, methods and functions of the record; and what
    # of it is content, for those alone who may see what agents said.
    shown: tuple[str | Column, ...] = ()
    content: tuple[str | Column, ...] = ()
    search_fields = ("id",)
    searched: ClassVar[tuple[str, ...]] = ("id",)
    search_help_text = _("An exact id, or how it begins: ses_01*")
    actions: Sequence[Any] | None = None
    list_per_page = 100
    list_max_show_all = 100
    list_select_related = ()
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["asm_store/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may(request, f"view_{self.opts.model_name}", record=obj)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """By nothing but `lookups` and the filters: what a lookup finds tells what is stored.

        What no text can be is refused here, but where the FilterSet tells it.
        """
        filters: Any = self.list_filter
        if any(lookup in getattr(kind, "names", ()) for kind in filters):
            return True
        names = {getattr(kind, "parameter_name", None) for kind in filters}
        return lookup in names | self.lookups and not has_unstorable(value)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[models.Model]:
        return super().get_queryset(request).using(database())

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """None also for what no id can be, which PostgreSQL does not even compare."""
        if has_unstorable(object_id):
            return None
        return super().get_object(request, object_id, from_field or None)

    def get_ordering(self, request: HttpRequest) -> Any:
        """By id where ids are looked for: their range is the index's own then."""
        begins = searching.is_prefix(request.GET.get(SEARCH_VAR, ""))
        return ("-id",) if begins else self.ordering or ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self.shown, *self.content) if access.may_see_content(request, obj) else self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return self.get_fields(request, obj)

    def content_object(self, request: HttpRequest, object_id: str) -> Any:
        """The record, for one who may see it and its content."""
        return self.permitted_object(request, object_id, "view_event_payload")

    def permitted_object(self, request: HttpRequest, object_id: str, *codenames: str) -> Any:
        """The record, for one who may see it and has these permissions, of it or of all.

        To others it is forbidden, be it there or not; only who may see all is told that.
        """
        record: Any = self.get_object(request, unquote(object_id))
        needed = (f"view_{self.opts.model_name}", *codenames)
        if not access.may(request, *needed, record=record):
            raise PermissionDenied
        if record is None:
            raise Http404
        return record

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NarrowChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[models.Model], search_term: str
    ) -> tuple[models.QuerySet[models.Model], bool]:
        if not search_term:
            return queryset, False
        if has_unstorable(search_term):
            return queryset.none(), False
        return queryset.filter(searching.search(self.searched, search_term)), False

    @admin.display(description=_("session"))
    def session_link(self, record: Any) -> SafeString | str:
        return self._link("session_change", record.session_id)

    @admin.display(description=_("run"))
    def run_link(self, record: Any) -> SafeString | str:
        return self._link("run_change", record.run_id)

    def _link(self, page: str, pk: str | None) -> SafeString | str:
        if pk is None:
            return NONE
        return format_html('<a href="{}">{}</a>', address(self.admin_site.name, page, pk), pk)

    def list_link(self, model: type[models.Model], parameter: str, value: str) -> SafeString:
        """A link to the list of the `model`'s records that belong to one session or run."""
        url = address(self.admin_site.name, f"{model._meta.model_name}_changelist")
        query = urlencode({parameter: value})
        return format_html('<a href="{}?{}">{}</a>', url, query, model._meta.verbose_name_plural)

    def complete_page(self, rows: Sequence[Any]) -> None:
        """Look up what the page's rows show beside their columns, for all of them at once."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context and context["cl"].result_count >= MAX_ROWS_LISTED:
            context["subtitle"] = context.get("subtitle") or self._limits()
        return response

    def _limits(self) -> str:
        in_all = get_operations(database()).estimated_rows(self.model._meta.db_table)
        numbers = {"number": grouped(MAX_ROWS_LISTED), "all": grouped(in_all)}
        limits = gettext("The latest %(number)s that match, at most; about %(all)s in all")
        return limits % numbers
