"""Writers: many small events of one session, appended in batches while they come."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Protocol, Self

from asgiref.sync import sync_to_async
from django.db import connections

from ..models import Event
from .buffering import Buffer


class _Appender(Protocol):
    """What a writer needs of its store."""

    def _append(self, events: list[Event], expected_sequence: int | None) -> list[Event]: ...

    def _is_in_block(self) -> bool: ...


class EventWriter:
    """Made by `BaseSessionStore.writer()`; threads may share it."""

    def __init__(self, store: _Appender, buffer: Buffer) -> None:
        self._store = store
        self._buffer = buffer
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # Whether the latest write was in a caller's block: what it wrote belongs to that block.
        self._held = False

    def __enter__(self) -> Self:
        self._buffer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._buffer.is_open = False
            self._changed.notify_all()
        try:
            if self._thread is not None and not self._store._is_in_block():
                self._thread.join()
        finally:
            self.flush()

    def write(self, event: Event) -> None:
        """Take `event`: it is stored with the next batch. Blocks while too much is not stored.

        The event is checked and copied now. Raises `ValidationError` for what cannot be stored,
        or for another session's event; the event is not taken then. Raises the error of an
        earlier batch that could not be stored, once; its `unwritten_events` are all that is not
        stored, this event too, in order: they are the caller's again, to be appended later, say.
        """
        record = self._buffer.checked(event)
        in_block = self._store._is_in_block()
        with self._changed:
            if not in_block:
                self._changed.wait_for(lambda: not self._buffer.is_full)
            self._held = in_block
            if self._buffer.add(record) and not in_block:
                self._start()
                self._changed.notify_all()
        if in_block and self._buffer.is_due:
            self.flush()

    def flush(self) -> None:
        """Store what was written, and return when it is; raises as `write()` does."""
        # In a block this thread may hold the lock that the other thread's append waits for. So
        # it appends what that one has taken as well, and whoever is later finds it stored.
        in_block = self._store._is_in_block()
        with self._changed:
            if not in_block:
                self._changed.wait_for(lambda: not self._buffer.taken)
            self._buffer.raise_failure()
            batch = self._buffer.take()
        self._store_batch(batch)
        with self._changed:
            self._buffer.raise_failure()

    def _start(self) -> None:
        if self._thread is None:
            run = copy_context().run
            self._thread = threading.Thread(
                target=run, args=(self._work,), name="asm_store.writer", daemon=True
            )
            self._thread.start()

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._store_batch(batch)
        finally:
            connections.close_all()  # this thread's own

    def _next_batch(self) -> list[Event]:
        """The batch that is due; empty when the writer is closed."""
        with self._changed:
            while self._buffer.is_open:
                left = math.inf if self._held else self._buffer.seconds_left()
                if left == 0:
                    return self._buffer.take()
                self._changed.wait(None if left == math.inf else left)
        return []

    def _store_batch(self, batch: list[Event]) -> None:
        failure: BaseException | None = None
        try:
            if batch:
                self._store._append(batch, None)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            with self._changed:
                self._buffer.settle(batch, failure)
                self._changed.notify_all()


class AsyncEventWriter:
    """Made by `BaseSessionStore.awriter()`; tasks of one event loop may share it.

    It appends in the thread that Django's ORM runs in, and so in the block of an async test.
    """

    def __init__(self, store: _Appender, buffer: Buffer) -> None:
        self._store = store
        self._buffer = buffer
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._buffer.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._buffer.is_open = False
        try:
            async with self._changed:
                self._changed.notify_all()
            if self._task is not None:
                await asyncio.wait([self._task])
        finally:
            await self.flush()

    async def write(self, event: Event) -> None:
        """As `EventWriter.write()`; it is this task only that waits."""
        record = self._buffer.checked(event)
        async with self._changed:
            await self._changed.wait_for(lambda: not self._buffer.is_full)
            if self._buffer.add(record):
                self._task = self._task or asyncio.create_task(self._work())
                self._changed.notify_all()

    async def flush(self) -> None:
        """Store what was written, and return when it is; raises as `write()` does."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._buffer.taken)
            self._buffer.raise_failure()
            batch = self._buffer.take()
        await self._store_batch(batch)
        self._buffer.raise_failure()

    async def _work(self) -> None:
        while batch := await self._next_batch():
            await self._store_batch(batch)

    async def _next_batch(self) -> list[Event]:
        """The batch that is due; empty when the writer is closed."""
        async with self._changed:
            while self._buffer.is_open:
                left = self._buffer.seconds_left()
                if left == 0:
                    return self._buffer.take()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if left == math.inf else left):
                        await self._changed.wait()
        return []

    async def _store_batch(self, batch: list[Event]) -> None:
        failure: BaseException | None = None
        try:
            if batch:
                await sync_to_async(self._store._append)(batch, None)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._buffer.settle(batch, failure)
            async with self._changed:
                self._changed.notify_all()
