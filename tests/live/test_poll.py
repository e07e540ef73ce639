"""A session's events in JSON, by ASGI and by WSGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncRequestFactory, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from asm_store import stores
from asm_store.backends import reading
from asm_store.backends.arguments import EventFilter
from asm_store.backends.database import DatabaseSessionStore
from asm_store.live import SessionEventsView, polling
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from tests.live.browsers import Browser, run
from tests.live.conftest import VIEW, VIEW_ALL, MakeUser, on_default


def poll(browser: Browser, session: Session, query: str = "") -> dict[str, Any]:
    response = browser.answer(session.pk, query, "events")
    assert response.status_code == 200, response.content
    return dict(response.json())


def numbers(said: dict[str, Any]) -> list[int]:
    return [event["sequence_number"] for event in said["events"]]


def test_all(browser: Browser, session: Session, events: list[Event]) -> None:
    assert poll(browser, session) == {
        "session": session.pk,
        "status": "completed",
        "events": [event.to_dict() for event in events],
        "last_sequence": 8,
        "has_ended": True,
    }


def test_the_head_of_it(browser: Browser, session: Session) -> None:
    response = browser.answer(session.pk, view="events")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("query", "expected", "last", "has_ended"),
    [
        ("?limit=3", [1, 2, 3], 3, False),
        ("?limit=3&after=3", [4, 5, 6], 6, False),
        ("?limit=3&after=6", [7, 8], 8, True),
        ("?after=8", [], 8, True),
        ("?type=message_sent", [1, 2, 3, 4], 8, True),
        ("?type=message_sent&limit=2", [1, 2], 2, False),
        ("?type=message_sent&type=turn_completed&after=3&limit=2", [4, 5], 5, False),
        ("?type=session_failed", [], 8, True),
        ("?limit=1000&wait=30", [1, 2, 3, 4, 5, 6, 7, 8], 8, True),
    ],
)
def test_pages(
    browser: Browser,
    session: Session,
    events: list[Event],
    query: str,
    expected: list[int],
    last: int,
    has_ended: bool,
) -> None:
    said = poll(browser, session, query)
    assert (numbers(said), said["last_sequence"], said["has_ended"]) == (expected, last, has_ended)


def test_of_one_run(browser: Browser, session: Session, events: list[Event]) -> None:
    assert numbers(poll(browser, session, f"?run_id={events[0].run_id}")) == [1, 3, 5, 7]


def test_large_payloads_make_short_pages(
    browser: Browser, session: Session, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FIRST_LIVE_LINES", 2)
    monkeypatch.setattr(reading, "PAGE_BYTES", 1)
    monkeypatch.setattr(polling, "PAGE_BYTES", 500)
    found: list[int] = []
    said: dict[str, Any] = {"has_ended": False, "last_sequence": 0}
    while not said["has_ended"]:
        said = poll(browser, session, f"?after={said['last_sequence']}")
        assert len(said["events"]) < 8
        found += numbers(said)
    assert found == list(range(1, 9))


@pytest.mark.parametrize("what", ["event", "end", "deletion"])
def test_waiting(
    browser: Browser, session: Session, database_store: DatabaseSessionStore, what: str
) -> None:
    async def happen() -> None:
        if what == "event":
            await database_store.aappend_event(make_event(session))
        elif what == "end":
            await database_store.aupdate_session(session.pk, status="failed")
        else:
            await database_store.adelete_session(session.pk)

    async def body() -> Any:
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(browser.get(session.pk, "?wait=30", "events"))
            tasks.create_task(happen())
        return asked.result()

    response = run(body)
    if what == "deletion":
        assert response.status_code == 404
        return
    said = response.json()
    assert (len(said["events"]), said["has_ended"]) == (
        (1, False) if what == "event" else (0, True)
    )


def test_a_wait_that_is_over(browser: Browser, session: Session) -> None:
    said = poll(browser, session, "?wait=0.01")
    assert (said["events"], said["last_sequence"], said["has_ended"]) == ([], 0, False)


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0", "?limit=1001", "?limit=-1", "?limit=x", "?limit=1&limit=2", "?after=x",
        "?wait=31", "?wait=-1", "?wait=inf", "?wait=1e1", "?wait=x", "?type=x", "?nonsense=1",
    ],
)  # fmt: skip
def test_what_cannot_be_understood(browser: Browser, session: Session, query: str) -> None:
    response = browser.answer(session.pk, query, "events")
    assert response.status_code == 400
    assert response.json()["error"]["code"] in {"query_error", "invalid_event_type"}


def test_a_number_that_there_is_not_yet(
    browser: Browser, session: Session, events: list[Event]
) -> None:
    response = browser.answer(session.pk, "?after=9", "events")
    assert (response.status_code, response.json()["latest_sequence"]) == (409, 8)


def test_without_their_permission_payloads_are_not_even_read(
    using: str, session: Session, events: list[Event], make_user: MakeUser
) -> None:
    browser = Browser(using, make_user(*VIEW, name="grace"))
    with CaptureQueriesContext(connections[using]) as queries:
        said = poll(browser, session)
    assert numbers(said) == list(range(1, 9))
    assert not {"data", "metadata"} & said["events"][0].keys()
    [sql] = [query["sql"] for query in queries if "asm_events" in query["sql"]]
    assert "data" not in sql.split("FROM")[0]


class TestWSGI:
    @pytest.fixture
    def client(self, user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    def test_answers_as_asgi_does(
        self, client: Client, browser: Browser, session: Session, events: list[Event]
    ) -> None:
        said = client.get(f"/{browser.using}/{session.pk}/events/").json()
        assert said == poll(browser, session)

    def test_waits_for_nothing(self, client: Client, browser: Browser, session: Session) -> None:
        response = client.get(f"/{browser.using}/{session.pk}/events/?wait=1")
        assert response.status_code == 501
        assert response.json()["error"]["code"] == "asgi_required"

    def test_head(self, client: Client, browser: Browser, session: Session) -> None:
        response = client.head(f"/{browser.using}/{session.pk}/events/")
        assert (response.status_code, response.content) == (200, b"")


def test_queries(browser: Browser, session: Session, events: list[Event], using: str) -> None:
    User.objects.update(is_superuser=True)
    with CaptureQueriesContext(connections[using]) as queries:
        poll(browser, session)
    told = [query["sql"] for query in queries if "asm_" in query["sql"]]
    # How far it is; and the events in two pages, the first one of a few in case they are large.
    assert [("asm_events" in sql) for sql in told] == [False, True, True]


@on_default
@pytest.mark.parametrize("permissions", [VIEW, VIEW_ALL])
def test_another_store_by_its_alias(
    using: str, make_user: MakeUser, permissions: tuple[str, ...]
) -> None:
    browser = Browser(using, make_user(*permissions))
    backend = "asm_store.backends.memory.InMemorySessionStore"
    with override_settings(ASM_STORES={"mine": {"BACKEND": backend}}):
        store = stores["mine"]
        session = store.save_session(make_session())
        stored = store.append_event_with_sequence(make_event(session)).to_dict()
        said = run(lambda: browser.client.get(f"/mine/{session.pk}/events/")).json()
    if permissions == VIEW:
        del stored["data"], stored["metadata"]
    assert said["events"] == [stored]


@on_default
def test_a_database_that_fails(
    using: str, unmigrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    view: Any = SessionEventsView.as_view(store=DatabaseSessionStore(unmigrated))
    request = AsyncRequestFactory().get("/%0Aanother%20line")
    request.user = User(is_superuser=True)
    response = run(lambda: view(request, session_id="ses_1"))
    assert response.status_code == 503
    assert json.loads(response.content)["error"]["code"] == "migration_required"
    assert "ses_1" not in response.content.decode()
    assert [record.name for record in caplog.records] == ["asm_store"]
    assert "\n" not in caplog.records[0].getMessage()


@on_default
def test_a_database_of_users_that_fails(using: str, unmigrated: str, session: Session) -> None:
    view: Any = SessionEventsView.as_view(store=DatabaseSessionStore(using))
    user: Any = SimpleLazyObject(Session.objects.using(unmigrated).get)
    request = AsyncRequestFactory().get("/")
    request.user = user
    response = run(lambda: view(request, session_id=session.pk))
    assert response.status_code == 503
    assert json.loads(response.content)["error"]["code"] == "storage_error"


class VanishingStore(DatabaseSessionStore):
    """The session is deleted when a poll begins to wait."""

    def _afollow_lines(self, wanted: EventFilter, idle_timeout: float | None) -> Any:
        async def lines() -> AsyncIterator[Any]:
            await self.adelete_session(wanted.session_id)
            async for line in super(VanishingStore, self)._afollow_lines(wanted, idle_timeout):
                yield line

        return lines()


def test_a_session_that_is_deleted_before_the_wait(using: str, session: Session) -> None:
    view: Any = SessionEventsView.as_view(store=VanishingStore(using))
    request = AsyncRequestFactory().get("/?wait=1")
    request.user = User(is_superuser=True)
    response = run(lambda: view(request, session_id=session.pk))
    assert response.status_code == 404
