"""Checks of what callers give to a store, alike for every store, before anything is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from .. import conf
from ..events.sanitizing import Sanitizer, has_unstorable, shown
from ..exceptions import ValidationError
from ..fields import (
    MAX_BIGINT,
    clean_event_type,
    clean_id,
    clean_status,
    clean_time,
    clean_whole_number,
)
from ..models import Event, Record, Run, Session

RecordType = TypeVar("RecordType", bound=Record)
# No wait is longer, in seconds (a year); infinity is said by None.
LONGEST = 366 * 86_400


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The checked arguments of `get_events`; None means no restriction."""

    session_id: str
    run_id: str | None = None
    types: tuple[str, ...] | None = None
    since: datetime | None = None
    after: int | None = None
    before: int | None = None
    limit: int | None = None
    # Of lines alone: do they have `data` and `metadata`?
    payloads: bool = True

    def page(self, after: int, before: int, limit: int) -> EventFilter:
        """The same of some numbers; several times as fast as `dataclasses.replace()`."""
        return EventFilter(
            self.session_id,
            self.run_id,
            self.types,
            self.since,
            after,
            before,
            limit,
            self.payloads,
        )

    @property
    def matches_nothing(self) -> bool:
        """Whether no event that may ever be stored is asked for."""
        return self.limit == 0 or self.types == ()

    def matches(self, event: Event) -> bool:
        """Whether `event`, of that session, is one of those asked for (`limit` apart)."""
        number = event.sequence_number
        return (
            (self.run_id is None or event.run_id == self.run_id)
            and (self.types is None or event.type in self.types)
            and (self.since is None or event.timestamp > self.since)
            and (self.after is None or number > self.after)
            and (self.before is None or number < self.before)
        )


def prepared(record: RecordType, kind: type[RecordType]) -> RecordType:
    """A storable copy of `record`, which must be a `kind`."""
    _check_kind(record, kind)
    return record.prepared().redacted()


def prepared_events(value: object) -> list[Event]:
    """The same of any iterable of events."""
    max_bytes, is_redacting = conf.max_event_bytes(), conf.redaction()
    records = []
    for event in _items(value, "events"):
        _check_kind(event, Event)
        record = event.prepared(max_bytes=max_bytes)
        records.append(record.redacted() if is_redacting else record)
    return records


def _check_kind(record: object, kind: type[Record]) -> None:
    if type(record) is kind:
        return
    if not isinstance(record, kind) or record._meta.concrete_model is not kind:
        raise ValidationError(f"expected a {kind.__name__}, got {shown(record)}.")


def prepared_session(session: Session) -> Session:
    record = prepared(session, Session)
    if record.parent_session_id == record.id:
        raise ValidationError("parent_session_id: a session cannot be its own parent.")
    return record


def optional_id(value: object, name: str) -> str | None:
    return None if value is None else clean_id(value, name)


def optional_text(value: object, name: str) -> str | None:
    """A text to compare with: one that cannot be stored is an error, not an empty result."""
    if value is None:
        return None
    if not isinstance(value, str) or has_unstorable(value):
        raise ValidationError(f"{name}: expected storable text, got {shown(value)}.")
    return value


def optional_time(value: object, name: str) -> datetime | None:
    return None if value is None else clean_time(value, name)


def seconds(value: object, name: str) -> float:
    """A length of time in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise ValidationError(f"{name}: expected 0 to {LONGEST} seconds, got {shown(value)}.")
    return float(value)


def optional_seconds(value: object, name: str) -> float | None:
    return None if value is None else seconds(value, name)


def row_count(value: object, name: str) -> int | None:
    """A `limit` or `offset`; larger than any table is as good as the largest there can be."""
    return None if value is None else min(clean_whole_number(value, name, 0, 10**100), MAX_BIGINT)


def sequence_bound(value: object, name: str) -> int | None:
    """An `after` or `before`: any whole number, brought near the numbers that can occur."""
    if value is None:
        return None
    number = clean_whole_number(value, name, -(10**100), 10**100)
    return max(-1, min(number, MAX_BIGINT))


def strings(value: object, name: str, sanitizer: Sanitizer) -> list[str]:
    """A list of strings made storable, from any iterable of them but a string."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValidationError(f"{name}: expected a list of strings, got {shown(value)}.")
    found = list(value)
    for item in found:
        if not isinstance(item, str):
            raise ValidationError(f"{name}: expected a string, got {shown(item)}.")
    return [sanitizer.text(item) for item in found]


def one_or_list(value: object, check: Callable[[object], str]) -> tuple[str, ...] | None:
    """`status` or `type` as callers give it: None, one value, or some; each one checked."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (check(value),)
    return tuple(check(item) for item in value)


def session_statuses(value: object) -> tuple[str, ...] | None:
    return one_or_list(value, lambda item: clean_status(item, Session.Status.values))


def run_statuses(value: object) -> tuple[str, ...] | None:
    return one_or_list(value, lambda item: clean_status(item, Run.Status.values))


def event_types(value: object) -> tuple[str, ...] | None:
    return one_or_list(value, clean_event_type)


def json_mapping(value: object, name: str, sanitizer: Sanitizer) -> dict[str, Any]:
    """A mapping to merge into a JSON column, made storable; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValidationError(f"{name}: expected a mapping, got {shown(value)}.")
    return dict(sanitizer.json(value))


def flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValidationError(f"{name}: expected True or False, got {shown(value)}.")
    return value


def _items(value: object, name: str) -> list[Any]:
    # A list needs no look at the abstract classes, which is slow.
    if type(value) is not list and (
        isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    ):
        raise ValidationError(f"{name}: expected a list of events, got {shown(value)}.")
    return list(value)


def check_together(session: Session, run: Run, events: list[Event]) -> None:
    """A flush is of one session, one run of it, and events of that run or of none."""
    if run.session_id != session.id:
        raise ValidationError(f"session_id: run {run.id} is not of session {session.id}.")
    for event in events:
        if event.session_id != session.id:
            raise ValidationError(f"session_id: event {event.id} is not of session {session.id}.")
        if event.run_id not in (None, run.id):
            raise ValidationError(f"run_id: event {event.id} is not of run {run.id}.")
