"""Processes that are killed at every step of a put or a delete: rows and content stay together."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import ArtifactNotFound
from asm_store.models import Artifact
from asm_store.test import make_session
from tests.artifacts.places import configured, contents, is_own
from tests.proofs.deaths import NEW, Forks, Job, forking

OLD = b"old" * 10_000
# What a key holds before the call, and after it.
BEFORE_AND_AFTER = {
    "put": (None, NEW),
    "replace": (OLD, NEW),
    "delete": (OLD, None),
    "delete_session": (OLD, None),
}
MOMENTS = {
    "put": {"before the content", "in the content", "after the content"},
    "delete": {"before a removal", "after a removal"},
}
MOMENTS["replace"] = MOMENTS["put"] | MOMENTS["delete"]
MOMENTS["delete_session"] = MOMENTS["delete"]


@pytest.fixture(scope="module")
def forks(django_db_setup: None) -> Iterator[Forks]:
    with forking() as forks:
        yield forks


class Trial:
    """One database and one kind of call, killed at each moment in turn."""

    def __init__(self, using: str, work: str, forks: Forks, folder: Path) -> None:
        self.using, self.work, self.forks, self.folder = using, work, forks, folder
        self.files = ArtifactStore(using=using)
        self.sessions = DatabaseSessionStore(using)
        self.before, self.after = BEFORE_AND_AFTER[work]
        self.left = 0  # contents without a row

    def job(self) -> Job:
        """A call in a session of its own, on what there was before."""
        session = self.sessions.save_session(make_session())
        if self.before is not None:
            self.files.put(session.id, self.before, session_id=session.id)
        folder, moments = self.folder / "default", self.folder / "moments"
        return Job(self.using, str(folder), self.work, str(moments), session.id, session.id)

    def moments(self) -> list[str]:
        """All that a call meets that nobody kills."""
        job = self.job()
        assert self.forks.run(job) == 0
        assert self.held(job.key) == self.after
        assert self.without_a_row() == set()
        found: list[str] = json.loads(Path(job.moments).read_text())
        return found

    def kill_at(self, number: int, moment: str, *, committed: bool) -> None:
        job = replace(self.job(), death=number)
        known = self.without_a_row()
        assert self.forks.run(job) == -signal.SIGKILL
        held = self.held(job.key)
        assert held == (self.after if committed else self.before), moment
        self.left += len(self.without_a_row() - known)
        # Nothing of the dead is in the way.
        self.files.put(job.key, b"next")
        assert self.files.get(job.key) == b"next"

    def held(self, key: str) -> bytes | None:
        try:
            return self.files.get(key)  # checked against size and checksum
        except ArtifactNotFound:
            return None

    def without_a_row(self) -> set[str]:
        """Content that no row has; all rows have theirs, and all content is in the own folder."""
        rows = Artifact.objects.using(self.using).filter(deleted_at=None)
        registered = set(rows.values_list("storage_ref", flat=True))
        there = set(contents("default"))
        assert registered <= there
        assert all(map(is_own, there))
        return there - registered


@pytest.mark.parametrize("work", BEFORE_AND_AFTER)
def test_killed_at_each_step(
    using: str, work: str, forks: Forks, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with override_settings(STORAGES=configured(tmp_path)):
        trial = Trial(using, work, forks, tmp_path)
        moments = trial.moments()
        assert MOMENTS[work] <= set(moments)
        commit = len(moments) - moments[::-1].index("after a commit") - 1
        for number, moment in enumerate(moments):
            trial.kill_at(number, moment, committed=number >= commit)

    tell(
        f"killed at {len(moments)} moments, of old and new content always one; rows without "
        f"content 0; contents without a row {trial.left}, all in the own folder"
    )
