"""The disk is full: what cannot be stored is refused, and stored when there is room again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.databases import on_server
from tests.resilience.conftest import Gather, rounds
from tests.resilience.servers import OwnServer, start_server
from tests.resilience.teams import Team
from tests.results import Result
from tests.servers.processes import Processes

MEGABYTES = {"sqlite": 8, "postgresql": 160, "mysql": 320}
# Of the three drivers, in the words of their databases.
FULL = "No space left|disk is full|is full|Disk full"
PIECE = bytes(1 << 16)


@pytest.fixture
def small(vendor: str, processes: Processes) -> Iterator[Processes]:
    """Servers whose data lie in a file system of a few megabytes."""
    folder = processes.directory / f"disk-{vendor}"
    folder.mkdir()
    options = f"size={MEGABYTES[vendor]}m,mode=711"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with Processes(folder) as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """With a file that takes what is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(PIECE):
            pass
    return ballast


def begin(vendor: str, small: Processes) -> tuple[OwnServer | None, dict[str, Any]]:
    if vendor == "sqlite":
        options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
        name = str(small.directory / "db.sqlite3")
        return None, {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
    own = start_server(vendor, small)
    return own, on_server(vendor, own.server)


def is_noticed(team: Team, own: OwnServer | None, refusals: int) -> bool:
    return team.refusals() > refusals or (own is not None and not own.is_running())


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_the_disk_is_full(
    vendor: str,
    small: Processes,
    gather: Gather,
    is_long: bool,
    report: Callable[[Result], None],
) -> None:
    own, database = begin(vendor, small)
    team = gather(database)
    for _ in range(rounds(is_long, 2, 20)):
        team.await_appends()
        noticed = partial(is_noticed, team, own, team.refusals())
        ballast = fill(small.directory)
        team.until(noticed, "somebody is refused")
        ballast.unlink()
        if own and not own.is_running():
            own.start()
        team.rounds += 1
    team.await_appends()
    report(team.verify("disk full", vendor, refusals=FULL))
