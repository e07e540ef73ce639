"""PgBouncer in transaction mode, killed under load; and the server's connections behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.cases import started
from tests.databases import on_server
from tests.failures import execute
from tests.resilience.conftest import Gather
from tests.resilience.rounds import rounds
from tests.resilience.servers import start_server
from tests.results import Result
from tests.servers.pgbouncer import Pooler
from tests.servers.processes import Processes

# All connections of the pool, in whatever transactions they are.
END = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def test_the_pooler_and_its_connections_are_killed(
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    database = on_server("postgresql", start_server("postgresql", processes).server)
    pooler = started(partial(Pooler, processes, database))
    pooler.start()
    team = gather({**database, "PORT": pooler.port}, watched=database)
    for _ in range(rounds(is_long, 3, 100)):
        team.await_appends()
        pooler.kill()
        pooler.start()
        team.await_appends()
        assert execute(team.using, END)[0][0] > 0
        team.rounds += 1
    team.await_appends()
    report(team.verify("pooler killed", "PostgreSQL, PgBouncer"))
