from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from tests.artifacts.places import configured
from tests.management.maintaining import fill


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """Those of a program at a terminal, here and in the processes that are started: one that a
    shell has put into the background ignores SIGINT, and so would its children.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def filled(using: str) -> str:
    fill(using)
    return using


@pytest.fixture
def filled_default(transactional_db: None) -> None:
    fill("default")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path
