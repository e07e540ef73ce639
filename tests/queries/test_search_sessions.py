"""search_sessions: what it finds, in which order, page by page, on every database."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.exceptions import (
    InvalidCursor,
    InvalidStatus,
    MigrationRequired,
    QueryError,
    StorageError,
)
from asm_store.filters import MAX_VALUES, SessionFilterSet
from asm_store.models import Run, Session
from asm_store.queries import SessionPage, asearch_sessions, search_sessions
from asm_store.queries.search import SESSION_ORDERS, SessionFilters
from asm_store.test import make_run, make_session
from tests.queries.paging import ids, pages

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
AGENTS = ["assistant", "Assistant", "assistant ", "ässistant"]
PROVIDERS = ["claude", "Claude", "claude ", "codex", None]
# Each is to be found exactly, whatever a database's JSON makes of it.
TAGS = [
    "a", "A", "a ", " a", "ä", "a\u0308", "Ä", "größe", "日本", "🙂", "\U0010ffff", "", " ",
    '"', "\\", '\\"', 'a"b', "a\\b", "\\u0061", "%", "_", "a%", "[", "]", ",", '","', '["a"]',
    "{}", "null", "true", "1", "1.0", "\n", "\t", "\r", "\x01", "\x7f", "\u2028", "\ufeff",
    "/", "\\/", "'", "';--", "ß", "ss", "\u0131", "i", "I", "\u2400", "$", "$[0]", "x" * 300,
]  # fmt: skip


class EqualToAll:
    """No name of an order, whatever it says."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def save(using: str, sessions: list[Session], runs: list[Run] | None = None) -> None:
    Session.objects.using(using).bulk_create(sessions)
    Run.objects.using(using).bulk_create(runs or [])


def make_corpus() -> tuple[list[Session], list[Run]]:
    """Sessions that share times, agents, statuses and tags in every combination, and runs."""
    chance = random.Random(4)
    sessions = [
        make_session(
            id=f"{chance.choice(['s', 'S', 'é', '😀'])}{number:02}",
            agent_id=chance.choice(AGENTS),
            status=chance.choice(Session.Status.values),
            tags=chance.sample(["a", "A", "b", "ä"], chance.randrange(4)),
            created_at=moment(chance.randrange(8)),
            updated_at=moment(chance.randrange(8) / 1_000_000),
            deleted_at=chance.choice([None, None, None, START]),
        )
        for number in range(90)
    ]
    runs = [
        make_run(chance.choice(sessions), provider=chance.choice(PROVIDERS)) for _ in range(120)
    ]
    return sessions, runs


class Oracle:
    """The same questions, asked of lists."""

    def __init__(self, sessions: list[Session], runs: list[Run]) -> None:
        self.sessions = sessions
        self.providers: dict[str, set[Any]] = {session.id: set() for session in sessions}
        for run in runs:
            self.providers[run.session_id].add(run.provider)

    def search(self, order_by: str, wanted: dict[str, Any]) -> list[str]:
        column, _, direction = order_by.rpartition("_")
        found = [session for session in self.sessions if self.matches(session, **wanted)]
        found.sort(key=lambda session: (getattr(session, column), session.id))
        return ids(found[::-1] if direction == "desc" else found)

    def matches(
        self,
        session: Session,
        *,
        agent_id: str | None = None,
        status: list[str] | None = None,
        provider: list[str] | None = None,
        tags: tuple[str, ...] = (),
        created_after: datetime = START,
        created_before: datetime = END,
        include_deleted: bool = False,
    ) -> bool:
        return (
            agent_id in {None, session.agent_id}
            and (status is None or session.status in status)
            and (provider is None or not self.providers[session.id].isdisjoint(provider))
            and set(tags) <= set(session.tags)
            and created_after <= session.created_at <= created_before
            and (include_deleted or session.deleted_at is None)
        )


