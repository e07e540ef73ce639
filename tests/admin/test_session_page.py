"""The page of a session: its conversation, page by page, with what belongs to it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.translation import override

from asm_store.admin.session_page import MOST_LISTED
from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats.readable.loading import MOST_SHOWN, PAGE
from asm_store.models import Artifact, Event, Run, Session
from asm_store.test import make_event, make_run, make_session
from tests.admin.conftest import VIEW, LogIn
from tests.admin.conversations import CALL, SECOND, START, append, fill
from tests.admin.pages import MOST_QUERIES, address, get, queries


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return database_store.save_session(make_session(status="active"))


def shown_numbers(client: Client, session: Session, **query: Any) -> list[int]:
    response = client.get(address("session_change", session.pk), query)
    assert response.status_code == 200
    return [entry.event.number for entry in response.context["entries"]]


def test_a_conversation_is_read_as_one(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    append(
        database_store,
        session,
        ("message_sent", {"content": "Find it.", "role": "user"}),
        ("tool_call_started", {**CALL, "tool_input": {"pattern": "lamp"}}),
        ("token_usage_updated", {"input_tokens": 1200, "output_tokens": 7}),
        ("tool_call_completed", {**CALL, "tool_output": "sun.py:14"}),
        ("message_received", {"content": [{"type": "text", "text": "Here."}]}),
        ("error_occurred", {"error_message": "It broke.", "error_code": "E7"}),
    )
    response = admin_client.get(address("session_change", session.pk))
    entries = response.context["entries"]
    assert [entry.kind for entry in entries] == ["message", "tool", "usage", "message", "error"]
    tool = entries[1]
    assert (tool.tool_name, tool.text.whole, tool.took) == (
        "grep",
        "sun.py:14",
        timedelta(seconds=2),
    )
    assert json.loads(tool.tool_input.whole) == {"pattern": "lamp"}
    assert entries[2].counts == [("input tokens", 1200), ("output tokens", 7)]
    assert entries[3].text.whole == "Here."
    assert entries[4].text.whole == "E7: It broke."
    shown = response.content.decode()
    for number in range(1, 7):
        assert f'id="e{number}"' in shown


def test_what_was_streamed_is_one_entry(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    parts = [("message_streamed", {"content": text}) for text in ("Hel", "lo")]
    append(database_store, session, *parts)
    [entry] = admin_client.get(address("session_change", session.pk)).context["entries"]
    assert (entry.text.whole, entry.parts) == ("Hello", 2)


def test_pages_follow_the_numbers_there_and_back(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, 2 * PAGE + 5)
    first = shown_numbers(admin_client, session)
    assert first == list(range(1, PAGE + 1))
    assert shown_numbers(admin_client, session, after=PAGE) == list(range(PAGE + 1, 2 * PAGE + 1))
    assert shown_numbers(admin_client, session, before=PAGE + 1) == first
    assert shown_numbers(admin_client, session, at=150)[0] == 150
    assert shown_numbers(admin_client, session, before=2 * PAGE + 6)[-1] == 2 * PAGE + 5
    assert shown_numbers(admin_client, session, after=2 * PAGE + 5) == []
    for nonsense in ("x", "-1", "1e3", "9" * 30, "٣"):
        assert shown_numbers(admin_client, session, after=nonsense) == first


def test_pages_lead_to_each_other(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, PAGE + 1)
    url = address("session_change", session.pk)
    first = get(admin_client, url)
    assert f'href="?after={PAGE}" rel="next"' in first
    assert 'rel="prev"' not in first
    last = get(admin_client, url, after=PAGE)
    assert 'rel="next"' not in last
    assert f'href="?before={PAGE + 1}" rel="prev"' in last


@pytest.mark.parametrize("count", [1, PAGE - 1])
def test_a_result_on_the_next_page_is_beside_its_call(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, count: int
) -> None:
    fill(database_store, session, PAGE - 1)
    append(database_store, session, ("tool_call_started", {**CALL, "tool_input": "x"}))
    fill(database_store, session, count)
    append(database_store, session, ("tool_call_failed", {**CALL, "error_message": "no"}))
    url = address("session_change", session.pk)
    call = admin_client.get(url).context["entries"][-1]
    assert (call.text.whole, call.has_failed) == ("no", True)
    answer = admin_client.get(url, {"after": PAGE}).context["entries"][-1]
    assert (answer.tool_name, answer.tool_input.whole, answer.text.whole) == ("grep", "x", "no")
    assert answer.took == timedelta(seconds=count + 1)


def test_a_long_session_costs_what_a_short_one_costs(
    admin_client: Client, using: str, database_store: DatabaseSessionStore, session: Session
) -> None:
    run = database_store.save_run(make_run(session.id, status=Run.Status.RUNNING))
    url = address("session_change", session.pk)
    append(database_store, session, ("tool_call_started", CALL), ("tool_call_completed", {}))
    database_store.append_event(make_event(session.id, run_id=run.id))
    with queries(using) as few:
        get(admin_client, url)
    fill(database_store, session, 5 * PAGE)
    with queries(using) as many:
        get(admin_client, url)
    assert len(many) <= len(few) <= MOST_QUERIES


def test_what_is_too_long_stays_in_the_database(
    admin_client: Client, using: str, database_store: DatabaseSessionStore, session: Session
) -> None:
    large = "x" * MOST_SHOWN
    append(database_store, session, ("message_sent", {"content": large}))
    with queries(using):
        shown = get(admin_client, address("session_change", session.pk))
    assert large not in shown
    assert "too long to be shown" in shown
    [event] = database_store.get_events(session.id)
    raw = admin_client.get(address("event_raw", event.id))
    assert json.loads(raw.content) == event.to_dict()


def test_a_result_that_is_too_long_is_its_calls(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    """Also one that its database has compressed to less."""
    for number, text in enumerate(("x" * MOST_SHOWN, "".join(map(str, range(MOST_SHOWN))))):
        call = {"tool_name": "grep", "tool_call_id": f"call_{number}"}
        append(
            database_store,
            session,
            ("tool_call_started", {**call, "tool_input": "x"}),
            ("tool_call_completed", {**call, "tool_output": text}),
        )
    entries = admin_client.get(address("session_change", session.pk)).context["entries"]
    assert [(entry.tool_name, entry.took, entry.is_too_long) for entry in entries] == [
        ("grep", SECOND, True),
        ("grep", SECOND, True),
    ]


def test_calls_of_the_same_time_find_their_results_without_content_too(
    log_in: LogIn, database_store: DatabaseSessionStore, session: Session
) -> None:
    first, second = (
        {"tool_name": "secret", "tool_call_id": f"secret {number}"} for number in (1, 2)
    )
    append(
        database_store,
        session,
        ("tool_call_started", first),
        ("tool_call_started", second),
        ("tool_call_failed", second),
        ("tool_call_completed", first),
    )
    answer = log_in(*VIEW).get(address("session_change", session.pk))
    assert [(entry.took, entry.has_failed) for entry in answer.context["entries"]] == [
        (3 * SECOND, False),
        (SECOND, True),
    ]
    assert "secret" not in answer.content.decode()


@pytest.mark.parametrize("call_id", [None, "", 7, {"a": 1}])
def test_a_call_without_an_id_is_found_by_the_tools_name(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session, call_id: object
) -> None:
    for name in ("grep", "sed"):
        data = {"tool_name": name, "tool_call_id": call_id}
        append(database_store, session, ("tool_call_started", data))
    data = {"tool_name": "sed", "tool_call_id": call_id, "tool_output": "done"}
    append(database_store, session, ("tool_call_completed", data))
    entries = admin_client.get(address("session_change", session.pk)).context["entries"]
    assert [(entry.tool_name, entry.text.whole) for entry in entries] == [
        ("grep", ""),
        ("sed", "done"),
    ]


def test_raw_json_is_inert(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    [event] = append(database_store, session, ("message_sent", {"content": "<script>"}))
    raw = admin_client.get(address("event_raw", event.id))
    assert raw["Content-Type"] == "application/json; charset=utf-8"
    assert raw["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in raw["Content-Security-Policy"]
    assert admin_client.get(address("event_raw", "evt_unknown")).status_code == 404


def test_children_and_parent_are_linked(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    child = database_store.save_session(make_session(parent_session_id=session.id))
    assert address("session_change", child.pk) in get(
        admin_client, address("session_change", session.pk)
    )
    assert address("session_change", session.pk) in get(
        admin_client, address("session_change", child.pk)
    )


def test_the_lists_have_what_is_too_much_for_the_page(
    admin_client: Client, using: str, database_store: DatabaseSessionStore, session: Session
) -> None:
    url = address("session_change", session.pk)
    children = f"{address('session_changelist')}?parent_session__id__exact={session.pk}"
    artifacts = f"{address('artifact_changelist')}?session__id__exact={session.pk}"
    for number in range(MOST_LISTED + 1):
        database_store.save_session(make_session(parent_session_id=session.id))
        Artifact.objects.using(using).create(
            session_id=session.pk, key=f"{number}", byte_size=1, storage_backend="default"
        )
    shown = get(admin_client, url)
    assert f'href="{children}&amp;deleted=with"' in shown
    assert f'href="{artifacts}">All of them' in shown
    assert shown.count("/change/") < 2 * MOST_LISTED + 20
    listed = admin_client.get(children).context["cl"].result_list
    assert len(listed) == MOST_LISTED + 1
    Session.objects.using(using).filter(pk=listed[0].pk).delete()
    Artifact.objects.using(using).all()[:1].get().delete()
    assert "All of them" not in get(admin_client, url)


def test_runs_and_events_lead_to_their_place_in_the_conversation(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, 3)
    run = database_store.save_run(make_run(session.id))
    [event] = database_store.append_events([make_event(session.id, run_id=run.id)])
    place = f"{address('session_change', session.pk)}?at=4#e4"
    for url in (
        address("event_changelist"),
        address("event_change", event.id),
        address("run_change", run.id),
    ):
        assert f'href="{place}"' in get(admin_client, url)


def test_runs_and_tools_are_on_a_line_of_time(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    run = database_store.save_run(
        make_run(
            session.id, status="failed", started_at=START, ended_at=START + timedelta(seconds=9)
        )
    )
    for number, kind in enumerate(("tool_call_started", "tool_call_completed", "message_sent")):
        database_store.append_event(
            Event(
                session_id=session.id,
                run_id=run.id,
                type=kind,
                data=CALL,
                timestamp=START + timedelta(seconds=5 * number),
            )
        )
    shown = admin_client.get(address("session_change", session.pk))
    bars = shown.context["waterfall"].bars
    assert [(bar.kind, bar.label, bar.x, bar.width) for bar in bars] == [
        ("run", run.id, "0.00%", "90.00%"),
        ("tool", "grep", "0.00%", "50.00%"),
    ]
    assert bars[0].has_failed
    assert "<svg" in shown.content.decode()


def test_the_numbers_of_a_drawing_have_points_in_every_language(
    admin_client: Client, database_store: DatabaseSessionStore, session: Session
) -> None:
    append(database_store, session, ("tool_call_started", CALL), ("tool_call_completed", CALL))
    with override("de"):
        shown = get(admin_client, address("session_change", session.pk))
    assert "Gespräch" in shown
    assert 'x="0.00%"' in shown


def test_without_the_permission_no_content_is_shown(
    log_in: LogIn, database_store: DatabaseSessionStore
) -> None:
    secret = "the secret words"
    session = database_store.save_session(
        make_session(status="active", context={"a": secret}, metadata={"b": secret})
    )
    run = database_store.save_run(
        make_run(session.id, status="failed", input={"c": secret}, error={"message": secret})
    )
    kinds = [
        (kind, {"content": secret, "error_message": secret, "tool_name": secret, "x": secret})
        for kind in Event.Type.values
    ]
    event = append(database_store, session, *kinds)[0]
    client = log_in(*VIEW)
    pages = [
        address("session_change", session.pk),
        address("session_news", session.pk),
        address("session_changelist"),
        address("run_change", run.pk),
        address("run_changelist"),
        address("event_change", event.pk),
        address("event_changelist"),
    ]
    for url in pages:
        assert secret not in get(client, url), url
    assert client.get(address("event_raw", event.pk)).status_code == 403
    assert "#1" in get(client, pages[0])


def test_without_the_permission_to_see_events_there_is_no_conversation(
    log_in: LogIn, database_store: DatabaseSessionStore, session: Session
) -> None:
    fill(database_store, session, 1)
    client = log_in("view_session", "view_event_payload")
    assert "asm-entries" not in get(client, address("session_change", session.pk))
    assert client.get(address("session_news", session.pk)).status_code == 403
    assert client.get(address("event_raw", "evt_1")).status_code == 403
