"""What each operation costs, counted where the database answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run, Session
from asm_store.test.factories import make_event, make_run, make_session

# Round trips with BEGIN and COMMIT: exactly so many. MySQL's driver sends two more, SET autocommit
# before and after, instead of BEGIN; SQLite has no round trips, but statements, one for each event,
# and one more to take the lock where Django's BEGIN does not.
#                          SQLite  PostgreSQL  MySQL
ROUND_TRIPS = {
    "one event":          (     4,          1,     8),
    "one event of a run": (     4,          1,     9),
    "a hundred events":   (   103,          4,     9),
    "a new flush":        (    60,          4,    15),
    "a later flush":      (    58,          4,    15),
    "reading events":     (     1,          1,     1),
    "a followed session": (     2,          2,     2),
    "fifty lines":        (     2,          2,     2),
    "the latest number":  (     1,          1,     1),
}  # fmt: skip
# In a transaction that Django begins.
BEGUN = ("a hundred events", "a new flush", "a later flush")
VENDORS = ("sqlite", "postgresql", "mysql")

Count = Callable[[], int]


class CountingProxy:
    """Stands between one client and a PostgreSQL server; counts what the server has answered.

    `ReadyForQuery` ends the answer to each simple query and to each Sync of the extended protocol:
    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """

    def __init__(self, host: str, port: int) -> None:
        self.answers = 0
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)  # for a client that never comes
        self._thread = threading.Thread(target=self._serve)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @contextmanager
    def running(self) -> Iterator[None]:
        """On leaving it waits until its client has gone."""
        self._thread.start()
        try:
            yield
        finally:
            self._thread.join()

    def _serve(self) -> None:
        with (
            self._listener,
            self._listener.accept()[0] as client,
            socket.create_connection(self._server) as server,
        ):
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            questions = threading.Thread(target=self._pass_questions, args=(client, server))
            questions.start()
            self._pass_answers(server, client)
            questions.join()

    def _pass_questions(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65_536):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with server.makefile("rb") as stream:
            while head := stream.read(5):
                body = stream.read(int.from_bytes(head[1:]) - 4)
                # Before it is sent, so that whoever has the answer sees it counted.
                self.answers += head[:1] == b"Z"
                client.sendall(head + body)


@contextmanager
def _postgresql_counter(connection: BaseDatabaseWrapper) -> Iterator[Count]:
    direct = connection.settings_dict
    proxy = CountingProxy(direct["HOST"], int(direct["PORT"]))
    # In clear text, to be read on the way.
    options = {**direct["OPTIONS"], "sslmode": "disable", "gssencmode": "disable"}
    proxied = {**direct, "HOST": "127.0.0.1", "PORT": proxy.port, "OPTIONS": options}
    with ExitStack() as undo:
        undo.enter_context(proxy.running())
        undo.callback(connection.close)
        undo.callback(setattr, connection, "settings_dict", direct)
        connection.close()
        connection.settings_dict = proxied
        connection.connect()
        yield lambda: proxy.answers


@contextmanager
def _mysql_counter(connection: BaseDatabaseWrapper) -> Iterator[Count]:
    asked = 0

    def count() -> int:
        """What the server counts for this connection, without the questions after that."""
        nonlocal asked
        asked += 1
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1]) - asked

    yield count


@contextmanager
def _sqlite_counter(connection: BaseDatabaseWrapper) -> Iterator[Count]:
    statements: list[str] = []
    connection.ensure_connection()
    connection.connection.set_trace_callback(statements.append)
    yield lambda: len(statements)
    connection.connection.set_trace_callback(None)


_COUNTERS: dict[str, Callable[[BaseDatabaseWrapper], AbstractContextManager[Count]]] = {
    "sqlite": _sqlite_counter,
    "postgresql": _postgresql_counter,
    "mysql": _mysql_counter,
}


@pytest.fixture
def count(using: str) -> Iterator[Count]:
    """How many round trips this connection has made until now."""
    connection = connections[using]
    with _COUNTERS[connection.vendor](connection) as counter:
        yield counter


def spent(count: Count, action: Callable[[], Any]) -> int:
    before = count()
    action()
    return count() - before


class Work:
    """The operations, each as often as one likes, on one session with one run."""

    def __init__(self, using: str) -> None:
        self.store = DatabaseSessionStore(using)
        self.session, self.run = self.new()
        self.flush(self.session, self.run)
        self.actions: dict[str, Callable[[], Any]] = {
            "one event": lambda: self.store.append_event(make_event(self.session)),
            "one event of a run": lambda: self.store.append_event(self.event()),
            "a hundred events": lambda: self.store.append_events(self.events(100)),
            "a new flush": lambda: self.flush(*self.new()),
            "a later flush": lambda: self.flush(self.session, self.run),
            "reading events": lambda: self.store.get_events(self.session.pk, limit=50),
            "a followed session": lambda: list(
                self.store.stream_events(self.session.pk, idle_timeout=0)
            ),
            "fifty lines": lambda: list(self.store.iter_events_json(self.session.pk, limit=50)),
            "the latest number": lambda: self.store.get_latest_sequence(self.session.pk),
        }

    def new(self) -> tuple[Session, Run]:
        session = make_session()
        return session, make_run(session)

    def event(self) -> Event:
        return make_event(self.session, run_id=self.run.pk)

    def events(self, number: int) -> list[Event]:
        return [self.event() for _ in range(number)]

    def flush(self, session: Session, run: Run) -> None:
        events = [make_event(session, run_id=run.pk) for _ in range(50)]
        self.store.flush(session, run, events)


@pytest.mark.parametrize("operation", ROUND_TRIPS)
def test_round_trips(using: str, count: Count, operation: str) -> None:
    action = Work(using).actions[operation]
    action()  # what is prepared once, is prepared now
    expected = ROUND_TRIPS[operation][VENDORS.index(connections[using].vendor)]
    if operation in BEGUN and getattr(connections[using], "transaction_mode", "") is None:
        expected += 1
    assert spent(count, action) == expected


def test_the_counter_counts_every_statement_and_the_transaction(using: str, count: Count) -> None:
    def one() -> None:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT 1")

    def two_in_a_transaction() -> None:
        with transaction.atomic(using=using):
            one()
            one()

    def seven() -> None:
        for _ in range(7):
            one()

    one()
    around = 3 if connections[using].vendor == "mysql" else 2
    assert spent(count, one) == 1
    assert spent(count, seven) == 7
    assert spent(count, two_in_a_transaction) == 2 + around
