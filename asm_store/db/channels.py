"""PostgreSQL's notifications, over connections of their own beside Django's; psycopg 3 only.

Statements are sent and answers taken by libpq's asynchronous calls, so that each has a bound: a
server that is gone without a word would hold a blocking call for ever.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

CHANNEL = b"asm_store"
# Seconds that a server may take to answer what costs it next to nothing.
PATIENCE = 10.0
# Seconds between two looks whether a statement is on its way.
STEP = 0.05
# What finds a peer that is gone, unless OPTIONS of the database say otherwise (seconds; the last
# one milliseconds): https://www.postgresql.org/docs/current/libpq-connect.html
WATCHFUL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# The commit of a NOTIFY waits for the disk like any other; there is nothing in it to keep. It ends
# with the statement's transaction, so that a pooler's connection is given back as it was.
LOCALLY = b"SELECT set_config('synchronous_commit', 'off', true), "
NOTIFY = LOCALLY + b"pg_notify($1, $2)"
NOTIFY_MANY = LOCALLY + b"(SELECT count(pg_notify($1, payload)) FROM unnest($2::text[]) AS payload)"


class ChannelError(Exception):
    """The connection cannot be used any more; the text says why."""


class Channel:
    """One connection, of one thread, that sends notifications or hears them."""

    def __init__(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """Connect as Django would, but never from its pool; `name` is shown by the server."""
        from psycopg import connect
        from psycopg.pq import ExecStatus

        parameters = {**WATCHFUL, "application_name": name, **connection.get_connection_params()}
        self._connection: Any = connect(**{**parameters, "autocommit": True})
        self._libpq: Any = self._connection.pgconn
        self._good = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._libpq.socket, selectors.EVENT_READ)
        self._unanswered_since: float | None = None

    def close(self) -> None:
        self._selector.close()
        self._connection.close()

    def is_direct(self) -> bool:
        """Whether the session is the client's own; a pooler's process has another number."""
        pid = int(self._execute(b"SELECT pg_backend_pid()"))
        return pid == int(self._connection.info.backend_pid)

    def listen(self) -> None:
        self._execute(b"LISTEN " + CHANNEL)

    def notify(self, payloads: Sequence[str]) -> None:
        """Send them all in one statement, and wait until the server has it; each may be short of
        8,000 bytes. Without any it waits for the answer to what was sent before."""
        end = time.monotonic() + PATIENCE
        while not self.has_answered():
            self._select(end)
        if payloads:
            self._send_notify(payloads)
            self._answered(end)

    def send(self, payloads: Sequence[str]) -> None:
        """As `notify()`, without waiting for anything; `has_answered()` must be true before."""
        self._unanswered_since = time.monotonic()
        self._send_notify(payloads)
        self._libpq.flush()

    def has_answered(self) -> bool:
        """Whether nothing that was sent is without an answer; raises if that was an error, or if
        the server has ended the connection."""
        self._libpq.flush()
        self._libpq.consume_input()
        self._take_answers()
        return self._unanswered_since is None

    def _send_notify(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:  # costs the server half as much
            self._libpq.send_query_params(NOTIFY, [CHANNEL, payloads[0].encode()])
            return
        quoted = (payload.replace("\\", "\\\\").replace('"', '\\"') for payload in payloads)
        array = "{" + ",".join(f'"{payload}"' for payload in quoted) + "}"
        self._libpq.send_query_params(NOTIFY_MANY, [CHANNEL, array.encode()])

    def hear(self, seconds: float) -> list[str]:
        """The payloads of the notifications that are there, or come within so many seconds."""
        if not (heard := self._heard()):
            self._selector.select(seconds)
            # Also after the time is over: TLS may have read more than it gave, unseen by select.
            self._libpq.consume_input()
            heard = self._heard()
        self._take_answers()
        return heard

    def ask_for_a_sign(self) -> None:
        """`hear()` raises when the server has not answered this in time."""
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()
            self._libpq.send_query(b"SELECT 1")

    def _heard(self) -> list[str]:
        found = []
        while (notification := self._libpq.notifies()) is not None:
            found.append(notification.extra.decode(errors="replace"))
        return found

    def _take_answers(self) -> None:
        since = self._unanswered_since
        if since is None:
            return
        while not self._libpq.is_busy():
            if (result := self._libpq.get_result()) is None:
                self._unanswered_since = None
                return
            self._check(result)
        if time.monotonic() - since > PATIENCE:
            raise ChannelError("the server does not answer.")

    def _execute(self, sql: bytes) -> bytes:
        """The last value of the first row, as text; empty when there is none."""
        self._libpq.send_query(sql)
        return self._answered(time.monotonic() + PATIENCE)

    def _answered(self, end: float) -> bytes:
        value = b""
        while (result := self._result(end)) is not None:
            self._check(result)
            if result.ntuples:
                value = result.get_value(0, result.nfields - 1) or b""
        return value

    def _result(self, end: float) -> Any:
        """The next result, None after the last one."""
        while self._libpq.flush() or self._libpq.is_busy():
            self._select(end)
            self._libpq.consume_input()
        return self._libpq.get_result()

    def _select(self, end: float) -> None:
        if not self._selector.select(STEP) and time.monotonic() > end:
            raise ChannelError("the server does not answer.")

    def _check(self, result: Any) -> None:
        if result.status not in self._good:
            raise ChannelError((result.error_message or b"").decode(errors="replace").strip())
