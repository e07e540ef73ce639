"""Where queries read: as `using` says, else the project's routers, else the default store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store import queries
from asm_store.backends.database import DatabaseSessionStore
from asm_store.handler import stores
from asm_store.maintenance import RetentionPolicy, execute, health_check, sum_up_usage
from asm_store.models import Session
from asm_store.test import make_session
from tests.cases import EMPTIED_APPS

STORE, REPLICA = "default", "other"
pytestmark = pytest.mark.django_db(
    transaction=True, databases=[STORE, REPLICA], available_apps=EMPTIED_APPS
)

Call = Callable[..., object]
QUERIES: dict[str, Call] = {
    "search_sessions": queries.search_sessions,
    "search_runs": queries.search_runs,
    "search_events": queries.search_events,
    "count_events": queries.count_events,
    "get_totals": queries.get_totals,
    "get_usage_summary": queries.get_usage_summary,
    "get_cost_summary": queries.get_cost_summary,
    "get_cost_entries": queries.get_cost_entries,
    "get_trend": queries.get_trend,
    "get_agent_usage": queries.get_agent_usage,
    "get_run_durations": queries.get_run_durations,
    "get_top_sessions": queries.get_top_sessions,
    "get_latest_failures": queries.get_latest_failures,
    "get_overview": queries.get_overview,
    "get_session_stats": lambda **using: queries.get_session_stats("ses_1", **using),
    "export_session": lambda **using: queries.export_session("ses_1", **using),
}


class ReadsElsewhere:
    """As projects write them, which have not all of a router's methods."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return REPLICA if model._meta.app_label == "asm_store" else None


class Silent:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return None


class ForWritesOnly:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "nowhere"


@pytest.fixture(autouse=True)
def sessions() -> None:
    """The same session on both, by another agent."""
    for alias in (STORE, REPLICA):
        DatabaseSessionStore(alias).save_session(make_session(id="ses_1", agent_id=alias))


def asked(call: Callable[[], object]) -> set[str]:
    """The databases that a call asks."""
    with ExitStack() as stack:
        captured = {
            alias: stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in (STORE, REPLICA)
        }
        call()
        return {alias for alias, context in captured.items() if len(context)}


def test_every_query_is_known_here() -> None:
    functions = {
        name for name in queries.__all__ if name[0].islower() and f"a{name}" in vars(queries)
    }
    assert functions == set(QUERIES)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_where_the_router_says(query: str) -> None:
    call = QUERIES[query]
    assert asked(call) == {STORE}
    with override_settings(DATABASE_ROUTERS=[ForWritesOnly(), Silent(), ReadsElsewhere()]):
        assert asked(call) == {REPLICA}
        assert asked(lambda: call(using=STORE)) == {STORE}


def test_the_async_twin_does_too() -> None:
    with override_settings(DATABASE_ROUTERS=[ReadsElsewhere()]):
        [session] = async_to_sync(queries.asearch_sessions)().sessions
    assert session.agent_id == REPLICA


def test_without_an_answer_it_is_the_stores_database_and_not_default() -> None:
    backend = "asm_store.backends.database.DatabaseSessionStore"
    entry = {"BACKEND": backend, "OPTIONS": {"using": REPLICA}}
    with override_settings(ASM_STORES={"default": entry}, DATABASE_ROUTERS=[Silent()]):
        [session] = queries.search_sessions().sessions
    assert session.agent_id == REPLICA


def test_the_store_and_maintenance_stay_where_they_are() -> None:
    def work() -> None:
        store = stores["default"]
        store.update_session("ses_1", status="completed")
        assert store.get_session("ses_1").agent_id == STORE
        execute(RetentionPolicy())
        sum_up_usage()
        health_check()

    with override_settings(DATABASE_ROUTERS=[ReadsElsewhere()]):
        assert asked(work) == {STORE}
        [page] = queries.search_sessions(using=STORE).sessions
    assert page.status == "completed"
    assert Session.objects.using(REPLICA).get().status == "pending"
