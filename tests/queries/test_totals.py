"""get_totals: how many records match, on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store.exceptions import QueryError
from asm_store.models import Event, Run, Session
from asm_store.queries import Totals, aget_totals, get_totals
from asm_store.test import make_event, make_run, make_session

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOTHING = Totals(0, 0, {}, 0, {}, 0)


def save(using: str) -> None:
    """Two sessions a day apart, the later one soft-deleted, each with a run and an event."""
    sessions = [
        make_session(id="ses_1", agent_id="a", status="active", created_at=START),
        make_session(id="ses_2", agent_id="b", created_at=START + DAY, deleted_at=START),
    ]
    Session.objects.using(using).bulk_create(sessions)
    for session, provider in zip(sessions, ("claude", "codex"), strict=True):
        at = session.created_at
        run = make_run(session, status="failed", provider=provider, started_at=at)
        event = make_event(session, sequence_number=1, provider=provider, timestamp=at)
        Run.objects.using(using).bulk_create([run])
        Event.objects.using(using).bulk_create([event])


FIRST = Totals(1, 0, {"active": 1}, 1, {"failed": 1}, 1)
SECOND = Totals(1, 1, {"pending": 1}, 1, {"failed": 1}, 1)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, Totals(2, 1, {"active": 1, "pending": 1}, 2, {"failed": 2}, 2)),
        ({"session_id": "ses_1"}, FIRST),
        ({"agent_id": "b"}, SECOND),
        ({"provider": "claude"}, FIRST),
        ({"provider": []}, NOTHING),
        ({"since": START + DAY}, SECOND),
        ({"until": START}, FIRST),
        ({"session_id": "ses_1", "provider": ["codex"]}, NOTHING),
    ],
)
def test_all_that_matches_is_counted(using: str, filters: Any, expected: Totals) -> None:
    save(using)
    assert get_totals(using=using, **filters) == expected
    assert async_to_sync(aget_totals)(using=using, **filters) == expected


def test_a_filter_may_be_any_iterable(using: str) -> None:
    save(using)
    names = ["claude", "nobody"]
    wanted: list[Any] = [(name for name in names), set(names), dict.fromkeys(names).keys()]
    for provider in wanted:
        assert get_totals(using=using, provider=provider) == FIRST


@pytest.mark.parametrize("filters", [{"status": "active"}, {"since": "now"}, {"provider": 5}])
def test_bad_filters_are_refused_before_any_sql(filters: Any) -> None:
    with pytest.raises(QueryError):
        get_totals(**filters)
