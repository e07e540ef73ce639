"""Stored events as JSON lines, `to_dict()` each; payloads pass through as the text they are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from json.encoder import encode_basestring
from typing import Any

from django.db.models import TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from ..db import get_operations
from ..querysets import EventQuerySet

PAYLOADS = ("data", "metadata")
COLUMNS = (
    "id", "type", "timestamp", "session_id", "run_id", "sequence_number",
    "schema_version", "provider", "correlation_id",
)  # fmt: skip


def of(events: EventQuerySet, *, payloads: bool = True) -> list[tuple[int, bytes]]:
    """The numbers of the events, and their lines: without `payloads`, these are not read."""
    if (rows := made_by_database(events, payloads=payloads)) is not None:
        return ended(rows)
    texts = [Cast(name, TextField()) for name in PAYLOADS if payloads]
    return [(row[5], _line(*row)) for row in events.values_list(*COLUMNS, *texts)]


def made_by_database(events: EventQuerySet, *, payloads: bool) -> Any:
    """A query for numbers and lines as text, not ended; None where the database makes none."""
    if (sql := get_operations(events.db).event_json(payloads=payloads)) is None:
        return None
    return events.values_list("sequence_number", RawSQL(sql, (), TextField()))  # noqa: S611


def ended(rows: Iterable[tuple[int, str]]) -> list[tuple[int, bytes]]:
    """What that query gives, as lines."""
    return [(number, f"{text}\n".encode()) for number, text in rows]


def _text(value: str | None) -> str:
    # What an Encoder does with a string, without its overhead.
    return "null" if value is None else encode_basestring(value)


def _line(
    pk: str, kind: str, timestamp: Any, session_id: str, run_id: str | None, number: int,
    version: int, provider: str | None, correlation_id: str | None, *payloads: str,
) -> bytes:  # fmt: skip
    texts = "".join(f'"{name}":{text},' for name, text in zip(PAYLOADS, payloads, strict=False))
    line = (
        f'{{"id":{_text(pk)},"type":{_text(kind)},'
        f'"timestamp":"{timestamp.astimezone(UTC).isoformat(timespec="microseconds")}",'
        f'"session_id":{_text(session_id)},"run_id":{_text(run_id)},"sequence_number":{number},'
        f'{texts}"schema_version":{version},'
        f'"provider":{_text(provider)},"correlation_id":{_text(correlation_id)}}}'
    )
    # Within JSON a line break is white space: in a string it is escaped.
    return (line.replace("\n", " ") + "\n").encode()
