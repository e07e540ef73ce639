"""The contract suite, long form: through PgBouncer, and on a node of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import pytest

from tests.cases import require, started
from tests.databases import on_server
from tests.resilience.servers import start_server
from tests.servers import VARIABLE, Server
from tests.servers.galera import Cluster
from tests.servers.pgbouncer import Pooler
from tests.servers.processes import Processes
from tests.standalone import ROOT

# Child processes of this test run learn from them of servers that are not meant here.
INHERITED = (VARIABLE, "ASM_TEST_DATABASE_NAMES")


@pytest.fixture(autouse=True)
def only_long(is_long: bool) -> None:
    if not is_long:
        pytest.skip("the whole contract: with --long")


def passes(variable: str, server: Server, port: int, tests: str) -> str:
    """The last line of a test run whose server is this one, at that port."""
    user = f"{quote(server.user)}:{quote(server.password)}"
    engine = variable.split("_")[2].lower()
    url = f"{engine}://{user}@{server.host}:{port}/{server.name}"
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    # The test database stays, since a pooler keeps connections to it; its server goes.
    command = [sys.executable, "-m", "pytest", "-q", "--reuse-db", "-k", tests]
    done = subprocess.run(
        [*command, "tests/backends/test_contract.py"],
        cwd=ROOT,
        env={**environment, variable: url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    return done.stdout.strip().splitlines()[-1]


def test_through_pgbouncer(processes: Processes, tell: Callable[[str], None]) -> None:
    own = start_server("postgresql", processes)
    pooler = started(partial(Pooler, processes, on_server("postgresql", own.server)))
    pooler.start()
    tell(passes("ASM_TEST_POSTGRESQL_URL", own.server, pooler.port, "PostgresqlTests"))


def test_on_a_cluster(processes: Processes, tell: Callable[[str], None]) -> None:
    require("mysql")
    cluster = started(partial(Cluster, processes))
    node = cluster.nodes[1].server
    tell(passes("ASM_TEST_MYSQL_URL", node, node.port, "MysqlTests or MysqlOtherTests"))
