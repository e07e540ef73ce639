"""Another admin site than Django's own: its pages lead to each other, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import path

from asm_store.admin import ArtifactAdmin, EventAdmin, RunAdmin, SessionAdmin
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Run, Session
from asm_store.test import make_event, make_run, make_session
from tests.admin.pages import get

site = admin.AdminSite(name="ops")
site.register(Session, SessionAdmin)
site.register(Run, RunAdmin)
site.register(Event, EventAdmin)
site.register(Artifact, ArtifactAdmin)
urlpatterns: list[Any] = [path("admin/", admin.site.urls), path("ops/", site.urls)]


@pytest.mark.parametrize("using", ["default"], indirect=True)
@pytest.mark.django_db
def test_pages_lead_to_pages_of_their_own_site(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    parent = database_store.save_session(make_session())
    session = database_store.save_session(
        make_session(parent_session_id=parent.id, status="active")
    )
    run = database_store.save_run(make_run(session.id))
    [event] = database_store.append_events([make_event(session.id, run_id=run.id)])
    with override_settings(ROOT_URLCONF=__name__):
        pages = [
            *(f"/ops/asm_store/{name}/" for name in ("session", "run", "event", "artifact")),
            *(
                f"/ops/asm_store/{name}/{quote(record.pk)}/change/"
                for name, record in (
                    ("session", session),
                    ("session", parent),
                    ("run", run),
                    ("event", event),
                )
            ),
            "/ops/asm_store/session/dashboard/",
            "/ops/asm_store/session/maintenance/",
        ]
        shown = "".join(get(admin_client, url) for url in pages)
        act = f"/ops/asm_store/session/{quote(session.pk)}/act/"
        asked = admin_client.post(act, {"action": "pin"}).content.decode()
        done = admin_client.post(act, {"action": "pin", "confirmed": "yes"})
    found = re.findall(r'(?:href|action|data-news)="(/[^"]*)"', shown + asked)
    assert len(found) > 50
    assert not [url for url in found if not url.startswith(("/ops/", "/static/")) and url != "/"]
    assert done["Location"] == f"/ops/asm_store/session/{quote(session.pk)}/change/"
