from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from tests.artifacts import s3
from tests.artifacts.places import configured
from tests.cases import skip


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    if absent := s3.missing():
        skip(f"S3: {', '.join(absent)} not installed (the extra s3, and moto[server])")
    with s3.served() as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the storages "default" and "other" are; everything is as `configured()` says."""
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path


@pytest.fixture
def files(using: str, folder: Path) -> ArtifactStore:
    """On each database in turn, with files."""
    return ArtifactStore(using=using)


@pytest.fixture
def s3_storage(s3_server: str, tmp_path: Path) -> Iterator[str]:
    """The alias of a storage on S3."""
    with override_settings(STORAGES=configured(tmp_path, s3_server)):
        yield "s3"
        s3.empty(storages["s3"])


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> str:
    """Each kind of storage in turn, by its alias."""
    alias: str = request.param
    request.getfixturevalue("s3_storage" if alias == "s3" else "folder")
    return alias
