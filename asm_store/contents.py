"""The content of artifacts in Django's `STORAGES`: written and read in pieces, always measured."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage, storages
from django.db import transaction

from .events.sanitizing import shown
from .exceptions import StorageError, ValidationError
from .models import Artifact

# Below it, in every storage, is all that this package writes, and nothing else should be.
PREFIX = "asm_artifacts"
MAX_NAME_LENGTH = 1024
# Bytes: what is read at a time, and what is kept in memory of a source that cannot be rewound.
CHUNK = 64 * 1024
SPOOLED = 4 * 1024 * 1024

logger = logging.getLogger("asm_store")


class ContentError(StorageError):
    """One artifact's content is gone, has changed, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where content lies: an alias of STORAGES, and a name there."""

    alias: str
    name: str

    def __str__(self) -> str:
        return f"{self.name!a} in the storage {self.alias!a}"


@dataclass(frozen=True, slots=True)
class Content:
    """An artifact's content as it was written, and must be read again."""

    key: str
    place: Place
    byte_size: int
    checksum_sha256: str

    @classmethod
    def of(cls, artifact: Artifact) -> Content:
        place = Place(artifact.storage_backend, artifact.storage_ref)
        return cls(artifact.key, place, artifact.byte_size, artifact.checksum_sha256)

    def __str__(self) -> str:
        return _named(self.key, self.place)


class MeasuredFile(io.RawIOBase):
    """A binary file that is hashed while it is read: each byte once, however often it is read.

    It begins where `file` stands when `start` is given as that position.
    """

    def __init__(self, file: Any, start: int = 0) -> None:
        self.measured = 0  # bytes from the beginning that are in the checksum
        self._file = file
        self._start = start
        self._position = 0
        self._sha256 = hashlib.sha256()
        # Storages that fetch a file when it is first used do so here, before it can be replaced.
        self._seekable = not hasattr(file, "seekable") or bool(file.seekable())

    @property
    def checksum(self) -> str:
        return self._sha256.hexdigest()

    @property
    def is_measured_so_far(self) -> bool:
        return self._position == self.measured

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        known = self.measured - self._position
        if 0 <= known < len(data):
            self._sha256.update(memoryview(data)[known:])
            self.measured += len(data) - known
        self._position += len(data)
        return len(data)

    def _read(self, size: int) -> Any:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence)
        self._position = self._file.tell() - self._start
        return self._position

    def tell(self) -> int:
        return self._position


class Source(MeasuredFile):
    """What a caller gives to be stored. It is not closed: it is the caller's."""

    failure: Exception | None = None  # what reading it raised, which is the caller's to see
    _end: int | None = None

    def _read(self, size: int) -> Any:
        if self._end is not None:
            size = min(size, max(0, self._end - self._position))
        try:
            data = super()._read(size)
            if not isinstance(data, bytes | bytearray):
                raise ValidationError(
                    f"content: expected a file opened in binary mode, its read() returned "
                    f"{type(data).__name__}."
                )
        except Exception as error:
            self.failure = error
            raise
        return data

    def size(self) -> int:
        """In bytes, and the end from now on: who writes to the file meanwhile adds nothing.

        A source that cannot be read is noticed here, before anything is written.
        """
        end = self.seek(0, os.SEEK_END)
        self.seek(0)
        # An end at 0 of a file that has content is none to rely on.
        if not self.read(1) or end:
            self._end = end
        self.seek(0)
        return end

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, os.SEEK_SET
        return super().seek(offset, whence)

    def measure_rest(self) -> None:
        """Read what a storage has not read, or not in order."""
        self.seek(self.measured)
        while self.read(CHUNK):
            pass

    @contextmanager
    def failures_told(self, what: str) -> Iterator[None]:
        """An error in the block is the source's own, or a `StorageError`."""
        try:
            yield
        except Exception as error:
            if self.failure is not None:
                raise self.failure from self.failure.__cause__
            raise StorageError(f"{what}: {_said(error)}") from error


class CheckedFile(MeasuredFile):
    """Stored content. Its last byte is only given out when all before it is as it was written."""

    def __init__(self, file: Any, content: Content) -> None:
        super().__init__(file)
        self._content = content

    def readinto(self, buffer: Any) -> int:
        with _reading(self._content):
            count = super().readinto(buffer)
        size = self._content.byte_size
        ended = self.measured >= size or (not count and self.is_measured_so_far)
        if ended and (self.measured, self.checksum) != (size, self._content.checksum_sha256):
            raise ContentError(
                f"{self._content} has changed: expected {size} bytes with the SHA-256 "
                f"{self._content.checksum_sha256}, found {self.measured} with {self.checksum}. "
                f"Restore it from a backup, or put it again."
            )
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _reading(self._content):
            return super().seek(offset, whence)

    def close(self) -> None:
        super().close()
        self._file.close()


def check(content: object) -> None:
    """`ValidationError` when `content` is nothing that `save()` takes."""
    if isinstance(content, str):
        try:
            content.encode()
        except UnicodeEncodeError:
            raise ValidationError("content: the text holds a surrogate; give bytes.") from None
    elif not isinstance(content, bytes | bytearray):
        if isinstance(content, type) or not callable(getattr(content, "read", None)):
            raise ValidationError(
                f"content: expected bytes, a string or a binary file, got {shown(content)}."
            )
        if getattr(content, "closed", False):
            raise ValidationError("content: the file is closed.")


