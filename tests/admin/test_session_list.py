"""The list of sessions says what each holds, by as many statements for many as for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from asm_store.admin import sums
from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import sum_up_usage
from asm_store.models import Run, Session
from asm_store.test import make_event, make_run, make_session
from tests.admin.pages import MOST_QUERIES, address, get, queries

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def save_session_with_runs(store: DatabaseSessionStore, **fields: Any) -> Session:
    session = store.save_session(make_session(**fields))
    for number, status in enumerate((Run.Status.COMPLETED, Run.Status.FAILED)):
        run = make_run(
            session.id,
            provider="claude",
            provider_metadata={"model": ("claude-opus", "other")[number]},
            status=status,
            started_at=START + timedelta(minutes=number),
            ended_at=START + timedelta(minutes=number, seconds=30),
            token_usage={"input_tokens": 1_000, "output_tokens": 200},
            cost_usd=0.25,
        )
        store.save_run(run)
    store.append_events([make_event(session.id) for _ in range(3)])
    return session


def listed(client: Client, **query: Any) -> list[str]:
    response = client.get(address("session_changelist"), query)
    assert response.status_code == 200
    return [session.pk for session in response.context["cl"].result_list]


def test_the_columns_say_what_a_session_holds(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    save_session_with_runs(database_store, agent_id="clerk", tags=["billing"], status="active")
    shown = get(admin_client, address("session_changelist"))
    for text in (
        "clerk",
        ">claude-opus</bdi>",
        ">claude other</bdi>",
        "2,400",
        "0.5000",
        "1:30 min",
        "active",
    ):
        assert text in shown, text
    assert '<td class="field-events">3</td>' in shown
    assert '<td class="field-runs">2<div' in shown
    assert '<strong class="asm-error asm-one">1 error</strong>' in shown
    assert "billing" in shown


def test_a_session_without_runs_has_dashes(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    database_store.save_session(make_session())
    shown = get(admin_client, address("session_changelist"))
    assert '<span class="asm-one">-</span></div></td><td class="field-runs">0</td>' in shown
    assert '<td class="field-cost">-</td>' in shown


def test_runs_that_are_many_are_shown_as_maintenance_added_them_up(
    admin_client: Client,
    using: str,
    database_store: DatabaseSessionStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sums, "MOST_RUNS", 1)
    large = save_session_with_runs(database_store, agent_id="clerk")
    pages = address("session_changelist"), address("session_change", large.pk)
    assert not any("as of" in get(admin_client, url) for url in pages)
    sum_up_usage(using=using)
    late = make_run(large.pk, provider="claude", provider_metadata={"model": "claude-late"})
    database_store.save_run(late)
    few = database_store.save_session(make_session())
    database_store.save_run(make_run(few.pk))
    for url in pages:
        with queries(using) as statements:
            shown = get(admin_client, url)
        assert "as of" in shown
        assert ">claude-late</bdi>" in shown
        assert "0.5000" in shown
        assert "2,400" in shown
        added = [sql for sql in statements if "GROUP BY" in sql and "asm_runs" in sql]
        assert not [sql for sql in added if large.pk in sql]
        assert len(statements) <= MOST_QUERIES
    late.status = Run.Status.COMPLETED
    database_store.save_run(late)
    assert '<span class="asm-one">1:30 min</span>' in get(admin_client, pages[0])


def test_many_sessions_cost_as_many_statements_as_one(
    admin_client: Client, using: str, database_store: DatabaseSessionStore
) -> None:
    save_session_with_runs(database_store)
    with queries(using) as few:
        get(admin_client, address("session_changelist"))
    for _ in range(7):
        save_session_with_runs(database_store)
    with queries(using) as many:
        get(admin_client, address("session_changelist"))
    assert len(few) == len(many) <= MOST_QUERIES


def test_filters_are_those_of_searches(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    one = save_session_with_runs(
        database_store, agent_id="clerk", status="active", tags=["a", "b"], created_at=START
    )
    two = database_store.save_session(make_session(agent_id="Clerk", status="failed"))
    both = [two.pk, one.pk]
    assert listed(admin_client) == both
    assert listed(admin_client, status="active") == [one.pk]
    assert listed(admin_client, agent_id="Clerk") == [two.pk]
    assert listed(admin_client, provider="claude") == [one.pk]
    assert listed(admin_client, tags="b") == [one.pk]
    assert listed(admin_client, created_before="2026-03-01") == [one.pk]
    assert listed(admin_client, created_after="2026-03-02") == [two.pk]
    assert listed(admin_client, created_after="2026-03-01", created_before="2026-03-01") == [one.pk]
    assert listed(admin_client, created_after="2026-03-01T12:00:01+00:00") == [two.pk]
    assert listed(admin_client, status="active", agent_id="Clerk") == []


def test_deleted_sessions_are_shown_when_asked_for(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    kept, deleted = (database_store.save_session(make_session()) for _ in range(2))
    database_store.soft_delete_session(deleted.pk)
    assert listed(admin_client) == [kept.pk]
    assert listed(admin_client, deleted="only") == [deleted.pk]
    assert listed(admin_client, deleted="with") == [deleted.pk, kept.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "nonsense"},
        {"created_after": "yesterday"},
        {"agent_id": "\0"},
    ],
)
def test_a_filter_that_cannot_be_is_told_and_the_list_is_whole(
    admin_client: Client, database_store: DatabaseSessionStore, query: dict[str, str]
) -> None:
    session = database_store.save_session(make_session())
    url = address("session_changelist")
    shown = admin_client.get(url, query, follow=True)
    assert shown.status_code == 200
    assert session.pk in shown.content.decode()


def test_search_is_exact_or_by_a_prefix(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    for pk in ("ses_a1", "ses_a2", "ses_b1", "SES_a1", "ses_%1"):
        database_store.save_session(make_session(id=pk))
    assert listed(admin_client, q="ses_a1") == ["ses_a1"]
    assert sorted(listed(admin_client, q="ses_a*")) == ["ses_a1", "ses_a2"]
    assert listed(admin_client, q="ses_%*") == ["ses_%1"]
    assert listed(admin_client, q="ses_a") == []
    assert len(listed(admin_client, q="*")) == 5


def test_the_filters_keep_each_other(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    shown = get(admin_client, address("session_changelist"), status="active", agent_id="<b>")
    assert '<input type="hidden" name="status" value="active">' in shown
    assert 'value="&lt;b&gt;"' in shown
