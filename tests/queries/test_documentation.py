"""The examples of docs/querying.md run, and do what the text says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse, QueryDict

from asm_store import default_store
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.test import make_event, make_run, make_session

TEXT = (Path(__file__).parents[2] / "docs" / "querying.md").read_text()
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def run(*marks: str, **names: Any) -> dict[str, Any]:
    """The names that the examples with these words in them have made."""
    for mark in marks:
        [example] = [example for example in EXAMPLES if mark in example]
        exec(compile(example, mark, "exec"), names)
    return names


@pytest.fixture
def billing() -> list[Session]:
    sessions = [make_session(status="active", tags=["billing", "urgent"]) for _ in range(3)]
    for session in sessions:
        default_store.save_session(session)
        default_store.save_run(make_run(session, provider="claude"))
    return sessions


@pytest.mark.django_db
def test_a_search(billing: list[Session]) -> None:
    page = run("page.total_count")["page"]
    assert (len(page.sessions), page.total_count, page.cursor) == (3, 3, None)


@pytest.mark.django_db
def test_all_pages(billing: list[Session]) -> None:
    handled: list[Session] = []
    run("page.total_count", "while True", handle=handled.extend)
    assert sorted(row.pk for row in handled) == sorted(row.pk for row in billing)


@pytest.mark.django_db
def test_a_view(billing: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    def render(request: Any, template: str, context: dict[str, Any], status: int) -> HttpResponse:
        return HttpResponse(str(context["filter"].qs.count()), status=status)

    monkeypatch.setattr("django.shortcuts.render", render)
    view = run("def sessions(request")["sessions"]

    class Request:
        GET = QueryDict("tags=urgent&team=x&page=2")

    assert view(Request, "assistant").content == b"3"
    assert view(Request, "other").content == b"0"
    Request.GET = QueryDict("tag=urgent")
    refused = view(Request, "assistant")
    assert (refused.status_code, refused.content) == (400, b"0")


@pytest.mark.django_db
def test_sums(billing: list[Session]) -> None:
    session = billing[0]
    names = run("get_usage_summary", month_begin=session.created_at, session_id=session.pk)
    assert names["summary"].run_count == 3
    assert names["stats"].status_counts == {"pending": 1}


@pytest.mark.django_db
def test_queries_of_ones_own(billing: list[Session]) -> None:
    run("tokens=Sum(")
    assert Session.objects.alive().tagged("billing", "urgent").count() == 3
    assert Session.objects.tagged("billing", "Urgent").count() == 0


@pytest.fixture
def workshop(using: str) -> str:
    """The database with a session of two runs and failed tools, and a session of a subagent."""
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session(id="ses_main"))
    child = store.save_session(make_session(id="ses_child", parent_session_id="ses_main"))
    for number, (owner, status) in enumerate(
        [(session, "completed"), (session, "failed"), (child, "failed"), (child, "completed")]
    ):
        begin = MONDAY + timedelta(hours=10 * number)
        store.save_run(
            make_run(
                owner,
                id=f"run_{number}",
                status=status,
                started_at=begin,
                ended_at=begin + timedelta(seconds=number),
                provider_metadata={"model": "opus" if number % 2 else "haiku"},
                cost_usd=number / 4,
            )
        )
    tools = ["grep", "bash", "bash"]
    store.append_events(
        [make_event(session, type="tool_call_failed", data={"tool_name": tool}) for tool in tools]
    )
    return using


def test_what_a_day_cost(workshop: str) -> None:
    rows = run("daily = ")["daily"].using(workshop)
    days = [(row["day"].day, row["model"], row["runs"], row["usd"]) for row in rows]
    assert days == [(2, "haiku", 2, 0.5), (2, "opus", 1, 0.25), (3, "opus", 1, 0.75)]


def test_the_slowest_runs(workshop: str) -> None:
    rows = run("slowest = ")["slowest"].using(workshop)
    took = [(row.pk, row.took.total_seconds()) for row in rows]
    assert took == [("run_3", 3), ("run_2", 2), ("run_1", 1), ("run_0", 0)]


def test_failures_of_tools(workshop: str) -> None:
    rows = run("failures = ", session_id="ses_main")["failures"].using(workshop)
    assert [(row["tool"], row["times"]) for row in rows] == [("bash", 2), ("grep", 1)]


def test_broken_sessions_and_subagents(workshop: str) -> None:
    names = run("broken = ")
    assert [session.pk for session in names["broken"].using(workshop)] == ["ses_main"]
    assert list(names["subagents"].using(workshop)) == [{"parent": "ses_main", "usd": 1.25}]


def test_no_example_is_left_out() -> None:
    tested = (
        "page.total_count",
        "while True",
        "def sessions(request",
        "tokens=Sum(",
        "get_usage",
        "daily = ",
        "slowest = ",
        "failures = ",
        "broken = ",
    )
    assert all(any(mark in example for mark in tested) for example in EXAMPLES)
