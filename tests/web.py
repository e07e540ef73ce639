"""A web application whose requests use stores, served by ASGI as servers do it, and by WSGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, TypeVar

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.urls import path

from asm_store.backends.database import DatabaseSessionStore
from tests.counting import SECONDS, aten_calls, ten_calls

T = TypeVar("T")


def in_sync(request: HttpRequest, using: str, session_id: str) -> HttpResponse:
    ten_calls(using, session_id)
    return HttpResponse()


async def failing(request: HttpRequest, using: str, session_id: str) -> HttpResponse:
    await aten_calls(using, session_id)
    raise ZeroDivisionError


async def lasting(request: HttpRequest, using: str, session_id: str) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        await aten_calls(using, session_id)
        yield b"."
        await asyncio.Event().wait()  # until the client leaves

    return StreamingHttpResponse(parts())


async def following(request: HttpRequest, using: str, session_id: str) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        await aten_calls(using, session_id)
        async for _event in DatabaseSessionStore(using).astream_events(session_id):
            yield b"."

    return StreamingHttpResponse(parts())


urlpatterns = [
    path(f"{view.__name__}/<str:using>/<str:session_id>", view)
    for view in (in_sync, failing, lasting, following)
]


@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[])
def serve(requests: Coroutine[Any, Any, T]) -> T:
    """As an ASGI server: in an event loop with no sync code around it."""
    return asyncio.run(requests)


async def get(application: ASGIHandler, url: str, together: asyncio.Barrier | None = None) -> int:
    """The status; the client reads one part of the response, and leaves, with the others."""
    sent: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    sent.put_nowait({"type": "http.request"})
    scope = {**AsyncRequestFactory().get(url).scope}
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as server:
        server.create_task(application(scope, sent.get, answers.put))
        start = await answers.get()
        await answers.get()
        if together is not None:
            await together.wait()
            await together.wait()
        sent.put_nowait({"type": "http.disconnect"})
    return int(start["status"])


async def get_all(url: str, count: int) -> set[int]:
    """The statuses of so many requests at once."""
    application = ASGIHandler()
    return set(await asyncio.gather(*(get(application, url) for _ in range(count))))


async def get_together(url: str, count: int, look: Callable[[], Any]) -> None:
    """So many requests at once; `look` while all of them last."""
    application = ASGIHandler()
    together = asyncio.Barrier(count + 1)
    async with asyncio.TaskGroup() as clients:
        for _ in range(count):
            clients.create_task(get(application, url, together))
        await together.wait()
        look()
        await together.wait()


def _get_by_wsgi(url: str) -> int:
    response = WSGIHandler()(RequestFactory().get(url).environ, lambda *_: BytesIO().write)
    response.close()
    return response.status_code


@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[])
def serve_by_wsgi(urls: Iterable[str], threads: int, look: Callable[[], Any]) -> set[int]:
    """The statuses of requests in so many threads; `look` afterwards, while the threads live."""
    with ThreadPoolExecutor(threads) as server:
        statuses = set(server.map(_get_by_wsgi, urls))
        look()
    return statuses
