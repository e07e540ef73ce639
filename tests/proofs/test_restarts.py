"""Readers through restarts of the server: each event once, in order, and never otherwise."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.cases import require
from tests.databases import on_server
from tests.proofs.restarts import PART, TASKS, THREADS
from tests.servers.postgresql import OwnServer
from tests.servers.processes import Processes
from tests.standalone import Child

PROCESSES = 2
EVENTS, LONG_EVENTS = 120, 10_000
# Clients are dropped; the server crashes.
RESTARTS = (signal.SIGINT, signal.SIGQUIT)
MODULE = "tests.proofs.restarts"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnServer]:
    """A durable server of this test's own: what a crash takes with it would be missed."""
    require("postgresql")
    monkeypatch.setenv("ASM_TEST_DURABLE", "1")
    with tempfile.TemporaryDirectory(prefix="asm-") as directory:
        # It runs as another user, who must be able to walk through here.
        Path(directory).chmod(0o711)
        with Processes(Path(directory)) as processes:
            yield OwnServer(processes)


def test_readers_through_restarts(
    own: OwnServer, is_long: bool, tell: Callable[[str], None]
) -> None:
    count = LONG_EVENTS if is_long else EVENTS
    with ExitStack() as stack:
        database = on_server("postgresql", own.server)
        writer = Child(stack, MODULE, "write", count, database)
        session_id = writer.heard()
        follow = partial(Child, stack, MODULE, "follow", session_id, database)
        followers = [follow() for _ in range(PROCESSES)]
        assert [follower.heard() for follower in followers] == ["waiting"] * PROCESSES
        writer.go()
        for number, how in enumerate(RESTARTS, 1):
            while writer.heard() < number * count // (len(RESTARTS) + 1) // PART * PART:
                pass
            own.restart(how)
        while writer.heard() < count:
            pass
        writer.end()
        found = [follower.heard() for follower in followers]
        for follower in followers:
            follower.end()

    expected = [[number, str(number)] for number in range(1, count + 1)]
    read = [given for each in found for given in each["given"]]
    assert [given == expected for given in read] == [True] * (THREADS + TASKS) * PROCESSES
    assert [each["left"] for each in found] == [0] * PROCESSES
    tell(
        f"{count} events through {len(RESTARTS)} restarts of the server, read alike and in order "
        f"by {len(read)} readers in {PROCESSES} processes"
    )
