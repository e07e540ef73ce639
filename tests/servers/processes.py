"""Running server programs: as an unprivileged user, with a log, until they are stopped."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import Server, ServerUnavailableError

MAX_CONNECTIONS = 200
_START_SECONDS = 60
_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a server runs as; `None` for both ids means: as we ourselves do."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def unprivileged(cls, *names: str) -> Self:
        """The first of these users that exists, when we are root, whom the servers refuse."""
        if os.geteuid() != 0:
            return cls()
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        for name in (*names, "nobody"):
            if name in known:
                return cls(known[name].pw_uid, known[name].pw_gid)
        raise ServerUnavailableError("no unprivileged user to run the server as")

    @property
    def arguments(self) -> dict[str, Any]:
        """The same for `subprocess`."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Whether a server that runs as this account can reach `path`."""
        return self.uid is None or all(
            folder.stat().st_mode & 0o001 for folder in (path, *path.parents)
        )


class Processes:
    """The server processes of one directory; all are stopped, by their ids, on leaving."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._running:
            # PostgreSQL drops its clients at once, MariaDB takes it like SIGTERM.
            process.send_signal(signal.SIGQUIT)
        for process in self._running:
            _wait_or_kill(process)

    def make_folder(self, name: str, account: Account) -> Path:
        folder = self.directory / name
        folder.mkdir(mode=0o700)
        account.own(folder)
        return folder

    def run(self, command: Sequence[str | Path], account: Account) -> None:
        """Run a program to its end; `ServerUnavailableError` with its last words if it fails."""
        done = subprocess.run(
            command,
            **self._surroundings(account),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise ServerUnavailableError(_last_words(command[0], done.stderr or done.stdout))

    def start(
        self,
        command: Sequence[str | Path],
        account: Account,
        connect: Callable[[], None],
        name: str = "",
    ) -> int:
        """Start a server, wait until `connect` raises no more, and return the process id.

        Its log has this name, or the program's.
        """
        log = self.directory / f"{name or Path(command[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                **self._surroundings(account),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        _wait_until_ready(process, log, connect)
        return process.pid

    def stop(self, pid: int, how: signal.Signals) -> None:
        """Stop a server before all others, and wait for its end."""
        [process] = [each for each in self._running if each.pid == pid]
        self._running.remove(process)
        process.send_signal(how)
        _wait_or_kill(process)

    def is_running(self, pid: int) -> bool:
        return any(each.pid == pid and each.poll() is None for each in self._running)

    def kill(self, pid: int) -> None:
        """Kill a server and the processes that it has started, all at once."""
        started = children(pid)
        self.stop(pid, signal.SIGKILL)
        for child in started:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while any(map(_is_alive, started)):  # what they share must be free
            time.sleep(0.01)

    def _surroundings(self, account: Account) -> dict[str, Any]:
        # Neither our working directory nor our locale need exist for the server's user.
        environment = {**os.environ, "LC_ALL": "C", "HOME": str(self.directory)}
        return {"cwd": self.directory, "env": environment, **account.arguments}


def durable() -> bool:
    """Whether somebody asked for servers that survive a power cut, as production's do."""
    return os.environ.get("ASM_TEST_DURABLE") == "1"


def reached(server: Server, connect: Callable[[Server], None]) -> Server:
    """The same server, which answers, or `ServerUnavailableError`."""
    try:
        connect(server)
    except Exception as error:
        raise ServerUnavailableError(f"{server.origin}: {error}") from error
    return server


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(
    process: subprocess.Popen[bytes], log: Path, connect: Callable[[], None]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return connect()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(
                    _last_words(log.stem, log.read_text(errors="replace") or str(error))
                ) from error
        time.sleep(0.02)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    shown = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = (map(int, line.split()) for line in shown.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def _is_alive(pid: int) -> bool:
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return state != "" and not state.startswith("Z")


def _last_words(program: object, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"{program} failed: {' / '.join(lines[-3:])}"
