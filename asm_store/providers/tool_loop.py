"""The conversation with a model's API: answers are streamed, tools called, until it is done.

What an API's own provider adds is how a request looks and what comes back.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..events.sanitizing import Sanitizer
from ..events.types import EventType
from ..exceptions import ValidationError
from .base import BaseProvider
from .conversations import Call, Item, conversation
from .failures import IncompleteAnswer, api_error_data, shortened
from .feeds import LoopIterator
from .tools import Tool

if TYPE_CHECKING:
    from ..models import Run, Session
    from ..transcripts import Transcript

Yield: TypeAlias = dict[str, Any]

# What the event of a call has beside its names and its input or output, at most.
ROOM_BYTES = 200


def made(type: EventType, metadata: Mapping[str, Any] | None = None, /, **data: Any) -> Yield:
    """What a provider yields."""
    return {"type": type, "data": data, "metadata": dict(metadata or {})}


class Answer(ABC):
    """What has come so far of one answer."""

    # Ends that are no good ones, with the error's code.
    BAD_ENDS: ClassVar[Mapping[str, str]]

    def __init__(self, model: str) -> None:
        self.model = model
        self.id = ""
        self.stop_reason = ""
        self.texts: list[str] = []
        self.calls: list[Call] = []
        self.usage: dict[str, int] = {}
        self.usage_details: dict[str, int] = {}
        self.is_streaming = False
        self.is_whole = False

    @abstractmethod
    def take(self, chunk: Any) -> Iterator[Yield]:
        """Keep what came, and yield what is told of it at once."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def is_final(self) -> bool:
        return not self.calls

    def begin(self, id: str, model: str) -> Iterator[Yield]:
        self.id, self.model = id, model or self.model
        yield made(EventType.RUN_STARTED, model=self.model, message_id=id)

    def add_text(self, text: str) -> Iterator[Yield]:
        self.texts.append(text)
        yield made(EventType.MESSAGE_STREAMED, content=text)

    def end(self, turn: int) -> Iterator[Yield]:
        """What is told of it when it is whole."""
        if self.text:
            yield made(EventType.MESSAGE_RECEIVED, role="assistant", content=self.text)
        yield from self.told_usage()
        yield made(EventType.TURN_COMPLETED, turn=turn, stop_reason=self.stop_reason)

    def told_usage(self) -> Iterator[Yield]:
        if self.usage:
            data = {**self.usage, "model": self.model}
            yield made(EventType.TOKEN_USAGE_UPDATED, self.usage_details, **data)

    def check(self) -> None:
        """Raise `IncompleteAnswer` when it did not end well."""
        if code := self.BAD_ENDS.get(self.stop_reason):
            raise IncompleteAnswer(code, f"The model stopped: {self.stop_reason}.")


