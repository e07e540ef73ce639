"""However a reader ends, the hub forgets it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.waiting.hub import Hub
from tests.failures import append
from tests.waiting.waiters import LISTENER, processes, run, until

IDLE = 0.05  # seconds after which a reader in these tests ends by itself


def exhausted(stream: Iterator[Event]) -> None:
    assert list(stream) == []


def closed(stream: Iterator[Event]) -> None:
    stream.close()  # type: ignore[attr-defined]


def failed(stream: Iterator[Event]) -> None:
    with pytest.raises(KeyError):
        stream.throw(KeyError("x"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", [exhausted, closed, failed, None])
def test_a_thread(
    told: str, session: Session, hub: Hub, end: Callable[[Iterator[Event]], None] | None
) -> None:
    store = DatabaseSessionStore(told)
    append(told, session)
    stream = store.stream_events(session.pk, after=0)
    assert next(stream).sequence_number == 1
    # It joins at its first pause, which a look of its own ends.
    get_progress, looks = store._get_progress, []

    def look(session_id: str) -> object:
        looks.append(hub.count)
        if len(looks) == 1:
            append(told, session)
        return get_progress(session_id)

    store._get_progress = look  # type: ignore[method-assign,assignment]
    assert next(stream).sequence_number == 2
    if len(looks) == 1:
        append(told, session)
        assert next(stream).sequence_number == 3
    assert hub.count == 1
    if end is not None:
        if end is exhausted:
            store.soft_delete_session(session.pk)
        end(stream)
    else:
        del stream
        gc.collect()
    assert hub.count == 0


def test_a_long_poll(told: str, session: Session, hub: Hub) -> None:
    store = DatabaseSessionStore(told)
    assert store.get_events(session.pk, wait_timeout=IDLE) == []
    assert hub.count == 0


def test_a_query_that_fails(told: str, session: Session, hub: Hub) -> None:
    store = DatabaseSessionStore(told)
    get_progress, counts = store._get_progress, []

    def look(session_id: str) -> object:
        counts.append(hub.count)
        if len(counts) == 3:
            raise KeyError(session_id)
        return get_progress(session_id)

    store._get_progress = look  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyError):
        list(store.stream_events(session.pk, idle_timeout=60))
    assert counts[0] == 0
    assert counts[-1] == 1
    assert hub.count == 0


async def cancelled(stream: AsyncIterator[Event], hub: Hub) -> None:
    task = asyncio.ensure_future(_rest(stream))
    await _joined(hub)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def aclosed(stream: AsyncIterator[Event], hub: Hub) -> None:
    task = asyncio.ensure_future(_rest(stream))
    await _joined(hub)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await stream.aclose()  # type: ignore[attr-defined]


async def timed_out(stream: AsyncIterator[Event], hub: Hub) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_rest(stream), IDLE)


async def forgotten(stream: AsyncIterator[Event], hub: Hub) -> None:
    """Nobody closes it: it goes with the loop, or with the garbage."""


async def _rest(stream: AsyncIterator[Event]) -> list[int]:
    return [event.sequence_number async for event in stream]


async def _joined(hub: Hub) -> None:
    await asyncio.to_thread(until, lambda: hub.count == 1, "it waits")


@pytest.mark.parametrize("end", [cancelled, aclosed, timed_out, forgotten])
def test_a_task(
    told: str,
    session: Session,
    hub: Hub,
    end: Callable[[AsyncIterator[Event], Hub], Awaitable[None]],
) -> None:
    store = DatabaseSessionStore(told)
    append(told, session)

    async def main() -> None:
        stream = store.astream_events(session.pk)
        await anext(stream)
        await end(stream, hub)

    run(main())
    gc.collect()
    until(lambda: hub.count == 0, "nobody waits")
    until(lambda: not processes(told, LISTENER), "the connection is closed")


def test_who_never_waits_leaves_nothing(told: str, session: Session, hub: Hub) -> None:
    store = DatabaseSessionStore(told)
    store.update_session(session.pk, status="completed")
    until(lambda: hub.count == 0, "nobody waits")
    for _ in range(3):
        assert list(store.stream_events(session.pk)) == []
    assert len(hub._left) == 0
