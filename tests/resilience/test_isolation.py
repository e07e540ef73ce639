"""SERIALIZABLE on PostgreSQL: what the server refuses with 40001 is tried again."""

from __future__ import annotations

from collections.abc import Callable

from tests.databases import on_server
from tests.resilience.conftest import Gather
from tests.resilience.rounds import rounds
from tests.resilience.servers import prepared, start_server
from tests.results import Result
from tests.servers.processes import Processes


def test_serializable(
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    database = on_server("postgresql", start_server("postgresql", processes).server)
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # which needs a driver

    options = {"isolation_level": IsolationLevel.SERIALIZABLE}
    strict = {**database, "OPTIONS": options}
    team = gather(strict, prepared(strict), watched=database)
    for _ in range(rounds(is_long, 1, 250)):
        team.await_appends(20)
        team.rounds += 1
    result = team.verify("SERIALIZABLE", "PostgreSQL")
    report(result)
    assert result.retries["busy"] > 0, "nothing was refused"
