"""A primary that is lost, and its synchronous replica promoted: writers find it by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections

from tests.cases import require, started
from tests.databases import on_server
from tests.failures import execute
from tests.resilience.conftest import Gather
from tests.resilience.rounds import rounds
from tests.resilience.servers import prepared
from tests.resilience.teams import Team
from tests.results import Result
from tests.servers.postgresql import OwnServer, Replica
from tests.servers.processes import Processes
from tests.waiting.waiters import until


class Pair:
    """A primary and its replica; what is committed is on both."""

    def __init__(self, processes: Processes) -> None:
        self._processes, self._count = processes, 1
        self.primary: OwnServer = OwnServer(processes)
        self.replica = Replica(processes, self.primary, "replica-1")

    def database(self) -> dict[str, Any]:
        """Whichever of them takes writes."""
        options = {"target_session_attrs": "read-write", "connect_timeout": 5}
        database = on_server("postgresql", self.primary.server, options)
        servers = [self.primary.server, self.replica.server]
        return {
            **database,
            "HOST": ",".join(server.host for server in servers),
            "PORT": ",".join(str(server.port) for server in servers),
        }

    def synchronise(self, using: str) -> None:
        """From now on a commit waits until the replica has it."""
        connections[using].close()  # it may be that of the primary before
        execute(using, "ALTER SYSTEM SET synchronous_standby_names = 'replica'")
        execute(using, "SELECT pg_reload_conf()")
        until(lambda: self._is_synchronous(using), "the replica is synchronous")

    @staticmethod
    def _is_synchronous(using: str) -> bool:
        states = execute(using, "SELECT sync_state FROM pg_stat_replication")
        return [state for [state] in states] == ["sync"]

    def fail_over(self) -> None:
        self.primary.kill()
        self.replica.promote()

    def replace(self) -> None:
        """The promoted one gets a new replica, at the port of the lost primary."""
        self._count += 1
        port = self.primary.server.port
        self.primary = self.replica
        self.replica = Replica(self._processes, self.primary, f"replica-{self._count}", port)


def go_round(pair: Pair, team: Team, *, is_last: bool) -> None:
    pair.synchronise(team.using)
    team.await_appends()
    pair.fail_over()
    team.await_appends()
    team.rounds += 1
    if not is_last:
        pair.replace()


def test_the_replica_takes_over(
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    require("postgresql")
    pair = started(lambda: Pair(processes))
    team = gather(pair.database(), prepared(pair.database()))
    count = rounds(is_long, 1, 20)
    for number in range(1, count + 1):
        go_round(pair, team, is_last=number == count)
    report(team.verify("replica promoted", "PostgreSQL, synchronous"))
