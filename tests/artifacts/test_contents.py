"""What is put is got back, on each database and in each kind of storage."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.http import FileResponse

from asm_store.artifacts import ArtifactStore
from asm_store.exceptions import ArtifactNotFound, StorageError
from tests.artifacts.places import change, contents, is_own

LARGE = bytes(range(256)) * 2048  # 512 KiB: several pieces


class Generated:
    """What many libraries give: `read()`, and no more."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        self._rest = self._rest or next(self._pieces, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Growing(io.BufferedReader):
    """A log to which its agent writes a line whenever somebody reads it."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        with Path(self.name).open("ab") as log:
            log.write(b"a line\n")
        return found


def standing(content: bytes, position: int) -> io.BytesIO:
    file = io.BytesIO(content)
    file.seek(position)
    return file


def uploaded(content: bytes) -> TemporaryUploadedFile:
    upload = TemporaryUploadedFile("u.bin", "application/x", len(content), None)
    upload.write(content)
    upload.seek(0)
    return upload


SOURCES: dict[str, tuple[Any, bytes]] = {
    "bytes": (LARGE, LARGE),
    "nothing": (b"", b""),
    "bytearray": (bytearray(b"abc"), b"abc"),
    "text": ("日本 🙂", "日本 🙂".encode()),
    "a file": (lambda: io.BytesIO(LARGE), LARGE),
    "a file from where it stands": (lambda: standing(LARGE, 70_000), LARGE[70_000:]),
    "an empty rest": (lambda: standing(LARGE, len(LARGE)), b""),
    "read() alone": (lambda: Generated(iter([LARGE, b"a", LARGE])), LARGE + b"a" + LARGE),
    "Django's file": (lambda: ContentFile(LARGE), LARGE),
    "an upload": (lambda: SimpleUploadedFile("x", LARGE), LARGE),
    "a large upload": (lambda: uploaded(LARGE), LARGE),
}


class Contents:
    """What holds in every storage, on every database."""

    @pytest.mark.parametrize("name", SOURCES)
    def test_what_is_put_is_got(self, store: ArtifactStore, name: str) -> None:
        source, expected = SOURCES[name]
        content = source() if callable(source) else source
        put = store.put("a.bin", content)
        if hasattr(content, "close"):
            content.close()

        assert store.get("a.bin") == expected
        assert put.byte_size == len(expected)
        assert put.checksum_sha256 == hashlib.sha256(expected).hexdigest()
        assert (put.storage_backend, put.storage_ref) == (store.storage, *contents(store.storage))
        assert is_own(put.storage_ref)
        assert store.stat("a.bin").to_dict() == put.to_dict()

    def test_a_pipe(self, store: ArtifactStore) -> None:
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as file:
            file.write(b"a line\n" * 5_000)
        with os.fdopen(reading, "rb") as pipe:
            store.put("log", pipe)
        assert store.get("log") == b"a line\n" * 5_000

    def test_a_file_stays_the_callers(self, store: ArtifactStore) -> None:
        file = io.BytesIO(LARGE)
        store.put("a", file)
        store.put("b", file)
        assert (file.closed, file.read()) == (False, b"")
        assert store.get("b") == b""

    def test_a_file_that_is_written_to_meanwhile(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        log = tmp_path / "agent.log"
        for content in (LARGE, b""):
            log.write_bytes(content)
            with Growing(log.open("rb")) as file:
                assert store.put("k", file).byte_size == len(content)
            assert store.get("k") == content

    def test_replacing_leaves_one_content(self, store: ArtifactStore) -> None:
        first = store.put("k", LARGE, content_type="text/x", metadata={"a": 1})
        second = store.put("k", b"new", metadata={"b": 2})

        assert store.get("k") == b"new"
        assert contents(store.storage) == [second.storage_ref] != [first.storage_ref]
        assert second.id == first.id
        assert second.created_at > first.created_at
        assert (second.content_type, second.metadata) == (None, {"b": 2})

    def test_deleting(self, store: ArtifactStore) -> None:
        first = store.put("k", LARGE)
        store.delete("k")
        for use in (store.get, store.open, store.stat, store.delete):
            with pytest.raises(ArtifactNotFound, match="'k' is not stored"):
                use("k")
        assert contents(store.storage) == []

        again = store.put("k", b"again")
        assert (store.get("k"), again.id, again.deleted_at) == (b"again", first.id, None)
        assert contents(store.storage) == [again.storage_ref]

    def test_content_that_is_gone(self, store: ArtifactStore) -> None:
        artifact = store.put("k", LARGE)
        change(artifact, None)
        for use in (store.get, store.open):
            with pytest.raises(StorageError, match=r"gone. Restore it from a backup") as caught:
                use("k")
            for word in ("'k'", artifact.storage_ref, repr(store.storage)):
                assert word in str(caught.value)
            assert isinstance(caught.value.__cause__, FileNotFoundError)
        store.put("k", b"again")
        assert store.get("k") == b"again"

    @pytest.mark.parametrize(
        "changed",
        [LARGE[:-1], LARGE[:-1] + b"?", LARGE + b"?", b"?" + LARGE[1:], b""],
        ids=["cut", "its end", "longer", "its begin", "empty"],
    )
    def test_content_that_has_changed(self, store: ArtifactStore, changed: bytes) -> None:
        artifact = store.put("k", LARGE)
        change(artifact, changed)
        with pytest.raises(StorageError, match=r"has changed: expected 524288 bytes") as caught:
            store.get("k")
        for word in ("'k'", artifact.storage_ref, repr(store.storage), artifact.checksum_sha256):
            assert word in str(caught.value)
        with store.open("k") as file, pytest.raises(StorageError, match="has changed"):
            list(iter(lambda: file.read(50_000), b""))

    def test_reading_in_pieces(self, store: ArtifactStore) -> None:
        store.put("k", LARGE)
        with store.open("k") as file:
            assert b"".join(iter(lambda: file.read(50_000), b"")) == LARGE
        with store.open("k") as file:
            assert b"".join(file.chunks()) == LARGE
            assert b"".join(file.chunks(1000)) == LARGE
            assert (file.name, file.size) == ("k", len(LARGE))
        assert file.closed

    def test_reading_lines(self, store: ArtifactStore) -> None:
        lines = [b"line %d\n" % number for number in range(20_000)]
        store.put("k", b"".join(lines))
        with store.open("k") as file:
            assert file.readline() == lines[0]
            assert list(file) == lines

    def test_seeking(self, store: ArtifactStore) -> None:
        artifact = store.put("k", LARGE)
        with store.open("k") as file:
            assert file.seekable()
            file.seek(-300, os.SEEK_END)
            assert (file.tell(), file.read(300)) == (len(LARGE) - 300, LARGE[-300:])
            file.seek(1000)
            assert file.read(10) == LARGE[1000:1010]
            file.seek(0)
            assert file.read() == LARGE

        change(artifact, b"?" * len(LARGE))
        with store.open("k") as file:
            file.seek(-300, os.SEEK_END)
            assert file.read() == b"?" * 300  # not read from its begin, and so not checked
            file.seek(0)
            with pytest.raises(StorageError, match="has changed"):
                file.read()

    def test_a_response_of_it(self, store: ArtifactStore) -> None:
        store.put("reports/result.csv", LARGE)
        response = FileResponse(store.open("reports/result.csv"), as_attachment=True)
        assert b"".join(response) == LARGE
        assert response.headers["Content-Length"] == str(len(LARGE))
        assert response.headers["Content-Disposition"] == 'attachment; filename="result.csv"'
        response.close()

    def test_a_source_that_fails(self, store: ArtifactStore) -> None:
        def failing() -> Iterator[bytes]:
            yield LARGE
            raise ConnectionResetError("the tool has ended")

        store.put("k", b"before")
        with pytest.raises(ConnectionResetError, match="the tool has ended"):
            store.put("k", Generated(failing()))
        assert store.get("k") == b"before"
        assert len(contents(store.storage)) == 1


class TestOnDatabases(Contents):
    @pytest.fixture
    def store(self, files: ArtifactStore) -> ArtifactStore:
        return files


@pytest.mark.django_db(transaction=True, databases=["default"], available_apps=["asm_store"])
@pytest.mark.parametrize("storage", ["memory", "s3"], indirect=True)
class TestInStorages(Contents):
    @pytest.fixture
    def store(self, storage: str) -> ArtifactStore:
        return ArtifactStore(storage)

    def test_the_row_says_where_it_is(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.put("k", LARGE)
        assert ArtifactStore().get("k") == LARGE
        moved = ArtifactStore("other").put("k", b"elsewhere")
        assert (store.get("k"), contents(store.storage)) == (b"elsewhere", [])
        assert contents("other") == [moved.storage_ref]
