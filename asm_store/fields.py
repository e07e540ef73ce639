"""The column types: what each vendor makes of them, and what each lets through to the database.

`prepare(value, sanitizer)` of a field returns the value as it will be stored, or raises this
package's `ValidationError`. It runs before any SQL, so that the verdict is the same everywhere.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Col

from . import conf
from .events.sanitizing import Encoder, Sanitizer, clean_number, has_unstorable, shown
from .events.types import EventType
from .exceptions import InvalidEventType, InvalidStatus, ValidationError

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.backends.ddl_references import Statement

MAX_ID_LENGTH = 255
MAX_GENERATED_LENGTH = 255
DECODER = json.JSONDecoder()
MAX_BIGINT = 2**63 - 1


def new_id(prefix: str) -> str:
    """`prefix` and a UUIDv7 (RFC 9562, 5.7) in hex, its random bits led by a finer clock.

    Ids of one process grow with time, so that inserts stay at the right edge of the primary key.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8)) & (2**62 - 1)
    value = (milliseconds & (2**48 - 1)) << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random
    return f"{prefix}_{value:032x}"


def new_session_id() -> str:
    return new_id("ses")


def new_run_id() -> str:
    return new_id("run")


def new_event_id() -> str:
    return new_id("evt")


def new_artifact_id() -> str:
    return new_id("art")


def clean_id(value: object, name: str = "id") -> str:
    """`value` if it can be an id: 1 to 255 characters, no U+0000, no surrogate."""
    if not isinstance(value, str):
        raise ValidationError(f"{name}: expected a string, got {shown(value)}.")
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        raise ValidationError(f"{name}: must have 1 to {MAX_ID_LENGTH} characters.")
    if has_unstorable(value):
        raise ValidationError(f"{name}: holds U+0000 or a surrogate: {shown(value)}.")
    return str.__str__(value)


def clean_time(value: object, name: str) -> datetime:
    """`value`, an aware datetime of the years 1000 to 9999, in UTC."""
    if not isinstance(value, datetime):
        raise ValidationError(f"{name}: expected a datetime, got {shown(value)}.")
    if value.tzinfo is UTC and type(value) is datetime and value.year >= 1000:
        return value
    if value.utcoffset() is None:
        raise ValidationError(f"{name}: the time {value.isoformat()} has no zone.")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment.year < 1000:  # MySQL's DATETIME begins there
        raise ValidationError(f"{name}: the time {value.isoformat()} is out of range.")
    # Not a subclass of datetime, which no database gives back.
    return datetime.combine(moment.date(), moment.time(), UTC)


def clean_whole_number(
    value: object, name: str, minimum: int = 0, maximum: int = MAX_BIGINT
) -> int:
    """`value` if it is an int (no bool) from `minimum` to `maximum`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValidationError(f"{name}: expected a whole number, got {shown(value)}.")
    if not minimum <= value <= maximum:
        raise ValidationError(f"{name}: must be from {minimum} to {maximum}.")
    return int(value)


class PreparedField(models.Field):  # type: ignore[type-arg]
    """A field that knows what may be stored in it."""

    # ASCII without U+0000, of 1 to so many characters, is stored as it is: not worth a call.
    plain_length = 0

    def prepare(self, value: Any, sanitizer: Sanitizer) -> Any:
        """`value` as it will be stored; `ValidationError` when it cannot be."""
        if value is None and self.null:
            return None
        try:
            return self.clean_column(value, sanitizer)
        except ValidationError as error:
            error.args = (f"{self.attname}: {str(error).removeprefix(f'{self.attname}: ')}",)
            raise

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> Any:
        raise NotImplementedError


class TextField(PreparedField, models.CharField):  # type: ignore[type-arg]
    """Text that is compared exactly and sorted by code point on every database."""

    # PAD SPACE and case folding would make two ids one. MySQL's and MariaDB's names differ.
    collations = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}

    @property
    def plain_length(self) -> int:  # type: ignore[override]
        return self.max_length or 0

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        # Django gives every indexed PostgreSQL "varchar" a second index for LIKE; under the "C"
        # collation the first one serves LIKE as well. The same type by its other name has none.
        kind = super().db_type(connection)
        if connection.vendor == "postgresql" and kind is not None:
            return kind.replace("varchar", "character varying", 1)
        return kind

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        vendor = "mariadb" if getattr(connection, "mysql_is_mariadb", False) else connection.vendor
        return {**parameters, "collation": self.collations.get(vendor)}

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> str:
        if not isinstance(value, str):
            raise ValidationError(f"expected a string, got {shown(value)}.")
        if self.max_length is not None and len(value) > self.max_length:
            raise ValidationError(f"longer than {self.max_length} characters.")
        if not value and not self.blank:
            raise ValidationError("must not be empty.")
        return sanitizer.text(value)


class IdField(TextField):
    """An id: never empty, and never changed to make it storable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", MAX_ID_LENGTH)
        super().__init__(*args, **kwargs)

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> str:
        return clean_id(value, self.attname)


class ReferenceField(PreparedField, models.ForeignKey):  # type: ignore[type-arg]
    """A ForeignKey without a constraint and without an index of its own.

    The store guards the reference under its locks, where a constraint would cost every append;
    composite indexes that begin with the column serve the look-ups.
    """

    plain_length = MAX_ID_LENGTH

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        super().__init__(to, on_delete, **{**kwargs, "db_constraint": False, "db_index": False})

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> str:
        return clean_id(value, self.attname)


class StatusField(TextField):
    """One of the field's choices."""

    plain_length = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 64)
        super().__init__(*args, **kwargs)

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> str:
        return clean_status(value, [choice for choice, _label in self.flatchoices])


