"""search_runs: what it finds, in which order, page by page, on every database."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from asm_store.exceptions import InvalidCursor, InvalidStatus, QueryError
from asm_store.filters import RunFilterSet
from asm_store.models import Run, Session
from asm_store.queries import asearch_runs, search_runs
from asm_store.queries.search import RUN_ORDERS, RunFilters
from asm_store.test import make_run, make_session
from tests.queries.paging import ids, pages
from tests.queries.usage import HOSTILE, counts

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
PROVIDERS = ["claude", "Claude", "claude ", "codex", None]
SESSIONS = ["ses_1", "SES_1", "ses_2", "ses_deleted"]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def make_corpus() -> list[Run]:
    chance = random.Random(5)
    return [
        make_run(
            chance.choice(SESSIONS),
            id=f"{chance.choice(['r', 'R', 'é', '😀'])}{number:03}",
            status=chance.choice(Run.Status.values),
            provider=chance.choice(PROVIDERS),
            started_at=moment(chance.randrange(9) / 1_000_000),
            token_usage=chance.choice([*HOSTILE, {"total_tokens": chance.randrange(5)}]),
        )
        for number in range(120)
    ]


def save(using: str, runs: list[Run]) -> None:
    sessions = [make_session(id=pk) for pk in SESSIONS]
    sessions[-1].deleted_at = START
    Session.objects.using(using).bulk_create(sessions)
    Run.objects.using(using).bulk_create(runs)


def total(run: Run) -> float:
    return counts(run.token_usage)["total_tokens"]


KEYS: dict[str, Callable[[Run], Any]] = {
    "started_at": lambda run: (run.started_at, run.id),
    "token_usage": lambda run: (total(run), run.id),
}


def expected(runs: list[Run], order_by: str, wanted: dict[str, Any]) -> list[str]:
    """The same question, asked of a list."""
    column, _, direction = order_by.rpartition("_")
    found = [run for run in runs if matches(run, **wanted)]
    return ids(sorted(found, key=KEYS[column], reverse=direction == "desc"))


def matches(
    run: Run,
    *,
    session_id: str | None = None,
    provider: list[str] | None = None,
    status: list[str] | None = None,
    started_after: datetime = START,
    started_before: datetime = END,
    min_tokens: int = 0,
    include_deleted: bool = False,
) -> bool:
    return (
        session_id in {None, run.session_id}
        and (provider is None or run.provider in provider)
        and (status is None or run.status in status)
        and started_after <= run.started_at <= started_before
        and total(run) >= min_tokens
        and (include_deleted or run.session_id != "ses_deleted")
    )


def some_filters(chance: random.Random) -> dict[str, Any]:
    every: dict[str, Callable[[], Any]] = {
        "session_id": lambda: chance.choice([*SESSIONS, "ses_3"]),
        "provider": lambda: chance.sample(["claude", "Claude", "codex", "x"], chance.randrange(4)),
        "status": lambda: chance.sample(Run.Status.values, chance.randrange(5)),
        "started_after": lambda: moment(chance.randrange(9) / 1_000_000),
        "started_before": lambda: moment(chance.randrange(9) / 1_000_000),
        "min_tokens": lambda: chance.choice([0, 1, 7, 2**53, 10**30, 10**99]),
        "include_deleted": lambda: chance.choice([True, False]),
    }
    return {name: every[name]() for name in chance.sample(sorted(every), chance.choice([0, 1, 2]))}


@pytest.mark.parametrize("order_by", RUN_ORDERS)
def test_every_page_is_what_a_list_would_say(using: str, order_by: str) -> None:
    runs = make_corpus()
    save(using, runs)
    chance = random.Random(order_by)
    for _ in range(25):
        wanted = some_filters(chance)
        limit = chance.choice([17, 40, 1000])
        found = list(pages(search_runs, using=using, order_by=order_by, limit=limit, **wanted))
        assert [pk for page in found for pk in ids(page.runs)] == expected(
            runs, order_by, wanted
        ), wanted
        assert all(len(page.runs) == limit for page in found[:-1])
        assert found[-1].runs or len(found) == 1, "the last page is never empty"


@pytest.mark.parametrize("order_by", RUN_ORDERS)
def test_pages_of_one_row_go_through_ties(using: str, order_by: str) -> None:
    usage = {"input_tokens": 0.1, "output_tokens": 0.2}  # no float that is written shortly
    runs = [make_run("ses_1", id=f"r{n}", started_at=START, token_usage=usage) for n in range(6)]
    save(using, runs)
    found = pages(search_runs, using=using, order_by=order_by, limit=1)
    in_order = ids(runs) if order_by.endswith("asc") else ids(runs)[::-1]
    assert [pk for page in found for pk in ids(page.runs)] == in_order


def test_one_page_is_one_statement_without_offset(using: str) -> None:
    save(using, [make_run("ses_1") for _ in range(4)])
    for order_by in RUN_ORDERS:
        cursor = search_runs(using=using, order_by=order_by, limit=2).cursor
        with CaptureQueriesContext(connections[using]) as captured:
            search_runs(using=using, order_by=order_by, limit=2, cursor=cursor)
        [statement] = captured
        assert "OFFSET" not in statement["sql"]
        assert "COUNT(" not in statement["sql"]


def test_what_is_found_is_what_is_stored(using: str) -> None:
    run = make_run("ses_1", token_usage={"input_tokens": 2**70}, output=[1, {"a": None}])
    save(using, [run])
    [found] = search_runs(using=using).runs
    assert found.to_dict() == run.to_dict()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": 0}, QueryError),
        ({"limit": 1_001}, QueryError),
        ({"order_by": "created_at_desc"}, QueryError),
        ({"order_by": "token_usage"}, QueryError),
        ({"min_tokens": -1}, QueryError),
        ({"min_tokens": 1.5}, QueryError),
        ({"min_tokens": "1"}, QueryError),
        ({"min_tokens": True}, QueryError),
        ({"min_tokens": 10**101}, QueryError),
        ({"session_id": ""}, QueryError),
        ({"session_id": "x" * 256}, QueryError),
        ({"session_id": "a\0"}, QueryError),
        ({"session_id": ["ses_1"]}, QueryError),
        ({"agent_id": "a"}, QueryError),
        ({"started_after": "2026-03-01"}, QueryError),
        ({"status": "paused"}, InvalidStatus),
        ({"cursor": "x:y"}, InvalidCursor),
    ],
)
def test_bad_arguments_are_refused_before_any_sql(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    # This test has no access to a database.
    with pytest.raises(error):
        search_runs(**arguments)


def test_requests_say_numbers_as_text(using: str) -> None:
    save(using, [make_run("ses_1", id=f"r{n}", token_usage={"total_tokens": n}) for n in range(4)])
    runs = Run.objects.using(using).order_by("id")
    assert ids(list(RunFilterSet(QueryDict("min_tokens=2&session_id=ses_1"), runs).qs)) == [
        "r2",
        "r3",
    ]
    for query in ("min_tokens=-1", "min_tokens=1.5", "min_tokens=x", f"min_tokens={'9' * 5000}"):
        assert not RunFilterSet(QueryDict(query), runs).is_valid()


def test_the_async_twin_is_the_same_call(using: str) -> None:
    save(using, [make_run("ses_1") for _ in range(3)])
    assert async_to_sync(asearch_runs)(using=using, limit=2) == search_runs(using=using, limit=2)


def test_the_types_name_every_filter() -> None:
    assert list(RunFilters.__annotations__) == list(RunFilterSet.base_filters)