def some_filters(chance: random.Random) -> dict[str, Any]:
    every: dict[str, Callable[[], Any]] = {
        "agent_id": lambda: chance.choice([*AGENTS, "nobody"]),
        "status": lambda: chance.sample(Session.Status.values, chance.randrange(5)),
        "provider": lambda: chance.sample(["claude", "Claude", "codex", "x"], chance.randrange(4)),
        "tags": lambda: tuple(chance.sample(["a", "A", "b", "ä", "c"], chance.randrange(3))),
        "created_after": lambda: moment(chance.randrange(8)),
        "created_before": lambda: moment(chance.randrange(8)),
        "include_deleted": lambda: chance.choice([True, False]),
    }
    return {name: every[name]() for name in chance.sample(sorted(every), chance.choice([0, 1, 2]))}


@pytest.mark.parametrize("order_by", SESSION_ORDERS)
def test_every_page_is_what_a_list_would_say(using: str, order_by: str) -> None:
    sessions, runs = make_corpus()
    save(using, sessions, runs)
    oracle = Oracle(sessions, runs)
    chance = random.Random(order_by)
    for _ in range(30):
        wanted = some_filters(chance)
        expected = oracle.search(order_by, wanted)
        limit = chance.choice([1, 7, 30, 90, 1000]) if len(expected) < 30 else 30
        found = list(pages(search_sessions, using=using, order_by=order_by, limit=limit, **wanted))
        assert [pk for page in found for pk in ids(page.sessions)] == expected, wanted
        assert {page.total_count for page in found} == {len(expected)}, wanted
        assert all(len(page.sessions) == limit for page in found[:-1])
        assert found[-1].sessions or len(found) == 1, "the last page is never empty"


@pytest.mark.parametrize("order_by", SESSION_ORDERS)
def test_pages_go_through_rows_of_one_moment(using: str, order_by: str) -> None:
    sessions = [make_session(id=f"s{n}", created_at=START, updated_at=START) for n in range(10)]
    save(using, sessions)
    found = pages(search_sessions, using=using, order_by=order_by, limit=3)
    expected = ids(sessions) if order_by.endswith("asc") else ids(sessions)[::-1]
    assert [pk for page in found for pk in ids(page.sessions)] == expected


def test_a_page_goes_on_where_the_last_one_ended_whatever_happened_since(using: str) -> None:
    save(using, [make_session(id=f"s{n}", created_at=moment(n)) for n in range(6)])
    first = search_sessions(using=using, order_by="created_at_asc", limit=2)
    assert ids(first.sessions) == ["s0", "s1"]
    Session.objects.using(using).filter(id__in=["s0", "s1"]).delete()
    save(using, [make_session(id="early", created_at=moment(-1))])
    rest = search_sessions(using=using, order_by="created_at_asc", limit=9, cursor=first.cursor)
    assert ids(rest.sessions) == ["s2", "s3", "s4", "s5"]
    assert (rest.cursor, rest.total_count) == (None, 5)


def test_tags_are_found_exactly(using: str) -> None:
    save(using, [make_session(id=f"s{n:02}", tags=["x", tag, "y"]) for n, tag in enumerate(TAGS)])
    save(using, [make_session(id="none", tags=[])])
    for number, tag in enumerate(TAGS):
        for tags in ([tag], [tag, "x"], ("y", tag), {tag, tag}):
            page = search_sessions(using=using, tags=tags)
            assert ids(page.sessions) == [f"s{number:02}"], tags
        assert search_sessions(using=using, tags=[f"{tag}?", tag]).sessions == []
    assert search_sessions(using=using, tags=[]).total_count == len(TAGS) + 1


def test_as_many_tags_as_a_list_may_have_are_found(using: str) -> None:
    tags = [f"tag {number}" for number in range(MAX_VALUES)]
    save(using, [make_session(id="all", tags=tags), make_session(id="one_less", tags=tags[:-1])])
    assert ids(search_sessions(using=using, tags=tags).sessions) == ["all"]
    assert search_sessions(using=using, tags=tags, status="pending").total_count == 1


