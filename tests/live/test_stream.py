"""The stream of a session, as an ASGI application answers it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from asm_store.backends.arguments import EventFilter
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.live.streaming import EventStream
from asm_store.models import Event, Session
from asm_store.test import make_event
from tests.live.browsers import Browser, run
from tests.live.conftest import VIEW, MakeUser
from tests.live.frames import Message


def numbers(found: list[Message]) -> list[int]:
    return [message.data["sequence_number"] for message in found if message.event == "message"]


class TestWhatComes:
    def test_all_events_and_the_end(
        self, browser: Browser, session: Session, events: list[Event]
    ) -> None:
        *found, end = browser.read(session.pk)
        assert [message.data for message in found] == [event.to_dict() for event in events]
        assert [message.id for message in found] == [str(number) for number in range(1, 9)]
        assert end == Message("8", "end", {"reason": "ended", "status": "completed"})

    def test_the_head_of_it(self, browser: Browser, session: Session, events: list[Event]) -> None:
        response = run(lambda: browser.get(session.pk))
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "private, no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_how_long_to_wait_before_connecting_anew_is_said_first(
        self, browser: Browser, session: Session
    ) -> None:
        async def first() -> bytes:
            response = await browser.get(session.pk)
            async with aclosing(aiter(response)) as parts:
                return await anext(parts)

        assert run(first) == b"retry: 3000\n\n"

    @pytest.mark.parametrize(
        ("query", "headers", "expected"),
        [
            ("?after=6", {}, [7, 8]),
            ("", {"last-event-id": "7"}, [8]),
            ("?after=2", {"last-event-id": "7"}, [8]),
            ("?after=8", {}, []),
            ("?type=turn_completed&after=5", {}, [6, 7, 8]),
            ("?type=turn_completed&type=message_sent&after=3", {}, [4, 5, 6, 7, 8]),
            ("?type=session_failed", {}, []),
        ],
    )
    def test_after_a_number_and_of_types(
        self,
        browser: Browser,
        session: Session,
        events: list[Event],
        query: str,
        headers: dict[str, str],
        expected: list[int],
    ) -> None:
        found = browser.read(session.pk, query, **headers)
        assert numbers(found) == expected
        assert (found[-1].event, found[-1].id) == ("end", "8")

    def test_of_one_run(self, browser: Browser, session: Session, events: list[Event]) -> None:
        assert numbers(browser.read(session.pk, f"?run_id={events[1].run_id}")) == [2, 4, 6, 8]

    def test_what_is_appended_later(
        self, browser: Browser, session: Session, database_store: DatabaseSessionStore
    ) -> None:
        async def body() -> list[Message]:
            found = []
            await database_store.aappend_event(make_event(session))
            async for message in browser.follow(session.pk):
                found.append(message)
                if len(found) < 4:
                    await database_store.aappend_event(make_event(session))
                else:
                    await database_store.aupdate_session(session.pk, status="failed")
            return found

        *found, end = run(body)
        assert numbers(found) == [1, 2, 3, 4]
        assert end.data == {"reason": "ended", "status": "failed"}

    def test_each_is_one_line_whatever_is_in_it(
        self, browser: Browser, session: Session, database_store: DatabaseSessionStore
    ) -> None:
        text = "a\nb\r\nc\rd\u2028e\u2029f\x85g </script><!-- \ndata: x\n\nid: 99\n\n 😀"
        event = make_event(session, data={"content": text, text: [text]}, provider=text)
        stored = database_store.append_event_with_sequence(event)
        database_store.update_session(session.pk, status="completed")
        found, end = browser.read(session.pk)
        assert found == Message("1", "message", stored.to_dict())
        assert end.event == "end"

    def test_silence_is_filled_with_comments(self, browser: Browser, session: Session) -> None:
        async def body() -> list[Message]:
            found = []
            async for message in browser.follow(session.pk, view="beating"):
                found.append(message)
                if len(found) == 3:
                    break
            return found

        assert run(body) == [Message(comment="still here")] * 3


class TestTheEnd:
    def follow_until_ended(self, browser: Browser, session: Session, end: Any) -> list[Message]:
        """From one event on; `end` is done when it has come."""
        found: list[Message] = []

        async def body() -> None:
            async for message in browser.follow(session.pk, view="hasty"):
                found.append(message)
                if len(found) == 1:
                    await sync_to_async(end)()

        DatabaseSessionStore(browser.using).append_event(make_event(session))
        run(body)
        return found

    def test_of_a_deleted_session(
        self, browser: Browser, session: Session, database_store: DatabaseSessionStore
    ) -> None:
        delete = database_store.delete_session
        _event, end = self.follow_until_ended(browser, session, lambda: delete(session.pk))
        assert (end.event, end.data["reason"]) == ("end", "deleted")

    def test_of_a_soft_deleted_session(
        self, browser: Browser, session: Session, database_store: DatabaseSessionStore
    ) -> None:
        delete = database_store.soft_delete_session
        _event, end = self.follow_until_ended(browser, session, lambda: delete(session.pk))
        assert end.data == {"reason": "deleted", "status": "active"}

    @pytest.mark.parametrize("lost", ["permission", "activity", "account", "password", "login"])
    def test_of_the_permission(
        self, browser: Browser, session: Session, user: User, lost: str
    ) -> None:
        def lose() -> None:
            if lost == "permission":
                user.user_permissions.clear()
            elif lost == "activity":
                User.objects.update(is_active=False)
            elif lost == "account":
                user.delete()
            elif lost == "password":
                user.set_password("another")
                user.save()
            else:
                browser.client.logout()

        _event, end = self.follow_until_ended(browser, session, lose)
        assert end == Message("1", "end", {"reason": "forbidden", "status": "active"})

    def test_of_the_permission_for_payloads(
        self,
        browser: Browser,
        session: Session,
        user: User,
        database_store: DatabaseSessionStore,
    ) -> None:
        def lose() -> None:
            user.user_permissions.filter(codename="view_event_payload").delete()
            database_store.append_event(make_event(session))
            database_store.update_session(session.pk, status="completed")

        first, second, _end = self.follow_until_ended(browser, session, lose)
        assert first.data.keys() - second.data.keys() == {"data", "metadata"}

    def test_is_told_a_browser_that_connects_anew(
        self, browser: Browser, session: Session, events: list[Event]
    ) -> None:
        assert browser.answer(session.pk, **{"last-event-id": "8"}).status_code == 204
        assert numbers(browser.read(session.pk, **{"last-event-id": "7"})) == [8]

    def test_when_the_database_fails_there_is_none(
        self,
        browser: Browser,
        session: Session,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def break_it() -> None:
            def fail(*_arguments: object) -> None:
                raise StorageError("the server is gone")

            monkeypatch.setattr(DatabaseSessionStore, "_get_progress", fail)

        [event] = self.follow_until_ended(browser, session, break_it)
        assert event.event == "message"
        assert "asm_store" in [record.name for record in caplog.records]

    @pytest.mark.parametrize("then", ["opened again", "deleted"])
    def test_is_told_as_it_is_by_then(
        self,
        browser: Browser,
        session: Session,
        database_store: DatabaseSessionStore,
        then: str,
    ) -> None:
        """What was a session's end when a round began is none any more when it is over."""
        pk = session.pk
        database_store.append_event(make_event(session))
        database_store.update_session(pk, status="completed")

        async def body() -> list[Message]:
            found = []
            async for message in browser.follow(pk):
                found.append(message)
                if len(found) == 1 and then == "deleted":
                    await database_store.adelete_session(pk)
                elif len(found) == 1:
                    await database_store.aupdate_session(pk, status="active")
                    await database_store.aappend_event(make_event(session))
                elif len(found) == 2 and then != "deleted":
                    await database_store.aupdate_session(pk, status="failed")
            return found

        *found, end = run(body)
        if then == "deleted":
            assert (numbers(found), end.data["reason"]) == ([1], "deleted")
        else:
            assert numbers(found) == [1, 2]
            assert end.data == {"reason": "ended", "status": "failed"}