class ToolLoopProvider(BaseProvider):
    """Base of the providers that speak with a model's API by its official SDK.

    `client` is a function that makes an async client of the SDK, called for each run, whose
    client is closed at its end; or one such client, used in one event loop only and left open.
    `tools` are functions or `Tool`s. A model that still wants tools after `max_turns` answers
    fails the run. `options` are arguments of each request beside those that the provider makes.
    """

    # The package, and what makes a client when none is given.
    SDK: ClassVar[str]
    CLIENT: ClassVar[str]

    def __init__(
        self,
        model: str,
        *,
        client: Any = None,
        system: str | None = None,
        tools: Iterable[Callable[..., Any] | Tool] = (),
        max_turns: int = 20,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        sdk = _load(self.SDK)
        self.model = model
        self.system = system
        self.max_turns = max_turns
        self.options = dict(options or {})
        self._client = getattr(sdk, self.CLIENT) if client is None else client
        if not callable(self._client) and not _is_async_client(client):
            raise TypeError(f"client: expected a function that makes one, or {self.CLIENT}().")
        self.tools: dict[str, Tool] = {}
        for each in tools:
            tool = each if isinstance(each, Tool) else Tool.of(each)
            if tool.name in self.tools:
                raise ValueError(f"there are two tools named {tool.name!r}")
            self.tools[tool.name] = tool

    @abstractmethod
    def _request(self, items: list[Item]) -> dict[str, Any]:
        """The arguments of a request, with what was said in `messages`."""

    @abstractmethod
    def _open(self, client: Any, request: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
        """Send a request; inside, what comes back is iterated over."""

    @abstractmethod
    def _new_answer(self) -> Answer:
        """One of which nothing has come."""

    @abstractmethod
    def _continue(self, messages: list[Any], answer: Any) -> None:
        """Add the answer, with the results of its calls, to what is asked next."""

    def execute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> Iterator[Any]:
        if not callable(self._client):
            raise ImproperlyConfigured(
                f"The client belongs to an event loop: call `await arun_once()`, or give "
                f"{type(self).__name__} a function that makes a client."
            )
        return LoopIterator(lambda: self.aexecute(run, session, transcript=transcript))

    async def aexecute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> AsyncIterator[Any]:
        request = self._request(conversation(run.input, transcript))
        yield made(EventType.RUN_STARTED, model=self.model)
        async with self._connected() as client:
            for turn in range(1, self.max_turns + 1):
                answer = self._new_answer()
                async with aclosing(self._take(client, request, answer, turn)) as events:
                    async for event in events:
                        yield event
                if answer.is_final:
                    yield _completed(answer)
                    return
                self._continue(request["messages"], answer)
        text = f"The model was not done after {self.max_turns} turns."
        raise IncompleteAnswer("max_turns", text)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        if not callable(self._client):
            yield self._client
            return
        client = await asyncio.to_thread(self._client)  # which reads certificates
        try:
            yield client
        finally:
            await client.close()

    async def _take(
        self, client: Any, request: Mapping[str, Any], answer: Answer, turn: int
    ) -> AsyncGenerator[Yield, None]:
        """One answer, and the calls that it wants unless it is the last."""
        async with aclosing(self._listen(client, request, answer)) as events:
            async for event in events:
                yield event
        for event in answer.end(turn):
            yield event
        answer.check()
        for call in answer.calls if turn < self.max_turns else ():
            given = _keep_storable(call)
            yield made(EventType.TOOL_CALL_STARTED, **_named(call), tool_input=given)
            yield await self._call(call)

    async def _listen(
        self, client: Any, request: Mapping[str, Any], answer: Answer
    ) -> AsyncGenerator[Yield, None]:
        try:
            async with self._open(client, request) as chunks:
                answer.is_streaming = True
                async for chunk in chunks:
                    for event in answer.take(chunk):
                        yield event
            if not answer.is_whole:
                raise IncompleteAnswer("incomplete_stream", "The answer ended in the middle.")
        except Exception as error:
            for event in answer.told_usage():
                yield event
            data = api_error_data(error, is_streaming=answer.is_streaming)
            yield made(EventType.ERROR_OCCURRED, **data)
            raise

    async def _call(self, call: Call) -> Yield:
        """How the call ended: a failure is told the model too, which may do without."""
        try:
            if call.name not in self.tools:
                raise LookupError(f"there is no tool {call.name!a}")
            output = await self.tools[call.name].call(call.input)
            call.answer(_storable(call, output))
        except Exception as error:
            text = "".join(traceback.format_exception_only(error)).strip()
            text = shortened(Sanitizer(0).text(text))
            call.answer(text, is_error=True)
            return made(EventType.TOOL_CALL_FAILED, **_named(call), error_message=text)
        # As it came: what is replaced in it is counted when it is stored.
        return made(EventType.TOOL_CALL_COMPLETED, **_named(call), tool_output=output)


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        message = f"The provider needs a package: pip install 'django-asm-store[{name}]'"
        raise ImproperlyConfigured(message) from error


def _is_async_client(client: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(client, "close", None))


def _named(call: Call) -> dict[str, str]:
    return {"tool_name": call.name, "tool_call_id": call.id}


def _storable(call: Call, value: Any) -> Any:
    """`value` as the call's event has it; `ValidationError` when no event can."""
    # The event is a little larger than what the tool gave.
    sanitizer = Sanitizer(conf.max_event_bytes() - ROOM_BYTES)
    return sanitizer.json({**_named(call), "value": value})["value"]


def _keep_storable(call: Call) -> Any:
    """The input as its event tells of it; the call keeps it as it will be stored.

    Of what no event can hold it is a text, which no tool takes.
    """
    given = call.input
    try:
        call.input = _storable(call, given)
    except ValidationError:
        given = call.input = shortened(Sanitizer(0).text(json.dumps(given)))
    return given


def _completed(answer: Answer) -> Yield:
    output = {"content": answer.text}
    metadata = {"model": answer.model, "message_id": answer.id}
    return made(
        EventType.RUN_COMPLETED,
        stop_reason=answer.stop_reason,
        output=output,
        provider_metadata=metadata,
    )


def output_text(call: Call) -> str:
    """The result of a call as a model reads it."""
    if isinstance(call.output, str):
        return call.output
    return json.dumps(call.output, ensure_ascii=False)


def count_in(details: Any, name: str) -> int:
    """A count that not every server tells of; an SDK that is older than it gives it as it came."""
    value = details.get(name) if isinstance(details, Mapping) else getattr(details, name, None)
    return value or 0
