"""What the child processes of `test_restarts` do: they write to a session, or follow it.

The database is that of a server which is restarted meanwhile; its settings are the argument.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from django.core.management import call_command
from django.db import connections

from tests.standalone import SECONDS, arguments, configure, say

THREADS, TASKS = 5, 5  # that follow, in each process
PART = 10  # events that are stored before the writer says so


def write(count: int) -> None:
    """Make the tables and a session, and append so many events when told to."""
    from asm_store.backends.database import DatabaseSessionStore
    from asm_store.test import make_event, make_session

    call_command("migrate", "asm_store", verbosity=0)
    store = DatabaseSessionStore()
    session = store.save_session(make_session(status="active"))
    say(session.pk)
    sys.stdin.readline()
    for number in range(1, count + 1):
        store.append_event(make_event(session, data={"content": str(number)}))
        if number % PART == 0:
            say(number)
    store.update_session(session.pk, status="completed")


def follow(session_id: str) -> None:
    """Say when all wait, and in the end what each was given."""
    from asm_store.backends.database import DatabaseSessionStore
    from asm_store.waiting import hub_of

    store, hub = DatabaseSessionStore(), hub_of("default")
    assert hub is not None
    given: list[list[list[Any]]] = [[] for _ in range(THREADS + TASKS)]

    def in_thread(found: list[list[Any]]) -> None:
        for event in store.stream_events(session_id):
            found.append([event.sequence_number, event.data["content"]])
        connections.close_all()

    async def in_task(found: list[list[Any]]) -> None:
        async for event in store.astream_events(session_id):
            found.append([event.sequence_number, event.data["content"]])

    async def in_tasks() -> None:
        await asyncio.gather(*(in_task(found) for found in given[THREADS:]))

    threads = [threading.Thread(target=in_thread, args=(found,)) for found in given[:THREADS]]
    threads.append(threading.Thread(target=lambda: asyncio.run(in_tasks())))
    for thread in threads:
        thread.start()
    while not (hub.is_listening and hub.count == len(given)):
        threads[0].join(0.01)
    say("waiting")
    for thread in threads:
        thread.join(SECONDS)
    say({"given": given, "left": hub.count})


WORKS: dict[str, Callable[[Any], None]] = {"write": write, "follow": follow}

if __name__ == "__main__":
    work, argument, database = arguments()
    configure(database)
    WORKS[work](argument)