def test_as_many_providers_as_a_list_may_have_are_looked_for(using: str) -> None:
    save(using, [make_session(id="s1")], [make_run("s1", provider=f"p{MAX_VALUES - 1}")])
    providers = [f"p{number}" for number in range(MAX_VALUES)]
    assert ids(search_sessions(using=using, provider=providers).sessions) == ["s1"]


def test_what_is_found_is_what_is_stored(using: str) -> None:
    session = make_session(
        id="ses_1", metadata={"a": [1, {"b": 2**70}]}, tags=["ä"], created_at=moment(0.000001)
    )
    save(using, [session])
    [found] = search_sessions(using=using).sessions
    assert found.to_dict() == session.to_dict()
    assert found._state.db == using


def test_the_bounds_are_inclusive_to_the_microsecond(using: str) -> None:
    save(using, [make_session(id=f"s{n}", created_at=moment(n / 1_000_000)) for n in range(5)])
    page = search_sessions(
        using=using,
        created_after=moment(0.000001),
        created_before=moment(0.000003),
        order_by="created_at_asc",
    )
    assert ids(page.sessions) == ["s1", "s2", "s3"]


def statements(using: str, **arguments: Any) -> list[str]:
    with CaptureQueriesContext(connections[using]) as captured:
        search_sessions(using=using, **arguments)
    return [entry["sql"] for entry in captured]


def test_the_total_costs_one_count_and_can_be_saved(using: str) -> None:
    save(using, [make_session() for _ in range(4)])
    cursor = search_sessions(using=using, limit=2).cursor
    assert search_sessions(using=using, include_total=False).total_count is None
    for arguments in ({}, {"cursor": cursor}, {"tags": ["a"]}, {"provider": "x"}):
        with_total = statements(using, limit=2, **arguments)
        without = statements(using, limit=2, include_total=False, **arguments)
        assert (len(with_total), len(without)) == (2, 1)
        assert "COUNT(" in with_total[0]
        assert with_total[1:] == without
        assert "COUNT(" not in without[0]
        assert "OFFSET" not in "".join(with_total)


def test_a_provider_is_looked_for_in_the_sessions_own_runs(using: str) -> None:
    """Not in all runs of the provider for each session, which takes hours. PostgreSQL estimates."""
    if connections[using].vendor == "postgresql":
        pytest.skip("see test_plans.py")
    save(using, *make_corpus())
    [sql] = statements(using, provider="claude", include_total=False)
    explain = "EXPLAIN QUERY PLAN" if connections[using].vendor == "sqlite" else "EXPLAIN"
    with connections[using].cursor() as cursor:
        cursor.execute(f"{explain} {sql}")
        plan = repr([row if explain == "EXPLAIN QUERY PLAN" else row[6] for row in cursor])
    assert "asm_runs_provider" not in plan


