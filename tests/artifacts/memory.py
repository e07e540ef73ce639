"""What child processes do to learn how much memory a large content takes."""

from __future__ import annotations

import hashlib
import random
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from tests.artifacts.places import configured

MIB = 1024 * 1024


class Stream:
    """So many MiB, of which no more than what is read is ever there; it cannot be rewound."""

    def __init__(self, size: int) -> None:
        self.left = size * MIB
        self.sha256 = hashlib.sha256()
        self.random = random.Random(0)

    def read(self, size: int) -> bytes:
        data = self.random.randbytes(min(size, self.left))
        self.left -= len(data)
        self.sha256.update(data)
        return data


def peaks(using: str, folder: str, address: str | None, alias: str, size: int) -> dict[str, float]:
    """The most memory, in MiB, that Python takes to put a stream, a file and to read it back."""
    settings = configured(Path(folder), address)
    if address:
        _frugal(settings["s3"]["OPTIONS"])
    with override_settings(STORAGES=settings):
        store = ArtifactStore(alias, using)
        store.put("first", b"what is imported or connected once is in memory now")
        stream = Stream(size)
        with tempfile.TemporaryFile() as file:
            while data := stream.read(MIB):
                file.write(data)
            file.seek(0)
            found = {
                "put a stream": _peak(lambda: store.put("k", Stream(size))),
                "put a file": _peak(lambda: store.put("k", file)),
            }
        found["read"] = _peak(lambda: _read(store))
        assert store.stat("k").byte_size == size * MIB
        assert store.stat("k").checksum_sha256 == stream.sha256.hexdigest()
    return found


def _frugal(options: dict[str, Any]) -> None:
    """By default boto3 keeps up to ten parts of 8 MiB in memory, which it sends at once."""
    from boto3.s3.transfer import TransferConfig

    options["transfer_config"] = TransferConfig(use_threads=False)


def _read(store: ArtifactStore) -> None:
    with store.open("k") as file:
        while file.read(MIB):
            pass


def _peak(call: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
