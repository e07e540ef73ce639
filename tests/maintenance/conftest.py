from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from tests.artifacts.places import configured


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the storages "default" and "other" are."""
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path
