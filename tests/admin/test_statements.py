"""No page asks the databases more than a dozen questions, whoever looks at whatever."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from asm_store.admin.actions import ACTIONS
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Session
from asm_store.test import make_run, make_session
from tests.admin.conftest import VIEW, LogIn
from tests.admin.pages import MOST_QUERIES, address, queries

Urls = dict[str, str]


@pytest.fixture
def urls(using: str, database_store: DatabaseSessionStore) -> Urls:
    """Every page, of a session that has everything."""
    parent = database_store.save_session(make_session())
    session = database_store.save_session(
        make_session(parent_session_id=parent.id, status="active")
    )
    database_store.save_session(make_session(parent_session_id=session.id))
    run = database_store.save_run(make_run(session.id, status="running"))
    call: dict[str, Any] = {"tool_name": "grep", "tool_call_id": "1"}
    kinds = ["tool_call_completed", *["message_sent"] * 100, "tool_call_started"]
    events = database_store.append_events(
        [Event(session_id=session.id, run_id=run.id, type=kind, data=call) for kind in kinds]
    )
    artifact = Artifact.objects.using(using).create(
        session_id=session.pk, run_id=run.pk, key="a", byte_size=1, storage_backend="default"
    )
    page = address("session_change", session.pk)
    of_session = f"session__id__exact={session.pk}"
    lists = {
        name: address(f"{name}_changelist") for name in ("session", "run", "event", "artifact")
    }
    return {
        **lists,
        "filtered sessions": f"{lists['session']}?status=active&provider=x&tags=y&deleted=with",
        "searched sessions": f"{lists['session']}?q=ses_*",
        "events of a session": f"{lists['event']}?{of_session}&type=message_sent",
        "a session": page,
        "its next page": f"{page}?after=100",
        "its latest page": f"{page}?before=103",
        "its news": address("session_news", session.pk) + "?after=5",
        "its history": address("session_history", session.pk),
        "a run": address("run_change", run.pk),
        "an event": address("event_change", events[0].pk),
        "its JSON": address("event_raw", events[0].pk),
        "an artifact": address("artifact_change", artifact.pk),
        "dashboard": address("dashboard"),
        "maintenance": address("maintenance"),
    }


def check(client: Client, using: str, urls: Urls) -> None:
    for name, url in urls.items():
        with queries(using) as statements:
            assert client.get(url).status_code == 200, name
        assert len(statements) <= MOST_QUERIES, (name, statements)


def test_of_a_superuser(admin_client: Client, using: str, urls: Urls) -> None:
    check(admin_client, using, urls)


def test_of_one_whose_permissions_are_asked_for(log_in: LogIn, using: str, urls: Urls) -> None:
    every = {permission for action in ACTIONS for permission in action.permissions}
    check(log_in(*VIEW, *every, "run_maintenance"), using, urls)


def test_of_actions_that_ask_first(admin_client: Client, using: str, urls: Urls) -> None:
    ids = list(Session.objects.using(using).values_list("pk", flat=True))
    for action in ACTIONS:
        data = {"action": action.name, "_selected_action": ids, "index": 0}
        with queries(using) as statements:
            answer = admin_client.post(urls["session"], data)
        assert answer.context["counts"][0][1] == 3
        assert len(statements) <= MOST_QUERIES
