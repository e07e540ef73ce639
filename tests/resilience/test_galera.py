"""A cluster of three MariaDB servers, written to on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import SessionDeleted, SessionNotFound
from asm_store.maintenance import health_check
from asm_store.test import make_event, make_run, make_session
from tests.cases import require, started
from tests.databases import on_server
from tests.resilience.conftest import ALIAS, Gather, Look
from tests.resilience.rounds import rounds
from tests.resilience.teams import migrate
from tests.results import Result
from tests.servers.galera import Cluster
from tests.servers.processes import Processes
from tests.threads import run_threads

# What is committed on one node is seen on the others by who waits for it.
OPTIONS = {"init_command": "SET SESSION wsrep_sync_wait = 1"}
IN_MEMORY = "django.core.files.storage.InMemoryStorage"
ELSEWHERE = f"{ALIAS}_elsewhere"


@pytest.fixture(scope="module")
def cluster(processes: Processes) -> Cluster:
    require("mysql")
    return started(partial(Cluster, processes))


@pytest.fixture
def databases(cluster: Cluster) -> list[dict[str, Any]]:
    return [on_server("mysql", server, OPTIONS) for server in cluster.servers]


@pytest.fixture
def stores(databases: list[dict[str, Any]], look: Look) -> list[DatabaseSessionStore]:
    """On two nodes."""
    found = [DatabaseSessionStore(look(databases[0]))]
    migrate(ALIAS)
    return [*found, DatabaseSessionStore(look(databases[1], ELSEWHERE))]


@contextmanager
def before_commit(using: str, call: Callable[[], Any], number: int = 1) -> Iterator[None]:
    """Somebody makes this call on another node, before the commit of this number."""
    connection: Any = connections[using]
    commit, begun = connection.commit, count(1)

    def delayed() -> None:
        if next(begun) == number:
            run_threads([call])
        commit()

    connection.commit = delayed
    yield
    connection.commit = commit


class TestLocksOfOneNodeAreSeenOnAnother:
    """By the certification: the write that comes second is refused, and looks again."""

    def test_an_append_after_a_soft_deletion(self, stores: list[DatabaseSessionStore]) -> None:
        here, there = stores
        session = here.save_session(make_session())
        delete = partial(there.soft_delete_session, session.pk)
        with before_commit(here.using, delete), pytest.raises(SessionDeleted):
            here.append_event(make_event(session))
        assert here.get_events(session.pk) == []

    def test_a_run_after_a_deletion(self, stores: list[DatabaseSessionStore]) -> None:
        here, there = stores
        session = here.save_session(make_session())
        delete = partial(there.delete_session, session.pk)
        with before_commit(here.using, delete), pytest.raises(SessionNotFound):
            here.save_run(make_run(session))
        assert health_check(using=here.using) == []

    def test_a_child_after_a_deletion(self, stores: list[DatabaseSessionStore]) -> None:
        here, there = stores
        parent = here.save_session(make_session())
        delete = partial(there.delete_session, parent.pk)
        with before_commit(here.using, delete), pytest.raises(SessionNotFound):
            here.save_session(make_session(parent_session_id=parent.pk))
        assert health_check(using=here.using) == []

    @override_settings(STORAGES={"default": {"BACKEND": IN_MEMORY}})
    def test_an_artifact_after_a_deletion(self, stores: list[DatabaseSessionStore]) -> None:
        here, there = stores
        session = here.save_session(make_session())
        artifacts = ArtifactStore(using=here.using)
        delete = partial(there.delete_session, session.pk)
        # The first commit is of a look, before the content is written.
        with before_commit(here.using, delete, 2), pytest.raises(SessionNotFound):
            artifacts.put("key", b"content", session_id=session.pk)
        assert health_check(using=here.using) == []


def test_a_node_is_killed_and_comes_back(
    cluster: Cluster,
    databases: list[dict[str, Any]],
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    team = gather(*databases)
    for number in range(rounds(is_long, 1, 20)):
        team.await_appends()
        doomed = 2 - number % 3
        cluster.nodes[doomed].kill()
        team.await_appends(but=[doomed])
        cluster.join(cluster.nodes[doomed])
        team.rounds += 1
    team.await_appends()
    result = team.verify("node killed", "Galera, 3 nodes")
    report(result)
    assert result.retries["busy"] > 0, "no certification has failed"
