"""Two ways to drive an execution: in the caller's thread, and in an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from ..models import Event
from ..providers.feeds import Arrival, TaskFeed, ThreadFeed
from .execution import Execution, RunResult

P = ParamSpec("P")
M = TypeVar("M", bound=Callable[..., Any])
Begin = Callable[Concatenate[Any, P], Execution]

# How long an async provider may clean up when it is stopped, in seconds.
GRACE_SECONDS = 0.5


def driven(begin: Begin[P], name: str) -> Callable[Concatenate[Any, P], RunResult]:
    """The method `name`, which executes what `begin` begins."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        return drive(begin(self, *args, **kwargs))

    return _documented(method, begin, name)


def adriven(
    begin: Begin[P], name: str
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, RunResult]]:
    """Its async twin."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        return await adrive(await sync_to_async(begin)(self, *args, **kwargs))

    return _documented(method, begin, name)


def _documented(method: M, begin: Callable[..., Any], name: str) -> M:
    method.__name__ = name
    method.__qualname__ = f"{begin.__qualname__.rpartition('.')[0]}.{name}"
    method.__doc__ = begin.__doc__
    signature = inspect.signature(begin)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation="RunResult"
    )
    return method


def drive(execution: Execution) -> RunResult:
    """The provider runs in a thread of its own; all else, storing too, in this one."""
    feed = ThreadFeed(execution.produce)
    steps = execution.steps()
    try:
        wanted = next(steps)
        while True:
            try:
                answer = _answer(execution, feed, wanted)
            except BaseException as error:
                wanted = steps.throw(error)
            else:
                wanted = steps.send(answer)
    except StopIteration as done:
        result: RunResult = done.value
        return result
    finally:
        feed.stop()


def _answer(execution: Execution, feed: ThreadFeed, wanted: Event | float) -> Arrival | None:
    if not isinstance(wanted, Event):
        return feed.get(wanted)
    execution.tell(wanted)
    return None


async def adrive(execution: Execution) -> RunResult:
    """The provider runs in a task; what is stored, in the thread that Django's ORM runs in."""
    feed = TaskFeed(execution.aproduce)
    steps = execution.steps()
    step: Callable[[Any], Any] = steps.send
    value: Any = None
    try:
        while True:
            wanted, interruption = await _advance(step, value)
            if interruption is not None:
                step, value = steps.throw, interruption
            elif isinstance(wanted, RunResult):
                return wanted
            else:
                try:
                    step, value = steps.send, await _aanswer(execution, feed, wanted)
                except BaseException as error:
                    step, value = steps.throw, error
    finally:
        await feed.stop(GRACE_SECONDS)


async def _aanswer(execution: Execution, feed: TaskFeed, wanted: Event | float) -> Arrival | None:
    if not isinstance(wanted, Event):
        return await feed.get(wanted)
    if inspect.isawaitable(done := execution.tell(wanted)):
        await done
    return None


async def _advance(
    step: Callable[[Any], Any], value: Any
) -> tuple[Event | float | RunResult, asyncio.CancelledError | None]:
    """What the next step wants, and whether this task was cancelled meanwhile.

    A step that has begun in the other thread comes to its end before anything else is done.
    """
    work = asyncio.ensure_future(sync_to_async(_advanced)(step, value))
    try:
        return await asyncio.shield(work), None
    except asyncio.CancelledError as error:
        if work.done():
            raise  # the step itself has raised it
        await asyncio.wait([work])
        return work.result(), error


def _advanced(step: Callable[[Any], Any], value: Any) -> Event | float | RunResult:
    try:
        wanted: Event | float = step(value)
    except StopIteration as done:  # which no future can hold
        result: RunResult = done.value
        return result
    return wanted
