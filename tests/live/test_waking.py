"""On PostgreSQL streams are woken, and however one ends, the hub forgets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import cast

import pytest
from django.contrib.auth.models import User
from django.test import Client

from asm_store.backends import reading
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.models import Session
from asm_store.test import make_event
from asm_store.waiting import polling
from asm_store.waiting.hub import Hub
from tests.live.browsers import Browser, run
from tests.live.conftest import on_postgresql
from tests.live.frames import Message
from tests.live.servers import Visitor, serving_process
from tests.waiting.waiters import LISTENER, hub_of_tests, processes, until

Stream = AsyncGenerator[Message, None]

pytestmark = [on_postgresql]


@pytest.fixture
def hub(using: str) -> Hub:
    hub = hub_of_tests(using)
    until(lambda: hub.count == 0, "nobody waits yet")
    return hub


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for himself within the time of a test."""
    for name in ("SHORTEST_PAUSE", "LONGEST_PAUSE", "HEARD_PAUSE"):
        monkeypatch.setattr(polling, name, 3_600.0)


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def followed(browser: Browser, session: Session, view: str = "quiet") -> Stream:
    return cast("Stream", browser.follow(session.pk, view=view))


async def happens(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(until, condition, what)


async def joined(hub: Hub, count: int = 1) -> None:
    await happens(lambda: hub.is_listening and hub.count == count, f"{count} wait")


@pytest.mark.usefixtures("unhurried")
def test_a_stream_is_woken_for_each_event_and_the_end(
    browser: Browser, session: Session, database_store: DatabaseSessionStore, hub: Hub
) -> None:
    found: list[Message] = []

    async def follow() -> None:
        async with aclosing(followed(browser, session)) as stream:
            async for message in stream:
                found.append(message)

    async def body() -> None:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            await joined(hub)
            for number in range(1, 4):
                await database_store.aappend_event(make_event(session))
                await happens(lambda: len(found) == number, f"event {number}")  # noqa: B023
            await database_store.aupdate_session(session.pk, status="completed")
            await following

    run(body)
    *events, end = found
    assert [message.number for message in events] == [1, 2, 3]
    assert end.data == {"reason": "ended", "status": "completed"}
    assert hub.count == 0


@pytest.mark.usefixtures("unhurried")
def test_many_streams_of_one_session_are_woken_each_with_what_it_may_see(
    browser: Browser,
    session: Session,
    user: User,
    database_store: DatabaseSessionStore,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines with payloads, lines without them and events of one range are asked for together."""
    for first in ("FIRST_LIVE_LINES", "MOST_LINES"):
        monkeypatch.setattr(reading, first, reading.PAGE)

    async def shown(view: str) -> set[str]:
        async with aclosing(followed(browser, session, view)) as stream:
            return set((await anext(stream)).data)

    async def event() -> set[str]:
        async for found in database_store.astream_events(session.pk):
            return set(found.to_dict())
        raise AssertionError

    async def body() -> list[set[str]]:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(shown("quiet")) for _ in range(3)]
            asked.append(tasks.create_task(event()))
            await joined(hub, 4)
            await user.user_permissions.filter(codename="view_event_payload").adelete()
            asked += [tasks.create_task(shown("quiet")) for _ in range(3)]
            await joined(hub, 7)
            await database_store.aappend_event(make_event(session))
        return [task.result() for task in asked]

    everything = set(make_event(session).to_dict())
    assert run(body) == [everything] * 4 + [everything - {"data", "metadata"}] * 3
    until(lambda: hub.count == 0, "nobody waits any more")


async def ended(asked: asyncio.Task[Message], store: DatabaseSessionStore, pk: str) -> None:
    await store.aupdate_session(pk, status="failed")
    assert (await asked).data["reason"] == "ended"


async def deleted(asked: asyncio.Task[Message], store: DatabaseSessionStore, pk: str) -> None:
    await store.adelete_session(pk)
    assert (await asked).data["reason"] == "deleted"


async def left(asked: asyncio.Task[Message], store: DatabaseSessionStore, pk: str) -> None:
    """As a server does it when the client is gone."""
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


async def closed(asked: asyncio.Task[Message], store: DatabaseSessionStore, pk: str) -> None:
    """Between two messages: whoever runs the test closes it."""
    await store.aappend_event(make_event(session_id=pk))
    assert (await asked).number == 2


async def failed(asked: asyncio.Task[Message], store: DatabaseSessionStore, pk: str) -> None:
    def fail(*_arguments: object) -> None:
        raise StorageError("the server is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseSessionStore, "_get_progress", fail)
        await store.aappend_event(make_event(session_id=pk))
        with pytest.raises(StopAsyncIteration):  # it breaks off, and the request is finished
            await asked


@pytest.mark.parametrize("end", [ended, deleted, left, closed, failed])
def test_however_a_stream_ends_nobody_waits(
    browser: Browser,
    session: Session,
    database_store: DatabaseSessionStore,
    hub: Hub,
    end: Callable[[asyncio.Task[Message], DatabaseSessionStore, str], Awaitable[None]],
) -> None:
    database_store.append_event(make_event(session))

    async def body() -> None:
        async with aclosing(followed(browser, session)) as stream:
            assert (await anext(stream)).number == 1
            asked = asyncio.ensure_future(anext(stream))
            await joined(hub)
            await end(asked, database_store, session.pk)

    run(body)
    assert hub.count == 0


def test_a_stream_that_nobody_closes_goes_with_its_loop(
    browser: Browser, session: Session, hub: Hub
) -> None:
    async def body() -> None:
        await anext(followed(browser, session, "beating"))

    run(body)
    until(lambda: hub.count == 0, "nobody waits any more")


def test_each_round_is_one_who_waits(browser: Browser, session: Session, hub: Hub) -> None:
    async def body() -> None:
        async with aclosing(followed(browser, session, "beating")) as stream:
            for _ in range(20):
                assert (await anext(stream)).comment == "still here"
                assert hub.count <= 1

    run(body)
    assert hub.count == 0


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
def test_a_server_listens_by_one_connection_while_somebody_follows(
    client: Client,
    using: str,
    database_store: DatabaseSessionStore,
    session: Session,
    hub: Hub,
    name: str,
) -> None:
    until(lambda: not processes(using, LISTENER), "nobody listens yet")
    with serving_process(name) as (_process, port):
        url = f"/{using}/{session.pk}/quiet/"
        visitors = [Visitor(port, client, url) for _ in range(3)]
        until(lambda: processes(using, LISTENER), "the server listens")
        database_store.append_event(make_event(session))
        assert [next(visitor.messages()).number for visitor in visitors] == [1, 1, 1]
        assert len(processes(using, LISTENER)) == 1
        for visitor in visitors:
            visitor.leave()
        until(lambda: not processes(using, LISTENER), "the server listens no more")
