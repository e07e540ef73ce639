"""A planted defect, read from its diff, and the copy of the package that has it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLANTED = Path(__file__).with_name("planted")
_NOT_COPIED = shutil.ignore_patterns("proofs", ".*")


class StaleDefectError(Exception):
    """The lines that a defect replaces are no longer what the package has."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the module at that path below asm_store, the lines `old` become `new`."""

    path: str
    old: str
    new: str

    def applied(self, package: Path) -> str:
        """The module's text with this edit."""
        text = (package / self.path).read_text(encoding="utf-8")
        lines = re.compile(f"^{re.escape(self.old)}", re.MULTILINE)
        if (found := len(lines.findall(text))) != 1:
            raise StaleDefectError(f"{self.path} has these lines {found} times:\n{self.old}")
        return lines.sub(lambda _: self.new, text)


@dataclass(frozen=True, slots=True)
class Defect:
    """`red`: the aliases (or "memory") where it shows, each with a test that always finds it.

    In the short form of the proof only that test is run, and on the aliases of `short` only.
    """

    name: str
    what: str
    red: dict[str, str]
    short: frozenset[str]
    edits: tuple[Edit, ...]

    def __str__(self) -> str:
        return self.name


def planted() -> list[Defect]:
    """All defects."""
    return [defect for file in sorted(PLANTED.glob("*.diff")) for defect in _read(file)]


def _read(file: Path) -> Iterator[Defect]:
    _, *texts = re.split(r"^=== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for text in texts:
        head, *parts = re.split(r"^--- ", text, flags=re.MULTILINE)
        name, what, *places = head.splitlines()
        words = [line.split() for line in places]  # red: ALIAS TEST, or short: ALIAS TEST
        red = {alias: test for _, alias, test in words}
        short = frozenset(alias for key, alias, _ in words if key == "short:")
        edits = [edit for part in parts for edit in _edits(part)]
        yield Defect(name, what, red, short, tuple(edits))


def _edits(part: str) -> Iterator[Edit]:
    path, *hunks = re.split(r"^@@\n", part.rstrip("\n") + "\n", flags=re.MULTILINE)
    for hunk in hunks:
        lines = [line or " " for line in hunk.splitlines()]
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in signs) for signs in (" -", " +")
        )
        yield Edit(path.strip(), old, new)


def copy_with(edits: Iterable[Edit], directory: Path) -> None:
    """Copy the package and its tests into the folder, with the edits."""
    for name in ("asm_store", "tests"):
        shutil.copytree(ROOT / name, directory / name, ignore=_NOT_COPIED)
    shutil.copy(ROOT / "pyproject.toml", directory)
    package = directory / "asm_store"
    for edit in edits:
        (package / edit.path).write_text(edit.applied(package), encoding="utf-8")
