"""The supervisor: starts the servers, prints one JSON line, stops them when its input ends."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import Server, Servers, ServerUnavailableError, mysql, postgresql
from .processes import Processes, durable

_STARTERS = {"postgresql": postgresql.find_or_start, "mysql": mysql.find_or_start}
_NEEDED_BYTES = 2 * 1024**3


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with _temporary_directory() as directory, Processes(directory) as processes:
        print(_start_all(processes).to_json(), flush=True)  # noqa: T201
        sys.stdin.read()


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="asm-", dir=_place()))
    # Servers that run as another user must be able to walk through it.
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _place() -> str | None:
    """Where to put the data: in memory when there is room, and nobody asked for durability."""
    memory = Path("/dev/shm")
    if durable() or not os.access(memory, os.W_OK):
        return None
    return str(memory) if shutil.disk_usage(memory).free > _NEEDED_BYTES else None


def _start_all(processes: Processes) -> Servers:
    result = Servers(str(processes.directory))

    def start(vendor: str, find_or_start: Callable[[Processes], Server]) -> None:
        try:
            result.servers[vendor] = find_or_start(processes)
        except (ServerUnavailableError, OSError) as error:
            result.missing[vendor] = " ".join(str(error).split())

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(start, _STARTERS.keys(), _STARTERS.values()):
            pass
    return result


if __name__ == "__main__":
    main()