def test_no_seconds_at_all_are_some(session: Session, database_store: DatabaseSessionStore) -> None:
    """Neither heartbeats nor questions for the permission come without a pause."""
    asked = []

    async def ask() -> bool:
        asked.append(session.pk)
        return True

    progress = database_store._get_progress(session.pk)
    assert progress is not None
    wanted = EventFilter(session_id=session.pk)
    stream = EventStream(database_store, wanted, progress, ask, 0.5, 0)

    async def body() -> list[bytes]:
        async with aclosing(stream.frames()) as frames:
            return [await anext(frames) for _ in range(2)]

    assert run(body)[1] == b": still here\n\n"
    assert 1 <= len(asked) <= 11


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "headers"),
        [
            ("?after=x", {}),
            ("?after=-1", {}),
            ("?after=1.5", {}),
            ("?after=%EF%BC%91", {}),  # a fullwidth digit
            ("?after=1_0", {}),
            ("?after=" + "9" * 20, {}),
            ("?after=1&after=2", {}),
            ("", {"last-event-id": "x"}),
            ("?after=1", {"last-event-id": "1 2"}),
            ("?type=nonsense", {}),
            ("?run_id=%00", {}),
            ("?run_id=a&run_id=b", {}),
            ("?limit=5", {}),
            ("?afterr=5", {}),
        ],
    )
    def test_what_cannot_be_understood(
        self,
        browser: Browser,
        session: Session,
        query: str,
        headers: dict[str, str],
    ) -> None:
        response = browser.answer(session.pk, query, **headers)
        assert response.status_code == 400
        assert response.headers["Content-Type"] == "application/json"
        error = response.json()["error"]
        assert error["code"] in {"query_error", "invalid_event_type"}
        assert error["message"]

    @pytest.mark.parametrize(("query", "headers"), [("?after=9", {}), ("", {"last-event-id": "9"})])
    def test_a_number_that_there_is_not_yet(
        self,
        browser: Browser,
        session: Session,
        events: list[Event],
        query: str,
        headers: dict[str, str],
    ) -> None:
        response = browser.answer(session.pk, query, **headers)
        assert response.status_code == 409
        said = response.json()
        assert said["error"]["code"] == "sequence_conflict"
        assert said["latest_sequence"] == 8

    @pytest.mark.parametrize("session_id", ["ses_none", "x" * 256, "a%00b", "%ED%A0%80"])
    def test_what_is_not_there(self, browser: Browser, session_id: str) -> None:
        assert browser.answer(session_id).status_code == 404

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
    def test_other_methods(self, browser: Browser, session: Session, method: str) -> None:
        url = f"/{browser.using}/{session.pk}/stream/"
        response = async_to_sync(getattr(browser.client, method))(url)
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET, HEAD"

    def test_wsgi(self, browser: Browser, session: Session, user: User) -> None:
        client = Client()
        client.force_login(user)
        response = client.get(f"/{browser.using}/{session.pk}/stream/")
        assert response.status_code == 501
        error = response.json()["error"]
        assert error["code"] == "asgi_required"
        assert "sessions/<id>/events/" in error["message"]


