"""The table, and the same as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import django
from django.db import connections

from .measuring import Comparison
from .plan import OPTIONS, ROWS, alias_of

# Of both sides, where they are two: the baseline's / the store's, and their ratio.
HEAD = (
    "work", "baseline/s", "default", "recommended", "bar", "CPU us a call", "ratio", "round trips"
)  # fmt: skip
# What decides how durable a commit is.
DURABILITY = {
    "postgresql": ("SHOW fsync", "SHOW synchronous_commit"),
    "sqlite": ("PRAGMA journal_mode", "PRAGMA synchronous"),
    "mysql": ("SELECT @@innodb_flush_log_at_trx_commit", "SELECT @@innodb_doublewrite"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One row of a vendor's table, by kind of OPTIONS."""

    vendor: str
    row: str
    found: dict[str, Comparison]

    @property
    def bar(self) -> str:
        return ROWS[self.row].bars.get(self.vendor, "-")

    def cells(self) -> list[str]:
        best = self.found["recommended"]
        sides = best.baseline, best.ours
        return [
            ROWS[self.row].title,
            f"{best.baseline.per_second:,.0f}",
            f"{self.found['default'].ratio:.2f}" if "default" in self.found else "-",
            f"{best.ratio:.2f}",
            self.bar,
            " / ".join(f"{side.cpu_microseconds:,.0f}" for side in sides),
            f"{best.cpu_ratio:.1f}",
            " / ".join("-" if side.trips is None else f"{side.trips:.0f}" for side in sides),
        ]

    def to_dict(self) -> dict[str, Any]:
        figures = {
            kind: {**asdict(found), "ratio": found.ratio, "cpu_ratio": found.cpu_ratio}
            for kind, found in self.found.items()
        }
        return {"vendor": self.vendor, "row": self.row, "bar": self.bar, **figures}


def table(results: Iterable[Result]) -> str:
    """In Markdown."""
    return aligned([list(HEAD), *(result.cells() for result in results)])


def aligned(rows: list[list[str]]) -> str:
    """A table in Markdown, with its columns aligned; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *others = rows
    lines = [head, ["-" * width for width in widths], *others]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(aligned)} |"


def described(environment: dict[str, Any]) -> str:
    """The environment, one thing a line."""
    lines = {**environment, **environment["databases"]}
    del lines["databases"]
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def environment(vendors: Iterable[str]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "databases": {
            alias_of(vendor, kind): _database(vendor, kind)
            for vendor in vendors
            for kind in OPTIONS[vendor]
        },
    }


def _database(vendor: str, kind: str) -> dict[str, Any]:
    connection = connections[alias_of(vendor, kind)]
    version = ".".join(map(str, connection.get_database_version()))
    durability = {sql.split()[-1]: _value(connection, sql) for sql in DURABILITY[vendor]}
    return {"version": version, "options": OPTIONS[vendor][kind], **durability}


def _value(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        [value] = cursor.fetchone()
    return value
