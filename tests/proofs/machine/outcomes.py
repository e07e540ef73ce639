"""What stores answer and hold, in forms in which those of two stores are equal or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock

from asgiref.sync import async_to_sync
from django.db import models
from django.utils import timezone

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.fields import PayloadField
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from asm_store.test.contract.values import NOON, SECOND

Tables = dict[str, dict[str, Any]]

KINDS: dict[str, type[models.Model]] = {"sessions": Session, "runs": Run, "events": Event}


class Clock:
    """Stands still until it is told to tick: so the stamps of two stores can be compared."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment

    def tick(self) -> None:
        self.moment += SECOND

    def installed(self) -> Any:
        """A context manager: Django's `timezone.now()` is this clock."""
        return mock.patch.object(timezone, "now", self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returned, or raised."""

    result: Any = None
    error: Exception | None = None

    @classmethod
    def of(cls, call: Callable[[], Any]) -> Outcome:
        try:
            return cls(call())
        except Exception as error:  # compared, and judged, by who asked
            return cls(error=error)

    @property
    def seen(self) -> Any:
        """All of it that a caller can tell apart."""
        if self.error is None:
            return "returned", described(self.result)
        more = {name: described(value) for name, value in vars(self.error).items()}
        return "raised", type(self.error).__name__, str(self.error), more


def described(value: Any) -> Any:
    """`value` with the types of all its parts; a JSON line by its content."""
    if isinstance(value, models.Model):
        return type(value).__name__, value._state.adding, columns(value)
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, bytes):
        assert value.endswith(b"\n"), value
        return canonical(json.loads(value))
    return type(value).__name__, value


def columns(record: models.Model) -> dict[str, Any]:
    """The stored columns; 1, 1.0 and True are three values, and a kind of a str is no str."""
    return {
        field.attname: _cell(getattr(record, field.attname))
        for field in record._meta.concrete_fields
        if not field.generated
    }


def _cell(value: Any) -> Any:
    if type(value) in (dict, list):
        return canonical(value)
    if isinstance(value, datetime):
        return type(value).__name__, value.isoformat()
    return type(value).__name__, value


def canonical(value: Any) -> str:
    """JSON in which the order of keys, which PostgreSQL does not keep, says nothing."""
    return json.dumps(value, sort_keys=True)


def call(store: BaseSessionStore, name: str, *arguments: Any, **options: Any) -> Any:
    """What the store's method `name` returns; all that it yields, in a list. To a writer the last
    argument is written.
    """
    if name == "writer":
        *arguments_of_writer, event = arguments
        with store.writer(*arguments_of_writer, **options) as writer:
            return writer.write(event)
    answer = getattr(store, name)(*arguments, **options)
    return list(answer) if isinstance(answer, Iterator) else answer


def acall(store: BaseSessionStore, name: str, *arguments: Any, **options: Any) -> Any:
    """As `call()`, by the method's async twin."""

    async def run() -> Any:
        if name == "writer":
            *arguments_of_writer, event = arguments
            async with store.awriter(*arguments_of_writer, **options) as writer:
                return await writer.write(event)
        answer = getattr(store, f"a{name}")(*arguments, **options)
        if isinstance(answer, AsyncIterator):
            return [item async for item in answer]
        return await answer

    return async_to_sync(run)()


def database_tables(using: str) -> Tables:
    """Every row of the four tables that both stores keep; `stamps` and `artifacts` beside."""
    counters = list(SessionSequence.objects.using(using))
    return {
        **{name: _by_id(kind._base_manager.using(using)) for name, kind in KINDS.items()},
        "counters": {counter.pk: counter.last_sequence for counter in counters},
        "stamps": {counter.pk: counter.updated_at for counter in counters},
        "artifacts": dict(Artifact.objects.using(using).values_list("id", "session_id")),
    }


def memory_tables(store: InMemorySessionStore) -> Tables:
    """The same of the store in memory, whose counters are the lengths of its logs."""
    data = store._data
    in_logs = [event for log in data.logs.values() for event in log]
    assert _by_id(in_logs) == _by_id(data.events.values())
    return {
        "sessions": _by_id(data.sessions.values()),
        "runs": _by_id(data.runs.values()),
        "events": _by_id(data.events.values()),
        "counters": {session_id: len(log) for session_id, log in data.logs.items()},
    }


def _by_id(records: Iterable[models.Model]) -> dict[str, Any]:
    return {record.pk: columns(record) for record in records}


def empty(using: str) -> None:
    """Delete every row of the five tables."""
    for kind in (Artifact, Event, Run, Session, SessionSequence):
        rows = kind._base_manager.using(using).all()
        rows._raw_delete(using)


def held(given: Any) -> Any:
    """What the records in `given` hold."""
    if isinstance(given, list | tuple):
        return [held(item) for item in given]
    if isinstance(given, models.Model):
        return repr({name: value for name, value in vars(given).items() if name != "_state"})
    return repr(given)


def spoil(value: Any) -> None:
    """Change the JSON of records, which are the caller's: a store must not hold the same."""
    if isinstance(value, list | tuple):
        for item in value:
            spoil(item)
    elif isinstance(value, models.Model):
        for field in value._meta.concrete_fields:
            if isinstance(field, PayloadField):
                spoil_json(getattr(value, field.attname))


def spoil_json(value: Any) -> None:
    """Change every container in `value`."""
    if isinstance(value, list):
        for item in value:
            spoil_json(item)
        value.append("spoilt")
    elif isinstance(value, dict):
        for item in value.values():
            spoil_json(item)
        value["spoilt"] = True
