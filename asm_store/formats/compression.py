"""gzip and Zstandard: known by the first bytes of what is read, by the name of what is written."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from django.core.exceptions import ImproperlyConfigured

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_SUFFIX, ZSTD_SUFFIX = ".gz", ".zst"
SUFFIXES = ("", GZIP_SUFFIX, ZSTD_SUFFIX)
BUFFER_BYTES = 128 * 1024


class CutOffFileError(OSError):
    """The compressed file ends before its end, or its bytes are not what was written."""


def load_zstd() -> ModuleType:
    """Python's module for Zstandard, or its backport; `ImproperlyConfigured` without it."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return import_module(name)
    except ImportError as error:
        message = "Zstandard files need a package: pip install 'django-asm-store[zstd]'"
        raise ImproperlyConfigured(message) from error


def open_decompressed(path: Path) -> io.BufferedReader:
    """The file, open for reading what it was before it was compressed, if it was.

    Where a compressed file is cut off or damaged, a read raises `CutOffFileError`.
    """
    raw = path.open("rb")
    try:
        start = raw.peek(len(ZSTD_MAGIC))
        if start.startswith(GZIP_MAGIC):
            damage = (zlib.error, gzip.BadGzipFile)
            return _decompressing(raw, gzip.GzipFile(fileobj=raw), *damage)
        if start.startswith(ZSTD_MAGIC):
            zstd = load_zstd()
            return _decompressing(raw, zstd.ZstdFile(raw), zstd.ZstdError)
    except BaseException:
        raw.close()
        raise
    return raw


def _decompressing(
    raw: io.BufferedReader, contents: Any, *damage: type[Exception]
) -> io.BufferedReader:
    return io.BufferedReader(_Decompressed(raw, contents, damage), BUFFER_BYTES)


class _Decompressed(io.RawIOBase):
    """The contents of a compressed file, with one error for all that may be wrong with them."""

    def __init__(
        self, raw: io.BufferedReader, contents: Any, damage: tuple[type[Exception], ...]
    ) -> None:
        self.name = raw.name
        self._raw = raw
        self._contents = contents
        self._damage = damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._contents.readinto(buffer))
        except EOFError:
            raise CutOffFileError("the compressed file is cut off") from None
        except self._damage as error:
            raise CutOffFileError(f"the compressed file is damaged: {error}") from None

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Backwards it begins anew: meant for going back to the beginning."""
        return int(self._contents.seek(offset, whence))

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


def compressor(name: str) -> Callable[[BinaryIO], AbstractContextManager[BinaryIO]]:
    """What makes of a file that is written one that compresses, by the suffix of its `name`.

    Leaving the context ends the compressed data; the file itself stays open.
    `ImproperlyConfigured` when the package that it takes is missing.
    """
    if name.endswith(GZIP_SUFFIX):
        return _gzip
    if name.endswith(ZSTD_SUFFIX):
        return partial(_zstd, load_zstd())
    return nullcontext


def _gzip(file: BinaryIO) -> io.BufferedWriter:
    # No name and no time in it: the same export makes the same file.
    compressed: Any = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
    return io.BufferedWriter(compressed, BUFFER_BYTES)


def _zstd(zstd: ModuleType, file: BinaryIO) -> io.BufferedWriter:
    # Not by default: without a checksum, damaged data may be read as other data.
    options = {zstd.CompressionParameter.checksum_flag: True}
    return io.BufferedWriter(zstd.ZstdFile(file, "wb", options=options), BUFFER_BYTES)
