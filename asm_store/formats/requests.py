"""What a format is asked to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Sessions of the database `using`, parents before their children.

    The ids are read page by page while they are iterated over, so a session may be gone by its
    turn. A format counts in `counts` what it has written: `sessions`, `runs`, `events`,
    `artifacts`. `is_all`: these are all sessions of the database. `include_contents`: also what
    the artifacts are made of.
    """

    session_ids: Iterable[str]
    using: str
    include_artifacts: bool = False
    is_all: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    include_contents: bool = False


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """How sessions are written: UTF-8 text in pieces of any size, never parting a character.

    `needs_parents`: a session can be imported only where its parent is stored.
    """

    write: Callable[[ExportRequest], Iterator[bytes]]
    has_artifacts: bool = False
    needs_parents: bool = False
