"""PgBouncer, which lends a server's connection for a transaction."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import ServerUnavailableError
from .processes import Account, Processes, free_port

_INI = """\
[databases]
* = host={HOST} port={PORT} user={USER} password={PASSWORD}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
"""


class Pooler:
    """One in front of the server of a value of `DATABASES`, on a port of its own."""

    def __init__(self, processes: Processes, database: Mapping[str, Any]) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            raise ServerUnavailableError("PgBouncer is not installed")
        self._processes = processes
        # It refuses to run as root.
        self._account = Account.unprivileged("postgres")
        self.port = free_port()
        ini = processes.make_folder("pgbouncer", self._account) / "pgbouncer.ini"
        ini.write_text(_INI.format(**database, own_port=self.port))
        self._account.own(ini)
        self._command: list[str | Path] = [program, ini]
        self._pid: int | None = None

    def start(self) -> None:
        self._pid = self._processes.start(self._command, self._account, self._reach)

    def _reach(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), 5).close()

    def kill(self) -> None:
        assert self._pid is not None
        self._processes.kill(self._pid)
