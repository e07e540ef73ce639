"""Writers: many small events of one session, appended in batches while they come."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from asgiref.sync import sync_to_async
from django.db import connections

from ..exceptions import ValidationError
from ..models import Event
from .buffering import Buffer
from .measuring import measured


class _Appender(Protocol):
    """What a writer needs of its store."""

    def _append(self, events: list[Event], expected_sequence: int | None) -> list[Event]: ...

    def _is_in_block(self) -> bool: ...


def _append(store: _Appender, batch: list[Event]) -> None:
    measured(store, len(batch), partial(store._append, batch, None))


class EventWriter:
    """Made by `BaseSessionStore.writer()`; threads may share it.

    Outside of the caller's transactions a thread of its own stores the batches that are due. A
    writer that is opened in one has no thread: it stores in the thread that writes.
    """

    def __init__(self, store: _Appender, buffer: Buffer) -> None:
        self._store = store
        self._append = partial(_append, store)
        self._buffer = buffer
        self._changed = threading.Condition(buffer.lock)
        self._thread: threading.Thread | None = None
        self._in_block = False

    def __enter__(self) -> Self:
        self._buffer.open()
        self._in_block = self._store._is_in_block()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._buffer.lock:
            self._buffer.is_open = False
            self._changed.notify_all()
        # In a block that was begun later, this thread may hold the very lock that the other waits
        # for: whoever is second finds the events stored.
        alone = self._in_block or not self._store._is_in_block()
        try:
            if self._thread is not None and alone:
                self._thread.join()
        finally:
            self._buffer.store(self._append, raising=True, alone=alone)

    def write(self, event: Event) -> None:
        """Take `event`: it is stored with the next batch. Blocks while too much is not stored.

        The event is checked and copied now. Raises `ValidationError` for what cannot be stored,
        for another session's event, and where the writer was opened in a transaction and this is
        another one or none, or the other way round; the event is not taken then. Raises the
        error of a batch that could not be stored, once, to whoever comes next; its
        `unwritten_events` are all that is not stored, this event too, in order: they are the
        caller's again, to be appended later, say.
        """
        record = self._buffer.checked(event)
        self._check_block()
        # Not `with self._changed`: Ctrl-C may come when that has the lock and is not entered.
        with self._buffer.lock:
            if not self._in_block:
                self._start()
            if self._buffer.add(record):
                self._changed.notify_all()
        is_due = self._buffer.seconds_left() == 0
        if self._buffer.is_full or (self._in_block and is_due):
            self.flush()

    def flush(self) -> None:
        """Store what was written, and return when it is; raises as `write()` does."""
        self._check_block()
        self._buffer.store(self._append, raising=True)

    def _check_block(self) -> None:
        # One that is written to in and out of a block could not say what a rollback undoes.
        if self._store._is_in_block() != self._in_block:
            raise ValidationError(
                "the writer was opened outside of this atomic() block: open it inside."
                if not self._in_block
                else "the writer was opened inside an atomic() block: write to it there."
            )

    def _start(self) -> None:
        """Also anew, in the child of a fork."""
        if self._thread is not None and self._thread.is_alive():
            return
        run = copy_context().run
        thread = threading.Thread(target=run, args=(self._work,), daemon=True)
        thread.name = "asm_store.writer"
        thread.start()
        self._thread = thread

    def _work(self) -> None:
        try:
            while self._wait_until_due():
                self._buffer.store(self._append, raising=False)
        finally:
            connections.close_all()  # this thread's own

    def _wait_until_due(self) -> bool:
        """False when the writer is closed: who closed it stores the rest."""
        with self._buffer.lock:
            while self._buffer.is_open:
                if (left := self._buffer.seconds_left()) == 0:
                    return True
                self._changed.wait(None if left == math.inf else left)
        return False


class AsyncEventWriter:
    """Made by `BaseSessionStore.awriter()`; tasks of one event loop may share it.

    A task of its own stores the batches that are due, in the thread that Django's ORM runs in,
    and so in the block of an async test.
    """

    def __init__(self, store: _Appender, buffer: Buffer) -> None:
        self._store = store
        self._append = partial(_append, store)
        self._buffer = buffer
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._context = Context()

    async def __aenter__(self) -> Self:
        self._buffer.open()
        # Not that of the first write, which may be within an async_to_sync() that ends.
        self._context = copy_context()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._buffer.is_open = False
        self._news.set()
        interrupted: asyncio.CancelledError | None = None
        # In a task that a second cancellation of this one does not end.
        closing = asyncio.create_task(self._close())
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
            if closing.done() and closing.cancelled():  # as asyncio.run() cancels every task
                closing = asyncio.create_task(self._close())
        closing.result()
        if interrupted is not None:
            raise interrupted

    async def _close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._store_all(raising=True)

    async def write(self, event: Event) -> None:
        """As `EventWriter.write()`; it is this task only that waits."""
        record = self._buffer.checked(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), context=self._context)
        if self._buffer.add(record):
            self._news.set()
        if self._buffer.is_full:
            await self.flush()

    async def flush(self) -> None:
        """Store what was written, and return when it is; raises as `write()` does."""
        await self._store_all(raising=True)

    async def _work(self) -> None:
        while self._buffer.is_open:
            left = self._buffer.seconds_left()
            if left == 0:
                await self._store_all(raising=False)
                continue
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._news.wait()

    async def _store_all(self, *, raising: bool) -> None:
        # What there is, is taken in that thread: it serves one after the other, and the second
        # finds nothing left to store.
        await sync_to_async(self._buffer.store)(self._append, raising=raising)
