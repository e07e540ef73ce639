"""Streams of a real server, over real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import IncompleteRead
from urllib.parse import quote

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.models import Session
from asm_store.test import make_event, make_session
from tests.counting import new_connections, pool
from tests.live.conftest import on_default, on_postgresql
from tests.live.frames import Message
from tests.live.servers import SECONDS, Uvicorn, Visitor, serving, serving_process
from tests.threads import run_threads

AT_ONCE = 20
EVENTS = 100


@pytest.fixture
def server(user: User) -> Iterator[Uvicorn]:
    with serving() as server:
        yield server


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def url(using: str, session: Session) -> str:
    return f"/{using}/{session.pk}/stream/"


@dataclass
class Site:
    """A server, who visits it, and the session whose stream he visits."""

    server: Uvicorn
    client: Client
    url: str
    using: str
    session: Session

    @property
    def store(self) -> DatabaseSessionStore:
        return DatabaseSessionStore(self.using)

    def visitor(self, *arguments: str, **headers: str) -> Visitor:
        return Visitor(self.server.port, self.client, self.url, *arguments, **headers)

    def wait_for_no_task(self) -> None:
        wait_until(lambda: self.server.tasks() == 0)


@pytest.fixture
def site(server: Uvicorn, client: Client, url: str, using: str, session: Session) -> Site:
    return Site(server, client, url, using, session)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def numbers(found: list[Message]) -> list[int]:
    return [message.number for message in found if message.event == "message"]


def write(store: DatabaseSessionStore, session: Session) -> None:
    """What the streams are of, one by one, to the end."""
    for number in range(EVENTS):
        store.append_event(make_event(session, data={"content": f"größe {number}"}))
    store.update_session(session.pk, status="completed")


def test_who_connects_anew_misses_nothing_and_gets_nothing_twice(site: Site) -> None:
    found: list[Message] = []

    def follow() -> None:
        headers: dict[str, str] = {}
        while not found or found[-1].event != "end":
            visitor = site.visitor(**headers)
            for count, message in enumerate(visitor.messages(), 1):
                found.append(message)
                if count == 7:
                    break
            visitor.leave()
            headers = {"Last-Event-ID": str(found[-1].id)}

    run_threads([follow, lambda: write(site.store, site.session)])
    assert numbers(found) == list(range(1, EVENTS + 1))
    last = site.visitor(**{"Last-Event-ID": str(EVENTS)})
    assert last.response.status == 204
    last.leave()


def test_many_at_once(site: Site) -> None:
    together = threading.Barrier(AT_ONCE + 1)

    def follow() -> list[int]:
        visitor = site.visitor()
        together.wait(SECONDS)
        found = list(visitor.messages())
        visitor.leave()
        assert found[-1].event == "end"
        return numbers(found)

    def begin() -> list[int]:
        together.wait(SECONDS)
        write(site.store, site.session)
        return list(range(1, EVENTS + 1))

    with new_connections(site.using) as new:
        read = run_threads([begin, *[follow] * AT_ONCE])
        assert read == [list(range(1, EVENTS + 1))] * (AT_ONCE + 1)
        site.wait_for_no_task()
        new.wait_for(0)


def test_who_leaves_leaves_no_task_and_no_connection(site: Site) -> None:
    site.store.append_event(make_event(site.session))
    with new_connections(site.using) as new:
        visitors = [site.visitor() for _ in range(5)]
        for visitor in visitors:
            assert next(visitor.messages()).number == 1
        assert site.server.tasks() >= len(visitors)
        new.wait_for(len(visitors))
        for visitor in visitors:
            visitor.leave()
        site.wait_for_no_task()
        new.wait_for(0)


def test_of_a_slow_client_no_more_than_a_page_is_held(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    load = DatabaseSessionStore._get_event_lines

    def counted(store: DatabaseSessionStore, *args: object) -> list[tuple[int, bytes]]:
        lines = load(store, *args)  # type: ignore[arg-type]
        loaded.append(sum(len(line) for _number, line in lines))
        return lines

    monkeypatch.setattr(DatabaseSessionStore, "_get_event_lines", counted)
    content = "x" * 200_000
    for _ in range(8):
        site.store.append_events(
            [make_event(site.session, data={"content": content}) for _ in range(32)]
        )
    site.store.update_session(site.session.pk, status="completed")
    visitor = site.visitor()
    [connection] = site.server.server.server_state.connections
    wait_until(lambda: bool(connection.flow.write_paused))
    # All that there is would be 51 MB: a page, and what the sockets hold.
    assert sum(loaded) < 16_000_000
    assert connection.transport.get_write_buffer_size() < 1_000_000
    found = list(visitor.messages())
    visitor.leave()
    assert numbers(found) == list(range(1, 257))
    assert max(loaded) < 10_000_000


def test_a_client_that_is_slow_and_leaves_leaves_nothing(site: Site) -> None:
    content = "x" * 2_000_000
    for _ in range(20):
        site.store.append_event(make_event(site.session, data={"content": content}))
    with new_connections(site.using) as new:
        visitor = site.visitor()
        [connection] = site.server.server.server_state.connections
        wait_until(lambda: bool(connection.flow.write_paused))
        visitor.leave()
        site.wait_for_no_task()
        new.wait_for(0)


@on_postgresql
def test_a_stream_that_fails_gives_its_connection_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise StorageError("the server is gone")

    site.store.append_event(make_event(site.session))
    with pool(site.using, min_size=0, max_size=1, timeout=2):
        with monkeypatch.context() as patch:
            patch.setattr(DatabaseSessionStore, "_get_event_lines", fail)
            for _ in range(2):
                visitor = site.visitor()
                assert list(visitor.messages()) == []
                visitor.leave()
        visitor = site.visitor()
        assert next(visitor.messages()).number == 1
        visitor.leave()
        site.wait_for_no_task()


@on_default
class TestOneServer:
    def test_compresses_no_stream(
        self, user: User, client: Client, url: str, session: Session
    ) -> None:
        DatabaseSessionStore().append_event(make_event(session))
        middleware = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
        with override_settings(MIDDLEWARE=middleware), serving() as server:
            visitor = Visitor(server.port, client, url, **{"Accept-Encoding": "gzip"})
            assert "Content-Encoding" not in visitor.response.headers
            assert next(visitor.messages()).number == 1
            visitor.leave()

    @pytest.mark.parametrize(
        "pk",
        [
            "a/b", "a//b", "/", "a/", " a b ", "a?b#c%d&e=f;g+h", "größe-😀", "a\nb\tc", "a%2Fb",
            "x/stream", "x/events/", "x/stream/sessions/y", "<script>", "'\"\\", "x" * 255,
        ],
    )  # fmt: skip
    def test_takes_any_id(self, server: Uvicorn, client: Client, using: str, pk: str) -> None:
        store = DatabaseSessionStore()
        session = store.save_session(make_session(id=pk, status="completed"))
        store.append_event(make_event(session))
        made = reverse("asm_store:session_stream", args=[pk])
        written = f"/asm/sessions/{quote(pk, safe='')}/stream/"  # as encodeURIComponent does
        for url in (made, written):
            visitor = Visitor(server.port, client, url)
            event, _end = visitor.messages()
            assert event.data["session_id"] == pk
            visitor.leave()
        assert client.get(reverse("asm_store:session_events", args=[pk])).json()["session"] == pk

    def test_answers_head_at_once(self, server: Uvicorn, client: Client, url: str) -> None:
        visitor = Visitor(server.port, client, url, "HEAD")
        assert visitor.response.status == 200
        assert visitor.response.headers["Content-Type"] == "text/event-stream"
        visitor.leave()
        wait_until(lambda: server.tasks() == 0)


@on_postgresql
@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
class TestProcesses:
    """Servers as they are started, that leave nothing behind in the database."""

    def test_tell_what_happens_until_the_end(
        self,
        client: Client,
        url: str,
        using: str,
        database_store: DatabaseSessionStore,
        session: Session,
        name: str,
    ) -> None:
        with new_connections(using) as new, serving_process(name) as (_process, port):
            visitor = Visitor(port, client, url)
            run_threads([lambda: write(database_store, session)])
            *found, end = visitor.messages()
            assert numbers(found) == list(range(1, EVENTS + 1))
            assert end.data == {"reason": "ended", "status": "completed"}
            visitor.leave()
            new.wait_for(0)

    def test_whose_client_leaves(
        self,
        client: Client,
        url: str,
        using: str,
        database_store: DatabaseSessionStore,
        session: Session,
        name: str,
    ) -> None:
        database_store.append_event(make_event(session))
        with new_connections(using) as new, serving_process(name) as (_process, port):
            visitor = Visitor(port, client, url)
            assert next(visitor.messages()).number == 1
            new.wait_for(1)
            visitor.leave()
            new.wait_for(0)

    def test_that_shut_down(
        self, client: Client, url: str, using: str, session: Session, name: str
    ) -> None:
        with new_connections(using) as new, serving_process(name) as (process, port):
            visitor = Visitor(port, client, url)
            assert visitor.response.readline() == b"retry: 3000\n"
            process.terminate()
            process.wait(SECONDS)
            with pytest.raises((IncompleteRead, ConnectionError)):  # no `end`
                visitor.response.read()
            visitor.leave()
            new.wait_for(0)