def test_what_can_match_nothing_asks_nothing(using: str) -> None:
    assert statements(using, status=[]) == []
    assert search_sessions(using=using, provider=[]) == SessionPage([], None, 0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": 0}, QueryError),
        ({"limit": 1_001}, QueryError),
        ({"limit": -1}, QueryError),
        ({"limit": True}, QueryError),
        ({"limit": 5.0}, QueryError),
        ({"limit": "5"}, QueryError),
        ({"limit": None}, QueryError),
        ({"limit": 10**400}, QueryError),
        ({"order_by": "created_at"}, QueryError),
        ({"order_by": "-created_at"}, QueryError),
        ({"order_by": "created_at_asc; DROP TABLE asm_sessions"}, QueryError),
        ({"order_by": "session_id__runs__id"}, QueryError),
        ({"order_by": "?"}, QueryError),
        ({"order_by": None}, QueryError),
        ({"order_by": ["created_at_asc"]}, QueryError),
        ({"order_by": 10**5_000}, QueryError),
        ({"order_by": EqualToAll()}, QueryError),
        ({"using": 5}, QueryError),
        ({"using": ["default"]}, QueryError),
        ({"include_total": 1}, QueryError),
        ({"include_total": None}, QueryError),
        ({"agent": "a"}, QueryError),
        ({"agent_id": 5}, QueryError),
        ({"tags": "pinned"}, QueryError),
        ({"created_after": datetime(2026, 1, 1)}, QueryError),  # noqa: DTZ001
        ({"status": "done"}, InvalidStatus),
        ({"status": ["active", "timeout"]}, InvalidStatus),
        ({"cursor": "x"}, InvalidCursor),
        ({"cursor": ""}, InvalidCursor),
        ({"cursor": 5}, InvalidCursor),
        ({"cursor": "x:\ud800"}, InvalidCursor),
    ],
)
def test_bad_arguments_are_refused_before_any_sql(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    # This test has no access to a database.
    with pytest.raises(error):
        search_sessions(**arguments)


def test_a_cursor_is_of_its_order_and_filters(using: str) -> None:
    save(using, [make_session(tags=["a"]) for _ in range(3)])
    cursor = search_sessions(using=using, limit=1, tags=["a", "a"]).cursor
    assert search_sessions(using=using, limit=2, tags={"a"}, cursor=cursor).cursor is None
    for arguments in (
        {},
        {"tags": ["b"]},
        {"tags": ["a"], "agent_id": "assistant"},
        {"tags": ["a"], "order_by": "created_at_desc"},
        {"tags": ["a"], "include_deleted": True},
    ):
        with pytest.raises(InvalidCursor):
            search_sessions(using=using, cursor=cursor, **arguments)


def test_the_largest_limit_is_a_setting(using: str) -> None:
    save(using, [make_session() for _ in range(3)])
    with override_settings(ASM_STORE_MAX_QUERY_LIMIT=2):
        assert len(search_sessions(using=using, limit=2).sessions) == 2
        with pytest.raises(QueryError, match="limit: must be from 1 to 2"):
            search_sessions(using=using, limit=3)


def test_without_using_it_reads_the_default_stores_database(using: str) -> None:
    save(using, [make_session(id="ses_1")])
    backend = "asm_store.backends.database.DatabaseSessionStore"
    stores = {"default": {"BACKEND": backend, "OPTIONS": {"using": using}}}
    with override_settings(ASM_STORES=stores):
        assert ids(search_sessions().sessions) == ["ses_1"]


def test_a_default_store_without_a_database_has_nothing_to_search() -> None:
    stores = {"default": {"BACKEND": "asm_store.backends.memory.InMemorySessionStore"}}
    with (
        override_settings(ASM_STORES=stores),
        pytest.raises(ImproperlyConfigured, match="say which by `using`"),
    ):
        search_sessions()


def test_an_unknown_database_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        search_sessions(using="nowhere")


def test_the_async_twin_is_the_same_call(using: str) -> None:
    save(using, [make_session(id=f"s{n}", updated_at=moment(n)) for n in range(3)])
    page = async_to_sync(asearch_sessions)(using=using, limit=2)
    assert ids(page.sessions) == ["s2", "s1"]
    assert page == search_sessions(using=using, limit=2)
    assert inspect.signature(asearch_sessions) == inspect.signature(search_sessions)


def test_in_the_callers_transaction_it_sees_what_that_sees(using: str) -> None:
    with transaction.atomic(using=using):
        save(using, [make_session(id="ses_1")])
        assert ids(search_sessions(using=using).sessions) == ["ses_1"]


def test_the_databases_errors_are_the_stores(using: str) -> None:
    connection = connections[using]
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE asm_sessions RENAME TO asm_hidden")
    try:
        with pytest.raises(MigrationRequired) as caught:
            search_sessions(using=using)
    finally:
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE asm_hidden RENAME TO asm_sessions")
    assert isinstance(caught.value, StorageError)
    assert caught.value.__cause__ is not None


def test_the_types_name_every_filter() -> None:
    assert list(SessionFilters.__annotations__) == list(SessionFilterSet.base_filters)


def test_the_default_order_is_the_latest_change_first(using: str) -> None:
    save(using, [make_session(updated_at=moment(n)) for n in (2, 0, 1)])
    times = [session.updated_at for session in search_sessions(using=using).sessions]
    assert all(later > earlier for later, earlier in pairwise(times))
