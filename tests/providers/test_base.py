"""A provider is one generator; its async door is derived from it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, cast

import pytest

from asm_store.models import Run, Session
from asm_store.providers import BaseProvider
from asm_store.providers.feeds import (
    ROOM,
    Ended,
    LoopIterator,
    TaskFeed,
    ThreadFeed,
    Yielded,
)
from asm_store.test import ScriptedProvider, make_run, make_session

SECONDS = 30
VARIABLE: ContextVar[str] = ContextVar("variable", default="")


class Boom(Exception):
    pass


async def collected(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]


def records() -> tuple[Run, Session]:
    session = make_session()
    return make_run(session), session


def test_a_script_is_yielded_item_by_item() -> None:
    provider = ScriptedProvider([{"type": "message_sent"}, {"type": "turn_completed"}])
    assert provider.name == "scripted"
    assert list(provider.execute(*records())) == provider.script
    assert list(provider.execute(*records())) == provider.script  # once more
    assert asyncio.run(collected(provider.aexecute(*records()))) == provider.script
    assert ScriptedProvider(iter([]), name="mine").name == "mine"


@pytest.mark.parametrize("error", [Boom("no"), Boom, KeyboardInterrupt(), SystemExit])
def test_an_exception_in_a_script_is_raised_there(error: Any) -> None:
    provider = ScriptedProvider([1, error, 2])
    kind = error if isinstance(error, type) else type(error)
    for values in (provider.execute(*records()), in_a_loop(provider)):
        assert next(values) == 1
        with pytest.raises(kind):
            next(values)


def in_a_loop(provider: BaseProvider) -> Iterator[Any]:
    """What `aexecute()` yields, then what it raises: not through the loop, which would stop."""

    async def run() -> tuple[list[Any], BaseException | None]:
        feed = TaskFeed(lambda: provider.aexecute(*records()))
        values = []
        while isinstance(arrival := await feed.get(SECONDS), Yielded):
            values.append(arrival.value)
        assert isinstance(arrival, Ended)
        return values, arrival.error

    values, error = asyncio.run(run())
    yield from values
    if error is not None:
        raise error


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, asyncio.CancelledError])
def test_what_would_end_a_generator_or_a_task_is_an_error_all_the_same(error: Any) -> None:
    provider = ScriptedProvider([1, error])
    feed = ThreadFeed(lambda: provider.execute(*records()))
    assert feed.get(SECONDS) == Yielded(1)
    arrival = feed.get(SECONDS)
    assert isinstance(arrival, Ended)
    assert arrival.error is not None
    values = in_a_loop(provider)
    assert next(values) == 1
    with pytest.raises((RuntimeError, GeneratorExit, asyncio.CancelledError)):
        next(values)


class Silent(BaseProvider):
    """Yields once, then blocks until it is released."""

    name = "silent"

    def __init__(self) -> None:
        self.release = threading.Event()
        self.closed = threading.Event()

    def execute(self, run: Run, session: Session, **kwargs: Any) -> Iterator[Any]:
        try:
            yield 1
            self.release.wait(SECONDS)
            yield 2
        finally:
            self.closed.set()


def test_a_blocked_generator_is_waited_for_as_long_as_one_likes() -> None:
    provider = Silent()
    feed = ThreadFeed(lambda: provider.execute(*records()))
    assert feed.get(SECONDS) == Yielded(1)
    assert feed.get(0.01) is None
    feed.stop()
    provider.release.set()
    assert provider.closed.wait(SECONDS)  # its `finally` ran
    assert feed.get(0) is None  # and nothing more came


def test_an_async_iteration_that_is_left_closes_the_generator() -> None:
    provider = Silent()

    async def run() -> None:
        values = provider.aexecute(*records())
        assert await anext(values) == cast("Any", 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(values), 0.01)
        provider.release.set()

    asyncio.run(run())
    assert provider.closed.wait(SECONDS)


def test_a_producer_is_only_so_far_ahead() -> None:
    made: list[int] = []
    full = threading.Event()

    def count() -> Iterator[int]:
        for number in range(10 * ROOM):
            made.append(number)
            if number == ROOM + 1:
                full.set()
            yield number

    feed = ThreadFeed(count)
    taken = [feed.get(SECONDS)]
    assert full.wait(SECONDS)
    assert len(made) == ROOM + 2
    while isinstance(arrival := feed.get(SECONDS), Yielded):
        taken.append(arrival)
    assert arrival == Ended(None)
    assert [value.value for value in taken if isinstance(value, Yielded)] == list(range(10 * ROOM))


def test_what_is_no_generator() -> None:
    arrival = ThreadFeed(lambda: cast("Any", None)).get(SECONDS)
    assert isinstance(arrival, Ended)
    assert isinstance(arrival.error, TypeError)

    async def run() -> Ended:
        arrival = await TaskFeed(lambda: cast("Any", None)).get(SECONDS)
        assert isinstance(arrival, Ended)
        return arrival

    assert isinstance(asyncio.run(run()).error, TypeError)
    assert ThreadFeed(lambda: [1]).get(SECONDS) == Yielded(1)


def test_context_variables_are_those_of_the_caller() -> None:
    token = VARIABLE.set("mine")
    assert ThreadFeed(lambda: [VARIABLE.get()]).get(SECONDS) == Yielded("mine")
    VARIABLE.reset(token)


class Waiting:
    """Yields once, then waits for what never comes, unless it is told to end."""

    def __init__(self, *, ends: bool = False) -> None:
        self.is_waiting = threading.Event()
        self.closed = threading.Event()
        self._ends = ends

    async def values(self) -> AsyncIterator[int]:
        try:
            yield 1
            self.is_waiting.set()
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


def test_an_async_generator_in_a_loop_of_its_own() -> None:
    waiting = Waiting(ends=True)
    values = LoopIterator(waiting.values)
    assert list(values) == [1]
    assert waiting.closed.is_set()
    assert list(values) == []
    values.stop()  # too late: nothing happens
    values.close()


def test_what_it_raises() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise Boom

    values = LoopIterator(broken)
    assert next(values) == 1
    with pytest.raises(Boom):
        next(values)
    assert list(values) == []


def test_ctrl_c_closes_it() -> None:
    closed: list[bool] = []

    async def interrupted() -> AsyncIterator[int]:
        try:
            yield 1
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    values = LoopIterator(interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(values)
    assert closed
    assert list(values) == []


def test_it_is_closed_where_it_stands() -> None:
    waiting = Waiting()
    values = LoopIterator(waiting.values)
    assert next(values) == 1
    values.close()
    assert waiting.closed.is_set()
    unused = LoopIterator(waiting.values)
    unused.close()
    assert list(unused) == []


def test_a_feed_that_stops_stops_what_waits() -> None:
    waiting = Waiting()
    feed = ThreadFeed(lambda: LoopIterator(waiting.values))
    assert feed.get(SECONDS) == Yielded(1)
    assert waiting.is_waiting.wait(SECONDS)
    feed.stop()
    assert waiting.closed.wait(SECONDS)
    assert feed.get(0) is None


def test_what_is_stopped_before_it_begins() -> None:
    waiting = Waiting()
    values = LoopIterator(waiting.values)
    values.stop()
    assert list(values) == []
    assert not waiting.is_waiting.is_set()


def test_a_feed_that_is_stopped_while_it_makes_its_iterator() -> None:
    waiting = Waiting()
    is_making, is_stopped, has_made = (threading.Event() for _ in range(3))

    def make() -> LoopIterator:
        is_making.set()
        assert is_stopped.wait(SECONDS)
        has_made.set()
        return LoopIterator(waiting.values)

    feed = ThreadFeed(make)
    feed.get(0)
    assert is_making.wait(SECONDS)
    feed.stop()
    is_stopped.set()
    assert has_made.wait(SECONDS)
    assert feed.get(0) is None
    assert not waiting.is_waiting.is_set()


def test_importing_providers_needs_no_settings_and_no_models() -> None:
    program = "import sys, asm_store.providers; print('asm_store.models' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_task_that_does_not_let_itself_be_cancelled() -> None:
    """It is closed when it yields the next time."""

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            for number in range(10 * ROOM):
                yield number
        finally:
            closed.append(True)

    async def run() -> None:
        feed = TaskFeed(stubborn)
        assert await feed.get(SECONDS) == Yielded(1)
        await feed.stop(SECONDS)

    closed: list[bool] = []
    asyncio.run(run())
    assert closed == [True]


def test_all_that_has_arrived_is_taken_together() -> None:
    async def counting() -> AsyncIterator[int]:
        for number in range(2 * ROOM):
            yield number

    async def run() -> list[int]:
        feed = TaskFeed(counting)
        sizes: list[int] = []
        arrivals: list[Any] = []
        while not arrivals or not isinstance(arrivals[-1], Ended):
            found = await feed.get_all(SECONDS)
            sizes.append(len(found))
            arrivals += found
        assert arrivals == [*map(Yielded, range(2 * ROOM)), Ended(None)]
        assert await feed.get_all(0) == []
        await feed.stop(SECONDS)
        return sizes

    assert max(asyncio.run(run())) > 1
