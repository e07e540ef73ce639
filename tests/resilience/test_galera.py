"""A cluster of three MariaDB servers, written to on all of them, one of which is killed."""

from __future__ import annotations

from collections.abc import Callable

from tests.cases import require, started
from tests.databases import on_server
from tests.resilience.conftest import Gather, rounds
from tests.resilience.teams import Result
from tests.servers.galera import Cluster
from tests.servers.processes import Processes

# What is committed on one node is seen on the others by who waits for it.
OPTIONS = {"init_command": "SET SESSION wsrep_sync_wait = 1"}


def test_a_node_is_killed_and_comes_back(
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    require("mysql")
    cluster = started(lambda: Cluster(processes))
    team = gather(*(on_server("mysql", server, OPTIONS) for server in cluster.servers))
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
