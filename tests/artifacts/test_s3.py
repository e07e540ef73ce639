"""What is particular about S3, through django-storages and boto3 as they come."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from django.core.files.storage import storages
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from tests.artifacts import s3

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["asm_store"])


@pytest.fixture
def store(s3_storage: str) -> ArtifactStore:
    return ArtifactStore(s3_storage)


def test_many_parts_at_once(store: ArtifactStore) -> None:
    content = random.Random(0).randbytes(40 * 1024 * 1024 + 1)
    store.put("k", io.BytesIO(content))
    assert store.get("k") == content


def test_the_content_type_is_there_too(store: ArtifactStore) -> None:
    artifact = store.put("page.html", b"<p>", content_type="text/html; charset=utf-8")
    bucket: Any = storages["s3"].bucket  # type: ignore[attr-defined]
    assert bucket.Object(artifact.storage_ref).content_type == "text/html; charset=utf-8"


def test_what_is_open_stays_readable(store: ArtifactStore) -> None:
    store.put("k", b"before" * 100_000)
    with store.open("k") as file:
        store.put("k", b"after")
        assert file.read() == b"before" * 100_000
    assert store.get("k") == b"after"


# django-storages does not close the temporary file under the one that decompresses it.
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
def test_a_storage_that_compresses(s3_server: str) -> None:
    options = {**s3.options(s3_server), "gzip": True}
    entry = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    content = b"a { color: red }\n" * 10_000
    with override_settings(STORAGES={"default": entry}):
        artifact = ArtifactStore().put("style.css", content)
        storage: Any = storages["default"]
        assert artifact.content_type == "text/css"
        assert storage.size(artifact.storage_ref) < len(content) == artifact.byte_size
        assert ArtifactStore().get("style.css") == content
        s3.empty(storage)
