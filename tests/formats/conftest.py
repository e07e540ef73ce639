from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asm_store.models import Event, Run
from example_project.sample_data import Transcript
from tests.formats.logs import read


@pytest.fixture
def log() -> Transcript:
    """An empty transcript."""
    return Transcript("test")


@pytest.fixture
def events(tmp_path: Path) -> Callable[[Transcript], list[Event]]:
    """Reads the events of a transcript."""
    return lambda log: read(log.write(tmp_path / "log.jsonl"))[1]


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[Transcript], list[Run]]:
    """Reads the runs of a transcript."""
    return lambda log: read(log.write(tmp_path / "log.jsonl"))[2]
