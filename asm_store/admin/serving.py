"""Answers that a browser shows or saves and never runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from ..artifacts import ArtifactStore
from ..models import Artifact

INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


# A sandbox would keep a browser from saving it.
SAVED = {**INERT, "Content-Security-Policy": "default-src 'none'"}


def raw_json(record: Any) -> HttpResponse:
    """The record's dict, indented."""
    text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False)
    return HttpResponse(text, content_type="application/json; charset=utf-8", headers=INERT)


def fragment(html: str, **said: Any) -> JsonResponse:
    """A piece of a page, and what is said about it."""
    return JsonResponse({"html": html, **said}, headers=INERT)


def streamed(
    request: HttpRequest, pieces: Iterable[bytes], filename: str, content_type: str
) -> StreamingHttpResponse:
    """A file that is made while it is sent."""
    is_async = isinstance(request, ASGIRequest)
    response = StreamingHttpResponse(
        _in_threads(pieces) if is_async else pieces, content_type=content_type, headers=SAVED
    )
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    return response


async def _in_threads(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Django would make all of a plain iterator before it sends the first piece."""
    iterator = iter(pieces)
    while (piece := await sync_to_async(partial(next, iterator, None))()) is not None:
        yield piece


def download(request: HttpRequest, artifact: Artifact, using: str) -> HttpResponseBase:
    """The content as a file to save, whatever its type: it is never shown."""
    file = ArtifactStore(storage=artifact.storage_backend, using=using).open(artifact.key)
    response = FileResponse(
        file,
        as_attachment=True,
        filename=artifact.key.rpartition("/")[2] or "artifact",
        content_type="application/octet-stream",
        headers=SAVED,
    )
    if isinstance(request, ASGIRequest):
        pieces = iter(partial(file.read, response.block_size), b"")
        response.streaming_content = _in_threads(pieces)
    return response
