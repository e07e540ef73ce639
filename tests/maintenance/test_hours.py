"""The hour of UTC that a moment belongs to, as each database tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections

from asm_store.expressions import HourOf
from asm_store.marks import hour_of
from asm_store.models import Session
from asm_store.test import make_session
from tests.cases import only_on

HOUR, LEAST = timedelta(hours=1), timedelta(microseconds=1)
BEGIN = datetime(2026, 3, 29, tzinfo=UTC)  # a day on which many clocks are moved
MOMENTS = [BEGIN + n * HOUR + part for n in range(24) for part in (timedelta(0), HOUR / 2, -LEAST)]


def hours(using: str) -> set[datetime]:
    """What the database says, after it has been compared moment by moment."""
    sessions = [make_session(created_at=moment) for moment in MOMENTS]
    Session.objects.using(using).bulk_create(sessions)
    rows: Any = Session.objects.using(using).annotate(hour=HourOf("created_at"))
    found = rows.values_list("created_at", "hour")
    assert all(hour == hour_of(moment) for moment, hour in found)
    return set(rows.values_list("hour", flat=True).distinct())


@contextmanager
def kept_in(using: str, zone: str) -> Iterator[None]:
    """As with `TIME_ZONE` in `DATABASES`, for a database that has no zones itself."""
    connection: Any = connections[using]
    before = connection.settings_dict["TIME_ZONE"]
    try:
        _set_zone(connection, zone)
        yield
    finally:
        _set_zone(connection, before)


def _set_zone(connection: Any, zone: str | None) -> None:
    connection.settings_dict["TIME_ZONE"] = zone
    for name in ("timezone", "timezone_name"):
        connection.__dict__.pop(name, None)


def test_every_database_knows_it(using: str) -> None:
    assert hours(using) == {hour_of(moment) for moment in MOMENTS}


@only_on("default")
def test_it_is_of_utc_where_moments_are_kept_in_another_zone(using: str) -> None:
    with kept_in(using, "Asia/Kolkata"):
        assert hours(using) == {hour_of(moment) for moment in MOMENTS}
