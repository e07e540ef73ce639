"""search_events and count_events: what they find, in which order, on every database."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.http import QueryDict
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.exceptions import InvalidCursor, InvalidEventType, QueryError
from asm_store.filters import EventFilterSet
from asm_store.models import Event, Run, Session
from asm_store.queries import acount_events, asearch_events, count_events, search_events
from asm_store.queries.search import EVENT_ORDERS, EventFilters
from asm_store.test import make_event, make_run, make_session
from tests.queries.paging import ids, pages

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
SESSIONS = ["ses_1", "SES_1", "ses_2", "ses_deleted"]
TYPES = ["message_sent", "message_received", "tool_call_started"]
PROVIDERS = ["claude", "Claude", "claude ", None]
CALLS = ["call", "Call", "call ", None]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def make_corpus() -> list[Event]:
    """Each session has a run and a few events without one."""
    chance = random.Random(6)
    return [
        make_event(
            session,
            id=f"{chance.choice(['e', 'E', 'é', '😀'])}{session}{number:02}",
            run_id=chance.choice([f"run_{session}", None]),
            sequence_number=number,
            type=chance.choice(TYPES),
            provider=chance.choice(PROVIDERS),
            correlation_id=chance.choice(CALLS),
            timestamp=moment(chance.randrange(9) / 1_000_000),
        )
        for session in SESSIONS
        for number in range(1, 31)
    ]


def save(using: str, events: list[Event]) -> None:
    sessions = [make_session(id=pk) for pk in SESSIONS]
    sessions[-1].deleted_at = START
    Session.objects.using(using).bulk_create(sessions)
    Run.objects.using(using).bulk_create(make_run(pk, id=f"run_{pk}") for pk in SESSIONS)
    Event.objects.using(using).bulk_create(events)


KEYS: dict[str, Callable[[Event], Any]] = {
    "sequence": lambda event: (event.sequence_number, event.id),
    "timestamp": lambda event: (event.timestamp, event.id),
}


def expected(events: list[Event], order_by: str, wanted: dict[str, Any]) -> list[str]:
    """The same question, asked of a list."""
    column, _, direction = order_by.rpartition("_")
    found = [event for event in events if matches(event, **wanted)]
    return ids(sorted(found, key=KEYS[column], reverse=direction == "desc"))


def matches(
    event: Event,
    *,
    session_ids: list[str] | None = None,
    run_ids: list[str] | None = None,
    types: list[str] | None = None,
    providers: list[str] | None = None,
    since: datetime = START,
    until: datetime = END,
    correlation_id: str | None = None,
    include_deleted: bool = False,
) -> bool:
    return (
        (session_ids is None or event.session_id in session_ids)
        and (run_ids is None or event.run_id in run_ids)
        and (types is None or event.type in types)
        and (providers is None or event.provider in providers)
        and since <= event.timestamp <= until
        and correlation_id in {None, event.correlation_id}
        and (include_deleted or event.session_id != "ses_deleted")
    )


def some_filters(chance: random.Random) -> dict[str, Any]:
    every: dict[str, Callable[[], Any]] = {
        "session_ids": lambda: chance.sample([*SESSIONS, "ses_3"], chance.randrange(4)),
        "run_ids": lambda: [f"run_{pk}" for pk in chance.sample(SESSIONS, chance.randrange(3))],
        "types": lambda: chance.sample(TYPES, chance.randrange(4)),
        "providers": lambda: chance.sample(["claude", "Claude", "x"], chance.randrange(3)),
        "since": lambda: moment(chance.randrange(9) / 1_000_000),
        "until": lambda: moment(chance.randrange(9) / 1_000_000),
        "correlation_id": lambda: chance.choice(["call", "Call", "call ", "CALL"]),
        "include_deleted": lambda: chance.choice([True, False]),
    }
    return {name: every[name]() for name in chance.sample(sorted(every), chance.choice([0, 1, 2]))}


@pytest.mark.parametrize("order_by", EVENT_ORDERS)
def test_every_page_is_what_a_list_would_say(using: str, order_by: str) -> None:
    events = make_corpus()
    save(using, events)
    chance = random.Random(order_by)
    for _ in range(25):
        wanted = some_filters(chance)
        limit = chance.choice([17, 40, 1000])
        found = list(pages(search_events, using=using, order_by=order_by, limit=limit, **wanted))
        listed = expected(events, order_by, wanted)
        assert [pk for page in found for pk in ids(page.events)] == listed, wanted
        assert count_events(using=using, **wanted) == len(listed), wanted
        assert all(len(page.events) == limit for page in found[:-1])
        assert found[-1].events or len(found) == 1, "the last page is never empty"


@pytest.mark.parametrize("wanted", [{"session_ids": ["ses_1"]}, {"run_ids": ["run_ses_1"]}])
def test_one_sessions_events_are_in_the_order_of_their_numbers(
    using: str, wanted: dict[str, Any]
) -> None:
    save(using, make_corpus())
    found = list(pages(search_events, using=using, limit=3, **wanted))
    numbers = [event.sequence_number for page in found for event in page.events]
    assert len(numbers) > 6
    assert numbers == sorted(set(numbers))


def test_one_page_and_a_count_are_one_statement_each(using: str) -> None:
    save(using, make_corpus())
    for order_by in EVENT_ORDERS:
        cursor = search_events(using=using, order_by=order_by, limit=2).cursor
        with CaptureQueriesContext(connections[using]) as captured:
            search_events(using=using, order_by=order_by, limit=2, cursor=cursor)
        [statement] = captured
        assert "OFFSET" not in statement["sql"]
    with CaptureQueriesContext(connections[using]) as captured:
        count_events(using=using, types=TYPES)
    assert len(captured) == 1


def test_what_is_found_is_what_is_stored(using: str) -> None:
    event = make_event("ses_1", id="e", sequence_number=1, data={"a": [2**70, "日本"]})
    save(using, [event])
    [found] = search_events(using=using).events
    assert found.to_dict() == event.to_dict()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"session_ids": "ses_1"}, QueryError),
        ({"session_ids": [""]}, QueryError),
        ({"session_ids": [5]}, QueryError),
        ({"session_ids": ["x" * 256]}, QueryError),
        ({"run_ids": [None]}, QueryError),
        ({"types": "message_sent"}, QueryError),
        ({"types": ["no_such_type"]}, InvalidEventType),
        ({"types": [None]}, InvalidEventType),
        ({"providers": "claude"}, QueryError),
        ({"since": datetime(2026, 1, 1)}, QueryError),  # noqa: DTZ001
        ({"until": 5}, QueryError),
        ({"correlation_id": ["call"]}, QueryError),
        ({"correlation_id": "\ud800"}, QueryError),
        ({"include_deleted": "no"}, QueryError),
        ({"session_id": "ses_1"}, QueryError),
    ],
)
def test_bad_filters_are_refused_before_any_sql(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    # This test has no access to a database.
    for ask in (search_events, count_events):
        with pytest.raises(error):
            ask(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": 0}, QueryError),
        ({"limit": 1_001}, QueryError),
        ({"order_by": "sequence_desc"}, QueryError),
        ({"cursor": "x:y"}, InvalidCursor),
    ],
)
def test_bad_pages_are_refused_before_any_sql(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        search_events(**arguments)


@override_settings(ASM_STORE_EXTRA_EVENT_TYPES=["plan_revised"])
def test_a_projects_own_types_can_be_searched_for(using: str) -> None:
    save(using, [make_event("ses_1", id="e", sequence_number=1, type="plan_revised")])
    assert ids(search_events(using=using, types=["plan_revised"]).events) == ["e"]
    events = Event.objects.using(using)
    assert ids(list(EventFilterSet(QueryDict("types=plan_revised"), events).qs)) == ["e"]


def test_the_async_twins_are_the_same_calls(using: str) -> None:
    save(using, make_corpus())
    page = async_to_sync(asearch_events)(using=using, limit=2)
    assert page == search_events(using=using, limit=2)
    assert async_to_sync(acount_events)(using=using) == 90


def test_the_types_name_every_filter() -> None:
    assert list(EventFilters.__annotations__) == list(EventFilterSet.base_filters)
