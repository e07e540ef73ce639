"""What the records of a store have in common: they are checked, copied, and written as dicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from . import conf, fields
from .events.redaction import REDACTED, Redactor
from .events.sanitizing import Sanitizer, encoded, shown
from .exceptions import ValidationError

SANITIZED = "_sanitized"


class Record(models.Model):
    """What sessions, runs, events and artifacts have in common."""

    class Meta:
        abstract = True

    # Of a prepared record: how large its JSON is, encoded.
    json_bytes = 0
    # And the values of its JSON columns with their texts, until it is stored.
    json_texts: Mapping[str, tuple[Any, str]] = MappingProxyType({})
    # The columns in which ASM_STORE_REDACTION looks for secrets.
    _redactable: ClassVar[tuple[str, ...]] = ()

    def __str__(self) -> str:
        return str(self.pk)

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **others: Any
    ) -> Self:
        """As Django's, but without a look at each column where nobody wants to hear of it."""
        is_plain = len(values) == len(cls._meta.concrete_fields) and not (
            (pre_init.receivers and pre_init.has_listeners(cls))
            or (post_init.receivers and post_init.has_listeners(cls))
        )
        if not is_plain or cls.__init__ is not models.Model.__init__:
            return super().from_db(db, field_names, values, **others)
        record = cls.__new__(cls)
        record.__dict__.update(zip(field_names, values, strict=True))
        record._state = state = ModelState()
        state.adding, state.db = False, db
        if others.get("fetch_mode") is not None:
            state.fetch_mode = others["fetch_mode"]
        return record

    def to_dict(self) -> dict[str, Any]:
        """Every column by its name, JSON-ready: times as ISO 8601 with microseconds and +00:00."""
        return {name: _exported(getattr(self, name)) for name in _preparations(type(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_dict()` described, unsaved; what is left out has its default.

        Raises `ValidationError` (for an unknown status or type one of its kinds) for anything
        that a store would refuse, and for names that are no columns.
        """
        if not isinstance(data, Mapping):
            raise ValidationError(f"{cls.__name__}: expected a mapping, got {shown(data)}.")
        unknown = [shown(name) for name in data if name not in _preparations(cls)]
        if unknown:
            raise ValidationError(f"{cls.__name__} has no {', '.join(unknown)}.")
        times = {f.name for f in cls._meta.concrete_fields if isinstance(f, models.DateTimeField)}
        return cls(
            **{name: _parsed(name, data[name]) if name in times else data[name] for name in data}
        ).prepared()

    def prepared(
        self, *, only: Collection[str] | None = None, max_bytes: int | None = None
    ) -> Self:
        """An unsaved copy as it will be stored, or `ValidationError`; `self` is not changed.

        Text and JSON are made storable, times UTC. What was replaced is counted in
        `metadata["_sanitized"]`. `only` names the columns to look at; the others are stored
        already, perhaps under a larger limit. `max_bytes`: the limit, where it is known.
        """
        sanitizer = Sanitizer(conf.max_event_bytes() if max_bytes is None else max_bytes)
        copy = self._copy()
        columns = copy.__dict__
        for name, (longest, prepare) in _preparations(type(self)).items():
            if only is not None and name not in only:
                continue
            value = columns[name]
            if (
                type(value) is not str
                or not 0 < len(value) <= longest
                or not value.isascii()
                or "\0" in value
            ):
                columns[name] = prepare(value, sanitizer)
        copy.json_bytes, copy.json_texts = sanitizer.json_bytes, sanitizer.texts
        copy.count_replaced(sanitizer.replaced)
        return copy

    def redacted(self) -> Self:
        """With ASM_STORE_REDACTION, this prepared record without secrets; else itself."""
        if not self._redactable or not conf.redaction():
            return self
        redactor = Redactor()
        columns = {name: redactor.redact(self.__dict__[name]) for name in self._redactable}
        if not redactor.counts:
            return self
        self.__dict__.update(columns)
        self.count_replaced(redactor.counts, REDACTED)
        return self.prepared()  # its size is another one

    def copied(self) -> Self:
        """A copy of a stored record whose holder may change it."""
        copy = self._copy()
        columns = copy.__dict__
        for name in _json_columns(type(self)):  # nothing else in a column can be changed
            columns[name] = _copied_json(columns[name])
        copy._state.adding, copy._state.db = self._state.adding, self._state.db
        return copy

    def json_text(self, name: str) -> str:
        """A column of JSON, encoded; of a prepared record it is already."""
        value = self.__dict__[name]
        known, text = self.json_texts.get(name, (None, ""))
        return text if known is value else encoded(value)

    def count_replaced(self, counts: dict[str, int], key: str = SANITIZED) -> None:
        """Add `counts` of what was replaced to `metadata[key]`; empty: nothing."""
        if counts:
            self.json_texts = {}  # they are others now
            metadata = self.__dict__["metadata"]
            metadata[key] = _added(metadata.get(key), counts)

    def _copy(self) -> Self:
        # Not Model.__init__: it is slow, and sends signals for what is no new object.
        names, columns = _preparations(type(self)).keys(), self.__dict__
        if not columns.keys() >= names:
            raise ValidationError("the record was loaded with only some of its columns.")
        is_bare = len(columns) == len(names) + 1  # and its state
        held = columns.copy() if is_bare else {name: columns[name] for name in names}
        held["_state"] = ModelState()
        copy = type(self).__new__(type(self))
        copy.__dict__ = held
        return copy


def columns_of(record: Record) -> dict[str, Any]:
    """What an update may write of it."""
    return {
        field.attname: getattr(record, field.attname)
        for field in record._meta.concrete_fields
        if not (field.primary_key or field.generated)
    }


def copied(value: Any) -> Any:
    """Of a record, or a list of records, one that its holder may change; else `value` itself."""
    if isinstance(value, list):
        return [copied(each) for each in value]
    return value.copied() if isinstance(value, Record) else value


def _copied_json(value: Any) -> Any:
    """As `deepcopy()`, several times as fast: what is shared by thousands is copied as often."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if kind is dict:
        return {name: _copied_json(item) for name, item in value.items()}
    if kind is list:
        return [_copied_json(item) for item in value]
    return deepcopy(value)  # not read from a database: its holder has put it there


@cache
def _preparations(kind: type[Record]) -> dict[str, tuple[int, Callable[[Any, Sanitizer], Any]]]:
    """By a column's name, how long plain text may be in it, and how it is made storable else."""
    return {
        field.attname: (field.plain_length, field.prepare)
        for field in kind._meta.concrete_fields
        if isinstance(field, fields.PreparedField)
    }


@cache
def _json_columns(kind: type[Record]) -> tuple[str, ...]:
    return tuple(
        field.attname for field in kind._meta.concrete_fields if isinstance(field, models.JSONField)
    )


def _exported(value: Any) -> Any:
    if isinstance(value, datetime):
        return fields.clean_time(value, "time").isoformat(timespec="microseconds")
    return value


def _parsed(name: str, value: Any) -> Any:
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValidationError(f"{name}: {shown(value)} is not an ISO 8601 time.") from None


def _added(before: Any, now: dict[str, int]) -> dict[str, int]:
    """The counts of a record that was cleaned before and has been given more to clean."""
    if not isinstance(before, dict):
        return now
    earlier = {name: count for name, count in before.items() if type(count) is int}
    return {**earlier, **{name: count + earlier.get(name, 0) for name, count in now.items()}}
