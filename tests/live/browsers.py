"""Somebody who is logged in, before an ASGI application without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import AsyncClient

from tests.live.frames import Message, messages

T = TypeVar("T")


def run(body: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def call() -> T:
        return await body()

    return async_to_sync(call)()


class Browser:
    """Somebody who is logged in, and the database that he follows sessions of."""

    def __init__(self, using: str, user: User) -> None:
        self.using = using
        self.client = AsyncClient()
        self.client.force_login(user)

    async def get(
        self, session_id: str, query: str = "", view: str = "stream", **headers: str
    ) -> Any:
        return await self.client.get(f"/{self.using}/{session_id}/{view}/{query}", headers=headers)

    async def follow(self, *args: Any, **kwargs: Any) -> AsyncIterator[Message]:
        response = await self.get(*args, **kwargs)
        assert isinstance(response, StreamingHttpResponse), response.content
        async with aclosing(messages(aiter(response))) as found:  # type: ignore[type-var]
            async for message in found:
                yield message

    def read(self, *args: Any, **kwargs: Any) -> list[Message]:
        """All, to the end."""

        async def body() -> list[Message]:
            return [message async for message in self.follow(*args, **kwargs)]

        return run(body)

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        """The answer, which is no stream."""

        response = run(lambda: self.get(*args, **kwargs))
        assert not response.streaming
        return response
