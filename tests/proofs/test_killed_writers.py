"""Writers that are killed at any moment: nothing acknowledged is lost, and nothing is half done."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.test import make_event, make_session
from tests.databases import vendor_of
from tests.failures import execute
from tests.proofs.verification import Stored, checked, ids
from tests.proofs.writers import Forks, Job, Ledger, forking
from tests.resilience.rounds import rounds
from tests.results import Result

ROUNDS, LONG_ROUNDS = 10, 200
# The moments of the kills, in seconds after all writers have begun; before is at once.
FIRST, LAST = -0.01, 0.08
# Seconds that the next writer may take; the locks of one that lives would be waited for longer.
PATIENCE = 4

LISTED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = %s",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE id = %s",
}
# By what a writer noted last.
MOMENTS = {
    "connected": "before the first append",
    "began": "before the first statement of a transaction was answered",
    "inside": "inside a transaction",
    "commit": "in a commit",
    "done": "between two appends",
}
UNFINISHED = ("began", "inside", "commit")


@dataclass(slots=True)
class Tally:
    """What all rounds have tried."""

    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)  # by what the writer noted last
    acknowledged: int = 0
    unheard: int = 0  # events that were committed, and not acknowledged
    repeated: int = 0
    refused: int = 0  # statements, by a deadlock or a lost wait for a lock
    slowest: float = 0.0  # seconds that the next writer took

    def count(self, ledgers: list[Ledger], stored: Collection[str], slowest: float) -> None:
        unacknowledged = [call for ledger in ledgers for call in ledger.unacknowledged]
        self.rounds += 1
        self.kills.update(ledger.last for ledger in ledgers)
        self.acknowledged += sum(
            len(events) for ledger in ledgers for events in ledger.acknowledged
        )
        self.unheard += len(ids(unacknowledged).intersection(stored))
        self.refused += sum(len(ledger.refused) for ledger in ledgers)
        self.slowest = max(self.slowest, slowest)

    @property
    def unfinished(self) -> int:
        return sum(self.kills[last] for last in UNFINISHED)

    def result(self, using: str) -> Result:
        """As the rounds have checked it; who waited is the writer after the dead."""
        retries = {"busy": self.refused} if self.refused else {}
        return Result(
            "writers killed", using, self.rounds, self.acknowledged, 0, 0, self.slowest, retries
        )

    def __str__(self) -> str:
        kills = ", ".join(f"{self.kills[last]} {text}" for last, text in MOMENTS.items())
        return (
            f"{self.rounds} rounds, {self.kills.total()} kills ({kills}); "
            f"{self.acknowledged} events acknowledged, lost 0, duplicates 0; "
            f"{self.unheard} more committed of which nobody heard; {self.repeated} appends "
            f"repeated by id; {self.refused} statements refused and tried again; "
            f"the next writer took {1000 * self.slowest:.0f} ms at most"
        )


class Round:
    """A hot session and others, writers that are killed, and what they left."""

    def __init__(self, using: str, forks: Forks, directory: Path) -> None:
        self.using, self.forks, self.directory = using, forks, directory
        self.store = DatabaseSessionStore(using)
        saved = [self.store.save_session(make_session()).pk for _ in range(3)]
        self.hot, self.own, self.third = self.saved = saved
        self.new = make_session().pk  # which the first flush stores
        self.sessions = [*saved, self.new]
        self.mine: list[dict[str, Any]] = []
        self.ledgers: list[Ledger] = []

    def run(self, chance: random.Random, tally: Tally) -> None:
        self.ledgers = self._kill(chance)
        slowest = max(self._append(session_id) for session_id in self.saved)
        self._await_servers()
        stored = self.check()
        tally.count(self.ledgers, stored.keys(), slowest)
        # Of the last one nobody heard, mostly; the one before is stored, mostly.
        calls = [call for ledger in self.ledgers for call in ledger.begun[-2:]]
        self._repeat(calls, stored)
        tally.repeated += len(calls)

    def _kill(self, chance: random.Random) -> list[Ledger]:
        writers = [
            ("singles", [self.hot]),
            ("singles", [self.own]),
            ("batches", [self.hot, self.third]),
            ("flushes", [chance.choice([self.hot, self.new])]),
        ]
        moments = [max(0.0, chance.uniform(FIRST, LAST)) for _ in writers]
        warm = chance.randint(0, 1)
        jobs = [
            Job(self.using, f"{self.directory}-{n}", kind, sessions, warm=warm, seconds=seconds)
            for n, ((kind, sessions), seconds) in enumerate(zip(writers, moments, strict=True))
        ]
        assert self.forks.run(jobs) == [-signal.SIGKILL] * len(jobs)
        return [Ledger.read(job.ledger) for job in jobs]

    def _append(self, session_id: str) -> float:
        """Go on where the dead have been; how long it took."""
        start = time.monotonic()
        event = self.store.append_event_with_sequence(make_event(session_id))
        self.mine.append(event.to_dict())
        seconds = time.monotonic() - start
        assert seconds < PATIENCE
        return seconds

    def _await_servers(self) -> None:
        """Until the server too has noticed all deaths: a commit may still be on its way."""
        if vendor_of(self.using) == "sqlite":
            return
        end = time.monotonic() + PATIENCE
        listed = LISTED[vendor_of(self.using)]
        for ledger in self.ledgers:
            while execute(self.using, listed, ledger.connection)[0][0]:
                assert time.monotonic() < end, "the server keeps the connection of a dead process"

    def _repeat(self, calls: list[dict[str, Any]], before: Stored) -> None:
        """A new process makes appends of the dead again, with the same ids."""
        job = Job(self.using, f"{self.directory}-again", calls=calls)
        assert self.forks.run([job]) == [0]
        self.ledgers.append(Ledger.read(job.ledger))
        after = self.check()
        assert after == after | before
        assert after.keys() - before.keys() == ids(calls) - before.keys()

    def check(self) -> Stored:
        """The events of all sessions by id, after everything has been compared."""
        stored = checked(self.using, self.sessions, self.ledgers, self.mine)
        # Under the counters' locks no two writers take the same number.
        refused = [name for ledger in self.ledgers for name in ledger.refused]
        assert "IntegrityError" not in refused
        assert all(self.store.get_session(session_id) for session_id in self.saved)
        return stored


@pytest.fixture(scope="module")
def forks(django_db_setup: None) -> Iterator[Forks]:
    with forking() as forks:
        yield forks


def test_killed_writers(
    using: str,
    forks: Forks,
    tmp_path: Path,
    is_long: bool,
    tell: Callable[[str], None],
    report: Callable[[Result], None],
) -> None:
    tally = Tally()
    chance = random.Random(using)
    for number in range(rounds(is_long, ROUNDS, LONG_ROUNDS)):
        Round(using, forks, tmp_path / str(number)).run(chance, tally)

    assert tally.unfinished > tally.kills.total() / 2
    tell(str(tally))
    report(tally.result(using))
