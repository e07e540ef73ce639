"""Actions ask first, with counts, each with a permission of its own, and leave traces."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.test import Client

from asm_store.admin import actions
from asm_store.admin.actions import ACTIONS, MOST_CHOSEN
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import SessionNotFound
from asm_store.models import Session
from asm_store.test import make_event, make_run, make_session
from tests.admin.conftest import VIEW, LogIn
from tests.admin.pages import MOST_QUERIES, address, queries
from tests.admin.test_inert import complaints, save_hostile


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    session = database_store.save_session(make_session())
    database_store.save_run(make_run(session.id))
    database_store.append_events([make_event(session.id) for _ in range(3)])
    return session


def post(client: Client, name: str, *ids: str, confirmed: bool = True) -> Any:
    data: dict[str, Any] = {"action": name, "_selected_action": ids, "index": 0}
    if confirmed:
        data["confirmed"] = "yes"
    return client.post(address("session_changelist") + "?deleted=with", data)


def is_offered(client: Client, name: str) -> bool:
    listed = client.get(address("session_changelist")).content.decode()
    return f'<option value="{name}">' in listed


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_an_action_asks_first_and_says_how_much_is_meant(
    admin_client: Client,
    using: str,
    database_store: DatabaseSessionStore,
    session: Session,
    action: Any,
) -> None:
    before = database_store.get_session(session.id).to_dict()
    with queries(using) as statements:
        asked = post(admin_client, action.name, session.id, confirmed=False)
    assert asked.status_code == 200
    assert [count for _, count in asked.context["counts"]] == [1, 1, 3, 0]
    shown = asked.content.decode()
    for text in (session.id, f">{action.label}</button>", str(action.warning)):
        assert text in shown
    assert f'<input type="hidden" name="action" value="{action.name}">' in shown
    assert len(statements) <= MOST_QUERIES
    assert database_store.get_session(session.id).to_dict() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_each_action_needs_its_own_permission(
    log_in: LogIn, database_store: DatabaseSessionStore, session: Session, action: Any
) -> None:
    every = {permission for other in ACTIONS for permission in other.permissions}
    before = database_store.get_session(session.id).to_dict()
    client = log_in(*VIEW, *(every - set(action.permissions[:1])))
    assert not is_offered(client, action.name)
    post(client, action.name, session.id)
    assert database_store.get_session(session.id).to_dict() == before
    assert not LogEntry.objects.exists()


def test_an_action_is_offered_to_those_who_may(
    log_in: LogIn, database_store: DatabaseSessionStore, session: Session
) -> None:
    client = log_in(*VIEW, "pin_session")
    assert is_offered(client, "pin")
    page = client.get(address("session_change", session.pk)).content.decode()
    assert 'value="pin"' in page
    assert 'value="hard_delete"' not in page
    post(client, "pin", session.id)
    assert database_store.get_session(session.id).tags == ["pinned"]
    post(client, "unpin", session.id)
    assert database_store.get_session(session.id).tags == []


def test_soft_delete_and_restore(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    post(admin_client, "soft_delete", session.id)
    assert database_store.get_session(session.id).deleted_at is not None
    post(admin_client, "restore", session.id)
    assert database_store.get_session(session.id).deleted_at is None
    [entry] = LogEntry.objects.all()
    assert (entry.action_flag, entry.object_id) == (CHANGE, session.id)
    assert entry.get_change_message() == "Restored."


def test_hard_delete_leaves_an_entry_and_nothing_else(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    post(admin_client, "hard_delete", session.id)
    with pytest.raises(SessionNotFound):
        database_store.get_session(session.id)
    assert database_store.get_events(session.id) == []
    [entry] = LogEntry.objects.all()
    assert (entry.action_flag, entry.object_id) == (DELETION, session.id)


@pytest.mark.parametrize("name", ["jsonl", "atif", "html"])
def test_an_export_is_a_file_that_is_noted(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, name: str
) -> None:
    answer = post(admin_client, f"export_{name}", session.id)
    content = b"".join(answer.streaming_content).decode()
    assert answer["Content-Disposition"].startswith('attachment; filename="sessions.')
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert session.id in content
    if name != "html":
        assert all(json.loads(line) for line in content.splitlines())
    [entry] = LogEntry.objects.all()
    assert (entry.action_flag, entry.object_id) == (CHANGE, session.id)
    assert "Exported" in entry.get_change_message()


@pytest.mark.parametrize("missing", ["export_session", "view_event_payload"])
def test_an_export_needs_the_permission_to_see_content_too(
    log_in: LogIn, session: Session, missing: str
) -> None:
    client = log_in(*({*VIEW, "export_session", "view_event_payload"} - {missing}))
    for name in ("jsonl", "atif", "html"):
        assert not is_offered(client, f"export_{name}")
        assert not post(client, f"export_{name}", session.id).has_header("Content-Disposition")
    assert not LogEntry.objects.exists()


def test_too_many_at_once_are_refused(
    admin_client: Client,
    database_store: DatabaseSessionStore,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MOST_CHOSEN < 1_000
    monkeypatch.setattr(actions, "MOST_CHOSEN", 1)
    other = database_store.save_session(make_session())
    post(admin_client, "hard_delete", session.id, other.id)
    assert {row.id for row in database_store.list_sessions()} == {session.id, other.id}


def test_an_html_file_is_whole_and_lets_nothing_run(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    session, _run, events, _artifact = save_hostile(database_store)
    answer = post(admin_client, "export_html", session.id)
    content = b"".join(answer.streaming_content).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', content)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert content.count("<style>") == 1
    body = content.partition("</head>")[2]
    assert not list(complaints(body))
    assert all(f'id="s0-e{event.sequence_number}"' in body for event in events)
