"""Connections, counted where they arrive: on the server, by another connection; of an SQLite file,
by the file descriptors of this process. And work that needs some.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.test import make_event
from tests.databases import vendor_of

SECONDS = 30
READS = 9
_DESCRIPTORS = Path("/proc/self/fd")
_OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    # Those for notifications are the process's own, and counted in tests/waiting.
    " AND application_name NOT LIKE 'asm_store %%'",
    "mysql": "SELECT id FROM information_schema.processlist"
    " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


@contextmanager
def pool(using: str, *, checked: bool = False, **options: Any) -> Iterator[None]:
    """The connections of the alias come from a pool."""
    wrapper: Any = connections[using]
    wrapper.close()
    settings = wrapper.settings_dict
    before = {**settings}
    settings["OPTIONS"] = {**settings["OPTIONS"], "pool": options}
    settings["CONN_HEALTH_CHECKS"] = checked
    try:
        yield
    finally:
        wrapper.close()
        wrapper.close_pool()
        settings.update(before)


class NewConnections:
    """The connections to a database that were not there when this was made."""

    def __init__(self, using: str) -> None:
        self.using = using
        # Not the calling thread's own one, which has the settings of the moment.
        self._connection = connections[using].copy()
        self._connection.inc_thread_sharing()
        self._observer = ThreadPoolExecutor(1)
        self._before = self._all()

    def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """In a thread of its own, so that it can be called in an event loop."""
        return self._observer.submit(self._execute, sql, parameters).result()

    def _execute(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def _all(self) -> set[Any]:
        vendor = vendor_of(self.using)
        if vendor != "sqlite":
            return {number for [number] in self.execute(_OTHERS[vendor])}
        name = self._connection.settings_dict["NAME"]
        return {link.name for link in _DESCRIPTORS.iterdir() if _target(link) == name}

    def now(self) -> set[Any]:
        return self._all() - self._before

    def wait_for(self, count: int) -> set[Any]:
        """They, when there are so many: servers forget a closed one a moment later."""
        deadline = time.monotonic() + SECONDS
        with without_garbage_collection():
            while len(found := self.now()) != count:
                assert time.monotonic() < deadline, f"{len(found)} connections, not {count}"
                time.sleep(0.005)
        return found

    def close(self) -> None:
        self._observer.submit(self._connection.close).result()
        self._observer.shutdown()


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the one that lists the folder is gone by now
        return ""


@contextmanager
def new_connections(using: str) -> Iterator[NewConnections]:
    """Begins to count; the calling thread's own connection does not count, and is closed."""
    if vendor_of(using) == "sqlite" and not _DESCRIPTORS.exists():
        pytest.skip(f"connections to SQLite are counted in {_DESCRIPTORS}")
    # While one is open, SQLite keeps the descriptors of closed connections for new ones.
    connections[using].close()
    new = NewConnections(using)
    try:
        yield new
    finally:
        new.close()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """So that a connection which nobody closes stays."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def ten_calls(using: str, session_id: str) -> None:
    store = DatabaseSessionStore(using)
    store.append_event(make_event(session_id))
    for _ in range(READS):
        store.get_latest_sequence(session_id)


async def aten_calls(using: str, session_id: str) -> None:
    store = DatabaseSessionStore(using)
    await store.aappend_event(make_event(session_id))
    await asyncio.gather(*(store.aget_latest_sequence(session_id) for _ in range(READS)))


def run_in_a_thread(work: Callable[..., None], *arguments: Any) -> None:
    """In one that closes nothing at its end."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()
