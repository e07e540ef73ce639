"""What sessions, runs and events can be searched by: django-filter's FilterSets, for every door.

Given a request's QueryDict they read text, as in any view. Given a mapping they take Python
values as they are: nothing is converted, stripped or ignored, None means no restriction and an
empty list "none of them". In both a name that is no filter is an error, and what is soft-deleted
is left out unless `include_deleted` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

import django_filters
from django import forms
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from .events.sanitizing import has_unstorable, shown
from .events.types import EventType
from .exceptions import InvalidEventType, InvalidStatus, QueryError, ValidationError
from .expressions import HasTags, Looked
from .fields import (
    clean_event_type,
    clean_id,
    clean_status,
    clean_time,
    clean_whole_number,
)
from .models import Event, Run, Session

__all__ = [
    "EventFilterSet",
    "RunFilterSet",
    "SessionFilterSet",
    "StrictFilterSet",
    "UsageFilterSet",
]

# One statement does not hold any number of values.
MAX_VALUES = 1_000

Check = Callable[[Any, str], Any]


# How a Python value is checked: the value as the database is to compare with it, or an error.


def clean_text(value: object, name: str) -> str:
    if not isinstance(value, str) or has_unstorable(value):
        raise ValidationError(f"{name}: expected storable text, got {shown(value)}.")
    return str.__str__(value)


def clean_flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValidationError(f"{name}: expected True or False, got {shown(value)}.")
    return value


def clean_session_status(value: object, name: str) -> str:
    return clean_status(value, Session.Status.values)


def clean_run_status(value: object, name: str) -> str:
    return clean_status(value, Run.Status.values)


def clean_tokens(value: object, name: str) -> int:
    return clean_whole_number(value, name, 0, 10**100)


def clean_type(value: object, name: str) -> str:
    return clean_event_type(value)


# How a request's text becomes a Python value; a ValueError or KeyError where it cannot.

FLAGS = {"true": True, "on": True, "1": True, "false": False, "0": False}
PARSERS: dict[Check, Callable[[str], Any]] = {
    clean_time: datetime.fromisoformat,
    clean_flag: lambda text: FLAGS[text.lower()],
    clean_tokens: int,
}


class Texts(list[str]):
    """What a request says under one name: all that is not blank."""


class Reading:
    """Mixed into a widget: a request's values are `Texts`, a mapping's are what they are."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        if isinstance(data, MultiValueDict):
            return Texts(text for text in data.getlist(name) if text)
        return data.get(name)


class OneInput(Reading, forms.TextInput):
    """One text."""


class OneChoice(Reading, forms.Select):
    """One of the choices."""


class ManyChoices(Reading, forms.SelectMultiple):
    """Any number of the choices."""


class ManyInputs(Reading, forms.MultipleHiddenInput):
    """Any number of texts: an input for each, and an empty one more."""

    input_type = "text"

    def format_value(self, value: Any) -> list[Any]:
        return [*(value or ()), ""]

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        for one in context["widget"]["subwidgets"]:
            one["type"] = self.input_type
        return context


