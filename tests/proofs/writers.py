"""What the child processes of the proofs do: they append, and keep ledgers that outlive them.

Writers that are to be killed are forked from a process that has set up Django and has no
connection to a database: starting each of them anew would take most of a proof's time.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import IO, Any, cast

from django.db import DatabaseError, connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run, Session
from asm_store.test import make_event, make_run, make_session
from tests.databases import vendor_of
from tests.failures import OWN_NUMBER, execute

# The models, which this module needs, need django.setup() first.
FORKING = "import django; django.setup(); from tests.proofs.writers import main; main()"
ROOT = Path(__file__).parents[2]
SECONDS = 30  # no child lives longer

Call = dict[str, Any]  # the arguments of one append, as dicts
Note = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What one writer does, and when it is killed."""

    using: str
    ledger: str
    kind: str = ""
    sessions: Sequence[str] = ()
    # The appends to make; None: such as `kind` makes, without end.
    calls: list[Call] | None = None
    # It makes so many of them before all begin together: the first is many times slower.
    warm: int = 0
    # It is killed so long after that; None: it is let finish.
    seconds: float | None = None


@dataclass(slots=True)
class Ledger:
    """What a writer had noted when it was killed; of a line that it had not ended, nothing."""

    connection: int | None = None  # as the server counts them
    begun: list[Call] = field(default_factory=list)
    acknowledged: list[list[dict[str, Any]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # the errors of statements, by their class
    last: str = "nothing"
    ended: dict[str, Any] | None = None  # what a writer said of itself that came to its end

    @classmethod
    def read(cls, path: str) -> Ledger:
        ledger = cls()
        for line in Path(path).read_bytes().split(b"\n")[:-1]:
            tag, value = json.loads(line)
            if tag == "refused":
                ledger.refused.append(value)
                continue
            ledger.last = tag
            if tag == "connected":
                ledger.connection = value
            elif tag == "began":
                ledger.begun.append(value)
            elif tag == "done":
                ledger.acknowledged.append(value)
            elif tag == "ended":
                ledger.ended = value
        return ledger

    @property
    def unacknowledged(self) -> list[Call]:
        """The append that was begun last, unless it was acknowledged too."""
        return self.begun[len(self.acknowledged) :]


# The appends


def singles(sessions: Sequence[str]) -> Iterator[Call]:
    while True:
        yield _call(_some_events(sessions, 1))


def batches(sessions: Sequence[str]) -> Iterator[Call]:
    while True:
        yield _call(_some_events(sessions, random.randint(2, 8)))


def flushes(sessions: Sequence[str]) -> Iterator[Call]:
    """Each replaces the session, and adds a run and its events."""
    for count in itertools.count(1):
        session = make_session(id=sessions[0], context={"flush": count})
        run = make_run(session, turn_count=count)
        events = _some_events(sessions[:1], random.randint(1, 5), run_id=run.pk)
        yield {**_call(events), "session": session.to_dict(), "run": run.to_dict()}


def streams(sessions: Sequence[str]) -> Iterator[Call]:
    """As tokens come: a writer stores them, not all together."""
    while True:
        yield {**_call(_some_events(sessions[:1], random.randint(5, 20))), "is_streamed": True}


KINDS = {"singles": singles, "batches": batches, "flushes": flushes, "streams": streams}


def _call(events: Iterable[Event]) -> Call:
    return {"events": [event.to_dict() for event in events]}


def _some_events(sessions: Sequence[str], count: int, **columns: Any) -> list[Event]:
    return [
        make_event(owner, data={"text": "word " * random.randint(0, 200)}, **columns)
        for owner in random.choices(sessions, k=count)
    ]


def make(store: DatabaseSessionStore, call: Call) -> list[Event]:
    """The append that `call` says; the same ids when it is made again."""
    events = [Event.from_dict(event) for event in call["events"]]
    if "run" in call:
        return store.flush(Session.from_dict(call["session"]), Run.from_dict(call["run"]), events)
    if len(events) == 1:
        return [store.append_event_with_sequence(events[0])]
    if "is_streamed" in call:
        with store.writer(events[0].session_id, max_events=3) as writer:
            for event in events:
                writer.write(event)
    # What is stored already comes back.
    return store.append_events(events)


def append(using: str, session_id: str, run_ids: Sequence[str], count: int) -> None:
    """Append so many events, alone and in batches, of these runs and of none."""
    store = DatabaseSessionStore(using)
    left = count
    while left:
        size = min(left, random.choice([1, 1, 2, 5, 10]))
        events = _some_events([session_id], size)
        for event in events:
            event.run_id = random.choice([None, *run_ids])
        make(store, _call(events))
        left -= size


# Writers that are killed


class Forks:
    """The process that forks the writers, for as many rounds as wanted."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._stdin = cast("IO[str]", process.stdin)
        self._stdout = cast("IO[str]", process.stdout)

    def run(self, jobs: Iterable[Job]) -> list[int]:
        """Each job in a process of its own, together; their exit codes, when all are dead."""
        self._stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._stdin.flush()
        answer = self._stdout.readline()
        assert answer, "the forking process failed, see the captured stderr"
        return cast("list[int]", json.loads(answer))


@contextmanager
def forking() -> Iterator[Forks]:
    command = [sys.executable, "-c", FORKING]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield Forks(process)


def main() -> None:
    """The forking process: a line of jobs comes in, a line of exit codes goes out."""
    connections.all()  # loads the drivers, once for all writers, and connects to nothing
    while line := sys.stdin.readline():
        codes = _run([Job(**job) for job in json.loads(line)])
        print(json.dumps(codes), flush=True)  # noqa: T201


def _run(jobs: Sequence[Job]) -> list[int | None]:
    fork = multiprocessing.get_context("fork")
    # Semaphores: of what is finer, a writer may be killed while it holds the lock.
    ready, go = fork.Semaphore(0), fork.Semaphore(0)
    writers = [fork.Process(target=_write, args=(job, ready, go)) for job in jobs]
    for writer in writers:
        writer.start()
    for _ in writers:
        assert ready.acquire(timeout=SECONDS), "a writer did not start"
    for _ in writers:
        go.release()
    start = time.monotonic()
    doomed = [(job.seconds, n) for n, job in enumerate(jobs) if job.seconds is not None]
    for seconds, n in sorted(doomed):
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        writers[n].kill()
    for writer in writers:
        writer.join()
    return [writer.exitcode for writer in writers]


def _write(job: Job, ready: Semaphore, go: Semaphore) -> None:
    signal.alarm(SECONDS)
    note = notes_in(job.ledger)
    number = OWN_NUMBER.get(vendor_of(job.using), "SELECT 0")
    note("connected", execute(job.using, number)[0][0])
    calls = KINDS[job.kind](job.sessions) if job.calls is None else iter(job.calls)
    with _progress_noted(job.using, note):
        _append(job.using, itertools.islice(calls, job.warm), note)
        ready.release()
        go.acquire()
        _append(job.using, calls, note)
    connections.close_all()


def _append(using: str, calls: Iterable[Call], note: Note) -> None:
    for call in calls:
        note("began", call)
        events = make(DatabaseSessionStore(using), call)
        note("done", [event.to_dict() for event in events])


def notes_in(path: str) -> Note:
    """Writes lines that are in the file when the call returns, whatever becomes of the process."""
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(tag: str, value: Any) -> None:
        os.write(ledger, json.dumps([tag, value]).encode() + b"\n")

    return note


@contextmanager
def _progress_noted(using: str, note: Note) -> Iterator[None]:
    """Note what becomes of each statement in a transaction, and when its commit begins."""
    connection: Any = connections[using]
    commit = connection.commit

    def run(execute: Callable[..., Any], *arguments: Any) -> Any:
        try:
            result = execute(*arguments)
        except DatabaseError as error:
            note("refused", type(error).__name__)
            raise
        if connection.in_atomic_block:
            note("inside", None)
        return result

    def noted_commit() -> None:
        note("commit", None)
        commit()

    connection.commit = noted_commit
    with connection.execute_wrapper(run):
        yield
