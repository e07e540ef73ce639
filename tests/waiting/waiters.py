"""Readers that wait, in threads and tasks, and what the server and the hub know of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.waiting import hub_of, telling
from asm_store.waiting.hub import NAME as LISTENER
from asm_store.waiting.hub import Hub
from asm_store.waiting.sending import NAME as SENDER
from tests.failures import append, execute

T = TypeVar("T")
SECONDS = 30


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition()` gives when that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in {SECONDS} s it did not happen: {what}"
        time.sleep(0.005)
    return found


def hub_of_tests(using: str) -> Hub:
    hub = hub_of(using)
    assert hub is not None
    return hub


def processes(using: str, name: str) -> list[int]:
    """The server's processes for connections of this name."""
    found = execute(
        using,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = %s ORDER BY pid",
        name,
    )
    return [pid for [pid] in found]


def end_connections(using: str, name: str) -> int:
    """The server ends them; how many there were."""
    found = processes(using, name)
    for pid in found:
        execute(using, "SELECT pg_terminate_backend(%s, 10000)", pid)
    return len(found)


class Follower:
    """A thread that follows a session; what it was given, as it comes."""

    def __init__(self, using: str, session: Session, **options: Any) -> None:
        self.numbers: list[int] = []
        self.error: BaseException | None = None
        self._stream = DatabaseSessionStore(using).stream_events(session.pk, **options)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._stream:
                self.numbers.append(event.sequence_number)
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def wait_for(self, numbers: list[int]) -> None:
        until(lambda: self.numbers == numbers or self.error, f"{numbers}, but {self.numbers}")
        assert self.error is None

    def wait_for_end(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        assert self.error is None


def run(main: Coroutine[Any, Any, T]) -> T:
    """In an event loop of its own, whose database connections are closed in the end."""

    async def run_and_close() -> T:
        try:
            return await main
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run_and_close())


@contextmanager
def listening(hub: Hub, count: int = 1) -> Iterator[None]:
    """The hub hears, and so many wait on it; nobody does in the end."""
    until(lambda: hub.is_listening and hub.count == count, "the hub listens")
    yield
    until(lambda: hub.count == 0, "nobody waits any more")


def complete(using: str, session: Session) -> None:
    DatabaseSessionStore(using).update_session(session.pk, status="completed")


def append_followed(using: str, session: Session, follower: Follower, count: int = 1) -> None:
    """So many events, one after the other, each when the follower has the one before."""
    for number in range(len(follower.numbers) + 1, len(follower.numbers) + count + 1):
        append(using, session)
        follower.wait_for([*range(1, number + 1)])


def end_connection_and_complete(
    using: str, name: str, session: Session, follower: Follower
) -> None:
    """The server ends the connection of that name; what comes then is followed all the same."""
    assert end_connections(using, name) == 1
    append_followed(using, session, follower)
    complete(using, session)


def sender_of(using: str) -> Any:
    return telling._senders[using]


__all__ = [
    "LISTENER", "SECONDS", "SENDER", "Follower", "append_followed", "complete",
    "end_connection_and_complete", "end_connections", "hub_of_tests", "listening", "processes",
    "run", "sender_of", "until",
]  # fmt: skip
