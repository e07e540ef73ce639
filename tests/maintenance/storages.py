"""Storages that fail, and such as lie about what they have written."""

from __future__ import annotations

import errno
import os
from io import BytesIO
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage


class Full(FileSystemStorage):
    """The disk has no room for the last byte."""

    def _save(self, name: str, content: Any) -> str:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read()[:-1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Lossy(FileSystemStorage):
    """It drops the last byte."""

    def _save(self, name: str, content: Any) -> str:
        return _written(self, name, content.read()[:-1])


class Garbling(FileSystemStorage):
    """It changes a byte."""

    def _save(self, name: str, content: Any) -> str:
        data = bytearray(content.read())
        data[len(data) // 2] ^= 1
        return _written(self, name, bytes(data))


class Forgetful(FileSystemStorage):
    """It loses manifests."""

    def _save(self, name: str, content: Any) -> str:
        stored = _written(self, name, content.read())
        if "manifest" in name:
            Path(self.path(stored)).unlink()
        return stored


class Confusing(FileSystemStorage):
    """It gives another file back than was asked for."""

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        return File(BytesIO(b"another"), name)


class Torn(FileSystemStorage):
    """Reading breaks in the middle."""

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        return File(_TornFile(b"x" * 10), name)


class _TornFile(BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise TimeoutError("the bucket does not answer")


class Unconfigured(FileSystemStorage):
    """It cannot even be made."""

    def __init__(self) -> None:
        raise ValueError("no credentials")


def _written(storage: FileSystemStorage, name: str, data: bytes) -> str:
    stored: str = FileSystemStorage._save(  # type: ignore[attr-defined]  # django-stubs lacks it
        storage, name, ContentFile(data)
    )
    return stored
