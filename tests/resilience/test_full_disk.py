"""The disk is full: what cannot be stored is refused, and stored when there is room again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.databases import on_server
from tests.resilience.conftest import Gather
from tests.resilience.disks import Disk, Limits, small_disk
from tests.resilience.rounds import rounds
from tests.resilience.servers import OwnServer, start_server
from tests.resilience.teams import Team
from tests.results import Result
from tests.servers.processes import Processes

# Much more than what is stored: SQLite is quick.
MEGABYTES = {"sqlite": 64, "postgresql": 160, "mysql": 320}
VENDORS = pytest.mark.parametrize("vendor", MEGABYTES)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="there are small disks and prlimit on Linux only"
)


@pytest.fixture
def disk(vendor: str, processes: Processes) -> Iterator[Disk]:
    with small_disk(processes.directory / f"disk-{vendor}", MEGABYTES[vendor]) as disk:
        yield disk


@pytest.fixture
def small(vendor: str, processes: Processes, disk: Disk) -> Iterator[Processes]:
    """Servers whose data lie there."""
    with Processes(processes.directory / f"disk-{vendor}") as running:
        yield running


def begin(vendor: str, small: Processes) -> tuple[OwnServer | None, dict[str, Any]]:
    if vendor == "sqlite":
        options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
        name = str(small.directory / "db.sqlite3")
        return None, {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
    own = start_server(vendor, small)
    return own, on_server(vendor, own.server)


def is_noticed(team: Team, own: OwnServer | None, refusals: int) -> bool:
    return team.refusals() > refusals or (own is not None and not own.is_running())


def fill_and_free(disk: Disk, team: Team, own: OwnServer | None) -> None:
    """Until somebody has noticed; a server that has died of it is started again."""
    noticed = partial(is_noticed, team, own, team.refusals())
    if own is None:
        disk.fill(team.pids, team.ledgers)
    elif own.server.pid is not None:
        disk.fill([own.server.pid], [])
    team.until(noticed, "somebody is refused")
    disk.free()
    if own and not own.is_running():
        own.start()
    team.rounds += 1


@VENDORS
def test_the_disk_is_full(
    vendor: str,
    small: Processes,
    disk: Disk,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    own, database = begin(vendor, small)
    team = gather(database)
    for _ in range(rounds(is_long, 2, 20)):
        team.await_appends()
        fill_and_free(disk, team, own)
    team.await_appends()
    report(team.verify("disk full", vendor, refusals=disk.refusals))


@VENDORS
def test_files_may_not_grow(
    vendor: str, processes: Processes, gather: Gather, report: Callable[[Result], None]
) -> None:
    """What the trial is where nothing can be mounted."""
    own, database = begin(vendor, processes)
    team, limits = gather(database), Limits()
    team.await_appends()
    fill_and_free(limits, team, own)
    team.await_appends()
    report(team.verify("files limited", vendor, refusals=limits.refusals))
