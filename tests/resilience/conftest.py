"""What the trials share: servers of their own, writers, and a row of the table for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from tests.exports import EXTRA_TYPE
from tests.resilience.cases import AVAILABLE
from tests.resilience.doors import Bench
from tests.resilience.teams import Team
from tests.servers.processes import Processes

ALIAS = "trial"

Gather = Callable[..., Team]
Look = Callable[..., str]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """For durable servers of the trials' own: what a crash takes with it would be missed."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        tempfile.TemporaryDirectory(prefix="asm-") as directory,
    ):
        monkeypatch.setenv("ASM_TEST_DURABLE", "1")
        # They run as other users, who must be able to walk through here.
        Path(directory).chmod(0o711)
        with Processes(Path(directory)) as running:
            yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is started goes before its servers do."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker) -> Iterator[Look]:
    """The alias by which this process looks at a database that is given."""
    known: set[str] = set()

    def at(database: dict[str, Any], alias: str = ALIAS) -> str:
        settings = connections.configure_settings({"default": database})["default"]
        monkeypatch.setitem(connections.settings, alias, settings)
        known.add(alias)
        return alias

    with django_db_blocker.unblock():
        yield at
        for alias in known:
            connections[alias].close()
            del connections[alias]


@pytest.fixture
def gather(
    processes: Processes,
    look: Look,
    tmp_path: Path,
    stack: ExitStack,
) -> Gather:
    """Start writers on these databases; what they leave is looked at in `watched`, or the first."""

    def start(
        *databases: dict[str, Any], watched: dict[str, Any] | None = None, **options: Any
    ) -> Team:
        return Team(look(watched or databases[0]), databases, tmp_path, stack, **options)

    return start


@pytest.fixture
def bench(transactional_db: None) -> Iterator[Bench]:
    """Databases of each vendor, filled with the same, whose doors are to answer alike."""
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE]):
        yield Bench.filled(AVAILABLE)
