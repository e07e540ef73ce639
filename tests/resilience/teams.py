"""The writers of a trial, and what they leave, compared with the table from outside."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import health_check
from asm_store.test import make_session
from tests.proofs.verification import acknowledged, checked, ids, is_lost, log
from tests.proofs.writers import Ledger
from tests.results import Result
from tests.standalone import Child

# A hot session, that all append to, and those that are one writer's own.
KINDS = ("singles", "batches", "singles", "flushes", "streams")
# Whose sessions are no others' to write to: flushes replace them, and streams are to be contiguous.
ALONE = ("flushes", "streams")
MODULE = "tests.resilience.writing"
SECONDS = 180
DONE, REFUSED = b'["done"', b'["refused"'


class Team:
    """Five writers on one database, or spread over several that show the same.

    The first database is the one that is looked at, by the alias `using`, which is this
    process's own.
    """

    def __init__(
        self,
        using: str,
        databases: Sequence[dict[str, Any]],
        directory: Path,
        stack: ExitStack,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.using, self.rounds = using, 0
        self._databases = len(databases)
        migrate(using)
        store = DatabaseSessionStore(using)
        saved = [store.save_session(make_session()).pk for _ in range(len(kinds) + 1)]
        self._hot, *self._own = saved
        self.ledgers = [directory / f"ledger-{number}" for number in range(len(kinds))]
        self._writers = [
            Child(stack, MODULE, databases[n % len(databases)], str(self.ledgers[n]), kind, own)
            for n, (kind, own) in enumerate(zip(kinds, self._sessions(kinds), strict=True))
        ]
        for writer in self._writers:
            assert writer.heard() == "ready"

    @property
    def pids(self) -> list[int]:
        return [writer.process.pid for writer in self._writers]

    def _sessions(self, kinds: Sequence[str]) -> list[list[str]]:
        return [
            [own] if kind in ALONE else [self._hot, own]
            for kind, own in zip(kinds, self._own, strict=True)
        ]

    def await_appends(self, count: int = 3, *, but: Collection[int] = ()) -> None:
        """Until each writer, but those of these databases, has been acknowledged so many more."""
        wanted = [
            each + (0 if n % self._databases in but else count)
            for n, each in enumerate(self._counts())
        ]

        def have_come() -> bool:
            return all(map(int.__ge__, self._counts(), wanted))

        self.until(have_come, "all writers go on")

    def _counts(self, tag: bytes = DONE) -> list[int]:
        return [path.read_bytes().count(tag) for path in self.ledgers]

    def refusals(self) -> int:
        """How many errors have come through the store's door."""
        return sum(self._counts(REFUSED))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it, while the writers go on."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert all(writer.process.poll() is None for writer in self._writers), (
                "a writer has failed, see the captured stderr"
            )
            assert time.monotonic() < deadline, f"in {SECONDS} s it did not happen: {what}"
            time.sleep(0.05)

    def stop(self) -> list[Ledger]:
        """Each writer ends its append."""
        for writer in self._writers:
            assert writer.process.stdin is not None
            writer.process.stdin.close()
        for writer in self._writers:
            writer.end()
        return [Ledger.read(str(path)) for path in self.ledgers]

    def verify(self, trial: str, database: str, *, refusals: str = "") -> Result:
        """Stop, and compare: what was acknowledged is stored once, and nothing else; what was
        refused, by errors of this pattern only, was stored when it was tried again.
        """
        ledgers = self.stop()
        sessions = [self._hot, *self._own]
        refused = {text for ledger in ledgers for text in ledger.refused}
        others = {text for text in refused if not (refusals and re.search(refusals, text))}
        assert others == set()
        stored = checked(self.using, sessions, ledgers)
        assert stored.keys() == ids(call for ledger in ledgers for call in ledger.begun)
        assert health_check(using=self.using) == []
        return self._result(trial, database, ledgers, stored)

    def _result(
        self, trial: str, database: str, ledgers: list[Ledger], stored: dict[str, Any]
    ) -> Result:
        events = list(acknowledged(ledgers))
        rows = sum(len(log(self.using, owner)) for owner in [self._hot, *self._own])
        ends = [ledger.ended or {} for ledger in ledgers]
        return Result(
            trial,
            database,
            self.rounds,
            len(events),
            sum(is_lost(event, stored) for event in events),
            rows - len(stored),
            max(end["longest"] for end in ends),
            dict(sum((Counter(end["retries"]) for end in ends), Counter())),
        )


def migrate(using: str) -> None:
    """The tables of asm_store alone, which need no others."""
    executor = MigrationExecutor(connections[using])
    executor.migrate(executor.loader.graph.leaf_nodes("asm_store"))
