"""Maintenance is tried first, then run, by those alone who may."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session, SessionSequence
from asm_store.test import make_session
from tests.admin.conftest import VIEW, LogIn
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
    admin_client.post(url, {"run": "1"})
    assert database_store.get_session(session.id).deleted_at is not None
    [entry] = LogEntry.objects.all()
    assert "sessions_soft_deleted: 1" in entry.change_message


def test_it_needs_its_permission(log_in: LogIn, database_store: DatabaseSessionStore) -> None:
    session = save_old_session(database_store)
    client = log_in(*VIEW, "hard_delete_session", "soft_delete_session")
    url = address("maintenance")
    assert url not in get(client, reverse("admin:index"))
    for answer in (client.get(url), client.post(url, {"run": "1"})):
        assert answer.status_code == 403
    assert database_store.get_session(session.id).deleted_at is None
