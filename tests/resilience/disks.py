"""Disks that are full for a while: a small one, or none where nothing can be mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.processes import Account, children

PIECE = bytes(1 << 16)
MARGIN = 1 << 20


class SmallDisk:
    """It is filled by a file that takes what is left."""

    # In the words of the three drivers.
    refusals = "No space left|disk is full|is full|Disk full"

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, writers: Iterable[int], files: Iterable[Path]) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(PIECE):
                pass

    def free(self) -> None:
        self._ballast.unlink()


class Limits:
    """The processes that write may make no file larger than so much, which databases meet as
    they meet a full disk.
    """

    refusals = "File too large|disk I/O error|error 27"

    def __init__(self) -> None:
        self._writers: list[int] = []

    def fill(self, writers: Iterable[int], files: Iterable[Path]) -> None:
        """These files are not meant, but of the same processes: they grow more slowly."""
        most = max((path.stat().st_size + MARGIN for path in files), default=0)
        self._writers = list(writers)
        self._limit(str(most))

    def free(self) -> None:
        self._limit("unlimited")

    def _limit(self, most: str) -> None:
        """Of who starts others first: what is started later has the same limit."""
        for writer in self._writers:
            for pid in (writer, *children(writer)):
                _limit(pid, most)


Disk = SmallDisk | Limits


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    folder.mkdir()
    # Servers that run as another user must be able to walk through it.
    folder.chmod(0o711)
    options = f"size={megabytes}m,mode=711"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        yield Limits()
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _limit(pid: int, most: str) -> None:
    """As the user whose process it is, unless it has ended: root is not always allowed to."""
    with suppress(FileNotFoundError):
        owner = Path(f"/proc/{pid}").stat()
        account = Account(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else Account()
        command = ["prlimit", f"--pid={pid}", f"--fsize={most}:"]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False, **account.arguments)
