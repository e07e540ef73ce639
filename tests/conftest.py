from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from pytest_django import DjangoDbBlocker

from asm_store import signals
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.db.postgresql import PostgreSQLOperations
from tests.cases import require, with_access
from tests.databases import ALIASES, tell_child_processes, vendor_of
from tests.results import Result, table
from tests.servers import obtain

# Before the test runner gives each database that it makes another name.
_NAMES = {alias: database["NAME"] for alias, database in settings.DATABASES.items()}


# The name of a test's property: what it has proved. Reports bring it from a worker process too.
PROOF = "proof"
# And the row of the table that it ends with, as JSON.
RESULT = "result"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the proofs in their long form")
    parser.addoption("--results", metavar="FILE", help="write the table of the trials as JSON")


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether `--long` was given: a proof then takes the time it needs."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Call it with what was proved, in figures: it stands under "proofs" after the run."""
    told: list[str] = []
    start = time.monotonic()
    yield told.append
    seconds = time.monotonic() - start
    findings = [f"{request.node.name}: {text} ({seconds:.1f} s)" for text in told]
    request.node.user_properties += [(PROOF, finding) for finding in findings]


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Result], None]:
    """Call it with the row of the table that the trial ends with."""

    def add(result: Result) -> None:
        assert (result.lost, result.duplicates) == (0, 0)
        request.node.user_properties.append((RESULT, result.to_json()))

    return add


@pytest.fixture(params=ALIASES)
def alias(request: pytest.FixtureRequest) -> str:
    """Each database alias in turn, without access to it."""
    return require(request.param)


@pytest.fixture(params=map(with_access, ALIASES))
def using(request: pytest.FixtureRequest) -> str:
    """Each database alias in turn; what the test commits there is deleted after it."""
    return require(request.param)


@pytest.fixture
def database_store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using)


@pytest.fixture(params=["memory", *map(with_access, ALIASES)])
def store(request: pytest.FixtureRequest) -> BaseSessionStore:
    """A store of each kind: in memory, of this test's own, and on each database alias."""
    if request.param == "memory":
        return InMemorySessionStore()
    return DatabaseSessionStore(require(request.param))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Child processes use the test databases too; all of them are empty in the end."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    made = {alias: name for alias, name in names.items() if name != _NAMES[alias]}
    tell_child_processes(made)
    yield
    tell_child_processes({})
    with django_db_blocker.unblock():
        left = [name for alias in made for name in _tables_with_rows(alias)]
    assert not left, f"a test wrote where it should not have, rows are left in {left}"


def _tables_with_rows(alias: str) -> Iterator[str]:
    for model in apps.get_app_config("asm_store").get_models():
        if model._base_manager.using(alias).exists():
            yield f"{alias}.{model._meta.db_table}"


def pytest_report_header() -> list[str]:
    servers = obtain()
    found = [f"{vendor}: {server.origin}" for vendor, server in servers.servers.items()]
    return found + [f"{vendor} MISSING: {reason}" for vendor, reason in servers.missing.items()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    findings = list(_findings(terminalreporter, PROOF))
    if findings:
        terminalreporter.section("proofs")
    for line in findings:
        terminalreporter.write_line(line)
    _show_results(terminalreporter)


def _findings(terminalreporter: pytest.TerminalReporter, kind: str) -> Iterator[str]:
    """What the tests have told by their end, which the reports of their teardowns know."""
    for report in terminalreporter.getreports(""):
        if report.when == "teardown":
            yield from (str(text) for name, text in report.user_properties if name == kind)


def _show_results(terminalreporter: pytest.TerminalReporter) -> None:
    results = [json.loads(text) for text in _findings(terminalreporter, RESULT)]
    if results:
        terminalreporter.section("trials")
        for line in table(results):
            terminalreporter.write_line(line)
    if path := terminalreporter.config.getoption("--results"):
        Path(path).write_text(json.dumps(results, indent=2) + "\n")


@pytest.fixture
def retries() -> Iterator[list[str]]:
    """Why writes were tried again."""
    found: list[str] = []

    def receive(*, failure: str, **_: Any) -> None:
        found.append(failure)

    signals.retrying.connect(receive)
    yield found
    signals.retrying.disconnect(receive)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """That a database had no function: a test has taken it away, and given it back."""
    yield
    PostgreSQLOperations.without_function.clear()


@pytest.fixture
def server(using: str) -> str:
    """Each alias whose database is a server's."""
    if vendor_of(using) == "sqlite":
        pytest.skip("SQLite has no server and no row locks")
    return using


@pytest.fixture
def unmigrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """An alias of a new, empty SQLite file."""
    database = {**connections.settings["other"], "NAME": str(tmp_path / "empty.sqlite3")}
    monkeypatch.setitem(connections.settings, "unmigrated", database)
    with django_db_blocker.unblock():
        yield "unmigrated"
        connections["unmigrated"].close()
    del connections["unmigrated"]
