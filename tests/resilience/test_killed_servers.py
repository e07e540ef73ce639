"""The server killed under load, and started again: writers go on by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.resilience.conftest import Gather
from tests.resilience.rounds import rounds
from tests.resilience.servers import databases_on, start_server
from tests.results import Result
from tests.servers.processes import Processes


@pytest.mark.parametrize("vendor", ["postgresql", "mysql"])
def test_the_server_is_killed(
    vendor: str,
    processes: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    own = start_server(vendor, processes)
    team = gather(*databases_on(vendor, own.server))
    for _ in range(rounds(is_long, 2, 50)):
        team.await_appends()
        own.kill()
        own.start()
        team.rounds += 1
    team.await_appends()
    report(team.verify("server killed", vendor))
