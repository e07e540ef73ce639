"""What a model may call: functions, with the JSON Schema of what they take."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, sync or async, that a model may call.

    `schema` is the JSON Schema of an object: its properties are the function's keyword arguments,
    given to it as they come. A sync function is called in a thread with database connections of
    its own. What it returns is JSON, or Django's encoder makes it so.
    """

    function: Callable[..., Any]
    name: str
    description: str
    schema: Mapping[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """By its name, docstring and annotations; what a model gives it is checked by them."""
        pydantic = import_module("pydantic")
        return cls(
            pydantic.validate_call(function),
            function.__name__,
            inspect.getdoc(function) or "",
            pydantic.TypeAdapter(function).json_schema(),
        )

    async def call(self, arguments: object) -> Any:
        """What the function returns, as JSON has it; raises what it raises."""
        if not isinstance(arguments, Mapping):
            raise ValueError("The arguments are no JSON object.")
        if inspect.iscoroutinefunction(self.function):
            answer = await self.function(**arguments)
        else:
            answer, error = await _in_thread(self.function, arguments)
            if error is not None:
                raise error
            if inspect.isawaitable(answer):  # of a lambda, or of an object whose call is async
                answer = await answer
        return json.loads(json.dumps(answer, cls=DjangoJSONEncoder))


async def _in_thread(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """As `asyncio.to_thread`, but no process waits at its end for a function that blocks."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def work() -> None:
        result = _call(function, arguments)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, outcome, result)

    run = copy_context().run
    threading.Thread(target=run, args=(work,), name="asm_store.tool", daemon=True).start()
    return await outcome


def _settle(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():  # it was cancelled meanwhile
        outcome.set_result(result)


def _call(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """What it returns or raises: no future can hold a StopIteration."""
    try:
        return function(**arguments), None
    except BaseException as error:
        return None, error
    finally:
        connections.close_all()  # this thread's own