def test_head_answers_at_once_and_without_a_stream(browser: Browser, session: Session) -> None:
    url = f"/{browser.using}/{session.pk}/stream/"
    response = async_to_sync(browser.client.head)(url)
    assert (response.status_code, response.streaming) == (200, False)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.content == b""


def test_without_their_permission_payloads_are_not_even_read(
    using: str, session: Session, events: list[Event], make_user: MakeUser
) -> None:
    browser = Browser(using, make_user(*VIEW, name="grace"))
    with CaptureQueriesContext(connections[using]) as queries:
        *found, _end = browser.read(session.pk)
    left = [event.to_dict() for event in events]
    for each in left:
        del each["data"], each["metadata"]
    assert [message.data for message in found] == left
    of_events = [query["sql"] for query in queries if "asm_events" in query["sql"]]
    assert of_events
    assert not any("metadata" in sql or "data" in sql.split("FROM")[0] for sql in of_events)


def test_queries(
    browser: Browser, session: Session, events: list[Event], using: str, user: User
) -> None:
    User.objects.update(is_superuser=True)
    with CaptureQueriesContext(connections[using]) as queries:
        browser.read(session.pk)
    told = [query["sql"] for query in queries if "asm_" in query["sql"]]
    # How far it is, when the stream begins, in each round and by its end; the events in two pages.
    assert [("asm_events" in sql) for sql in told] == [False, False, True, True, False]
