"""Files are sent while they are made, by WSGI and ASGI alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from django.test import AsyncRequestFactory, RequestFactory

from asm_store.admin.serving import streamed


def pieces(made: list[int]) -> Iterator[bytes]:
    for number in range(3):
        made.append(number)
        yield b"%d" % number


def test_a_piece_is_sent_before_the_next_is_made() -> None:
    made: list[int] = []
    request = RequestFactory().get("/")
    response: Any = streamed(request, pieces(made), "numbers.txt", "text/plain")
    iterator = iter(response)
    assert (next(iterator), made) == (b"0", [0])
    assert b"".join(iterator) == b"12"


def test_and_so_it_is_by_asgi() -> None:
    made: list[int] = []

    async def read() -> list[bytes]:
        request: Any = AsyncRequestFactory().get("/")
        response: Any = streamed(request, pieces(made), "numbers.txt", "text/plain")
        assert response.is_async
        iterator = aiter(response)
        first = await anext(iterator)
        assert made == [0]
        return [first, *[piece async for piece in iterator]]

    assert asyncio.run(read()) == [b"0", b"1", b"2"]
