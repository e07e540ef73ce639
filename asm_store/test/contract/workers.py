"""Threads and processes that start together, for races. All of them end within a time limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Generic, TypeVar

from django.db import connections

T = TypeVar("T")
SECONDS = 60.0
# The modules of asm_store.test need django.setup() first.
CHILD = "import django; django.setup(); from asm_store.test.contract.child import main; main()"


class Worker(threading.Thread, Generic[T]):
    """A job in a thread of its own, whose connections are closed at its end."""

    def __init__(self, job: Callable[[], T], barrier: threading.Barrier | None = None) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.barrier = barrier
        self.ended = threading.Event()
        self.value: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            if self.barrier is not None:
                self.barrier.wait(SECONDS)
            self.value = self.job()
        except BaseException as error:  # whoever asks for the result gets it
            self.error = error
        finally:
            connections.close_all()
            self.ended.set()

    def wait(self) -> None:
        self.join(SECONDS)
        if self.is_alive():
            raise AssertionError(f"a worker is still busy after {SECONDS:.0f} s")

    def result(self) -> T:
        """What the job returned; raises what it raised."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def start(job: Callable[[], T]) -> Worker[T]:
    """A worker that has begun."""
    worker = Worker(job)
    worker.start()
    return worker


def race(jobs: Iterable[Callable[[], T]]) -> list[Worker[T]]:
    """All jobs, started together in threads; returned when every one of them has ended."""
    jobs = list(jobs)
    barrier = threading.Barrier(len(jobs))
    workers = [Worker(job, barrier) for job in jobs]
    with _quick_switching():
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait()
    return workers


def results(workers: Sequence[Worker[T]]) -> list[T]:
    return [worker.result() for worker in workers]


@contextmanager
def _quick_switching() -> Iterator[None]:
    """Let threads of pure Python interleave as finely as those that wait for a database."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Children:
    """Processes that append to the store at `make_store_path`, for as many races as wanted."""

    def __init__(self, count: int, make_store_path: str) -> None:
        setup = {"make_store_path": make_store_path, "databases": _database_settings()}
        self.processes = [self._start() for _ in range(count)]
        try:
            with self._time_limit():
                self._tell_all([setup] * count)
                self._await_all("ready")
        except BaseException:
            self.stop()
            raise

    def race(self, jobs: Sequence[Sequence[Sequence[dict[str, Any]]]]) -> list[list[Any]]:
        """Each child gets a list of batches of events (as dicts) and appends them one by one.

        For every batch the child reports `{"stored": [[id, number], ...]}` or `{"error": code}`.
        """
        with self._time_limit():
            self._tell_all(jobs)
            self._await_all("prepared")
            self._tell_all(["go"] * len(self.processes))
            return [
                [self._read(process) for _ in batches]
                for process, batches in zip(self.processes, jobs, strict=True)
            ]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        paths = os.pathsep.join(path or os.curdir for path in sys.path)
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        timer = threading.Timer(SECONDS, self._kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()

    def _tell_all(self, messages: Sequence[Any]) -> None:
        for process, message in zip(self.processes, messages, strict=True):
            stdin = _open(process.stdin)
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()

    def _await_all(self, word: str) -> None:
        for process in self.processes:
            answer = self._read(process)
            if answer != word:
                raise AssertionError(f"a child process said {answer!r} instead of {word!r}")

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> Any:
        line = _open(process.stdout).readline()
        if not line:
            raise AssertionError("a child process failed or took too long, see its stderr")
        return json.loads(line)


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _database_settings() -> dict[str, dict[str, str]]:
    """Where this process's test databases are: their names are not those of the settings."""
    keys = ("NAME", "HOST", "PORT", "USER", "PASSWORD")
    return {
        alias: {key: str(connections[alias].settings_dict[key]) for key in keys}
        for alias in connections
    }
