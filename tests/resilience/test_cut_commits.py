"""The connection is cut in the middle of a commit: who tries again by id gets exactly one event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.models import Session
from asm_store.test import make_event, make_run, make_session
from tests.cases import only_on
from tests.databases import vendor_of
from tests.failures import stored
from tests.resilience.conftest import Gather
from tests.resilience.proxies import TWO_ERRORS, Proxy
from tests.resilience.rounds import rounds
from tests.resilience.servers import databases_on, start_server
from tests.results import Result
from tests.servers.processes import Processes

CUT = pytest.mark.parametrize("cut", ["insert", "commit"])
# An append that is one statement commits by itself.
ALONE = b"asm_append_event"
# The statements after which something may be committed or not; of a prepared one its name is sent.
UNDER_LOAD = {
    "postgresql": (ALONE, b"COPY asm_events", b"COMMIT", b"_pg3_"),
    "mysql": (b"COMMIT",),
}


def message(server: str, cut: str, *, alone: bool = False) -> bytes:
    """What the message has in it whose answer nobody hears."""
    if alone and vendor_of(server) == "postgresql":
        return ALONE
    return {"insert": b"INSERT INTO", "commit": b"COMMIT"}[cut]


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The alias goes through it for a while."""
    settings = connections[server].settings_dict
    connections[server].close()
    with Proxy(settings["HOST"], settings["PORT"]) as proxy, monkeypatch.context() as behind:
        behind.setitem(settings, "HOST", "127.0.0.1")
        behind.setitem(settings, "PORT", proxy.port)
        yield proxy
        connections[server].close()


@pytest.fixture
def session(server: str, proxy: Proxy) -> Session:
    return DatabaseSessionStore(server).save_session(make_session())


def once(proxy: Proxy, cut_at: bytes, call: Callable[[], Any], instead: bytes = b"") -> Any:
    """Make the call; of the first such message nobody hears the answer."""
    proxy.instead, proxy.cut_at = instead, (cut_at,)
    answer = call()
    assert proxy.cuts == 1
    return answer


@CUT
class TestTheStoreTriesAgain:
    def test_an_append(self, server: str, proxy: Proxy, session: Session, cut: str) -> None:
        store, event = DatabaseSessionStore(server), make_event(session)
        cut_at = message(server, cut, alone=True)
        answer = once(proxy, cut_at, partial(store.append_event_with_sequence, event))

        assert answer.sequence_number == 1
        assert stored(server, session) == [(event.pk, 1)]
        assert store.append_event_with_sequence(make_event(session)).sequence_number == 2

    def test_a_batch(self, server: str, proxy: Proxy, session: Session, cut: str) -> None:
        store, events = DatabaseSessionStore(server), [make_event(session) for _ in range(3)]
        is_copied = cut == "insert" and vendor_of(server) == "postgresql"
        cut_at = b"COPY asm_events" if is_copied else message(server, cut)
        answers = once(proxy, cut_at, partial(store.append_events, events, expected_sequence=0))

        expected = [(event.pk, number) for number, event in enumerate(events, 1)]
        assert [(each.pk, each.sequence_number) for each in answers] == expected
        assert stored(server, session) == expected

    def test_a_flush(self, server: str, proxy: Proxy, session: Session, cut: str) -> None:
        store, run = DatabaseSessionStore(server), make_run(session)
        cut_at = message(server, cut)
        event = make_event(session, run_id=run.pk)
        [answer] = once(proxy, cut_at, partial(store.flush, session, run, [event]))

        assert answer.sequence_number == 1
        assert stored(server, session) == [(event.pk, 1)]
        assert [each.pk for each in store.list_runs(session.pk)] == [run.pk]


def test_the_caller_tries_again(server: str, proxy: Proxy, session: Session) -> None:
    store, event = DatabaseSessionStore(server), make_event(session)
    with override_settings(ASM_STORE_RETRY_SECONDS=0), pytest.raises(StorageError):
        once(proxy, message(server, "commit", alone=True), partial(store.append_event, event))

    assert store.append_event_with_sequence(event).sequence_number == 1
    assert stored(server, session) == [(event.pk, 1)]


@only_on("postgresql")
@CUT
def test_two_errors_for_one_statement(
    using: str, server: str, proxy: Proxy, session: Session, cut: str
) -> None:
    """As PgBouncer answers when the server has ended the connection behind it."""
    store, event = DatabaseSessionStore(server), make_event(session)
    append = partial(store.append_event_with_sequence, event)
    cut_at = message(server, cut, alone=True)
    assert once(proxy, cut_at, append, TWO_ERRORS).sequence_number == 1
    assert stored(server, session) == [(event.pk, 1)]


@only_on("postgresql")
@pytest.mark.parametrize("cut_at", [b"COPY asm_events", b"in the midst of a COPY"])
def test_two_errors_for_a_copy(
    using: str, server: str, proxy: Proxy, session: Session, cut_at: bytes
) -> None:
    store = DatabaseSessionStore(server)
    data = {"content": "in the midst of a COPY"}
    events = [make_event(session, data=data) for _ in range(3)]
    once(proxy, cut_at, partial(store.append_events, events), TWO_ERRORS)
    assert stored(server, session) == [(event.pk, n) for n, event in enumerate(events, 1)]


@pytest.mark.parametrize("vendor", ["postgresql", "mysql"])
def test_commits_are_cut_under_load(
    vendor: str,
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    own = start_server(vendor, processes).server
    with Proxy(own.host, own.port) as proxy:
        databases = databases_on(vendor, own)
        team = gather(*map(proxy.database, databases), watched=databases[0])
        proxy.every, proxy.cut_at = 5, UNDER_LOAD[vendor]
        count = rounds(is_long, 20, 2_000)
        team.until(lambda: proxy.cuts >= count, f"{count} commits are cut")
        team.rounds = proxy.cuts
        team.await_appends()
        report(team.verify("commit cut", vendor))