def save(key: str, alias: str, content: Any, content_type: str | None, using: str) -> Content:
    """Write the checked content of an artifact, under a name that nothing has ever had.

    The name says whose content it is: that of the database `using`.

    What the source's own `read()` raises passes; what else fails is a `StorageError`. Then
    nothing stays in the storage.
    """
    with _rewindable(key, content) as rewindable:
        source = Source(rewindable, rewindable.tell())
        place = Place(alias, _new_name(using))
        file = File(io.BufferedReader(source, CHUNK), place.name)
        file.size = source.size()
        file.content_type = content_type  # type: ignore[attr-defined]  # django-storages reads it
        try:
            with source.failures_told(f"{_named(key, place)} could not be written"):
                place = write(place, file)
                source.measure_rest()
        except BaseException:
            discard(place)
            raise
        return Content(key, place, source.measured, source.checksum)


def write(place: Place, file: File[bytes]) -> Place:
    """Write to `place`, or to where the storage thinks better of it."""
    storage = storages[place.alias]
    name = storage.save(place.name, file, max_length=MAX_NAME_LENGTH)
    flush(storage, name)
    return Place(place.alias, name)


def flush(storage: Storage, name: str) -> None:
    """A row that survives a power failure must find its content: bring a local file to the disk."""
    if os.name != "posix" or not isinstance(storage, FileSystemStorage):
        return
    path = Path(storage.path(name))
    for part in (path, path.parent):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _new_name(using: str) -> str:
    unique = uuid.uuid4().hex
    return f"{_folder(using)}/{unique[:2]}/{unique}"


def _folder(using: str) -> str:
    """Where the contents of one database's artifacts lie: several may share a storage."""
    return f"{PREFIX}/{using}"


def listed(alias: str, using: str) -> Iterator[str]:
    """The names of all that lies there; nothing where a storage cannot list what it has, or lacks
    a setting that it needs, as Django's own "staticfiles" does in most projects.
    """
    folders = [_folder(using)]
    while folders:
        folder = folders.pop()
        try:
            deeper, names = storages[alias].listdir(folder)
        except (NotImplementedError, FileNotFoundError, ImproperlyConfigured):
            continue
        except Exception as error:
            message = f"The storage {alias!r} could not be listed: {_said(error)}"
            raise StorageError(message) from error
        folders += [f"{folder}/{name}" for name in deeper]
        yield from (f"{folder}/{name}" for name in sorted(names))


def modified_at(place: Place) -> datetime | None:
    """When it was written; None when it is gone."""
    try:
        moment: datetime = storages[place.alias].get_modified_time(place.name)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise StorageError(f"{place} cannot be asked for its age: {_said(error)}") from error
    return moment


@contextmanager
def _rewindable(key: str, content: Any) -> Iterator[Any]:
    """`content` as a file that storages can read twice, as some do."""
    if isinstance(content, str):
        yield io.BytesIO(content.encode())
    elif isinstance(content, bytes | bytearray):
        yield io.BytesIO(content)
    elif hasattr(content, "seekable") and content.seekable():
        yield content
    else:
        folder = settings.FILE_UPLOAD_TEMP_DIR
        with tempfile.SpooledTemporaryFile(SPOOLED, dir=folder) as spool:
            source = Source(content)
            with source.failures_told(f"Artifact {shown(key)}: no temporary file"):
                shutil.copyfileobj(io.BufferedReader(source, CHUNK), spool, CHUNK)
                spool.seek(0)
            yield spool


def opened(content: Content) -> File[bytes]:
    """The content as a file named as its key, checked as it is read; `StorageError` if it is gone.

    It can be read, iterated and, as far as the storage's own file can, sought in.
    """
    with _reading(content):
        raw = CheckedFile(storages[content.place.alias].open(content.place.name), content)
    file = File(io.BufferedReader(raw, CHUNK), content.key)
    file.size = content.byte_size
    return file


def exists(content: Content) -> bool:
    """Whether it is there, changed or not; `StorageError` when its storage cannot say."""
    with _reading(content):
        return bool(storages[content.place.alias].exists(content.place.name))


def compare(content: Content) -> None:
    """`StorageError` unless the stored content is as it was written."""
    with opened(content) as file:
        while file.read(CHUNK):
            pass


@contextmanager
def _reading(content: Content) -> Iterator[None]:
    try:
        yield
    except io.UnsupportedOperation:
        raise  # the caller's mistake, such as seeking where the storage cannot
    except FileNotFoundError as error:
        hint = "Restore it from a backup, put it again, or delete the artifact."
        raise ContentError(f"{content} is gone. {hint}") from error
    except InvalidStorageError as error:
        hint = "Give STORAGES the alias again."
        raise ContentError(f"{content} cannot be read: {error} {hint}") from error
    except Exception as error:
        raise ContentError(f"{content} cannot be read: {_said(error)}") from error


def _named(key: str, place: Place) -> str:
    return f"Artifact {shown(key)}: {place}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def discard(place: Place) -> None:
    """Remove content that no row needs. A failure is logged: maintenance finds what is left.

    What is not below the prefix is somebody else's, whatever an imported row says of it: it stays.
    """
    if not is_own(place.name):
        logger.warning("%s is not below %s and was left there", place, PREFIX)
        return
    try:
        storages[place.alias].delete(place.name)
    except Exception:
        logger.exception("%s could not be removed", place)


def is_own(name: str) -> bool:
    first, *others = PurePosixPath(name).parts or ("",)
    return first == PREFIX and ".." not in others


def discard_after_commit(using: str, places: Iterable[Place]) -> None:
    """Remove content when the transaction is committed, and not if it is rolled back."""
    for place in places:
        transaction.on_commit(partial(discard, place), using=using, robust=True)
