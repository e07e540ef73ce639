"""The filters of `asm_store.filters` beside the admin's lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..filters import StrictFilterSet

Text = str | Promise


class FilterSetFilter(admin.ListFilter):
    """One or two filters of the FilterSet; `filtered()` restricts the rows by all of them."""

    names: ClassVar[tuple[str, ...]]
    used_parameters: dict[str, Any]
    parameter_name: str  # what themes know a filter by

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        self.parameter_name = self.names[0]
        for name in self.names:
            if name in params:
                self.used_parameters[name] = params.pop(name)

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Nothing here: what one filter says may change what another does."""

    def given(self) -> dict[str, list[str]]:
        """What the FilterSet is told."""
        return dict(self.used_parameters)


class Choice(FilterSetFilter):
    """A filter by one of some values, each a link."""

    options: ClassVar[Sequence[tuple[str, Text]]]
    usual: ClassVar[Text] = _("All")

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        [name] = self.names
        chosen = (self.used_parameters.get(name) or [""])[-1]
        for value, label in (("", self.usual), *self.options):
            said = {name: value} if value else {}
            yield {
                "selected": chosen == value,
                "query_string": changelist.get_query_string(said, [name]),
                "display": label,
            }


class Input(FilterSetFilter):
    """A filter by what is typed."""

    template = "admin/asm_store/input_filter.html"
    kind = "text"
    labels: ClassVar[tuple[Text, ...]] = ()

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        others: Mapping[str, Any] = changelist.filter_params
        yield {
            "kind": self.kind,
            "inputs": [
                (name, label, (self.used_parameters.get(name) or [""])[-1])
                for name, label in zip(self.names, self.labels or (self.title,), strict=True)
            ],
            "others": [
                (name, value)
                for name, values in others.items()
                if name not in self.names
                for value in (values if isinstance(values, list) else [values])
            ],
            "clear": changelist.get_query_string({}, list(self.names))
            if self.used_parameters
            else "",
        }


class Period(Input):
    """Between two days or times; a day ends with its last moment, in the current time zone."""

    title = _("period")
    kind = "date"
    labels = (_("from"), _("until"))

    def given(self) -> dict[str, list[str]]:
        lower, upper = self.names
        ends = {lower: time.min, upper: time.max}
        return {
            name: [aware(text, ends[name]) for text in values if text]
            for name, values in self.used_parameters.items()
        }


def aware(text: str, end: time) -> str:
    """A day as its begin or end, a time without a zone in the current one; else as it is."""
    try:
        moment = datetime.combine(date.fromisoformat(text), end)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
    if moment.tzinfo is not None:
        return text
    return timezone.make_aware(moment).isoformat()


def filtered(
    request: HttpRequest,
    kind: type[StrictFilterSet] | None,
    said: Mapping[str, str],
    specs: Iterable[FilterSetFilter],
    rows: QuerySet[Any],
) -> QuerySet[Any]:
    """The rows that match; a value that no filter takes is told, and the list is shown whole."""
    if kind is None:
        return rows
    given = QueryDict(mutable=True)
    given.update(dict(said))
    for spec in specs:
        for name, values in spec.given().items():
            given.setlist(name, values)
    chosen = kind(given, rows)
    for errors in chosen.errors.values():
        messages.error(request, errors[0])
        raise IncorrectLookupParameters(errors[0])
    matching: QuerySet[Any] = chosen.qs
    return matching


def choice(name: str, title: Text, options: Sequence[tuple[str, Text]]) -> type[Choice]:
    """The class of a filter by one of the `options`."""
    said = {"names": (name,), "title": title, "options": options}
    return type(f"{name.title()}Choice", (Choice,), said)


def typed(name: str, title: Text) -> type[Input]:
    """The class of a filter by an exact text."""
    return type(f"{name.title()}Input", (Input,), {"names": (name,), "title": title})


def period(lower: str, upper: str) -> type[Period]:
    """The class of a filter between two days."""
    return type(f"{lower.title()}Period", (Period,), {"names": (lower, upper)})
