"""Who sees what: without the permission for content none, with one for a session that session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import reverse

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Session
from asm_store.test import make_run, make_session
from tests.admin.conftest import VIEW, LogIn
from tests.admin.pages import address, get

SECRET = "the secret words"
OWN = f"{__name__}.OwnSessions"
EXPORT = ("export_session", "view_event_payload")


class OwnSessions(ModelBackend):
    """Who has the name of a session's agent may do everything with it, and nothing else."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return isinstance(obj, Session) and bool(obj.agent_id == user_obj.username)


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return save(database_store, "ada")


def save(store: DatabaseSessionStore, agent_id: str) -> Session:
    """A session whose records say the secret wherever they can."""
    said = {"content": SECRET, "error_message": SECRET, "tool_name": SECRET, "message": SECRET}
    session = store.save_session(
        make_session(agent_id=agent_id, status="active", context=said, metadata=said)
    )
    run = store.save_run(
        make_run(
            session.id,
            status="failed",
            input=said,
            output=said,
            error=said,
            metadata=said,
            provider_metadata={"request": SECRET},
            token_usage={"input_tokens": 5, "note": SECRET, SECRET: 1},
        )
    )
    store.append_events(
        [
            Event(session_id=session.id, run_id=run.id, type=kind, data=said, metadata=said)
            for kind in Event.Type.values
        ]
    )
    return session


def pages_of(using: str, session: Session) -> dict[str, str]:
    run = session.runs.using(using).get()
    event = session.events.using(using).order_by("sequence_number")[1]
    found = {
        "session": address("session_change", session.pk),
        "news": address("session_news", session.pk),
        "run": address("run_change", run.pk),
        "event": address("event_change", event.pk),
    }
    for name, record in (("session", session), ("run", run), ("event", event)):
        found[f"history of {name}"] = address(f"{name}_history", record.pk)
    return found


@pytest.fixture
def artifact(using: str, session: Session, tmp_path: Path) -> Any:
    place = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    storages = {"default": {**place, "OPTIONS": {"location": str(tmp_path)}}}
    static = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES={**storages, "staticfiles": static}):
        yield ArtifactStore(using=using).put(
            "a.txt", SECRET, session_id=session.pk, metadata={"a": SECRET}
        )


def test_without_the_permission_no_page_shows_content(
    log_in: LogIn, using: str, session: Session, artifact: Artifact
) -> None:
    every = {
        "soft_delete_session",
        "restore_session",
        "pin_session",
        "export_session",
        "hard_delete_session",
        "run_maintenance",
    }
    client = log_in(*VIEW, *every)
    lists = [address(f"{name}_changelist") for name in ("session", "run", "event", "artifact")]
    pages = [
        *pages_of(using, session).values(),
        *lists,
        address("artifact_change", artifact.pk),
        address("artifact_history", artifact.pk),
        address("dashboard"),
        address("maintenance"),
        reverse("admin:index"),
    ]
    for url in pages:
        assert SECRET not in get(client, url), url
    event = session.events.using(using).first()
    assert event is not None
    for url in (
        address("event_raw", event.pk),
        address("artifact_download", artifact.pk),
    ):
        answer = client.get(url)
        assert (answer.status_code, SECRET in answer.content.decode()) == (403, False)
    for action in ("soft_delete", "restore", "pin", "hard_delete"):
        asked = client.post(address("session_act", session.pk), {"action": action})
        assert (asked.status_code, SECRET in asked.content.decode()) == (200, False)
    for name in ("jsonl", "atif", "html"):
        data = {"action": f"export_{name}", "confirmed": "yes"}
        assert client.post(address("session_act", session.pk), data).status_code == 403


def test_a_count_of_tokens_is_none_of_its_names(
    log_in: LogIn, using: str, session: Session
) -> None:
    run = session.runs.using(using).get()
    shown = get(log_in(*VIEW), address("run_change", run.pk))
    assert "Input tokens" in shown
    assert '<div class="readonly">5</div>' in shown


def test_an_artifact_is_offered_to_those_who_may_see_it(
    log_in: LogIn, session: Session, artifact: Artifact
) -> None:
    client = log_in("view_session", "view_artifact", "view_event_payload")
    shown = get(client, address("session_change", session.pk))
    assert address("artifact_download", artifact.pk) in shown
    answer: Any = client.get(address("artifact_download", artifact.pk))
    assert b"".join(answer.streaming_content).decode() == SECRET


def test_a_permission_for_one_session_is_enough_for_it(
    client: Client, using: str, database_store: DatabaseSessionStore, artifact: Artifact
) -> None:
    own, other = save(database_store, "bob"), save(database_store, "carl")
    client.force_login(User.objects.create_user("bob", is_staff=True), backend=OWN)
    with override_settings(AUTHENTICATION_BACKENDS=[OWN]):
        for name, url in pages_of(using, own).items():
            shown = client.get(url)
            assert shown.status_code == 200, name
            # Who may see a session's content sees it; histories and news tell none of their own.
            assert (SECRET in shown.content.decode()) == (not name.startswith("history")), name
        for name, url in pages_of(using, other).items():
            assert client.get(url).status_code == 403, name
        event = own.events.using(using).first()
        assert event is not None
        assert client.get(address("event_raw", event.pk)).status_code == 200
        assert client.get(address("artifact_download", artifact.pk)).status_code == 403
        for name in ("session", "run", "event", "artifact"):
            assert client.get(address(f"{name}_changelist")).status_code == 403
        data = {"action": "export_jsonl", "confirmed": "yes"}
        answer: Any = client.post(address("session_act", own.pk), data)
        assert SECRET in b"".join(answer.streaming_content).decode()
        assert client.post(address("session_act", other.pk), data).status_code == 403
        data = {"action": "hard_delete", "confirmed": "yes"}
        assert client.post(address("session_act", own.pk), data).status_code == 302
        assert client.post(address("session_act", own.pk), data).status_code == 403


@pytest.mark.parametrize("permissions", [(), ("view_event_payload",), ("view_artifact",)])
def test_nobody_learns_what_is_there_who_may_not_see_it(
    log_in: LogIn, using: str, session: Session, permissions: tuple[str, ...]
) -> None:
    client = log_in(*permissions)
    event = session.events.using(using).first()
    assert event is not None
    for name, pk in (("session_news", session.pk), ("event_raw", event.pk)):
        there, not_there = client.get(address(name, pk)), client.get(address(name, "unknown"))
        assert there.status_code == not_there.status_code == 403
    for pk in (session.pk, "unknown"):
        assert client.post(address("session_act", pk), {"action": "pin"}).status_code == 403


def test_a_store_without_a_database_is_told(admin_client: Client) -> None:
    memory = {"default": {"BACKEND": "asm_store.backends.memory.InMemorySessionStore"}}
    with (
        override_settings(ASM_STORES=memory),
        pytest.raises(ImproperlyConfigured, match="no database to read from"),
    ):
        admin_client.get(address("session_changelist"))
