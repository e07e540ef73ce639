"""Contents of artifacts in a file of the own format: what is cut off or changed is refused."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.formats import import_paths
from asm_store.formats.attachments import Attachment
from asm_store.formats.jsonl import encoded
from asm_store.models import Artifact
from tests import records
from tests.artifacts.places import configured, contents
from tests.cases import EMPTIED_APPS

# What is tested here is the same for every database.
pytestmark = pytest.mark.django_db(
    transaction=True, databases=["default"], available_apps=EMPTIED_APPS
)
REF = "asm_artifacts/default/ab/abc"
CONTENT = b"content" * 100


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Any:
    with override_settings(STORAGES=configured(tmp_path / "storages")):
        yield tmp_path


def artifact(**columns: Any) -> Artifact:
    checksum = hashlib.sha256(CONTENT).hexdigest()
    told = {"storage_ref": REF, "byte_size": len(CONTENT), "checksum_sha256": checksum}
    return records.artifact(id="art_1", key="k", **{**told, **columns})


def lines(*pieces: bytes, row: Artifact | None = None, pk: str = "art_1") -> list[dict[str, Any]]:
    """A whole file, but for what the pieces lack."""
    return [
        {"format": "asm_store", "version": 2},
        {"kind": "artifact", "record": (row or artifact()).to_dict(), "has_content": True},
        *(
            {"kind": "content", "artifact_id": pk, "data": base64.b64encode(p).decode()}
            for p in pieces
        ),
        {"kind": "end", "sessions": 0, "runs": 0, "events": 0, "artifacts": 1},
    ]


def imported(folder: Path, given: list[dict[str, Any]], **options: Any) -> str | None:
    """The file's error."""
    path = folder / "log.jsonl"
    path.write_bytes(b"".join(map(encoded, given)))
    [report] = import_paths([path], **options).files
    return report.error


def stored() -> list[str]:
    return list(Artifact.objects.values_list("key", flat=True))


def test_in_pieces(folder: Path) -> None:
    given = lines(CONTENT[:1], CONTENT[1:300], CONTENT[300:])
    assert imported(folder, given) is None
    assert ArtifactStore().get("k") == CONTENT
    assert contents("default") == [REF]


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    assert imported(folder, lines(CONTENT), dry_run=True) is None
    assert (stored(), contents("default")) == ([], [])


def test_again_it_changes_nothing(folder: Path) -> None:
    assert imported(folder, lines(CONTENT)) is None
    ArtifactStore().put("k", b"newer")
    assert imported(folder, lines(CONTENT)) is None
    assert ArtifactStore().get("k") == b"newer"
    assert len(contents("default")) == 1


def test_content_that_is_there_is_compared(folder: Path) -> None:
    storages["default"].save(REF, ContentFile(CONTENT))
    assert imported(folder, lines(CONTENT)) is None
    assert contents("default") == [REF]


def test_a_place_that_is_taken(folder: Path) -> None:
    storages["default"].save(REF, ContentFile(b"another's"))
    assert "has changed" in str(imported(folder, lines(CONTENT)))
    assert stored() == []


@pytest.mark.parametrize(
    "given",
    [
        lines(),
        lines(CONTENT[:-1]),
        lines(CONTENT[1:]),
        lines(CONTENT[:-1] + b"x"),
        lines(CONTENT + b"x"),
        lines(CONTENT, pk="art_2"),
        [*lines(CONTENT)[:2], {"kind": "content", "artifact_id": "art_1", "data": "?"}],
        [*lines(CONTENT)[:2], {"kind": "content", "artifact_id": "art_1", "data": None}],
        [*lines(CONTENT)[:2], {"kind": "content", "artifact_id": "art_1"}],
        lines(CONTENT)[:2],
    ],
)
def test_what_is_not_whole_is_not_stored(folder: Path, given: list[dict[str, Any]]) -> None:
    assert imported(folder, given) == "the content of artifact art_1 is not whole"
    assert (stored(), contents("default")) == ([], [])


def test_content_without_its_artifact_is_skipped(folder: Path) -> None:
    given = lines(CONTENT)
    path = folder / "log.jsonl"
    path.write_bytes(b"".join(map(encoded, [given[0], given[2], given[1], *given[2:]])))
    [report] = import_paths([path]).files
    assert report.error is None
    assert report.skipped["content: without its artifact"].count == 1
    assert stored() == ["k"]


@pytest.mark.parametrize("ref", ["elsewhere/abc", "asm_artifacts/../abc", "/etc/abc"])
def test_only_the_own_folder_is_written_to(folder: Path, ref: str) -> None:
    error = imported(folder, lines(CONTENT, row=artifact(storage_ref=ref)))
    assert "is not below asm_artifacts" in str(error)
    assert stored() == []


def test_a_storage_that_is_not_there(folder: Path) -> None:
    error = imported(folder, lines(CONTENT, row=artifact(storage_backend="nowhere")))
    assert "nowhere" in str(error)
    assert stored() == []


def test_a_large_content_is_on_the_disk(folder: Path) -> None:
    size = 5 * 1024 * 1024
    attachment = Attachment(artifact(byte_size=size))
    piece = base64.b64encode(bytes(1024 * 1024)).decode()
    for _ in range(4):
        attachment.feed({"artifact_id": "art_1", "data": piece})
    assert attachment.file.fileno() >= 0  # of a file, not of memory
    assert not attachment.is_whole
