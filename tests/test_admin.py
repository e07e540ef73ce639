"""The admin shows the records, changes none, and costs the same on a long table as on a short."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from asm_store.admin import columns, read_only
from asm_store.models import Artifact, Event, Run, Session, SessionSequence

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert(1)</script>"
INERT = "&lt;script&gt;alert(1)&lt;/script&gt;"
Records = tuple[Session, Run, Event, Artifact]
Queries = Callable[..., AbstractContextManager[CaptureQueriesContext]]


@pytest.fixture
def records() -> Records:
    """One record of each kind, with text that would be a script if it were not escaped."""
    session = Session.objects.create(
        id="ses_1", agent_id=SCRIPT, tags=[SCRIPT], metadata={SCRIPT: [SCRIPT]}
    )
    run = Run.objects.create(
        id="run_1", session=session, provider=SCRIPT, output={"text": SCRIPT}, error={"e": SCRIPT}
    )
    event = Event.objects.create(
        id="evt_1",
        type=Event.Type.MESSAGE_SENT,
        session=session,
        run=run,
        sequence_number=1,
        data={"content": SCRIPT, "role": "Größe"},
    )
    artifact = Artifact.objects.create(
        id="art_1",
        session=session,
        key=SCRIPT,
        byte_size=3,
        checksum_sha256="0" * 64,
        storage_backend="default",
        storage_ref=SCRIPT,
    )
    return session, run, event, artifact


def url(record: Any, page: str) -> str:
    arguments = [quote(record.pk)] if page in {"change", "delete", "history"} else []
    return reverse(f"admin:asm_store_{record._meta.model_name}_{page}", args=arguments)


def add_events(count: int) -> None:
    Event.objects.bulk_create(
        Event(type="tool_call_started", session_id="ses_1", sequence_number=number)
        for number in range(2, 2 + count)
    )


def page(client: Client, address: str, **query: str) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return response.content.decode()


def test_every_list_and_record_is_shown_with_its_text_inert(
    admin_client: Client, records: Records
) -> None:
    for record in records:
        listed = page(admin_client, url(record, "changelist"))
        shown = page(admin_client, url(record, "change"))
        assert record.pk in listed
        assert INERT in shown
        assert SCRIPT not in listed + shown


def test_json_is_indented_and_readable(admin_client: Client, records: Records) -> None:
    shown = page(admin_client, url(records[2], "change"))
    assert "{\n  &quot;content&quot;: " in shown
    assert "Größe" in shown


def test_json_too_long_for_a_page_is_cut_and_says_so(
    admin_client: Client, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MAX_JSON_SHOWN", 10)
    shown = page(admin_client, url(records[2], "change"))
    whole = json.dumps(records[2].data, indent=2, ensure_ascii=False)
    assert f"cut, {len(whole)} characters in all" in shown
    assert "Größe" not in shown


def test_nothing_can_be_added_changed_or_deleted(admin_client: Client, records: Records) -> None:
    for record in records:
        before = type(record).objects.values().get()
        for name in ("add", "change", "delete"):
            assert admin_client.post(url(record, name), {"post": "yes"}).status_code == 403
        action = {"action": "delete_selected", "_selected_action": record.pk}
        admin_client.post(url(record, "changelist"), action)
        assert type(record).objects.values().get() == before
        assert 'type="submit" value="Save"' not in page(admin_client, url(record, "change"))


def test_the_counter_is_not_registered() -> None:
    assert not admin.site.is_registered(SessionSequence)


def test_staff_sees_what_it_has_the_permission_to_view(client: Client, records: Records) -> None:
    session, _run, event, _artifact = records
    user = User.objects.create_user("staff", is_staff=True)
    permission = {"codename": "view_session", "content_type__app_label": "asm_store"}
    user.user_permissions.add(Permission.objects.get(**permission))
    assert client.get(url(session, "changelist")).status_code == 302
    client.force_login(user)
    assert client.get(url(session, "change")).status_code == 200
    assert client.get(url(event, "changelist")).status_code == 403
    assert client.get(url(event, "change")).status_code == 403


def test_search_is_for_the_exact_id(admin_client: Client, records: Records) -> None:
    for record in records:
        address = url(record, "changelist")
        link = url(record, "change")
        assert link in page(admin_client, address, q=record.pk)
        for other in (record.pk.upper(), record.pk[:-1]):
            assert link not in page(admin_client, address, q=other)


def test_events_of_a_session_are_ordered_by_number_and_filtered_by_type(
    admin_client: Client, records: Records
) -> None:
    add_events(2)
    address = url(records[2], "changelist")
    of_session = {"session__id__exact": "ses_1"}
    response = admin_client.get(address, of_session)
    numbers = [event.sequence_number for event in response.context["cl"].result_list]
    assert numbers == [3, 2, 1]
    assert "By type" in response.content.decode()
    narrowed = admin_client.get(address, of_session | {"type": "message_sent"})
    assert [event.pk for event in narrowed.context["cl"].result_list] == ["evt_1"]
    assert "By type" not in page(admin_client, address)


def test_session_and_run_lead_to_their_events(admin_client: Client, records: Records) -> None:
    session, run, event, _artifact = records
    events = url(event, "changelist")
    assert f"{events}?session__id__exact=ses_1" in page(admin_client, url(session, "change"))
    assert f"{events}?run__id__exact=run_1" in page(admin_client, url(run, "change"))


def test_an_event_whose_run_is_gone_is_shown(admin_client: Client, records: Records) -> None:
    Run.objects.all()._raw_delete("default")
    assert "evt_1" in page(admin_client, url(records[2], "change"))


def test_a_list_costs_as_many_queries_for_many_events_as_for_one(
    admin_client: Client, records: Records, django_assert_num_queries: Queries
) -> None:
    address = url(records[2], "changelist")
    with django_assert_num_queries(4) as few:  # the login session, the user, count, page
        page(admin_client, address)
    add_events(150)
    with django_assert_num_queries(4):
        page(admin_client, address)
    count, rows = (query["sql"] for query in few.captured_queries[2:])
    assert f"LIMIT {read_only.MAX_ROWS_LISTED}" in count
    assert '"asm_events"."data"' not in rows


def test_a_long_list_ends_at_its_limit(
    admin_client: Client, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_only, "MAX_ROWS_LISTED", 120)
    add_events(150)
    response = admin_client.get(url(records[2], "changelist"), {"p": "2"})
    assert len(response.context["cl"].result_list) == 20
    assert "The latest 120 that match, at most" in response.content.decode()
