"""Mistakes of callers and failures of storages, each a clear error before or instead of damage."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, InvalidStorageError, storages
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.exceptions import ArtifactNotFound, StorageError, ValidationError
from asm_store.models import Artifact
from tests.artifacts import s3
from tests.artifacts.places import configured, contents

pytestmark = pytest.mark.django_db(
    transaction=True, databases=["default"], available_apps=["asm_store"]
)


@pytest.fixture
def store(folder: Path) -> ArtifactStore:
    return ArtifactStore()


def closed() -> io.BytesIO:
    file = io.BytesIO(b"content")
    file.close()
    return file


class ReadsText:
    def read(self, size: int) -> str:
        return "text"


class ReadsNothingYet:
    """As a pipe that does not block."""

    def read(self, size: int) -> None:
        return None


CONTENTS: dict[str, tuple[Any, str]] = {
    "None": (None, "expected bytes, a string or a binary file, got NoneType"),
    "an int": (3, "got 3"),
    "a path": (Path("x"), "got PosixPath"),
    "a list": ([b"x"], "got list"),
    "a class of files": (io.BytesIO, "got type"),
    "text mode": (io.StringIO("text"), r"opened in binary mode, its read\(\) returned str"),
    "text of another kind": (ReadsText(), r"opened in binary mode, its read\(\) returned str"),
    "non-blocking": (ReadsNothingYet(), r"its read\(\) returned NoneType"),
    "closed": (closed(), "the file is closed"),
    "surrogates": ("\ud800", "holds a surrogate; give bytes"),
}
COLUMNS: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"key": ""}, "key: must have 1 to 512 characters"),
    "long key": ({"key": "k" * 513}, "key: must have 1 to 512 characters"),
    "key of bytes": ({"key": b"k"}, "key: expected a string, got bytes"),
    "NUL in the key": ({"key": "a\0b"}, r"key: holds U\+0000"),
    "surrogate in the key": ({"key": "a\udc00"}, r"key: holds U\+0000 or a surrogate"),
    "metadata": ({"metadata": ["x"]}, "metadata: expected a mapping"),
    "metadata not JSON": ({"metadata": {"at": Path()}}, "type PosixPath is not JSON"),
    "content type": ({"content_type": ""}, "content_type: expected a MIME type"),
    "content type of bytes": ({"content_type": b"a/b"}, "content_type: expected"),
    "content type with a line": ({"content_type": "a/b\r\nX: y"}, "content_type: expected"),
    "long content type": ({"content_type": "a/" + "b" * 254}, "content_type: longer than 255"),
    "session": ({"session_id": ""}, "session_id: must have 1 to 255"),
    "run": ({"run_id": 3}, "run_id: expected a string, got 3"),
}


class TestArguments:
    @pytest.mark.parametrize("name", CONTENTS)
    def test_content(self, store: ArtifactStore, folder: Path, name: str) -> None:
        content, words = CONTENTS[name]
        with pytest.raises(ValidationError, match=f"^content: .*{words}"):
            store.put("k", content)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("name", COLUMNS)
    def test_columns(self, store: ArtifactStore, folder: Path, name: str) -> None:
        columns, words = COLUMNS[name]
        source = io.BytesIO(b"content")
        with pytest.raises(ValidationError, match=words):
            store.put(**{"key": "k", "content": source, **columns})
        assert source.tell() == 0
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("method", ["get", "open", "delete", "stat"])
    @pytest.mark.parametrize("key", ["", "k" * 513, "\0", None])
    def test_keys(self, store: ArtifactStore, method: str, key: Any) -> None:
        with pytest.raises(ValidationError, match=r"^key: "):
            getattr(store, method)(key)

    @pytest.mark.parametrize("method", ["list_by_session", "session_stats"])
    def test_session_ids(self, store: ArtifactStore, method: str) -> None:
        with pytest.raises(ValidationError, match=r"^session_id: "):
            getattr(store, method)("\0")

    @pytest.mark.parametrize(
        "key", ["../../etc/passwd", "/etc/passwd", "a/b", "日本 🙂", " ", "K" * 512]
    )
    def test_keys_are_no_names(self, store: ArtifactStore, key: str) -> None:
        store.put("k" if key != "k" else "other", b"another")
        artifact = store.put(key, b"content")
        assert (store.get(key), artifact.key) == (b"content", key)
        assert len(contents("default")) == 2

    def test_a_file_that_is_open_for_writing(self, store: ArtifactStore, tmp_path: Path) -> None:
        with (
            Path(tmp_path, "written").open("wb") as file,
            pytest.raises(io.UnsupportedOperation, match=r"read"),
        ):
            store.put("k", file)
        assert contents("default") == []


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("report.html", None, "text/html"),
        ("plot.png", None, "image/png"),
        ("plot.png", "image/x-own; v=1", "image/x-own; v=1"),
        ("log.txt.gz", None, None),
        ("unknown", None, None),
    ],
)
def test_content_types(store: ArtifactStore, key: str, given: str | None, stored: str) -> None:
    assert store.put(key, b"", content_type=given).content_type == stored


class Full(FileSystemStorage):
    """A disk that is full after the first piece."""

    def _save(self, name: str, content: Any) -> str:
        super()._save(name, ContentFile(content.read(1000)))  # type: ignore[misc]
        raise OSError(28, "No space left on device")


class TestStorages:
    def test_an_unknown_one(self, folder: Path) -> None:
        with pytest.raises(InvalidStorageError, match=r"'nowhere' in settings.STORAGES"):
            ArtifactStore("nowhere")
        with pytest.raises(TypeError, match=r"storage: expected an alias, got None"):
            ArtifactStore(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"using: expected an alias, got 3"):
            ArtifactStore(using=3)  # type: ignore[arg-type]

    def test_one_that_STORAGES_no_longer_has(self, store: ArtifactStore, tmp_path: Path) -> None:  # noqa: N802
        store.put("k", b"content")
        entries = configured(tmp_path)
        kept = {"other": entries["default"]}
        with override_settings(STORAGES=kept):
            for use in (store.get, store.open):
                with pytest.raises(StorageError, match=r"'default' in settings.STORAGES. Give"):
                    use("k")
            with pytest.raises(StorageError, match=r"'k': .* could not be written: InvalidStorage"):
                store.put("k", b"new")
            ArtifactStore("other").put("k", b"again")
        assert Artifact.objects.get().storage_backend == "other"

    def test_one_that_is_full(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.put("k", b"before")
        full = {"BACKEND": f"{__name__}.Full", "OPTIONS": {"location": tmp_path / "default"}}
        with (
            override_settings(STORAGES={"default": full}),
            pytest.raises(
                StorageError, match=r"'default' could not be written: .*No space"
            ) as caught,
        ):
            store.put("k", b"x" * 100_000)
        assert isinstance(caught.value.__cause__, OSError)
        assert store.get("k") == b"before"
        assert len(contents("default")) == 1

    def test_one_without_its_bucket(self, s3_server: str) -> None:
        options = {**s3.options(s3_server), "bucket_name": "none"}
        entry = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
        with override_settings(STORAGES={"default": entry}):
            with pytest.raises(StorageError, match=r"NoSuchBucket") as caught:
                ArtifactStore().put("k", b"content")
            assert type(caught.value.__cause__).__module__.startswith(("boto", "s3"))
            storages["default"].connection.meta.client.close()  # type: ignore[attr-defined]
        assert not Artifact.objects.exists()

    def test_no_place_for_a_temporary_file(self, store: ArtifactStore, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        os.close(writing)
        with (
            os.fdopen(reading, "rb") as pipe,
            override_settings(FILE_UPLOAD_TEMP_DIR=str(tmp_path / "none")),
        ):
            store.put("k", pipe)  # a small one needs none
            assert store.get("k") == b""
            with pytest.raises(StorageError, match=r"'l': no temporary file: FileNotFoundError"):
                store.put("l", Zeros())

    def test_a_row_that_leads_out_of_the_storage(self, store: ArtifactStore) -> None:
        store.put("k", b"content")
        Artifact.objects.update(storage_ref="../../../etc/passwd")
        with pytest.raises(StorageError, match=r"cannot be read: SuspiciousFileOperation"):
            store.get("k")
        store.delete("k")
        assert Path("/etc/passwd").exists()

    @pytest.mark.parametrize(
        "name", ["upload.txt", "asm_artifacts/../upload.txt", "./upload.txt", "asm_artifacts"]
    )
    def test_a_row_that_names_a_file_of_others(self, store: ArtifactStore, name: str) -> None:
        """As a log may that is imported: nothing is removed but what the package has written."""
        assert storages["default"].save("upload.txt", ContentFile(b"mine")) == "upload.txt"
        store.put("k", b"content")
        Artifact.objects.update(storage_ref=name)
        store.delete("k")
        assert storages["default"].exists("upload.txt")


class Backwards(FileSystemStorage):
    """Reads the second half first, and the first half twice."""

    def _save(self, name: str, content: Any) -> str:
        half = content.size // 2
        content.seek(half)
        second = content.read()
        first = [content.seek(0) or content.read(half) for _ in range(2)]
        whole = ContentFile(first[1] + second)
        return str(super()._save(name, whole))  # type: ignore[misc]


def test_the_checksum_does_not_depend_on_how_a_storage_reads(tmp_path: Path) -> None:
    entry = {"BACKEND": f"{__name__}.Backwards", "OPTIONS": {"location": tmp_path}}
    content = bytes(range(256)) * 2000
    with override_settings(STORAGES={"default": entry}):
        artifact = ArtifactStore().put("k", content)
        assert ArtifactStore().get("k") == content
    assert artifact.checksum_sha256 == hashlib.sha256(content).hexdigest()


class Forwards(FileSystemStorage):
    """Gives files that cannot be sought in, as some do that come from a network."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        content = Path(self.path(name)).read_bytes()
        return ForwardFile(io.BytesIO(content), name)


