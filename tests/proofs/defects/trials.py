"""Trials: the contract suite's tests against a copy of the package, on databases of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Self, cast

from tests.servers import VARIABLE, obtain

from .defect import Edit, copy_with

SUITE = "tests/backends/test_contract.py"
AT_ONCE = 2
# Much longer than the whole suite takes on one database, in seconds; then the process is killed.
LIMIT = 1200
# Neither the parent's databases nor its measuring of coverage are the children's.
_NOT_INHERITED = ("ASM_TEST_DATABASE_NAMES", "COVERAGE_", "PYTEST_")
# Whatever else is installed costs time at each start.
_PLUGINS = ("-p", "pytest_django.plugin", "-p", "no:cacheprovider")
# How long, in seconds, one test may take; and how long the suite itself waits for an answer.
PATIENCE = 150
HURRIED_PATIENCE = 15
HURRY = Edit("test/contract/workers.py", "SECONDS = 60.0\n", "SECONDS = 5.0\n")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the tests, by their names, and of collecting them."""

    outcomes: dict[str, str]
    reasons: dict[str, str]
    errors: list[str]
    seconds: float

    def named(self, outcome: str) -> list[str]:
        return [name for name, value in self.outcomes.items() if value == outcome]


def class_of(alias: str) -> str:
    """The class of the suite that tests this alias, or "memory"."""
    return f"{SUITE}::{alias.title().replace('_', '')}Tests"


def _servers(name: str) -> str:
    """The servers of this test run, with databases of this name on them."""
    servers = obtain()
    directory = Path(servers.directory, name)
    directory.mkdir(exist_ok=True)
    renamed = {
        vendor: replace(server, name=f"{server.name}_{name}")
        for vendor, server in servers.servers.items()
    }
    return replace(servers, directory=str(directory), servers=renamed).to_json()


class Forker:
    """The process of `forker.py`; its children, one at a time, have databases of this number."""

    def __init__(self, number: int) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        own = {VARIABLE: _servers(f"defects_{number}"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forker.py")],
            env={**inherited, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        self.process.communicate()

    def run(self, directory: Path, tests: Iterable[str], patience: int) -> Verdict:
        """The verdict of pytest in that folder; an `AssertionError` with its output if it died."""
        log, result = directory / "log", directory / "result.json"
        order = {
            "directory": str(directory),
            "arguments": [*_PLUGINS, "--tb=short", *tests],
            "limit": LIMIT,
            "patience": patience,
            "log": str(log),
            "result": str(result),
        }
        self._tell(json.dumps(order))
        assert result.exists(), f"no verdict; the output ends:\n{log.read_text()[-5000:]}"
        found = json.loads(result.read_text(encoding="utf-8"))
        assert Path(found.pop("package")).is_relative_to(directory), "the copy was not tested"
        return Verdict(**found)

    def _tell(self, order: str) -> None:
        stdin, stdout = (cast("IO[str]", s) for s in (self.process.stdin, self.process.stdout))
        stdin.write(f"{order}\n")
        stdin.flush()
        assert stdout.readline(), "the forker has ended"


class Trials:
    """Runs trials, two at a time."""

    def __init__(self, hurried: bool) -> None:
        self._hurried = hurried
        self._forkers = [Forker(number) for number in range(AT_ONCE)]
        self._free: SimpleQueue[Forker] = SimpleQueue()
        for forker in self._forkers:
            self._free.put(forker)
        self._pool = ThreadPoolExecutor(AT_ONCE)

    @classmethod
    @contextmanager
    def started(cls, *, hurried: bool) -> Iterator[Self]:
        """Hurried ones give up on a store that does not answer after seconds, not a minute."""
        trials = cls(hurried)
        try:
            yield trials
        finally:
            trials._pool.shutdown(cancel_futures=True)
            for forker in trials._forkers:
                forker.stop()

    def submit(self, edits: Iterable[Edit], tests: Iterable[str]) -> Future[Verdict]:
        """Begin to try these tests on a copy with these edits, as soon as there is time for it."""
        return self._pool.submit(self._try, tuple(edits), list(tests))

    def _try(self, edits: tuple[Edit, ...], tests: list[str]) -> Verdict:
        forker = self._free.get()
        try:
            with tempfile.TemporaryDirectory(prefix="asm-defect-") as name:
                directory = Path(name).resolve()
                copy_with([*edits, HURRY] if self._hurried else edits, directory)
                patience = HURRIED_PATIENCE if self._hurried else PATIENCE
                return forker.run(directory, tests, patience)
        finally:
            self._free.put(forker)
