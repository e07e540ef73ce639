"""Actions ask first, with counts, each with a permission of its own, and leave traces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.messages.storage.fallback import FallbackStorage
from django.test import Client, RequestFactory
from django.utils.translation import override

from asm_store.admin import actions, steps
from asm_store.admin.actions import ACTIONS, MOST_CHOSEN
from asm_store.admin.steps import each
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import SessionNotFound, StorageError
from asm_store.maintenance import RetentionPolicy, execute
from asm_store.maintenance.removing import remove_session
from asm_store.models import Event, Run, Session, SessionSequence
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


def test_only_one_who_came_by_the_form_acts(
    database_store: DatabaseSessionStore, session: Session, admin_user: User
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    data = {"action": "hard_delete", "confirmed": "yes"}
    assert client.post(address("session_act", session.id), data).status_code == 403
    assert post(client, "hard_delete", session.id).status_code == 403
    assert client.get(address("session_act", session.id), data).status_code == 405
    assert database_store.get_session(session.id).deleted_at is None


@pytest.mark.parametrize("name", ["view_run", "view_event"])
def test_an_export_needs_to_see_what_it_holds(log_in: LogIn, session: Session, name: str) -> None:
    client = log_in(*({*VIEW, "export_session", "view_event_payload"} - {name}))
    assert not is_offered(client, "export_jsonl")
    assert not post(client, "export_jsonl", session.id).has_header("Content-Disposition")


def test_without_a_tag_that_retention_leaves_alone_nothing_is_pinned(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, settings: Any
) -> None:
    settings.ASM_STORE_RETENTION = {"exempt_tags": []}
    assert not is_offered(admin_client, "pin")
    assert not is_offered(admin_client, "unpin")
    assert is_offered(admin_client, "soft_delete")
    answer = admin_client.post(
        address("session_act", session.id), {"action": "pin", "confirmed": "yes"}
    )
    assert answer.status_code == 403
    assert database_store.get_session(session.id).tags == []


def test_unpinning_removes_every_tag_that_retention_leaves_alone(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, settings: Any
) -> None:
    settings.ASM_STORE_RETENTION = {"exempt_tags": ["kept", "legal"]}
    database_store.update_session(session.id, add_tags=["legal", "other"])
    page = admin_client.get(address("session_change", session.id)).content.decode()
    assert 'value="unpin"' in page
    assert 'value="pin"' not in page
    post(admin_client, "pin", session.id)
    assert database_store.get_session(session.id).tags == ["legal", "other", "kept"]
    post(admin_client, "unpin", session.id)
    assert database_store.get_session(session.id).tags == ["other"]


def test_an_action_is_done_from_the_page_of_the_session(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    url = address("session_act", session.id)
    asked = admin_client.post(url, {"action": "soft_delete"})
    assert f'<form method="post" action="{url}"' in asked.content.decode()
    assert database_store.get_session(session.id).deleted_at is None
    answer = admin_client.post(url, {"action": "soft_delete", "confirmed": "yes"})
    assert answer["Location"] == address("session_change", session.id)
    assert database_store.get_session(session.id).deleted_at is not None
    answer = admin_client.post(url, {"action": "hard_delete", "confirmed": "yes"})
    assert answer["Location"] == address("session_changelist")
    assert admin_client.post(url, {"action": "hard_delete"}).status_code == 404
    assert admin_client.post(url, {"action": "nonsense"}).status_code == 404


def test_what_fails_for_one_session_is_told_and_the_others_are_done(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, settings: Any
) -> None:
    large = database_store.save_session(make_session(metadata={"a": "x" * 2_000}))
    settings.ASM_STORE_MAX_EVENT_BYTES = 1_000
    answer = admin_client.post(
        address("session_changelist"),
        {"action": "pin", "_selected_action": [session.id, large.id], "confirmed": "yes"},
        follow=True,
    )
    told = [str(message) for message in answer.context["messages"]]
    assert told[0] == "1 session was pinned."
    assert told[1].startswith(f"1 session failed: {large.id}: ")
    assert database_store.get_session(session.id).tags == ["pinned"]


Told = list[str]


@pytest.fixture
def do(rf: RequestFactory, admin_user: User) -> Callable[..., Told]:
    """Do a step to sessions, as an action does; what the user is told."""

    def do(step: Callable[[str], object], *sessions: Session) -> Told:
        request: Any = rf.post("/")
        request.user, request.session = admin_user, {}
        request._messages = FallbackStorage(request)
        each(step, lambda count: "%(count)d done.", "Done.", DELETION)(request, list(sessions))
        return [str(message) for message in request._messages]

    return do


def test_an_entry_is_there_before_it_is_done_and_gone_when_it_failed(
    do: Callable[..., Told], session: Session
) -> None:
    def step(session_id: str) -> None:
        assert LogEntry.objects.filter(object_id=session_id, action_flag=DELETION).exists()
        raise StorageError("The disk is full.")

    assert do(step, session) == [f"1 session failed: {session.id}: The disk is full."]
    assert not LogEntry.objects.exists()


def test_what_time_does_not_allow_is_told(
    do: Callable[..., Told], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SECONDS", 0)
    assert do(steps.hard_delete, session) == [
        "The time was up before 1 of the sessions: choose them again."
    ]
    assert not LogEntry.objects.exists()


def test_a_large_session_is_deleted_piece_by_piece(
    admin_client: Client, using: str, database_store: DatabaseSessionStore, session: Session
) -> None:
    batch = RetentionPolicy().batch_size
    database_store.append_events([make_event(session.id) for _ in range(batch + 1)])
    with queries(using) as statements:
        post(admin_client, "hard_delete", session.id)
    pieces = [sql for sql in statements if re.match(r"DELETE FROM .asm_events", sql)]
    assert len(pieces) > 1
    assert not Event.objects.using(using).exists()
    assert not Run.objects.using(using).exists()
    assert not SessionSequence.objects.using(using).exists()
    assert LogEntry.objects.get().object_id == session.id


def test_what_is_left_of_a_large_session_is_for_the_next_maintenance(
    do: Callable[..., Told],
    using: str,
    database_store: DatabaseSessionStore,
    session: Session,
) -> None:
    def step(session_id: str) -> bool | None:
        return remove_session(session_id, using=using, max_seconds=1e-9)

    assert do(step, session) == [
        "1 done.",
        "Of 1 of them the next maintenance removes the rest.",
    ]
    with pytest.raises(SessionNotFound):
        database_store.get_session(session.id)
    execute(RetentionPolicy(), using=using)
    assert not SessionSequence.objects.using(using).exists()


@pytest.mark.parametrize("name", ["restore", "export_html"])
def test_the_history_speaks_english(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, name: str
) -> None:
    with override("de"):
        answer = post(admin_client, name, session.id)
    getattr(answer, "streaming_content", None)
    assert LogEntry.objects.get().get_change_message() in {"Restored.", "Exported as html."}
