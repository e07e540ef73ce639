"""Artifacts are files to save, for those who may see content, whatever their type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.test import AsyncRequestFactory, Client, override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.models import Artifact
from tests.admin.conftest import VIEW, LogIn
from tests.admin.pages import address, get


@pytest.fixture
def artifact(using: str, tmp_path: Path) -> Iterator[Artifact]:
    settings = {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    override = override_settings(STORAGES=settings)
    override.enable()
    try:
        storages["default"]
        yield ArtifactStore(using=using).put("pages/<b>.html", "<script>alert(1)</script>")
    finally:
        override.disable()


def test_an_artifact_is_saved_and_never_shown(admin_client: Client, artifact: Artifact) -> None:
    answer: Any = admin_client.get(address("artifact_download", artifact.pk))
    assert b"".join(answer.streaming_content) == b"<script>alert(1)</script>"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_what_is_gone_is_not_found(
    admin_client: Client, using: str, artifact: Artifact, tmp_path: Path
) -> None:
    url = address("artifact_download", artifact.pk)
    (tmp_path / artifact.storage_ref).unlink()
    assert admin_client.get(url).status_code == 404
    ArtifactStore(using=using).delete(artifact.key)
    assert admin_client.get(url).status_code == 404
    Artifact.objects.using(using).update(deleted_at=None, storage_backend="unknown")
    assert admin_client.get(url).status_code == 404
    assert admin_client.get(address("artifact_download", "unknown")).status_code == 404


def test_content_needs_its_permission(log_in: LogIn, artifact: Artifact) -> None:
    client = log_in(*VIEW)
    assert client.get(address("artifact_download", artifact.pk)).status_code == 403


def test_a_key_is_found_by_its_begin(admin_client: Client, artifact: Artifact) -> None:
    listed = get(admin_client, address("artifact_changelist"), q="pages/*")
    assert address("artifact_change", artifact.pk) in listed
    assert artifact.pk not in get(admin_client, address("artifact_changelist"), q="page")


def test_by_asgi_it_is_read_while_it_is_sent(
    admin_user: User, using: str, artifact: Artifact, tmp_path: Path
) -> None:
    """And not all of it before the first piece is."""
    (tmp_path / artifact.storage_ref).write_bytes(b"x" * 10_000_000)
    Artifact.objects.using(using).update(byte_size=10_000_000)
    artifact.refresh_from_db()
    request: Any = AsyncRequestFactory().get("/")
    request.user = admin_user
    answer: Any = admin.site._registry[Artifact].download_view(request, artifact.pk)  # type: ignore[attr-defined]
    assert answer.is_async
    assert answer["Content-Length"] == "10000000"
    assert answer["Content-Disposition"].startswith("attachment")

    async def read() -> int:
        pieces = aiter(answer)
        first = await anext(pieces)
        assert 0 < len(first) < 100_000
        return len(first)

    assert async_to_sync(read)()
    answer.close()
