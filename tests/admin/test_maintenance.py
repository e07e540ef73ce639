"""Maintenance is tried first, then run, by those alone who may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance.locking import lock_held
from asm_store.models import Session, SessionSequence
from asm_store.test import make_session
from tests.admin.conftest import VIEW, LogIn, with_users
from tests.admin.pages import address, get


def save_old_session(store: DatabaseSessionStore) -> Session:
    """One that nobody has used for a year."""
    then = timezone.now() - timedelta(days=365)
    session = make_session(status="completed", created_at=then, updated_at=then)
    saved = store.save_session(session)
    SessionSequence.objects.using(store.using).update(updated_at=then)
    return saved


def test_it_is_tried_and_then_run(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    session = save_old_session(database_store)
    url = address("maintenance")
    assert 'name="run"' not in get(admin_client, url)
    tried = admin_client.post(url, {"try": "1"})
    assert tried.context["report"].sessions_soft_deleted == 1
    assert 'name="run"' in tried.content.decode()
    assert database_store.get_session(session.id).deleted_at is None
    assert not LogEntry.objects.exists()
    admin_client.post(url, {"run": "1", "trial": tried.context["trial"]})
    assert database_store.get_session(session.id).deleted_at is not None
    [entry] = LogEntry.objects.all()
    assert "sessions_soft_deleted: 1" in entry.change_message


def test_nobody_runs_it_who_has_not_tried_it(
    admin_client: Client, database_store: DatabaseSessionStore, settings: Any
) -> None:
    session = save_old_session(database_store)
    url = address("maintenance")
    tried = admin_client.post(url, {"try": "1"}).context["trial"]
    settings.ASM_STORE_RETENTION = {"max_session_age_days": 7}
    answer: Any = None
    for trial in ("", "nonsense", tried):
        answer = admin_client.post(url, {"run": "1", "trial": trial})
        assert "Try it first" in answer.content.decode()
        assert answer.context["report"].dry_run
        assert database_store.get_session(session.id).deleted_at is None
    assert not LogEntry.objects.exists()
    admin_client.post(url, {"run": "1", "trial": answer.context["trial"]})
    assert database_store.get_session(session.id).deleted_at is not None


@pytest.mark.parametrize("using", [with_users("postgresql")], indirect=True)
def test_what_was_skipped_leaves_no_entry(
    admin_client: Client, using: str, database_store: DatabaseSessionStore
) -> None:
    """Another one works on the database, from another connection."""
    session = save_old_session(database_store)
    url = address("maintenance")
    trial = admin_client.post(url, {"try": "1"}).context["trial"]

    def hold(begun: Event, done: Event) -> None:
        with lock_held(using) as is_held:
            assert is_held
            begun.set()
            done.wait(30)
        connections[using].close()

    begun, done = Event(), Event()
    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(hold, begun, done)
        begun.wait(30)
        try:
            answer = admin_client.post(url, {"run": "1", "trial": trial})
        finally:
            done.set()
        held.result()
    assert answer.context["report"].skipped
    assert database_store.get_session(session.id).deleted_at is None
    assert not LogEntry.objects.exists()


def test_it_needs_its_permission(log_in: LogIn, database_store: DatabaseSessionStore) -> None:
    session = save_old_session(database_store)
    client = log_in(*VIEW, "hard_delete_session", "soft_delete_session")
    url = address("maintenance")
    assert url not in get(client, reverse("admin:index"))
    for answer in (client.get(url), client.post(url, {"run": "1"})):
        assert answer.status_code == 403
    assert database_store.get_session(session.id).deleted_at is None
