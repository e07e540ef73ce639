"""Appends that a server, an operator or a signal ends: stored once in the end, or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from asm_store import signals
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import EventConflict, StorageError
from asm_store.models import Event, Session
from asm_store.test import make_event, make_run, make_session
from tests.cases import only_on
from tests.databases import vendor_of
from tests.failures import OWN_NUMBER, SECONDS, driver, execute, stored
from tests.threads import run_threads
from tests.waiting.waiters import until

Act = Callable[[str, int], Any]

# How a statement that waits is ended, by its server or by an operator.
TIMEOUT = {
    "postgresql": "SET statement_timeout = '100ms'",
    "mysql": "SET SESSION max_statement_time = 0.1",
}
CANCEL = {"postgresql": "SELECT pg_cancel_backend(%s)", "mysql": "KILL QUERY %s"}
WAITING = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
    "mysql": (
        "SELECT 1 FROM information_schema.innodb_trx"
        " WHERE trx_mysql_thread_id = %s AND trx_state = 'LOCK WAIT'"
    ),
}


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


@pytest.fixture
def events(session: Session) -> list[Event]:
    return [make_event(session) for _ in range(3)]


@pytest.fixture(params=["one", "batch", "flush"])
def given(request: pytest.FixtureRequest, session: Session, events: list[Event]) -> list[Event]:
    """What is appended in one call: on PostgreSQL one statement, or two, of which one is a COPY.

    What is flushed has a run that is not stored yet.
    """
    if request.param == "flush":
        run = make_run(session)
        return [make_event(session, run_id=run.pk) for _ in range(3)]
    return events[:1] if request.param == "one" else events


def append(using: str, events: list[Event]) -> list[Event]:
    store, first = DatabaseSessionStore(using), events[0]
    if first.run_id is not None:
        session = store.get_session(first.session_id)
        return store.flush(session, make_run(session, id=first.run_id), events)
    if len(events) == 1:
        return [store.append_event_with_sequence(events[0])]
    return store.append_events(events)


def numbered(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.pk, number) for number, event in enumerate(events, 1)]


def own_number(using: str) -> int:
    [[number]] = execute(using, OWN_NUMBER[vendor_of(using)])
    return int(number)


def await_wait(using: str, number: int) -> None:
    until(partial(_waits, using, number), "it waits for a lock")


def _waits(using: str, number: int) -> bool:
    if vendor_of(using) == "mysql":
        # InnoDB makes that table anew when nobody has read it for a tenth of a second.
        execute(using, "DO SLEEP(0.12)")
    return bool(execute(using, WAITING[vendor_of(using)], number))


def cancel(using: str, number: int) -> None:
    execute(using, CANCEL[vendor_of(using)], number)


class Rival:
    """Another transaction, which has what the append needs until that has ended."""

    def __init__(self, using: str, hold: Callable[[], Any], *, commits: bool = False) -> None:
        self.using, self.hold, self.commits = using, hold, commits
        self.has_it, self.is_over = threading.Event(), threading.Event()

    def work(self) -> None:
        with transaction.atomic(using=self.using):
            self.hold()
            self.has_it.set()
            assert self.is_over.wait(SECONDS), "the append has not ended"
            transaction.set_rollback(not self.commits, using=self.using)

    def run(self, call: Callable[[], Any], act: Act | None = None, before: str = "") -> Any:
        """What the call gives or raises; while it waits, `act` is done with its connection."""
        numbers: list[int] = []

        def meanwhile() -> None:
            if act is not None:
                number = until(lambda: numbers, "the append has a connection")[0]
                await_wait(self.using, number)
                act(self.using, number)

        def called() -> Any:
            assert self.has_it.wait(SECONDS)
            if before:
                execute(self.using, before)
            numbers.append(own_number(self.using))
            try:
                return call()
            finally:
                self.is_over.set()

        return run_threads([called, meanwhile, self.work])[0]


def counter(using: str, session: Session) -> Callable[[], Any]:
    """The lock under which a session's events get their numbers."""
    touch = "UPDATE asm_session_sequences SET last_sequence = last_sequence WHERE session_id = %s"
    return partial(execute, using, touch, session.pk)


