"""What an address may ask of a list: its filters, and nothing that tells what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Run, Session
from asm_store.test import make_event, make_run, make_session
from tests.admin.conftest import VIEW, LogIn
from tests.admin.pages import address, get, queries

SECRET = "the secret words"
COLUMNS = {
    "session": ("metadata", "context"),
    "run": ("input", "output", "error", "metadata", "provider_metadata", "token_usage"),
    "event": ("data", "metadata"),
    "artifact": ("metadata",),
}
MODELS: dict[str, Any] = {"session": Session, "run": Run, "event": Event, "artifact": Artifact}
LISTS = [(name, column) for name, columns in COLUMNS.items() for column in columns]
TIMES = {
    "session": ("created_after", "created_before"),
    "run": ("started_after", "started_before"),
    "event": ("since", "until"),
}


def save(store: DatabaseSessionStore) -> Session:
    said = {"content": SECRET}
    session = store.save_session(make_session(metadata=said, context=said))
    store.save_run(make_run(session.id, input=said, output=said, error=said, metadata=said))
    store.append_event(make_event(session.id, data=said, metadata=said))
    return session


@pytest.mark.parametrize(("name", "column"), LISTS)
def test_no_lookup_tells_content(
    log_in: LogIn, database_store: DatabaseSessionStore, name: str, column: str
) -> None:
    save(database_store)
    client = log_in(*VIEW)
    for lookup in (
        column,
        f"{column}__content",
        f"{column}__content__startswith",
        f"{column}__icontains",
        f"{column}__has_key",
        f"{column}__contains",
        f"session__{column}__content__startswith",
        f"run__{column}__icontains",
        f"session__runs__{column}__icontains",
    ):
        answer = client.get(address(f"{name}_changelist"), {lookup: SECRET})
        assert answer.status_code == 400, lookup


@pytest.mark.parametrize("name", COLUMNS)
def test_no_other_column_restricts_a_list(
    admin_client: Client, database_store: DatabaseSessionStore, name: str
) -> None:
    save(database_store)
    for field in MODELS[name]._meta.concrete_fields:
        for lookup in (f"{field.name}__isnull", f"{field.name}__contains"):
            answer = admin_client.get(address(f"{name}_changelist"), {lookup: "1"})
            assert answer.status_code == 400, lookup


def test_records_are_listed_by_their_session_and_run(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    session, other = save(database_store), save(database_store)
    for name in ("run", "event"):
        listed = get(admin_client, address(f"{name}_changelist"), session__id__exact=session.id)
        assert session.id in listed
        assert other.id not in listed
    listed = get(admin_client, address("artifact_changelist"), session__id__exact=session.id)
    assert session.id not in listed.partition('id="result_list"')[2]
    get(admin_client, address("event_changelist"), run__id__exact="run_unknown")


@pytest.mark.parametrize("name", COLUMNS)
def test_nobody_orders_a_list_by_what_has_no_index(
    admin_client: Client, using: str, database_store: DatabaseSessionStore, name: str
) -> None:
    save(database_store)
    url = address(f"{name}_changelist")
    with queries(using) as usual:
        get(admin_client, url)
    for column in ("1", "2", "-4", "5.-3", "99", "x"):
        with queries(using) as asked:
            get(admin_client, url, o=column)
        assert [sql for sql in asked if "ORDER BY" in sql] == [
            sql for sql in usual if "ORDER BY" in sql
        ]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "moment",
    [
        "9999-12-31",
        "0900-01-01",
        "0001-01-01",
        "1000-01-01",
        "9999-12-31T23:59:59",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_the_ends_of_time_are_told(
    admin_client: Client,
    database_store: DatabaseSessionStore,
    zone: str,
    name: str,
    moment: str,
) -> None:
    save(database_store)
    with override_settings(TIME_ZONE=zone):
        for parameter in TIMES[name]:
            answer = admin_client.get(
                address(f"{name}_changelist"), {parameter: moment}, follow=True
            )
            assert answer.status_code == 200


@pytest.mark.parametrize("value", ["nonsense", "onlywith", "2"])
def test_a_value_that_no_filter_takes_is_told(
    admin_client: Client, database_store: DatabaseSessionStore, value: str
) -> None:
    save(database_store)
    answer = admin_client.get(address("session_changelist"), {"deleted": value})
    assert (answer.status_code, answer["Location"]) == (302, f"{address('session_changelist')}?e=1")
    answer = admin_client.get(address("event_changelist"), {"type": "message_sent"})
    assert answer.status_code == 302
