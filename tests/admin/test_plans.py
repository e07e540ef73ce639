"""What the lists and the session page read on PostgreSQL: indexes, and no table from end to end."""

from __future__ import annotations

import re
from functools import partial

import pytest
from django.test import Client

from asm_store.admin.read_only import MAX_ROWS_LISTED
from tests.admin.conftest import with_users
from tests.admin.pages import address, get
from tests.queries.plans import fill, indexes, scanned, sent

ALIAS = "postgresql"
LARGE = {"asm_sessions", "asm_runs", "asm_events"}
COUNTED = f"LIMIT {MAX_ROWS_LISTED}"
OURS = re.compile(r'FROM "asm_')


@pytest.mark.parametrize("using", [with_users(ALIAS)], indirect=True)
def test_no_page_reads_a_table_from_end_to_end(admin_client: Client, using: str) -> None:
    fill(using)
    pages = {
        "session_changelist": [
            {},
            {"p": "3"},
            {"agent_id": "agent_rare"},
            {"status": "failed"},
            {"tags": "single"},
            {"provider": "rare"},
            {"q": "ses_0000001*"},
            {"q": "ses_00000017"},
            {"created_after": "2026-01-02T03:00:00+00:00"},
            {"deleted": "only"},
            {"o": "3.2"},
        ],
        "run_changelist": [
            {},
            {"status": "failed"},
            {"provider": "rare"},
            {"q": "run_0000001*"},
            {"session__id__exact": "ses_00000001"},
        ],
        "event_changelist": [
            {},
            {"p": "4"},
            {"q": "evt_0000001*"},
            {"correlation_id": "call_100"},
            {"session__id__exact": "ses_00000001"},
            {"session__id__exact": "ses_00000001", "type": "message_sent"},
            {"since": "2026-01-02T03:00:00+00:00"},
        ],
        "artifact_changelist": [{}, {"q": "art_1*"}],
    }
    for name, questions in pages.items():
        for query in questions:
            statements = sent(using, partial(get, admin_client, address(name), **query))
            ours = [sql for sql in statements if OURS.search(sql)]
            if query.keys() <= {"p", "o"}:
                # Nearly all match: counting them ends after the first so many.
                ours = [sql for sql in ours if COUNTED not in sql]
            for sql in ours:
                assert not scanned(using, sql) & LARGE, (name, query, sql)


@pytest.mark.parametrize("using", [with_users(ALIAS)], indirect=True)
def test_a_long_session_opens_by_its_index(admin_client: Client, using: str) -> None:
    fill(using)
    url = address("session_change", "ses_00000001")
    for query in ({}, {"after": "90000"}, {"before": "100001"}, {"at": "50000"}):
        for sql in sent(using, partial(get, admin_client, url, **query)):
            # A tenth of all runs are this session's: for their sums the table is read.
            large = LARGE - {"asm_runs"} if "GROUP BY" in sql else LARGE
            assert not scanned(using, sql) & large, (query, sql)


@pytest.mark.parametrize("using", [with_users(ALIAS)], indirect=True)
def test_a_prefix_is_looked_for_in_the_index_of_ids(admin_client: Client, using: str) -> None:
    """The oldest twentieth: by time all that is newer would be passed over."""
    fill(using)
    for name, prefix in (("session", "ses_0000"), ("run", "run_0000"), ("event", "evt_0000")):
        page = partial(get, admin_client, address(f"{name}_changelist"), q=f"{prefix}0*")
        found = [sql for sql in sent(using, page) if f'ORDER BY "asm_{name}s"' in sql]
        assert found
        for sql in found:
            assert indexes(using, sql) == {f"asm_{name}s_pkey"}, sql
