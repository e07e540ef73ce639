"""The two views of a session. docs/live.md says what they take and answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import Error, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views import View

from ..backends.arguments import EventFilter
from ..backends.base import BaseSessionStore
from ..backends.reading import Progress
from ..exceptions import StorageError, ValidationError
from ..handler import stores
from . import access, parameters, polling
from .answers import Refusal, json_response
from .streaming import EventStream

logger = logging.getLogger("asm_store")

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "private, no-store",
    "X-Accel-Buffering": "no",
}


class SessionView(View):
    """Answers those who may view the session and its events; `store` is an alias, or a store."""

    store: str | BaseSessionStore = "default"
    http_method_names = ["get", "head"]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        view: Any = super().as_view(**initkwargs)
        # Django refuses async views under ATOMIC_REQUESTS; these write nothing.
        view._non_atomic_requests = set(connections.settings)
        return cast("Callable[..., HttpResponseBase]", view)

    @login_not_required  # where all views are: it answers by itself, without a redirect
    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        try:
            handler: Awaitable[HttpResponseBase] = super().dispatch(request, *args, **kwargs)  # type: ignore[assignment]
            response = await handler
        except Refusal as refusal:
            response = refusal.response()
        except ValidationError as error:
            response = Refusal(400, error.code, str(error)).response()
        except (StorageError, Error) as error:  # not only a store's: users are in a database too
            logger.exception("The database failed in %r.", request.path)
            code = getattr(error, "code", StorageError.code)
            response = Refusal(503, code, "The database failed.").response()
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def current_user(self, request: HttpRequest) -> Any:
        """The user by now, asked during a stream; for those whom the request alone identifies."""
        return access.current_user(request)

    def _store(self) -> BaseSessionStore:
        return stores[self.store] if isinstance(self.store, str) else self.store

    def _may_see_payloads(self, request: HttpRequest, session_id: str) -> bool:
        user = getattr(request, "user", None)
        return access.may_see_payloads(user, self._store(), session_id)

    def _still_may(self, request: HttpRequest, session_id: str) -> bool:
        user = self.current_user(request)
        return access.may_see_payloads(user, self._store(), session_id)


class SessionEventsView(SessionView):
    """A session's events after a number, as JSON; with `wait`, once there is one."""

    async def get(self, request: HttpRequest, session_id: str) -> HttpResponseBase:
        payloads = await sync_to_async(self._may_see_payloads)(request, session_id)
        wanted = parameters.poll_filter(request, session_id, payloads)
        wait = parameters.wait_seconds(request)
        if wait:
            _require_asgi(request, "Ask without wait.")
        page = await polling.aread_page(self._store(), wanted, wait)
        return json_response(page.to_json())


class SessionStreamView(SessionView):
    """A session's events after a number as Server-Sent Events, those to come too. Needs ASGI."""

    # Of silence, after which a comment keeps the connection open.
    heartbeat_seconds: float = 15
    # After so many the permissions are asked for again.
    permission_seconds: float = 60

    async def get(self, request: HttpRequest, session_id: str) -> HttpResponseBase:
        _require_asgi(request, "Poll sessions/<id>/events/ instead.")
        wanted, progress = await sync_to_async(self._begin)(request, session_id)
        if _has_seen_all(request, wanted, progress):
            return HttpResponse(status=204)  # with this a browser stops to connect anew
        # GZipMiddleware makes a file of its own of each message, in some versions of Django.
        request.META.pop("HTTP_ACCEPT_ENCODING", None)
        stream = self._stream(request, wanted, progress)
        return StreamingHttpResponse(stream.frames(), headers=HEADERS)

    async def head(self, request: HttpRequest, session_id: str) -> HttpResponseBase:
        response = await self.get(request, session_id)
        return HttpResponse(status=response.status_code, headers=response.headers)

    def _begin(self, request: HttpRequest, session_id: str) -> tuple[EventFilter, Progress]:
        payloads = self._may_see_payloads(request, session_id)
        wanted = parameters.stream_filter(request, session_id, payloads)
        return wanted, polling.progress_to(self._store(), wanted)

    def _stream(self, request: HttpRequest, wanted: EventFilter, progress: Progress) -> EventStream:
        ask = partial(sync_to_async(self._still_may), request, wanted.session_id)
        return EventStream(
            self._store(),
            wanted,
            progress,
            ask,
            self.heartbeat_seconds,
            self.permission_seconds,
        )


def _require_asgi(request: HttpRequest, instead: str) -> None:
    """A WSGI server has a worker for each request, and few of them."""
    if not isinstance(request, ASGIRequest):
        message = (
            f"This server runs by WSGI, where a request that waits would hold a worker. {instead}"
        )
        raise Refusal(501, "asgi_required", message)


def _has_seen_all(request: HttpRequest, wanted: EventFilter, progress: Progress) -> bool:
    is_at_end = progress.has_ended and wanted.after == progress.latest_sequence
    return is_at_end and parameters.resume_point(request) is not None
