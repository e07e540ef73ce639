"""MariaDB or MySQL: from a DSN, or from server programs on this machine."""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import Server, ServerUnavailableError
from .processes import MAX_CONNECTIONS, Account, Processes, durable, free_port, reached

_VARIABLE = "ASM_TEST_MYSQL_URL"
# Servers are often installed where only root looks for programs.
_FOLDERS = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/mysql/bin")
_QUICK = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0")


def find_or_start(processes: Processes) -> Server:
    """A MariaDB or MySQL server that answers, or `ServerUnavailableError`."""
    try:
        importlib.import_module("MySQLdb")
    except ImportError as error:
        raise ServerUnavailableError(f"mysqlclient cannot be imported: {error}") from error
    if url := os.environ.get(_VARIABLE):
        return reached(Server.from_url(url, origin=_VARIABLE, port=3306), _connect)
    program = _program("mariadbd", "mysqld")
    if program is None:
        raise ServerUnavailableError(
            f"no MariaDB or MySQL server on this machine: install one, or set {_VARIABLE}"
        )
    return _started(program, processes, Account.unprivileged("mysql"))


class OwnServer:
    """A server that a test starts for itself, kills, and starts again on its port."""

    def __init__(
        self,
        processes: Processes,
        name: str = "mysql",
        options: Sequence[str] = (),
        *,
        is_empty: bool = False,
    ) -> None:
        """With these options beside those of all servers; an empty one gets its data elsewhere."""
        program = _program("mariadbd", "mysqld")
        if program is None:
            raise ServerUnavailableError("no MariaDB or MySQL server on this machine")
        self._processes, self._name = processes, name
        self._account = Account.unprivileged("mysql")
        self.server = _made(program)
        folder = processes.make_folder(name, self._account)
        if is_empty:
            processes.make_folder(f"{name}/data", self._account)
        else:
            _initialise(program, folder, processes, self._account)
        script = _user_script(folder, self.server, self._account)
        self._command = [*_command(program, folder, self.server.port, script), *options]

    def start(self, *options: str) -> None:
        """Also with these options, this time."""
        command = [*self._command, *options]
        connect = partial(_connect, self.server)
        pid = self._processes.start(command, self._account, connect, self._name)
        self.server = replace(self.server, pid=pid)

    def is_running(self) -> bool:
        return self.server.pid is not None and self._processes.is_running(self.server.pid)

    def kill(self) -> None:
        assert self.server.pid is not None
        self._processes.kill(self.server.pid)


def _connect(server: Server) -> None:
    import MySQLdb

    MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        connect_timeout=5,
        **server.options,
    ).close()


def _program(*names: str) -> Path | None:
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS])
    found = filter(None, (shutil.which(name, path=places) for name in names))
    return next(map(Path, found), None)


def _made(program: Path) -> Server:
    """One that is to be started."""
    return Server(
        origin=str(program),
        host="127.0.0.1",
        port=free_port(),
        user="asm",
        password=secrets.token_hex(8),
    )


def _started(program: Path, processes: Processes, account: Account) -> Server:
    server = _made(program)
    folder = processes.make_folder("mysql", account)
    _initialise(program, folder, processes, account)
    command = _command(program, folder, server.port, _user_script(folder, server, account))
    pid = processes.start(command, account, partial(_connect, server))
    return replace(server, pid=pid)


def _initialise(program: Path, folder: Path, processes: Processes, account: Account) -> None:
    data = f"--datadir={folder / 'data'}"
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if "MariaDB" not in shown.stdout:
        return processes.run([program, "--no-defaults", "--initialize-insecure", data], account)
    installer = _program("mariadb-install-db", "mysql_install_db")
    if installer is None:
        raise ServerUnavailableError(f"{program} is here, but mariadb-install-db is not")
    return processes.run([installer, "--no-defaults", "--skip-test-db", data], account)


def _user_script(folder: Path, server: Server, account: Account) -> Path:
    """The statements that the server executes when it starts: a user for the tests."""
    script = folder / "user.sql"
    user = f"'{server.user}'@'{server.host}'"
    script.write_text(
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{server.password}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION;\n"
        f"CREATE DATABASE IF NOT EXISTS {server.name};\n"
    )
    account.own(script)
    script.chmod(0o600)
    return script


def _command(program: Path, folder: Path, port: int, script: Path) -> list[str | Path]:
    return [
        program,
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--init-file={script}",
        f"--pid-file={folder / 'pid'}",
        f"--socket={folder / 'socket'}",
        # Not one that it shares with the servers of other test runs, which tidy up there.
        f"--tmpdir={folder}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--loose-mysqlx=OFF",
        # Its default collation is the server's: it ignores case, as default installations do.
        "--character-set-server=utf8mb4",
        f"--max-connections={MAX_CONNECTIONS}",
        *([] if durable() else _QUICK),
    ]
