"""Tasks that are cancelled at the worst moments: no run is left running by them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asm_store.backends.memory import InMemorySessionStore
from asm_store.models import Event
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider
from tests.session_manager.logs import only, types

SECONDS = 30
HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
BEGIN = ["session_created", "session_started", "message_sent", "run_started"]
CANCELLED = ["run_cancelled", "session_cancelled"]


class Halting(InMemorySessionStore):
    """Halts once, while it appends an event of a type."""

    def __init__(self, type: str) -> None:
        super().__init__()
        self.type = type
        self.has_halted = threading.Event()
        self.go_on = threading.Event()

    def append_events(self, events: Any, **kwargs: Any) -> list[Event]:
        events = list(events)
        if events[0].type == self.type and not self.has_halted.is_set():
            self.has_halted.set()
            assert self.go_on.wait(SECONDS)
        return super().append_events(events, **kwargs)


class Unfinished(BaseProvider):
    """Says something, and is not done."""

    name = "unfinished"

    def execute(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        raise NotImplementedError

    async def aexecute(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        yield HELLO
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("type", "log"),
    [
        ("run_started", [*BEGIN, *CANCELLED]),
        ("message_received", [*BEGIN, "message_received", *CANCELLED]),
    ],
)
def test_what_has_begun_comes_to_its_end(type: str, log: list[str]) -> None:
    store = Halting(type)

    async def scenario() -> None:
        manager = SessionManager(store, Unfinished())
        task = asyncio.create_task(manager.arun_once("Hi"))
        await asyncio.to_thread(store.has_halted.wait, SECONDS)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        store.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")
    assert types(store, session.id) == log


@pytest.mark.parametrize("type", ["run_started", "message_received"])
def test_a_loop_that_cancels_every_task_at_its_end(type: str) -> None:
    """As `asyncio.run()` does: the task, and the tasks in which it waits for the store."""
    store = Halting(type)

    async def release() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            store.go_on.set()

    async def scenario() -> list[asyncio.Task[Any]]:
        manager = SessionManager(store, Unfinished())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(manager.arun_once("Hi"))]
        await asyncio.to_thread(store.has_halted.wait, SECONDS)
        tasks.append(asyncio.create_task(release()))
        await asyncio.sleep(0)
        return tasks

    tasks = asyncio.run(scenario())
    assert [task.cancelled() for task in tasks] == [True, True]
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")


def test_a_cancellation_that_comes_together_with_a_result() -> None:
    """Whichever step it is that has just come to its end."""
    outcomes = [cancelled_after(steps) for steps in range(1, 20)]
    assert set(outcomes) == {("cancelled", "cancelled"), ("completed", "completed")}


def cancelled_after(steps: int) -> tuple[str, str]:
    store = InMemorySessionStore()
    left = [steps]
    running: list[asyncio.Task[Any]] = []

    def ended(_step: asyncio.Task[Any]) -> None:
        left[0] -= 1
        if left[0] == 0:
            running[0].cancel()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **kwargs)
        # An async generator that the loop closes at its end has no name.
        if "SyncToAsync" in getattr(coroutine, "__qualname__", ""):
            task.add_done_callback(ended)
        return task

    async def scenario() -> None:
        asyncio.get_running_loop().set_task_factory(make)
        manager = SessionManager(store, ScriptedProvider([HELLO]))
        running.append(asyncio.ensure_future(manager.arun_once("Hi")))
        await asyncio.wait(running)

    asyncio.run(scenario())
    session, run = only(store)
    return run.status, session.status
