"""Who may follow which session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest
from django.test import AsyncClient, override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from tests.live.browsers import Browser, run
from tests.live.conftest import VIEW, VIEW_ALL, MakeUser, on_default
from tests.live.documentation import run_example

VIEWS = ("stream", "events")
OwnSessionsBackend: Any = None  # the class of an example: settings name it by its module


pytestmark = on_default


def statuses(browser: Browser, session_id: str) -> list[int]:
    return [
        run(lambda view=view: browser.get(session_id, view=view)).status_code  # type: ignore[misc]
        for view in VIEWS
    ]


def test_nobody(using: str, session: Session) -> None:
    for session_id in (session.pk, "ses_none"):
        for view in VIEWS:
            url = f"/{using}/{session_id}/{view}/"
            response = run(lambda url=url: AsyncClient().get(url))  # type: ignore[misc]
            assert response.status_code == 403
            assert response.json()["error"]["code"] == "not_authenticated"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("permissions", [(), VIEW[:1], VIEW[1:], ("view_event_payload",)])
def test_without_the_permissions_there_is_no_telling_what_is_there(
    using: str, session: Session, make_user: MakeUser, permissions: tuple[str, ...]
) -> None:
    browser = Browser(using, make_user(*permissions))
    for view in VIEWS:
        there = browser.answer(session.pk, "?after=1", view)
        not_there = browser.answer("ses_none", "?after=1", view)
        assert there.status_code == not_there.status_code == 403
        assert there.content == not_there.content
        assert there.headers == not_there.headers


def test_with_the_permissions(using: str, session: Session, make_user: MakeUser) -> None:
    browser = Browser(using, make_user(*VIEW))
    assert statuses(browser, session.pk) == [200, 200]
    assert statuses(browser, "ses_none") == [404, 404]


def test_one_who_is_not_active(using: str, session: Session, make_user: MakeUser) -> None:
    user = make_user(*VIEW_ALL)
    browser = Browser(using, user)
    # So that the login goes on, and a backend says yes.
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    with override_settings(AUTHENTICATION_BACKENDS=[backend]):
        browser.client.force_login(user)
        User.objects.update(is_active=False, is_superuser=True)
        assert statuses(browser, session.pk) == [403, 403]


def test_a_project_without_users(using: str, session: Session, make_user: MakeUser) -> None:
    browser = Browser(using, make_user(*VIEW_ALL))
    with override_settings(MIDDLEWARE=[]):
        assert statuses(browser, session.pk) == [403, 403]


def test_a_project_whose_views_all_need_a_login(
    using: str, session: Session, make_user: MakeUser
) -> None:
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, required]):
        url = f"/{using}/{session.pk}/events/"
        assert run(lambda: AsyncClient().get(url)).status_code == 403
        assert statuses(Browser(using, make_user(*VIEW)), session.pk) == [200, 200]


class TestOwners:
    """The backend of docs/live.md shows a user his own sessions."""

    @pytest.fixture(autouse=True)
    def backend(self) -> Iterator[None]:
        global OwnSessionsBackend  # noqa: PLW0603
        OwnSessionsBackend = run_example("class OwnSessionsBackend")["OwnSessionsBackend"]
        backends = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.OwnSessionsBackend"]
        with override_settings(AUTHENTICATION_BACKENDS=backends):
            yield

    @pytest.fixture
    def sessions(self, database_store: DatabaseSessionStore, make_user: MakeUser) -> dict[str, str]:
        """The id of each user's session."""
        found = {}
        for name in ("ada", "grace"):
            user = make_user(name=name)
            session = make_session(metadata={"owner": user.pk}, status="completed")
            found[name] = database_store.save_session(session).pk
            database_store.append_event(make_event(session, data={"content": name}))
        return found

    def browser_of(self, using: str, name: str) -> Browser:
        return Browser(using, User.objects.get(username=name))

    @pytest.mark.parametrize(("name", "other"), [("ada", "grace"), ("grace", "ada")])
    def test_each_follows_his_own(
        self, using: str, sessions: dict[str, str], name: str, other: str
    ) -> None:
        browser = self.browser_of(using, name)
        assert statuses(browser, sessions[name]) == [200, 200]
        assert statuses(browser, sessions[other]) == [403, 403]
        assert statuses(browser, "ses_none") == [403, 403]
        [event, _end] = browser.read(sessions[name])
        assert event.data["data"]["content"] == name

    def test_until_it_is_no_longer_his(
        self, using: str, sessions: dict[str, str], database_store: DatabaseSessionStore
    ) -> None:
        pk = sessions["ada"]
        database_store.update_session(pk, status="active")
        browser = self.browser_of(using, "ada")

        async def body() -> list[str]:
            found = []
            async for message in browser.follow(pk, view="hasty"):
                found.append(message.event)
                await database_store.aupdate_session(pk, metadata={"owner": None})
            return found

        assert run(body) == ["message", "end"]


class TestTokens:
    """A user whom another middleware than Django's has found."""

    def test_is_looked_up_again(self, session: Session, make_user: MakeUser) -> None:
        from asm_store.live.access import current_user

        user = make_user(*VIEW)
        request = HttpRequest()
        request.user = user
        assert current_user(request) == user
        User.objects.update(is_active=False)
        assert not current_user(request).is_active
        user.delete()
        request.user = User(pk=0)
        assert current_user(request) is None


def test_a_project_whose_requests_are_transactions(
    browser: Browser, session: Session, events: list[Event], using: str
) -> None:
    with patch.dict(connections.settings[using], ATOMIC_REQUESTS=True):
        assert browser.answer(session.pk, view="events").status_code == 200
        assert browser.read(session.pk)[-1].event == "end"