def same_id(using: str, event: Event) -> Callable[[], Any]:
    """An event that is stored in another session, and not committed."""
    other = DatabaseSessionStore(using).save_session(make_session())
    return partial(DatabaseSessionStore(using).append_event, make_event(other, id=event.pk))


def holds(using: str, session: Session, given: list[Event]) -> list[Callable[[], Any]]:
    return [counter(using, session), same_id(using, given[-1])]


@pytest.mark.parametrize("which", [0, 1], ids=["at the counter", "at the insert"])
class TestAStatementIsEnded:
    """It is told, and not tried again: who has ended it may not want it."""

    def check(
        self, using: str, session: Session, given: list[Event], run: Callable[[], Any]
    ) -> None:
        with pytest.raises(StorageError) as caught:
            run()
        assert isinstance(caught.value.__cause__, driver(using).Error)
        assert stored(using, session) == []
        append(using, given)
        assert stored(using, session) == numbered(given)

    def test_by_its_timeout(
        self, server: str, session: Session, given: list[Event], which: int
    ) -> None:
        rival = Rival(server, holds(server, session, given)[which])
        call, before = partial(append, server, given), TIMEOUT[vendor_of(server)]
        self.check(server, session, given, partial(rival.run, call, before=before))

    def test_by_an_operator(
        self, server: str, session: Session, given: list[Event], which: int
    ) -> None:
        rival = Rival(server, holds(server, session, given)[which])
        call = partial(append, server, given)
        self.check(server, session, given, partial(rival.run, call, cancel))


@contextmanager
def told(receive: Callable[[str], Any]) -> Iterator[None]:
    """Of each attempt that is made again."""

    def received(*, failure: str, **_: Any) -> None:
        receive(failure)

    signals.retrying.connect(received)
    yield
    signals.retrying.disconnect(received)


@only_on("postgresql")
def test_a_wait_that_is_lost_at_the_insert_is_made_again(
    using: str, session: Session, given: list[Event]
) -> None:
    rival = Rival(using, same_id(using, given[-1]))

    def refused(failure: str) -> None:
        assert failure == "busy"
        rival.is_over.set()

    with told(refused):
        rival.run(partial(append, using, given), before="SET lock_timeout = '100ms'")
    assert stored(using, session) == numbered(given)


def test_an_id_that_another_session_gets_meanwhile(
    server: str, session: Session, given: list[Event]
) -> None:
    rival = Rival(server, same_id(server, given[-1]), commits=True)

    def let_go(using: str, number: int) -> None:
        rival.is_over.set()

    with pytest.raises(EventConflict):
        rival.run(partial(append, server, given), let_go)
    assert stored(server, session) == []
    assert append(server, [make_event(session)])[0].sequence_number == 1


class TimeIsUp(Exception):
    """As a worker's time limit is raised, by the handler of a signal."""


@only_on("postgresql")
def test_a_signal_ends_the_wait(using: str, session: Session, given: list[Event]) -> None:
    """The server may go on with the statement: who appends again finds it, or makes it."""
    rival = Rival(using, counter(using, session))
    number, main = own_number(using), threading.get_ident()

    def interrupt() -> None:
        await_wait(using, number)
        signal.pthread_kill(main, signal.SIGUSR1)

    def handle(*_: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, handle)
    others = threading.Thread(target=run_threads, args=([rival.work, interrupt],))
    others.start()
    assert rival.has_it.wait(SECONDS)
    with pytest.raises(TimeIsUp):
        append(using, given)
    rival.is_over.set()
    others.join(SECONDS)
    signal.signal(signal.SIGUSR1, before)

    append(using, given)
    assert stored(using, session) == numbered(given)
