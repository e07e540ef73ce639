"""Maintenance that is killed at any moment: every event is in the table or in the archive."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import import_paths
from asm_store.maintenance import RetentionPolicy, execute
from asm_store.models import Session
from asm_store.test import make_session
from tests.artifacts.places import configured
from tests.maintenance.histories import (
    NOBODY,
    POLICY,
    History,
    clear,
    counters,
    left,
    orphans,
    rows,
)
from tests.proofs.deaths import Forks, Job, forking
from tests.resilience.rounds import rounds

ROUNDS, LONG_ROUNDS = 4, 100
STEPS, SEEDS = 6, 3  # in the short form: how many of the moments, in the long one all of them
# What ends a run uses its session, and so changes what is pruned the next time: that is apart.
ARCHIVING = replace(
    POLICY, archive_before_prune=True, archive_storage="archive", max_run_age_hours=None
)
RUNS = RetentionPolicy(
    max_completed_session_age_days=None,
    hard_delete_after_days=None,
    max_run_age_hours=24,
    archive_before_prune=True,
    archive_storage="archive",
)
ARCHIVE_MOMENTS = {"before the content", "in the content", "after the content", "before it is read"}


@dataclass(slots=True)
class Tally:
    """What all rounds have tried."""

    rounds: int = 0
    unfinished: int = 0  # kills that left something to do
    in_events: int = 0  # kills after which some events were gone, and others not yet
    events: int = 0
    restored: int = 0
    torn: int = 0  # files of archives that were not written to their end
    files: int = 0
    moments: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        moments = f", {len(self.moments)} kinds of moments" if self.moments else ""
        return (
            f"{self.rounds} kills{moments}, {self.unfinished} of them before the end, "
            f"{self.in_events} between the first and the last deletion of an event; "
            f"{self.events} events, {self.restored} restored from {self.files} files, of which "
            f"{self.torn} without a manifest; lost 0, deleted and not due 0"
        )


class Trial:
    """One database: what maintenance does to a history undisturbed, and when it is killed."""

    def __init__(self, using: str, policy: RetentionPolicy, forks: Forks, folder: Path) -> None:
        self.using, self.policy, self.forks, self.folder = using, policy, forks, folder
        self.tally = Tally()
        self.number = 0
        self.seconds = 0.0
        self.before: dict[str, Any] = {}
        self.counted: dict[str, int] = {}
        self.expected: dict[int, dict[str, Any]] = {}

    @property
    def archive(self) -> Path:
        return self.folder / str(self.number) / "archive"

    def begin(self, seed: int) -> Job:
        """A new history in empty tables, and an empty archive."""
        self.number += 1
        clear(self.using)
        folder = self.folder / str(self.number)
        with override_settings(STORAGES=configured(folder)):
            History(seed).store(self.using)
        self.before, self.counted = rows(self.using), counters(self.using)
        moments = str(self.folder / "moments")
        return Job(
            self.using, str(folder / "default"), "maintain", moments, policy=asdict(self.policy)
        )

    def undisturbed(self, seed: int) -> list[str]:
        """All moments of a maintenance that nobody kills."""
        job = self.begin(seed)
        start = time.monotonic()
        assert self.forks.run(job) == 0
        self.seconds = time.monotonic() - start
        self.expected[seed] = left(self.using)
        found: list[str] = json.loads(Path(job.moments).read_text())
        return found

    def kill(self, seed: int, **moment: Any) -> None:
        """Kill one, let another do the rest, restore everything, and compare."""
        job = replace(self.begin(seed), **moment)
        assert self.forks.run(job) in (-signal.SIGKILL, 0)
        here = rows(self.using)
        self._note(here, seed)
        with override_settings(STORAGES=storages(job)):
            report = execute(self.policy, using=self.using, locked=False)
            assert (report.errors, report.is_complete) == ((), True)
            assert left(self.using) == self.expected[seed]
            assert orphans(self.using) == {}
            self._restore()
        self.tally.restored += len(self.events(rows(self.using))) - len(self.events(here))

    def _note(self, here: dict[str, Any], seed: int) -> None:
        gone = self.events(self.before).keys() - here.keys()
        kept = {name for name in self.expected[seed] if name.startswith("Event ")}
        to_go = self.events(self.before).keys() - kept
        self.tally.rounds += 1
        self.tally.events += len(self.events(self.before))
        self.tally.in_events += bool(gone) and gone < to_go
        self.tally.unfinished += left(self.using) != self.expected[seed]

    @staticmethod
    def events(records: dict[str, Any]) -> dict[str, Any]:
        return {name: row for name, row in records.items() if name.startswith("Event ")}

    def _restore(self) -> None:
        """All files there are, in whatever order; each event is as it was, and so is the rest."""
        self._check_manifests()
        survivors = set(Session.objects.using(self.using).values_list("pk", flat=True))
        # Of a session that was never there, the events are.
        DatabaseSessionStore(self.using).save_session(make_session(id=NOBODY))
        if self.archive.exists():
            import_paths([self.archive], using=self.using)
        after = rows(self.using)
        for name, row in self.before.items():
            if name != f"Artifact art_{NOBODY}_0":
                self._check(name, row, after.get(name), survivors)
        assert self.events(after).keys() == self.events(self.before).keys() or self.policy == RUNS
        last = counters(self.using)
        assert {pk for pk, number in self.counted.items() if last[pk] < number} <= {NOBODY}
        numbers = Counter(
            (e["session_id"], e["sequence_number"]) for e in self.events(after).values()
        )
        assert set(numbers.values()) == {1}

    def _check(self, name: str, row: Any, found: Any, survivors: set[str]) -> None:
        kind, _, pk = name.partition(" ")
        assert found is not None, f"{name} is lost"
        if kind == "Session" and pk in survivors:
            # It may have been marked, and its parent may be gone.
            row = {**row, "deleted_at": row["deleted_at"] or found["deleted_at"]}
            if found["parent_session_id"] is None:
                row["parent_session_id"] = None
        if kind == "Run" and self.policy == RUNS and found["status"] == "timeout":
            return
        assert found == row

    def _check_manifests(self) -> None:
        """Each tells of a file that is there as it says; a file without one was cut off."""
        files = {path.name for path in self.archive.rglob("*.gz")}
        told = set()
        for path in self.archive.rglob("*.manifest.json"):
            try:
                manifest = json.loads(path.read_text())
            except ValueError:  # itself cut off
                continue
            data = (self.archive / manifest["file"]).read_bytes()
            assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
            assert manifest["bytes"] == len(data)
            told.add(Path(manifest["file"]).name)
        self.tally.files += len(files)
        self.tally.torn += len(files - told)


def storages(job: Job) -> dict[str, Any]:
    places = {"default": job.folder, "archive": str(Path(job.folder).with_name("archive"))}
    files = "django.core.files.storage.FileSystemStorage"
    return {
        alias: {"BACKEND": files, "OPTIONS": {"location": location}}
        for alias, location in places.items()
    }


@pytest.fixture(scope="module")
def forks(django_db_setup: None) -> Iterator[Forks]:
    with forking() as forks:
        yield forks


def test_killed_at_random_moments(
    using: str, forks: Forks, tmp_path: Path, is_long: bool, tell: Callable[[str], None]
) -> None:
    trial = Trial(using, ARCHIVING, forks, tmp_path)
    chance = random.Random(using)
    for seed in range(SEEDS):
        trial.undisturbed(seed)
    for number in range(rounds(is_long, ROUNDS, LONG_ROUNDS)):
        trial.kill(number % SEEDS, seconds=chance.uniform(0, trial.seconds))
    tell(str(trial.tally))


@pytest.mark.parametrize("policy", [ARCHIVING, RUNS], ids=["all", "runs"])
def test_killed_at_each_step(
    using: str,
    policy: RetentionPolicy,
    forks: Forks,
    tmp_path: Path,
    is_long: bool,
    tell: Callable[[str], None],
) -> None:
    trial = Trial(using, policy, forks, tmp_path)
    moments = trial.undisturbed(1)
    assert policy == RUNS or set(moments) >= ARCHIVE_MOMENTS
    chosen = list(_distinct(moments))
    if not is_long:
        chosen = random.Random(using).sample(chosen, STEPS)
    for number in chosen:
        trial.tally.moments[moments[number]] += 1
        trial.kill(1, death=number)
    tell(str(trial.tally))


def _distinct(moments: list[str]) -> Iterator[int]:
    """Without those between which the database sees nothing."""
    for number, moment in enumerate(moments):
        if not moment.startswith("after ") or "content" in moment or "commit" in moment:
            yield number
