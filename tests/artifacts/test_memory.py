"""A large content takes no more memory than a small one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_processes

SIZE = 96  # MiB
PEAKS = "tests.artifacts.memory.peaks"

pytestmark = pytest.mark.django_db(
    transaction=True, databases=["default"], available_apps=["asm_store"]
)


def peaks(*arguments: Any) -> dict[str, float]:
    [found] = run_processes(PEAKS, [("default", *arguments)])
    assert found.keys() == {"put a stream", "put a file", "read"}
    return dict(found)


def test_in_files(tmp_path: Path) -> None:
    found = peaks(str(tmp_path), None, "default", SIZE)
    # The spool's 4 MiB and its growing; for the others what is read at a time.
    assert found.pop("put a stream") < 10
    assert max(found.values()) < 3


def test_in_s3(s3_server: str, tmp_path: Path) -> None:
    found = peaks(str(tmp_path), s3_server, "s3", SIZE)
    # A part is 8 MiB, and is copied once or twice on its way.
    assert max(found.values()) < 40


def test_what_is_measured_would_show_it(tmp_path: Path) -> None:
    assert peaks(str(tmp_path), None, "memory", 32)["put a stream"] > 32
