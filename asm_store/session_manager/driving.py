"""Two ways to drive an execution: in the caller's thread, and in an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from asgiref.sync import sync_to_async

from ..exceptions import ValidationError
from ..models import Event
from ..providers.feeds import Arrival, TaskFeed, ThreadFeed
from .execution import Execution, RunResult

P = ParamSpec("P")
M = TypeVar("M", bound=Callable[..., Any])
T = TypeVar("T")
Interruption: TypeAlias = asyncio.CancelledError | None
Begin = Callable[Concatenate[Any, P], Execution]

# How long an async provider may clean up when it is stopped, in seconds.
GRACE_SECONDS = 0.5


def driven(begin: Begin[P], name: str) -> Callable[Concatenate[Any, P], RunResult]:
    """The method `name`, which executes what `begin` begins."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        _check_sync(kwargs.get("event_callback"))
        return drive(begin(self, *args, **kwargs))

    return _documented(method, begin, name)


def adriven(
    begin: Begin[P], name: str
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, RunResult]]:
    """Its async twin."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        execution, interruption = await _finished(partial(begin, self, *args, **kwargs))
        return await adrive(execution, interruption)

    return _documented(method, begin, name)


def _check_sync(callback: object) -> None:
    # What it gives would never be awaited.
    is_async = inspect.iscoroutinefunction
    if is_async(callback) or (callable(callback) and is_async(callback.__call__)):
        raise ValidationError("event_callback: it is async, this method is not: await its twin.")


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
        steps.close()  # Ctrl-C may come between two steps: how the run ends is stored then too


def _answer(execution: Execution, feed: ThreadFeed, wanted: list[Event] | float) -> list[Arrival]:
    if not isinstance(wanted, list):
        arrival = feed.get(wanted)
        return [] if arrival is None else [arrival]
    for event in wanted:
        execution.tell(event)
    return []


async def adrive(execution: Execution, interruption: Interruption) -> RunResult:
    """The provider runs in a task; what is stored, in the thread that Django's ORM runs in.

    `interruption`: the task was cancelled while the execution began.
    """
    feed = TaskFeed(execution.aproduce)
    steps = execution.steps()
    step: Callable[[Any], Any] = steps.send
    value: Any = None
    try:
        while True:
            wanted, cancelled = await _finished(partial(_advanced, step, value))
            if (interruption := cancelled or interruption) is not None:
                step, value, interruption = steps.throw, interruption, None
            elif isinstance(wanted, RunResult):
                return wanted
            else:
                try:
                    step, value = steps.send, await _aanswer(execution, feed, wanted)
                except BaseException as error:
                    step, value = steps.throw, error
    finally:
        await feed.stop(GRACE_SECONDS)


async def _aanswer(
    execution: Execution, feed: TaskFeed, wanted: list[Event] | float
) -> list[Arrival]:
    if not isinstance(wanted, list):
        # All that there is: each step waits for its turn in the one thread that stores.
        return await feed.get_all(wanted)
    for event in wanted:
        if inspect.isawaitable(done := execution.tell(event)):
            await done
    return []


def _advanced(step: Callable[[Any], Any], value: Any) -> list[Event] | float | RunResult:
    try:
        wanted: list[Event] | float = step(value)
    except StopIteration as done:  # which no future can hold
        result: RunResult = done.value
        return result
    return wanted


async def _finished(work: Callable[[], T]) -> tuple[T, Interruption]:
    """What `work()` gives in the thread that Django's ORM runs in, and whether this task was
    cancelled meanwhile.

    What has begun comes to its end before anything else is done, even when every task of the loop
    is cancelled: no cancellation stops a thread, only the waiting for it.
    """
    outcome: asyncio.Future[Callable[[], T]] = asyncio.get_running_loop().create_future()
    once = sync_to_async(partial(_work_once, work, threading.Lock(), outcome))
    interruption: Interruption = None
    task = asyncio.create_task(once())
    while not (task.done() and outcome.done()):
        if task.cancelled():
            task = asyncio.create_task(once())
        elif task.done():
            task.result()  # raises, when that thread takes no more work
        try:
            await asyncio.wait([outcome if task.done() else task])
        except asyncio.CancelledError as error:
            interruption = error
    return outcome.result()(), interruption


def _work_once(
    work: Callable[[], T], claim: threading.Lock, outcome: asyncio.Future[Callable[[], T]]
) -> None:
    if not claim.acquire(blocking=False):
        return  # begun by a task that was cancelled since
    try:
        value = work()
    except BaseException as error:  # some of which no future can hold
        told = partial(_raise, error)
    else:
        told = partial(_given, value)
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        outcome.get_loop().call_soon_threadsafe(outcome.set_result, told)


def _raise(error: BaseException) -> Any:
    raise error


def _given(value: T) -> T:
    return value
