"""What an import tells: how much of each file was new, stored already, skipped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add
from typing import Any

SHOWN_LINES = 5
# A hostile log may name a new unknown type in every line: the summary must stay one.
MAX_REASONS = 50
MAX_REASON = 200
OTHER = "other reasons"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Lines that were left out for one reason: how many, and the numbers of the first few."""

    count: int = 0
    lines: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f" (line {', '.join(map(str, self.lines))})" if self.lines else ""

    def __add__(self, other: Skipped) -> Skipped:
        return Skipped(self.count + other.count, (self.lines + other.lines)[:SHOWN_LINES])


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts; the input counts exclude the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(add(*pair) for pair in zip(self.counts(), other.counts(), strict=True)))

    def __sub__(self, other: Tokens) -> Tokens:
        pairs = zip(self.counts(), other.counts(), strict=True)
        return Tokens(*(mine - theirs for mine, theirs in pairs))

    def __bool__(self) -> bool:
        return any(self.counts())

    def to_dict(self) -> dict[str, int]:
        """As a run's `token_usage` has them."""
        return asdict(self)

    def counts(self) -> tuple[int, int, int, int]:
        """The four numbers in the order of the fields."""
        return (
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_creation_tokens,
        )


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """How many records of one kind were new, were stored but changed, were stored already."""

    new: int = 0
    updated: int = 0
    stored: int = 0

    def __add__(self, other: RecordCounts) -> RecordCounts:
        return RecordCounts(
            self.new + other.new, self.updated + other.updated, self.stored + other.stored
        )

    @property
    def total(self) -> int:
        return self.new + self.updated + self.stored


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file. `error` says why it (or the rest of it) was not imported; None when it was.

    `is_cut_off`: the file is only the beginning of what was written, and was imported so far.
    `skipped` are lines that were broken or of an unknown kind, by reason; `ignored` are lines of
    a known kind that hold nothing to store, by kind. `tokens` are those of the whole file, new or
    stored already.
    """

    path: str
    format: str | None = None
    error: str | None = None
    is_cut_off: bool = False
    sessions: RecordCounts = RecordCounts()
    runs: RecordCounts = RecordCounts()
    events: RecordCounts = RecordCounts()
    artifacts: RecordCounts = RecordCounts()
    tokens: Tokens = Tokens()
    skipped: Mapping[str, Skipped] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """All files of one import, in the order in which they were read.

    `left_out` is how many `*.json` files of its directories are no logs.
    """

    files: tuple[FileReport, ...]
    dry_run: bool = False
    left_out: int = 0

    @property
    def imported(self) -> tuple[FileReport, ...]:
        """The files that were read to their end."""
        return tuple(file for file in self.files if file.error is None)

    @property
    def failed(self) -> tuple[FileReport, ...]:
        return tuple(file for file in self.files if file.error is not None)

    @property
    def total(self) -> FileReport:
        """The sums over all files, the failed ones too: what they stored is stored."""
        skipped: dict[str, Skipped] = {}
        ignored: Counter[str] = Counter()
        for file in self.files:
            ignored.update(file.ignored)
            for reason, lines in file.skipped.items():
                # Line numbers of several files would say nothing.
                skipped[reason] = skipped.get(reason, Skipped()) + Skipped(lines.count)
        return FileReport(
            path="",
            sessions=reduce(add, (file.sessions for file in self.files), RecordCounts()),
            runs=reduce(add, (file.runs for file in self.files), RecordCounts()),
            events=reduce(add, (file.events for file in self.files), RecordCounts()),
            artifacts=reduce(add, (file.artifacts for file in self.files), RecordCounts()),
            tokens=reduce(add, (file.tokens for file in self.files), Tokens()),
            skipped=skipped,
            ignored=dict(ignored),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `dry_run`, `left_out`, `files`, and `total` in the shape of a file."""
        total = self.total.to_dict()
        for name in ("path", "format", "error", "is_cut_off"):
            del total[name]
        files = [file.to_dict() for file in self.files]
        return {
            "dry_run": self.dry_run,
            "left_out": self.left_out,
            "files": files,
            "total": total,
        }


class Tally:
    """Counts the lines of one file that give no event."""

    def __init__(self) -> None:
        self.skipped: dict[str, Skipped] = {}
        self.ignored: Counter[str] = Counter()
        # Why the file is known to be only the beginning of what was written.
        self.cut_off: str | None = None

    def skip(self, reason: str, line: int) -> None:
        """A broken or unknown line; with `strict` it fails the file."""
        name = reason[:MAX_REASON]
        if name not in self.skipped and len(self.skipped) >= MAX_REASONS:
            name = OTHER
        self.skipped[name] = self.skipped.get(name, Skipped()) + Skipped(1, (line,))

    def ignore(self, kind: str) -> None:
        """A line of a known kind that holds nothing to store."""
        known = kind in self.ignored or len(self.ignored) < MAX_REASONS
        self.ignored[kind if known else OTHER] += 1
