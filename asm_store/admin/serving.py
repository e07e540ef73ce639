"""Answers that a browser shows or saves and never runs."""

from __future__ import annotations

import json
from typing import Any

from django.http import FileResponse, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from ..artifacts import ArtifactStore
from ..models import Artifact

INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def raw_json(record: Any) -> HttpResponse:
    """The record's dict, indented."""
    text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False)
    return HttpResponse(text, content_type="application/json; charset=utf-8", headers=INERT)


def fragment(html: str, **said: Any) -> JsonResponse:
    """A piece of a page, and what is said about it."""
    return JsonResponse({"html": html, **said}, headers=INERT)


def download(artifact: Artifact, using: str) -> HttpResponseBase:
    """The content as a file to save, whatever its type: it is never shown."""
    store = ArtifactStore(storage=artifact.storage_backend, using=using)
    return FileResponse(
        store.open(artifact.key),
        as_attachment=True,
        filename=artifact.key.rpartition("/")[2] or "artifact",
        content_type="application/octet-stream",
        headers=INERT,
    )