class ForwardFile(File):  # type: ignore[type-arg]
    def seekable(self) -> bool:
        return False

    def seek(self, *args: int) -> int:
        raise io.UnsupportedOperation("seek")


def test_a_storage_whose_files_cannot_be_sought_in(tmp_path: Path) -> None:
    entry = {"BACKEND": f"{__name__}.Forwards", "OPTIONS": {"location": tmp_path}}
    with override_settings(STORAGES={"default": entry}):
        store = ArtifactStore()
        artifact = store.put("k", b"a line\n" * 20_000)
        assert store.get("k") == b"a line\n" * 20_000
        with store.open("k") as file:
            assert not file.seekable()
            with pytest.raises(io.UnsupportedOperation):
                file.seek(0)
            assert list(file) == [b"a line\n"] * 20_000
        Path(tmp_path, artifact.storage_ref).write_bytes(b"changed")
        with store.open("k") as file, pytest.raises(StorageError, match="has changed"):
            list(file)


def test_files_are_on_the_disk_before_their_row_is_stored(
    store: ArtifactStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        assert not Artifact.objects.exists()
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    path = folder / "default" / store.put("k", b"content").storage_ref
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]


class Zeros:
    left = 8 * 1024 * 1024

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


@async_to_sync
async def _use_twins(store: ArtifactStore) -> None:
    artifact = await store.aput("k", io.BytesIO(b"content"), metadata={"a": 1})
    assert await store.aget("k") == b"content"
    assert await store.astat("k") == artifact
    assert await store.alist_by_session("s") == []
    assert (await store.asession_stats("s")).count == 0
    await store.adelete("k")
    with pytest.raises(ArtifactNotFound):
        await store.aget("k")


def test_async_twins(store: ArtifactStore) -> None:
    _use_twins(store)
