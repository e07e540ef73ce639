"""Readers through restarts of the server: each event once, in order, and never otherwise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import pytest

from tests.cases import require
from tests.proofs.restarts import PART, SECONDS, TASKS, THREADS
from tests.servers.postgresql import OwnServer
from tests.servers.processes import Processes

PROCESSES = 2
EVENTS, LONG_EVENTS = 120, 10_000
# Clients are dropped; the server crashes.
RESTARTS = (signal.SIGINT, signal.SIGQUIT)
ROOT = Path(__file__).parents[2]


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


class Child:
    """A process that does one of the works of `tests.proofs.restarts`."""

    def __init__(self, own: OwnServer, stack: ExitStack, work: str, argument: Any) -> None:
        server = own.server
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": server.host,
            "PORT": server.port,
            "USER": server.user,
            "PASSWORD": server.password,
            "NAME": "postgres",
        }
        values = (json.dumps(value) for value in (work, argument, database))
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.proofs.restarts", *values],
            cwd=ROOT, stdin=pipe, stdout=pipe, text=True,
        )  # fmt: skip
        # Last entered, first left: killed, when it has not ended, before it is waited for.
        stack.enter_context(process)
        stack.callback(process.kill)
        self._process = process

    def heard(self) -> Any:
        """The next that it says."""
        line = cast("IO[str]", self._process.stdout).readline()
        assert line, "a child process failed, see the captured stderr"
        return json.loads(line)

    def go(self) -> None:
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write("go\n")
        stdin.flush()

    def end(self) -> None:
        assert self._process.wait(SECONDS) == 0


def test_readers_through_restarts(
    own: OwnServer, is_long: bool, tell: Callable[[str], None]
) -> None:
    count = LONG_EVENTS if is_long else EVENTS
    with ExitStack() as stack:
        writer = Child(own, stack, "write", count)
        session_id = writer.heard()
        followers = [Child(own, stack, "follow", session_id) for _ in range(PROCESSES)]
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