def clean_status(value: object, known: Sequence[str]) -> str:
    """`value` if it is one of the `known` statuses, else `InvalidStatus`."""
    if not isinstance(value, str) or value not in known:
        raise InvalidStatus(f"unknown status {shown(value)}; known are {', '.join(known)}.")
    return str.__str__(value)


class EventTypeField(TextField):
    """A built-in event type or one of ASM_STORE_EXTRA_EVENT_TYPES."""

    plain_length = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 64)
        super().__init__(*args, **kwargs)

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> str:
        return clean_event_type(value)


def clean_event_type(value: object) -> str:
    """`value` if it is a known event type, else `InvalidEventType`."""
    if not isinstance(value, str):
        raise InvalidEventType(f"expected an event type, got {shown(value)}.")
    if value not in BUILT_IN_TYPES and value not in conf.extra_event_types():
        raise InvalidEventType(
            f"unknown event type {shown(value)}; ASM_STORE_EXTRA_EVENT_TYPES adds a project's own."
        )
    return str.__str__(value)


BUILT_IN_TYPES = frozenset(EventType.values)


class TimestampField(PreparedField, models.DateTimeField):  # type: ignore[type-arg]
    """An aware time, kept in UTC to the microsecond."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> datetime:
        return clean_time(value, self.attname)


class CountField(PreparedField, models.BigIntegerField):  # type: ignore[type-arg]
    """A whole number >= 0."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> int:
        return clean_whole_number(value, self.attname)


class SmallCountField(PreparedField, models.IntegerField):  # type: ignore[type-arg]
    """A whole number from `minimum` to 2**31 - 1."""

    def __init__(self, *args: Any, minimum: int = 0, **kwargs: Any) -> None:
        self.minimum = minimum
        super().__init__(*args, **kwargs)

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> int:
        return clean_whole_number(value, self.attname, self.minimum, 2**31 - 1)


class SequenceNumberField(PreparedField, models.BigIntegerField):  # type: ignore[type-arg]
    """An event's number >= 1; None in Python until the store has given it."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> int | None:
        return None if value is None else clean_whole_number(value, self.attname, 1)


class CostField(PreparedField, models.FloatField):  # type: ignore[type-arg]
    """USD, a finite number >= 0."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValidationError(f"expected a number, got {shown(value)}.")
        try:
            cost = float(clean_number(value))
        except OverflowError:
            cost = -1.0
        if cost < 0:
            raise ValidationError("must be a number of USD >= 0.")
        return cost


class PayloadField(PreparedField, models.JSONField):
    """Any JSON value; compact UTF-8 text where the database has no JSON type that keeps it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("encoder", Encoder)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("encoder", None)
        return name, path, args, kwargs

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        # MySQL's JSON type turns integers beyond 64 bits into floats; MariaDB's is a LONGTEXT
        # whose JSON_VALID check refuses 32 levels.
        if connection.vendor == "mysql":
            return "longtext"
        return super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            return {**parameters, "collation": "utf8mb4_bin"}
        return parameters

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        # Of a whole column it is what Django's does, which is slower.
        if type(value) is str and type(expression) is Col:
            return {} if value == "{}" else DECODER.decode(value)
        return super().from_db_value(value, expression, connection)

    def prepare(self, value: Any, sanitizer: Sanitizer) -> Any:
        cleaned = super().prepare(value, sanitizer)
        if cleaned is not None:
            sanitizer.texts[self.attname] = cleaned, sanitizer.json_text
        return cleaned

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> Any:
        return sanitizer.json(value)


class MappingField(PayloadField):
    """A JSON object."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> dict[str, Any]:
        if not isinstance(value, dict | Mapping):  # the abstract class alone is slow to look at
            raise ValidationError(f"expected a mapping, got {shown(value)}.")
        cleaned: dict[str, Any] = sanitizer.json(value)
        return cleaned


class TagsField(PayloadField):
    """A JSON list of strings."""

    def clean_column(self, value: Any, sanitizer: Sanitizer) -> list[str]:
        if not isinstance(value, list | tuple) or not all(isinstance(tag, str) for tag in value):
            raise ValidationError(f"expected a list of strings, got {shown(value)}.")
        return list(sanitizer.json(value))


def generated_float(expression: models.Expression) -> models.GeneratedField:
    """A column that the database makes of others of the row, and stores."""
    return models.GeneratedField(
        expression=expression, output_field=models.FloatField(), db_persist=True
    )


def generated_text(expression: models.Expression) -> models.GeneratedField:
    """The same of text, which compares exactly; null where the expression gives none."""
    text = TextField(max_length=MAX_GENERATED_LENGTH, null=True)
    return models.GeneratedField(expression=expression, output_field=text, db_persist=True)


class PartialIndex(models.Index):
    """An index over the rows that match `where`; over all rows where MySQL knows no such index.

    Not `Index(condition=...)`: with that one Django makes no index at all on MySQL, and warns.
    """

    def __init__(self, *expressions: Any, where: models.Q, **kwargs: Any) -> None:
        super().__init__(*expressions, **kwargs)
        self.where = where

    def deconstruct(self) -> Any:
        path, expressions, kwargs = super().deconstruct()
        return path, expressions, {**kwargs, "where": self.where}

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement:
        partial = schema_editor.connection.features.supports_partial_indexes
        index = models.Index(
            fields=[name for name, _order in self.fields_orders],
            name=self.name,
            condition=self.where if partial else None,
        )
        return index.create_sql(model, schema_editor, using, **kwargs)
