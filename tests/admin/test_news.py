"""A page of a session that runs: what comes later, and where it belongs."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats.readable.loading import PAGE
from asm_store.models import Session
from asm_store.test import make_session
from tests.admin.conversations import CALL, append, fill
from tests.admin.pages import address, get


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return database_store.save_session(make_session(status="active"))


def test_news_are_what_came_after(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, 2)
    url = address("session_news", session.pk)
    said = admin_client.get(url, {"after": 1}).json()
    assert said["last"] == 2
    assert "text 2" in said["html"]
    assert "text 1" not in said["html"]
    assert (said["has_more"], said["has_ended"]) == (False, False)
    database_store.update_session(session.id, status="completed")
    ended = admin_client.get(url, {"after": 2}).json()
    assert (ended["last"], ended["html"].strip(), ended["has_ended"]) == (2, "", True)
    assert admin_client.get(address("session_news", "unknown")).status_code == 404


def test_the_latest_page_of_a_running_session_is_live(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, PAGE + 5)
    url = address("session_change", session.pk)
    latest = admin_client.get(url, {"before": PAGE + 6})
    assert f'data-last="{PAGE + 5}" data-news' in latest.content.decode()
    assert 'rel="next"' not in latest.content.decode()
    assert "data-news" not in get(admin_client, url, before=PAGE + 5)
    assert f'data-last="{PAGE + 5}" data-news' in get(admin_client, url, after=9_999)


def test_a_result_that_comes_later_takes_the_place_of_its_call(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    append(database_store, session, ("tool_call_started", {**CALL, "tool_input": "x"}))
    fill(database_store, session, 1)
    url = address("session_news", session.pk)
    append(database_store, session, ("tool_call_completed", {**CALL, "tool_output": "found"}))
    said = admin_client.get(url, {"after": 2}).json()
    assert said["last"] == 3
    assert said["html"].count("<article") == 1
    assert '<article class="asm-entry asm-tool" id="e1" data-last="3"' in said["html"]
    assert '<span id="e3">' in said["html"]
    assert "found" in said["html"]


def test_what_is_still_streamed_comes_again_until_it_is_as_long_as_a_page(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, 1)

    def stream(count: int) -> None:
        append(database_store, session, *[("message_streamed", {"content": "la"})] * count)

    def news(after: int) -> Any:
        return admin_client.get(address("session_news", session.pk), {"after": after}).json()

    stream(2)
    page = get(admin_client, address("session_change", session.pk))
    assert 'id="asm-entries" data-last="1"' in page
    assert 'id="e2" data-last="3"' in page
    stream(1)
    said = news(1)
    assert 'id="e2" data-last="4"' in said["html"]
    assert ("lalala" in said["html"], said["last"], said["has_more"]) == (True, 1, False)
    stream(PAGE)
    assert (news(1)["last"], news(1)["has_more"]) == (PAGE + 1, True)
    assert (news(PAGE + 1)["last"], news(PAGE + 1)["has_more"]) == (PAGE + 1, False)
    append(database_store, session, ("message_received", {"content": "done"}))
    assert news(PAGE + 1)["last"] == PAGE + 5


def test_a_page_follows_while_the_session_is_active_and_its_end_is_shown(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, PAGE + 1)
    url = address("session_change", session.pk)
    assert "data-news" not in get(admin_client, url)
    assert "data-news" in get(admin_client, url, after=PAGE)
    database_store.update_session(session.id, status="completed")
    assert "data-news" not in get(admin_client, url, after=PAGE)
