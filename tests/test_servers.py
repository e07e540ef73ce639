"""The test infrastructure itself: what every other test relies on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connections

from asm_store.models import Session
from tests.cases import CommittedTestCase, require, started
from tests.databases import vendor_of
from tests.processes import run_processes
from tests.servers import VARIABLE, Server, Servers, ServerUnavailableError, obtain
from tests.threads import run_threads

_ROOT = Path(__file__).parents[1]
_SECONDS = 30
# The columns' own collation is what the tests are to prove, so the database's must be another.
_BY_CODE_POINT = {
    "sqlite": "SELECT 'B' < 'a' AND 'a' <> 'A'",
    "postgresql": "SELECT 'B' < 'a'",
    "mysql": "SELECT 'B' < 'a' OR 'a' <> 'A'",
}
_START_AND_WAIT = """
import sys
from tests.servers import obtain
print(obtain().to_json(), flush=True)
sys.stdin.read()
"""


def session_ids(using: str) -> list[str]:
    return list(Session.objects.using(using).order_by("id").values_list("id", flat=True))


def add_session(using: str, session_id: str) -> list[str]:
    """Runs in child processes too: the ids that were there before."""
    before = session_ids(using)
    Session.objects.using(using).create(id=session_id, agent_id="tester")
    return before


class TestAccess:
    def test_child_processes_share_the_database(self, using: str) -> None:
        add_session(using, "ses_0")

        seen = run_processes(f"{__name__}.add_session", [[using, "ses_1"], [using, "ses_2"]])

        assert [ids[0] for ids in seen] == ["ses_0", "ses_0"]
        assert session_ids(using) == ["ses_0", "ses_1", "ses_2"]

    def test_threads_see_what_was_committed(self, using: str) -> None:
        add_session(using, "ses_parent")

        assert run_threads([lambda: session_ids(using)] * 2) == [["ses_parent"]] * 2

    @pytest.mark.parametrize("repetition", [1, 2])
    def test_every_test_starts_empty(self, using: str, repetition: int) -> None:
        assert session_ids(using) == []
        add_session(using, "ses_1")

    def test_another_alias_is_forbidden(self, using: str) -> None:
        other = "other" if using == "default" else "default"

        with pytest.raises(AssertionError, match=f"queries to '{other}' are not allowed"):
            session_ids(other)

    def test_the_database_is_the_one_of_its_alias(self, using: str) -> None:
        assert connections[using].vendor == vendor_of(using)


class TestCommittedOnServer(CommittedTestCase):
    using = "postgresql"

    def test_child_processes_share_the_database(self) -> None:
        add_session(self.using, "ses_0")

        seen = run_processes(f"{__name__}.add_session", [[self.using, "ses_1"]])

        self.assertEqual(seen, [["ses_0"]])


def test_a_failing_thread_is_noticed() -> None:
    with pytest.raises(ZeroDivisionError):
        run_threads([lambda: 1 // 1, lambda: 1 // 0])


def test_a_failing_process_is_noticed() -> None:
    with pytest.raises(AssertionError, match="failed in a child process"):
        run_processes("operator.truediv", [[1, 1], [1, 0]])


def test_only_sqlite_compares_by_code_point(using: str) -> None:
    vendor = vendor_of(using)
    server = obtain().servers.get(vendor)
    if server and server.note:
        pytest.skip(server.note)

    with connections[using].cursor() as cursor:
        cursor.execute(_BY_CODE_POINT[vendor])
        assert bool(cursor.fetchone()[0]) == (vendor == "sqlite")


def test_servers_stop_when_the_tests_are_killed() -> None:
    # Neither this run's servers nor anybody's own: new ones.
    environment = {n: value for n, value in os.environ.items() if not n.startswith("ASM_TEST_")}
    with subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT],
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        servers = Servers.from_json(parent.stdout.readline())
        pids = [server.pid for server in servers.servers.values() if server.pid]
        assert all(map(_runs, pids))
        parent.kill()

    if not pids:
        pytest.skip(f"no server was started: {servers.missing}")
    _wait_until_gone(pids, Path(servers.directory))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until_gone(pids: list[int], directory: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while directory.exists() or any(map(_runs, pids)):
        assert time.monotonic() < deadline, f"still there: {pids}, {directory}"
        time.sleep(0.02)


class TestMissingServer:
    def test_is_a_visible_skip(self, tmp_path: Path) -> None:
        run = _run_without_servers(tmp_path)

        assert run.returncode == 0, run.stdout
        assert re.search(r"\b2 passed, 5 skipped\b", run.stdout)
        assert "postgresql_other: none on this machine" in run.stdout

    def test_is_an_error_in_ci(self, tmp_path: Path) -> None:
        run = _run_without_servers(tmp_path, CI="true")

        assert run.returncode == 1, run.stdout
        assert re.search(r"\b2 passed, .*5 errors\b", run.stdout)
        assert "postgresql_other: none on this machine" in run.stdout

    @pytest.mark.parametrize(
        ("ci", "required", "outcome"),
        [
            ("", "", pytest.skip.Exception),
            ("false", "", pytest.skip.Exception),
            ("true", "", pytest.fail.Exception),
            ("", "1", pytest.fail.Exception),
            ("true", "0", pytest.skip.Exception),
        ],
    )
    def test_what_the_environment_says(
        self, ci: str, required: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CI", ci)
        monkeypatch.setenv("ASM_TEST_REQUIRE_SERVERS", required)
        monkeypatch.setenv(VARIABLE, Servers("", {}, {"oracle": "none here"}).to_json())

        with pytest.raises(outcome, match="none here"):
            require("oracle")
        with pytest.raises(outcome, match="no such program"):
            started(_nothing)


def _nothing() -> None:
    raise ServerUnavailableError("no such program")


def _run_without_servers(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Seven tests of this file in a run of their own; two of them are for SQLite."""
    missing = dict.fromkeys(("postgresql", "mysql"), "none on this machine")
    said = ("CI", "ASM_TEST_REQUIRE_SERVERS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in said}
    environment[VARIABLE] = Servers(str(directory), {}, missing).to_json()
    chosen = "test_the_database_is_the_one_of_its_alias or TestCommittedOnServer"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "-k", chosen, __file__],
        cwd=_ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


class TestServer:
    def test_from_url(self) -> None:
        server = Server.from_url(
            "postgresql://me:p%40ss@db.example:6543/asm?sslmode=require", origin="here", port=5432
        )

        assert server == Server(
            "here", "db.example", 6543, "me", "p@ss", "asm", {"sslmode": "require"}
        )

    def test_from_a_short_url(self) -> None:
        server = Server.from_url("mysql://root@", origin="here", port=3306)

        assert server == Server("here", "127.0.0.1", 3306, "root", "", "asm_store")
