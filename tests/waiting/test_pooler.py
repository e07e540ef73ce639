"""PgBouncer, which lends a connection for a transaction: nobody can LISTEN behind it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.db import connections
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.checks import check_pooler
from asm_store.models import Session
from asm_store.test import make_session
from asm_store.waiting import polling
from asm_store.waiting.hub import Hub
from tests.cases import only_on, started
from tests.failures import append, execute
from tests.servers.pgbouncer import Pooler
from tests.servers.processes import Processes
from tests.waiting.waiters import (
    LISTENER,
    Follower,
    append_followed,
    complete,
    end_connection_and_complete,
    hub_of_tests,
    listening,
    processes,
    until,
)

DIRECT = "direct"
DATABASE = "asm_store.backends.database.DatabaseSessionStore"


@pytest.fixture
def pooled(using: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The alias, for a while behind a PgBouncer; `DIRECT` goes to the server."""
    settings = connections[using].settings_dict
    monkeypatch.setitem(connections.settings, DIRECT, dict(settings))
    with tempfile.TemporaryDirectory(prefix="asm-") as directory:
        # It runs as another user, who must be able to walk through here.
        Path(directory).chmod(0o711)
        with Processes(Path(directory)) as running, monkeypatch.context() as behind:
            pooler = started(lambda: Pooler(running, settings))
            connections[using].close()
            behind.setitem(settings, "HOST", "127.0.0.1")
            behind.setitem(settings, "PORT", pooler.port)
            pooler.start()
            yield using
            connections[using].close()
            until(lambda: hub_of_tests(using)._thread is None, "nobody listens")
            hub_of_tests(using).reset()


@pytest.fixture
def session(pooled: str) -> Session:
    return DatabaseSessionStore(pooled).save_session(make_session(status="active"))


@pytest.fixture
def hub(pooled: str) -> Hub:
    return hub_of_tests(pooled)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of poolers; the sender says too that the PgBouncer of another test is gone."""
    found = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    return [message for message in found if "pooler" in message]


def listens(using: str) -> list[int]:
    """The server's processes that were told to LISTEN last.

    Not by their name: PgBouncer lends a connection on with the name that its last client gave it.
    """
    found = execute(
        using,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'LISTEN%'",
    )
    return [pid for [pid] in found]


@only_on("postgresql")
class TestPooler:
    def test_readers_poll_and_the_log_says_so_once(
        self, pooled: str, session: Session, hub: Hub, caplog: pytest.LogCaptureFixture
    ) -> None:
        followers = [Follower(pooled, session)]
        append(pooled, session)
        followers[0].wait_for([1])
        until(lambda: hub.count and hub._thread is None, "it has given up")
        followers.append(Follower(pooled, session))
        append(pooled, session)
        for follower in followers:
            follower.wait_for([1, 2])
        assert not hub.is_listening
        assert listens(pooled) == []
        complete(pooled, session)
        for follower in followers:
            follower.wait_for_end()
        [warning] = warnings(caplog)
        assert "ASM_STORE_LISTEN_ALIASES" in warning

    def test_an_alias_that_goes_past_it_brings_the_wake_up_back(
        self,
        pooled: str,
        session: Session,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(polling, "HEARD_PAUSE", 3_600.0)
        with override_settings(ASM_STORE_LISTEN_ALIASES={pooled: DIRECT}):
            follower = Follower(pooled, session)
            with listening(hub):
                assert len(listens(pooled)) == 1
                append_followed(pooled, session, follower, 3)
                end_connection_and_complete(pooled, LISTENER, session, follower)
            until(lambda: not processes(pooled, LISTENER), "the connection is closed")

    def test_nobody_listens_where_the_setting_says_so(
        self, pooled: str, session: Session, hub: Hub, caplog: pytest.LogCaptureFixture
    ) -> None:
        with override_settings(ASM_STORE_LISTEN_ALIASES={pooled: None}):
            follower = Follower(pooled, session)
            append(pooled, session)
            follower.wait_for([1])
            assert hub._thread is None
            complete(pooled, session)
            follower.wait_for_end()
        assert warnings(caplog) == []

    def test_the_check_tells(self, pooled: str) -> None:
        stores: Any = {"default": {"BACKEND": DATABASE, "OPTIONS": {"using": pooled}}}
        with override_settings(ASM_STORES=stores):
            [warning] = check_pooler(databases=[pooled])
            assert (warning.id, warning.level) == ("asm_store.W005", checks.WARNING)
            assert repr(pooled) in warning.msg
            assert "ASM_STORE_LISTEN_ALIASES" in str(warning.hint)
            for named in (DIRECT, None):
                with override_settings(ASM_STORE_LISTEN_ALIASES={pooled: named}):
                    assert check_pooler(databases=[pooled]) == []
            assert check_pooler(databases=None) == []


def test_no_warning_without_a_pooler(told: str) -> None:
    stores: Any = {"default": {"BACKEND": DATABASE, "OPTIONS": {"using": told}}}
    with override_settings(ASM_STORES=stores):
        assert check_pooler(databases=[told]) == []
