"""What the child processes of `test_killed_artifacts` and `test_killed_maintenance` do: one thing
to an artifact, or a whole maintenance, and die in it.

They are forked from a process that has set up Django and has no connection to a database.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.db import connections
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import RetentionPolicy, execute

FORKING = "import django; django.setup(); from tests.proofs.deaths import main; main()"
ROOT = Path(__file__).parents[2]
SECONDS = 30  # no child lives longer
PIECE = 200  # bytes of an archive that are written at a time
NEW = bytes(range(256)) * 800  # 200 KiB, which are read and written in pieces


@dataclass(frozen=True, slots=True)
class Job:
    """One call, and after how many of its moments the process is killed (None: it lives on)."""

    using: str
    folder: str
    work: str
    moments: str  # a file, into which one that lives writes them
    key: str = ""
    session_id: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    death: int | None = None
    seconds: float | None = None  # or so long after its start


class Moments:
    """Those of this process, at each of which it might be killed."""

    death: int | None = None
    past: list[str] = []

    @classmethod
    def meet(cls, name: str) -> None:
        if len(cls.past) == cls.death:
            os.kill(os.getpid(), signal.SIGKILL)
        cls.past.append(name)


class DeadlyStorage(FileSystemStorage):
    def _save(self, name: str, content: Any) -> str:
        Moments.meet("before the content")
        name = super()._save(name, content)  # type: ignore[misc]  # django-stubs lacks it
        Moments.meet("after the content")
        return name

    def delete(self, name: str) -> None:
        Moments.meet("before a removal")
        super().delete(name)
        Moments.meet("after a removal")


class DeadlyArchive(DeadlyStorage):
    """Its files are written in pieces, and looked at afterwards."""

    def _save(self, name: str, content: Any) -> str:
        content.chunks = partial(_deadly_pieces, content)
        return super()._save(name, content)

    def _open(self, name: str, mode: str = "rb") -> Any:
        Moments.meet("before it is read")
        return super()._open(name, mode)  # type: ignore[misc]  # django-stubs lacks it


def _deadly_pieces(content: Any) -> Iterator[bytes]:
    for number, piece in enumerate(File.chunks(content, PIECE)):
        yield piece
        if number == 0:
            Moments.meet("in the content")


class DeadlyContent(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() > 1:  # not the first byte, which is read before the storage is asked
            Moments.meet("in the content")
        return data


def put(job: Job) -> None:
    ArtifactStore(using=job.using).put(job.key, DeadlyContent(NEW), session_id=job.session_id)


def delete(job: Job) -> None:
    ArtifactStore(using=job.using).delete(job.key)


def delete_session(job: Job) -> None:
    DatabaseSessionStore(job.using).delete_session(job.session_id)


def maintain(job: Job) -> None:
    report = execute(RetentionPolicy(**job.policy), using=job.using)
    assert (report.errors, report.is_complete) == ((), True)


WORKS = {
    "put": put, "replace": put, "delete": delete, "delete_session": delete_session,
    "maintain": maintain,
}  # fmt: skip


@contextmanager
def deadly(using: str) -> Iterator[None]:
    """Meet a moment before and after each statement and each commit."""
    connection: Any = connections[using]
    commit = connection.commit

    def run(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        Moments.meet(f"before {sql.split(maxsplit=1)[0]}")
        result = execute(sql, *arguments)
        Moments.meet(f"after {sql.split(maxsplit=1)[0]}")
        return result

    def deadly_commit() -> None:
        Moments.meet("before a commit")
        commit()
        Moments.meet("after a commit")

    connection.commit = deadly_commit
    with connection.execute_wrapper(run):
        yield


def configured(folder: str) -> dict[str, Any]:
    """`STORAGES`, in which there is an archive beside the folder."""
    archive = str(Path(folder).with_name("archive"))
    return {
        alias: {"BACKEND": f"{__name__}.{kind.__name__}", "OPTIONS": {"location": location}}
        for alias, kind, location in (
            ("default", DeadlyStorage, folder),
            ("archive", DeadlyArchive, archive),
        )
    }


def die(job: Job) -> None:
    signal.alarm(SECONDS)
    Moments.death = job.death
    with override_settings(STORAGES=configured(job.folder)), deadly(job.using):
        WORKS[job.work](job)
    connections.close_all()
    Path(job.moments).write_text(json.dumps(Moments.past))


class Forks:
    """The process that forks those who die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._stdin = cast("IO[str]", process.stdin)
        self._stdout = cast("IO[str]", process.stdout)

    def run(self, job: Job) -> int:
        """The exit code of a process that did the job, or died in it."""
        self._stdin.write(json.dumps(asdict(job)) + "\n")
        self._stdin.flush()
        answer = self._stdout.readline()
        assert answer, "the forking process failed, see the captured stderr"
        return int(answer)


@contextmanager
def forking() -> Iterator[Forks]:
    command = [sys.executable, "-c", FORKING]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield Forks(process)


def main() -> None:
    """The forking process: a job comes in, an exit code goes out."""
    connections.all()  # loads the drivers, and connects to nothing
    fork = multiprocessing.get_context("fork")
    while line := sys.stdin.readline():
        job = Job(**json.loads(line))
        child = fork.Process(target=die, args=(job,))
        child.start()
        if job.seconds is not None:
            child.join(job.seconds)
            child.kill()
        child.join()
        print(child.exitcode, flush=True)  # noqa: T201
