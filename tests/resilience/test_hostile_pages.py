"""Hostile addresses and forms of the admin: one verdict on every database, and no failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client, override_settings
from hypothesis import strategies as st

from tests.exports import EXTRA_TYPE
from tests.proofs.machine.corpus import TEXTS
from tests.resilience.cases import AVAILABLE, try_all
from tests.resilience.doors import Answer, Bench

pytestmark = pytest.mark.django_db(databases=AVAILABLE)

STORE = "asm_store.backends.database.DatabaseSessionStore"
STORES = {
    alias: {"default": {"BACKEND": STORE, "OPTIONS": {"using": alias}}} for alias in AVAILABLE
}
# The records that a page shows. Beside them are times that pass, and sums by their last digits.
SHOWN = re.compile(rb'/change/(?:\?[^"]*)?">([^<]*)</a>')

PARAMETERS = (
    "status", "agent_id", "provider", "tags", "deleted", "created_after", "created_before",
    "started_after", "started_before", "since", "until", "type", "types", "q", "o", "p", "all",
    "e", "_popup", "_to_field", "_facets", "_changelist_filters", "session__id__exact",
    "run__id__exact", "parent_session__id__exact", "metadata__has_key", "id__in", "pk", "after",
    "before", "around", "step", "period", "from", "to", "cursor", "nonsense",
)  # fmt: skip
SAID = (
    *TEXTS, "", "0", "1", "-1", "1.5", "1e3", "٣", "9" * 19, "9" * 20, "NaN", "child", "run", "b",
    "failed", "with", "only", "day", "hour", "today", "2026-03-02", "2026-13-45", "0001-01-01",
    "9999-12-31", "999999999-01-01", "message_sent", "1.2.-3", "-", "..",
)  # fmt: skip
LISTS = tuple(f"{kind}/" for kind in ("session", "run", "event", "artifact"))
OTHERS = ("session/dashboard/", "session/maintenance/")
OF_ONE = (
    "session/{}/change/", "session/{}/news/", "session/{}/history/", "session/{}/delete/",
    "run/{}/change/", "event/{}/change/", "artifact/{}/change/", "session/{}/", "session/{}/act/",
)  # fmt: skip
IDS = ("child", "GONE", "CHILD", "run", "e2", "art_1", "_00", "_5Fx", *TEXTS)
ACTIONS = ("soft_delete", "restore", "pin", "unpin", "export", "delete", "delete_selected", "", "x")

said = st.sampled_from(SAID)
query_strings = st.lists(st.tuples(st.sampled_from(PARAMETERS), said), max_size=3).map(
    lambda pairs: "&".join(f"{quoted(name)}={quoted(value)}" for name, value in pairs)
) | st.sampled_from(["%", "%00", "%ff%fe", "a=%ZZ", "&&&=;", "p=1&p=2", "=" * 500])
addresses = st.sampled_from(LISTS + OTHERS) | st.builds(
    lambda page, pk: page.format(quoted(pk)), st.sampled_from(OF_ONE), st.sampled_from(IDS)
)
forms = st.dictionaries(
    st.sampled_from(["action", "_selected_action", "index", "select_across", "post", "tag"]),
    st.sampled_from((*ACTIONS, *IDS, "0", "-1", "yes")).filter(str.isprintable),
    max_size=4,
)


def quoted(text: str) -> str:
    return quote(str.__str__(text), safe="", errors="surrogatepass")


@pytest.fixture
def bench(db: None) -> Iterator[Bench]:
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE]):
        yield Bench.filled(AVAILABLE)


@pytest.fixture
def client(db: None) -> Client:
    """Of somebody who may everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def asked(client: Client, address: str, query: str, form: Any, alias: str) -> Answer:
    """What the page answers; what it does is undone."""
    path = f"/admin/asm_store/{address}"
    with override_settings(ASM_STORES=STORES[alias]), transaction.atomic(using=alias):
        if form is None:
            response = client.generic("GET", path, QUERY_STRING=query)
        else:
            response = client.post(path, form, QUERY_STRING=query)
        shown = SHOWN.findall(response.getvalue())
        transaction.set_rollback(True, using=alias)
    return response.status_code, response.get("Location"), shown


def test_pages(bench: Bench, client: Client, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: tuple[str, str]) -> None:
        answer = bench.ask(partial(asked, client, *case, None))
        assert answer[0] in {200, 302, 400, 403, 404, 405}, answer[:2]

    corpus: list[tuple[str, str]] = [
        *((page.format(quoted(pk)), "") for page in OF_ONE for pk in IDS[:9:2]),
        *((page, f"{name}={quoted(TEXTS[0])}") for page in LISTS + OTHERS for name in PARAMETERS),
    ]
    try_all(judge, st.tuples(addresses, query_strings), corpus, is_long)
    tell(str(bench))


def test_forms(bench: Bench, client: Client, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: tuple[str, str, dict[str, str]]) -> None:
        answer = bench.ask(partial(asked, client, *case))
        assert answer[0] in {200, 302, 400, 403, 404, 405}, answer[:2]

    corpus: list[tuple[str, str, dict[str, str]]] = [
        (page, "", {"action": action, "_selected_action": "child", "post": "yes"})
        for page in ("session/", "session/child/act/")
        for action in ACTIONS
    ]
    try_all(judge, st.tuples(addresses, query_strings, forms), corpus, is_long)
    tell(str(bench))