class OneField(forms.Field):
    """One value."""

    name = ""  # the filter's, for messages

    def __init__(self, *, check: Check, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check

    def clean(self, value: Any) -> Any:
        """The checked value, None for no restriction; Django's own error, with our code."""
        try:
            given = self.read(value) if isinstance(value, Texts) else value
            return None if given is None else self.checked(given)
        except ValidationError as error:
            raise forms.ValidationError(str(error), code=error.code) from None

    def read(self, texts: Texts) -> Any:
        """The Python value that the texts of a request stand for."""
        if len(texts) > 1:
            raise ValidationError(f"{self.name}: said {len(texts)} times.")
        return self.parsed(texts[0]) if texts else None

    def parsed(self, text: str) -> Any:
        try:
            return PARSERS.get(self.check, str)(text)
        except (KeyError, ValueError):
            raise ValidationError(f"{self.name}: {shown(text)} cannot be read.") from None

    def checked(self, value: Any) -> Any:
        return self.check(value, self.name)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What a form shows."""
        return data[0] if isinstance(data, Texts) and data else data or None


class ManyField(OneField):
    """A list of values, without doubles; with `or_one` a single one too."""

    def __init__(self, *, or_one: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.or_one = or_one

    def read(self, texts: Texts) -> Any:
        return [self.parsed(text) for text in texts] or None

    def checked(self, value: Any) -> tuple[Any, ...]:
        if self.or_one and isinstance(value, str):
            value = [value]
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise ValidationError(f"{self.name}: expected a list, got {shown(value)}.")
        found = list(islice(value, MAX_VALUES + 1))
        if len(found) > MAX_VALUES:
            raise ValidationError(f"{self.name}: has more than {MAX_VALUES} values.")
        return tuple(dict.fromkeys(self.check(item, self.name) for item in found))

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data


class ValueFilter(django_filters.Filter):  # type: ignore[misc]
    """Restricts by one value, whichever it is: django-filter's own ignore what is empty."""

    field_class: type[OneField] = OneField

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows if value is None else self.restricted(rows, value)

    def restricted(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows.filter(**{f"{self.field_name}__{self.lookup_expr}": value})


class ListFilter(ValueFilter):
    """Rows whose column is one of the values: without a value, none."""

    field_class = ManyField

    def restricted(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        if len(value) == 1:
            return rows.filter(**{self.field_name: value[0]})
        return rows.filter(**{f"{self.field_name}__in": value})


class TagsFilter(ValueFilter):
    """Rows that have all of the tags: without a tag, all."""

    field_class = ManyField

    def restricted(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows.filter(HasTags(F("tags"), value)) if value else rows


class ThroughRunsFilter(ListFilter):
    """Sessions with a run whose column is one of the values."""

    def restricted(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        runs = Run.objects.filter(session_id=OuterRef("pk")).alias(looked=Looked(self.field_name))
        return rows.filter(Exists(runs.filter(looked__in=value))) if value else rows.none()


class IncludeDeletedFilter(ValueFilter):
    """Sessions that are not soft-deleted, unless the value is true."""

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows if value else self.alive(rows)

    def alive(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(deleted_at__isnull=True)


class IncludeDeletedSessionsFilter(IncludeDeletedFilter):
    """What belongs to no soft-deleted session, unless the value is true."""

    def alive(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        deleted = Session.objects.filter(deleted_at__isnull=False)
        values = self.parent.form.cleaned_data
        wanted = values.get("session_ids") or [values.get("session_id")]
        if wanted != [None]:
            # Looked up once, not for each row: so the rows stay in the order of their index.
            return rows.exclude(session_id__in=deleted.filter(pk__in=wanted))
        return rows.filter(~Exists(deleted.filter(pk=OuterRef("session_id"))))


class FilterForm(forms.Form):
    """The values of a FilterSet; what it does not know is an error."""

    other_parameters: ClassVar[frozenset[str]] = frozenset()

    def clean(self) -> None:
        known = {self.add_prefix(name) for name in self.fields}
        if isinstance(self.data, MultiValueDict):
            known |= self.other_parameters
        prefix = self.add_prefix("") if self.prefix else ""
        unknown = [name for name in self.data if name not in known and str(name).startswith(prefix)]
        if unknown:
            names = ", ".join(map(shown, unknown))
            raise forms.ValidationError(
                f"unknown filter {names}; known are {', '.join(sorted(self.fields))}."
            )


class StrictFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """A FilterSet that ignores nothing: what is not valid finds nothing, and is in `errors`."""

    # What else the request of a view may say; a view adds its own names in a subclass.
    other_parameters: ClassVar[frozenset[str]] = frozenset({"cursor", "limit", "order_by", "page"})

    def __init__(self, data: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__({} if data is None else data, *args, **kwargs)
        for name, filter_ in self.filters.items():
            filter_.field.name = name

    def get_form_class(self) -> Any:
        form = super().get_form_class()
        form.other_parameters = self.other_parameters
        return form

    def checked(self) -> dict[str, Any]:
        """The values by name; `QueryError`, `InvalidStatus` or `InvalidEventType` for a bad one."""
        for errors in self.errors.as_data().values():
            kinds = {kind.code: kind for kind in (InvalidStatus, InvalidEventType)}
            raise kinds.get(errors[0].code, QueryError)(errors[0].message)
        return dict(self.form.cleaned_data)

    def filter_queryset(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.none() if self.errors else super().filter_queryset(rows)


def text(column: str | None = None, check: Check = clean_text) -> ValueFilter:
    """An exact text."""
    return ValueFilter(column, check=check, widget=OneInput)


def texts(column: str, kind: type[ListFilter] = ListFilter) -> ListFilter:
    """A text, or a list of which one fits."""
    return kind(column, check=clean_text, or_one=True, widget=ManyInputs)


def text_list(column: str, check: Check) -> ListFilter:
    """A list of texts of which one fits."""
    return ListFilter(column, check=check, widget=ManyInputs)


def statuses(check: Check, choices: Any) -> ListFilter:
    """A status, or a list of which one fits."""
    return ListFilter("status", check=check, or_one=True, widget=ManyChoices(choices=choices))


def since(column: str, label: Any) -> ValueFilter:
    return ValueFilter(column, "gte", label=label, check=clean_time, widget=OneInput)


def until(column: str, label: Any) -> ValueFilter:
    return ValueFilter(column, "lte", label=label, check=clean_time, widget=OneInput)


def include_deleted(kind: type[IncludeDeletedFilter]) -> IncludeDeletedFilter:
    choices = [("", _("without what is deleted")), ("true", _("with what is deleted"))]
    label = _("soft-deleted sessions")
    return kind(check=clean_flag, widget=OneChoice(choices=choices), label=label)


class SessionFilterSet(StrictFilterSet):
    """Filters of sessions; `provider` is of their runs, `tags` must all be there."""

    agent_id = text()
    status = statuses(clean_session_status, Session.Status.choices)
    provider = texts("provider", ThroughRunsFilter)
    tags = TagsFilter(check=clean_text, widget=ManyInputs)
    created_after = since("created_at", _("created at or after"))
    created_before = until("created_at", _("created at or before"))
    include_deleted = include_deleted(IncludeDeletedFilter)

    class Meta:
        model = Session
        fields = ()
        form = FilterForm


class RunFilterSet(StrictFilterSet):
    """Filters of runs; `min_tokens` is of their total."""

    session_id = text(check=clean_id)
    provider = texts("provider")
    status = statuses(clean_run_status, Run.Status.choices)
    started_after = since("started_at", _("started at or after"))
    started_before = until("started_at", _("started at or before"))
    min_tokens = ValueFilter("total_tokens", "gte", check=clean_tokens, widget=OneInput)
    include_deleted = include_deleted(IncludeDeletedSessionsFilter)

    class Meta:
        model = Run
        fields = ()
        form = FilterForm


class UsageFilterSet(StrictFilterSet):
    """Filters of the runs that summaries sum up, of soft-deleted sessions too."""

    session_id = text(check=clean_id)
    agent_id = text("session__agent_id")
    provider = texts("provider")
    since = since("started_at", _("started at or after"))
    until = until("started_at", _("started at or before"))

    class Meta:
        model = Run
        fields = ()
        form = FilterForm


class EventFilterSet(StrictFilterSet):
    """Filters of events."""

    session_ids = text_list("session_id", clean_id)
    run_ids = text_list("run_id", clean_id)
    types = ListFilter("type", check=clean_type, widget=ManyChoices(choices=EventType.choices))
    providers = text_list("provider", clean_text)
    since = since("timestamp", _("at or after"))
    until = until("timestamp", _("at or before"))
    correlation_id = text()
    include_deleted = include_deleted(IncludeDeletedSessionsFilter)

    class Meta:
        model = Event
        fields = ()
        form = FilterForm
