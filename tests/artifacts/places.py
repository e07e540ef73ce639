"""The storages of the tests, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from asm_store.contents import PREFIX
from asm_store.models import Artifact
from tests.artifacts import s3

FILES = "django.core.files.storage.FileSystemStorage"
MEMORY = "django.core.files.storage.InMemoryStorage"
S3 = "storages.backends.s3.S3Storage"


def configured(folder: Path, address: str | None = None) -> dict[str, Any]:
    """`STORAGES`: of files ("default", "other") in `folder`, in memory, on S3 if it is there."""
    entries: dict[str, Any] = {
        alias: {"BACKEND": FILES, "OPTIONS": {"location": str(folder / alias)}}
        for alias in ("default", "other")
    }
    entries["memory"] = {"BACKEND": MEMORY}
    if address is not None:
        entries["s3"] = {"BACKEND": S3, "OPTIONS": s3.options(address)}
    return entries


def contents(alias: str, folder: str = "") -> list[str]:
    """The names of everything in a storage."""
    try:
        folders, files = storages[alias].listdir(folder)
    except FileNotFoundError:
        return []
    found = [f"{folder}{name}" for name in files]
    for name in folders:
        found += contents(alias, f"{folder}{name}/")
    return sorted(found)


def change(artifact: Artifact, content: bytes | None) -> None:
    """Another program replaces the content, or with None removes it."""
    storage = storages[artifact.storage_backend]
    storage.delete(artifact.storage_ref)
    if content is not None:
        storage.save(artifact.storage_ref, ContentFile(content))


def is_own(name: str) -> bool:
    return name.startswith(f"{PREFIX}/")
