"""The PostgreSQL and MariaDB servers of a test run: found, or started for it.

`obtain()` starts a supervisor process once; worker and child processes reuse its servers, because
they inherit the environment variable `ASM_TEST_SERVERS`. The supervisor stops what it started when
its standard input ends: at the normal end and also after this process was killed.

Environment variables that a person may set:

- `ASM_TEST_POSTGRESQL_URL`, `ASM_TEST_MYSQL_URL`: use this server (`postgresql://user:password@
  host:port/name`). The user must be allowed to create databases.
- `ASM_TEST_DURABLE=1`: start servers with their own default durability, on a real disk.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

VARIABLE = "ASM_TEST_SERVERS"
_ROOT = Path(__file__).parents[2]


class ServerUnavailableError(Exception):
    """A server was neither found nor could be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach one server. `pid` is set when it was started for the tests."""

    origin: str
    host: str
    port: int
    user: str
    password: str
    name: str = "asm_store"
    options: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    note: str = ""

    @classmethod
    def from_url(cls, url: str, *, origin: str, port: int) -> Self:
        """Read a DSN; `port` is the one that holds when it names none."""
        parts = urlsplit(url)
        return cls(
            origin=origin,
            # For MySQL's client "localhost" would mean a socket.
            host=parts.hostname or "127.0.0.1",
            port=parts.port or port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            name=unquote(parts.path.lstrip("/")) or "asm_store",
            options=dict(parse_qsl(parts.query)),
        )


@dataclass(frozen=True, slots=True)
class Servers:
    """What a supervisor has: servers by vendor, and why a vendor's server is missing."""

    directory: str
    servers: dict[str, Server] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        data: dict[str, Any] = json.loads(text)
        servers = {vendor: Server(**values) for vendor, values in data["servers"].items()}
        return cls(data["directory"], servers, data["missing"])


def obtain() -> Servers:
    """The servers of this test run; the first caller's process starts them."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = _start_supervisor()
    return Servers.from_json(os.environ[VARIABLE])


def _start_supervisor() -> str:
    # A session of its own: Ctrl-C in the terminal must reach the tests, not the servers.
    supervisor = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(supervisor.communicate)
    assert supervisor.stdout is not None
    line = supervisor.stdout.readline()
    if not line:
        raise RuntimeError("The supervisor of the test servers ended early; see its output above.")
    return line
