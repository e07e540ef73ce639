"""Real failures, made on purpose: locks that others hold, connections that the server ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections, transaction

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_event
from tests.databases import vendor_of
from tests.threads import run_threads

SECONDS = 30
Verb = str | tuple[str, ...]  # how a statement begins
# A connection of this kind does not wait (SQLite) or hardly waits for another one's locks.
IMPATIENT = {
    "sqlite": "PRAGMA busy_timeout = 0",
    "postgresql": "SET lock_timeout = '10ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}
OWN_NUMBER = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
KILL = {"postgresql": "SELECT pg_terminate_backend(%s, 10000)", "mysql": "KILL %s"}


def driver(using: str) -> Any:
    """The module that the database's Python driver is."""
    wrapper: Any = connections[using]
    return wrapper.Database


def append(using: str, session: Session) -> Event:
    return DatabaseSessionStore(using).append_event_with_sequence(make_event(session))


def stored(using: str, session: Session) -> list[tuple[str, int]]:
    events = DatabaseSessionStore(using).get_events(session.pk)
    return [(event.pk, event.sequence_number) for event in events]


def execute(using: str, sql: str, *parameters: Any) -> Any:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else None


def lock(using: str, session: Session) -> None:
    """Write to a session's row within the current transaction."""
    rows = Session.objects.using(using).filter(pk=session.pk)
    rows.update(agent_id="somebody")


def kill_connection(using: str) -> None:
    """The server ends this thread's connection; another connection asks it to."""
    vendor = vendor_of(using)
    [[number]] = execute(using, OWN_NUMBER[vendor])
    run_threads([lambda: execute(using, KILL[vendor], number)])


@contextmanager
def killed_at(using: str, verb: Verb, table: str, *, after: bool = False) -> Iterator[list[str]]:
    """Kill the connection once, at the first such statement: before it, or after it.

    The list has every statement of that kind which was sent.
    """
    sent: list[str] = []

    def wrapper(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if not (sql.startswith(verb) and table in sql):
            return run(sql, *arguments)
        sent.append(sql)
        if len(sent) == 1 and not after:
            kill_connection(using)
        result = run(sql, *arguments)
        if len(sent) == 1 and after:
            kill_connection(using)
        return result

    with connections[using].execute_wrapper(wrapper):
        yield sent


class Contest:
    """A thread holds a session's row until another, which does not wait, was refused so often."""

    def __init__(self, using: str, session: Session, refusals: int = 1) -> None:
        self.using, self.session, self.refusals = using, session, refusals
        self.held, self.release = threading.Event(), threading.Event()
        self.refused: list[str] = []

    def hold(self) -> None:
        with transaction.atomic(using=self.using):
            lock(self.using, self.session)
            self.held.set()
            assert self.release.wait(SECONDS), "nobody was refused"

    def impatiently(self, write: Callable[[], Any]) -> Any:
        execute(self.using, IMPATIENT[vendor_of(self.using)])
        assert self.held.wait(SECONDS), "nobody held the lock"
        try:
            with connections[self.using].execute_wrapper(self._notice):
                return write()
        finally:
            self.release.set()

    def _notice(self, run: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return run(*arguments)
        except OperationalError as error:
            self.refused.append(str(error))
            if len(self.refused) == self.refusals:
                self.release.set()
            raise

    def run(self, write: Callable[[], Any]) -> Any:
        return run_threads([self.hold, lambda: self.impatiently(write)])[1]
