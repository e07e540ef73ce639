"""What can be chosen: rows, databases, and sizes. It needs no Django and no server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A line of each vendor's table; the bars are for the recommended OPTIONS."""

    title: str
    bars: dict[str, str] = field(default_factory=dict)


ROWS = {
    "append": Row(
        "append, one writer",
        {"postgresql": ">= 0.85, CPU <= 2.5, 1 trip", "sqlite": ">= 0.8"},
    ),
    "sessions": Row("append, all writers, own sessions", {"postgresql": ">= 0.85"}),
    "hot": Row("append, all writers, one session", {"postgresql": ">= 0.85"}),
    "batch-100": Row("append 100 events", {"postgresql": ">= 0.7"}),
    "batch-1000": Row("append 1,000 events", {"postgresql": ">= 0.7"}),
    "read": Row("read 1,000 events", {"postgresql": ">= 0.67"}),
    "lines": Row("the same, as JSON lines", {"postgresql": ">= 3"}),
    "tail": Row("read the last 50 of many events", {"postgresql": ">= 0.5"}),
    "writer": Row("writer(), to appending one by one", {"postgresql": ">= 10"}),
    "flush": Row("flush a session, a run, 50 events", {"postgresql": "<= 5 trips"}),
}

# Each vendor with Django's default OPTIONS and with those that docs/installation.md recommends;
# for MySQL they are the same.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "postgresql": {
        "default": {},
        "recommended": {"server_side_binding": True, "prepare_threshold": 5},
    },
    "sqlite": {
        "default": {},
        "recommended": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
    "mysql": {"recommended": {}},
}


def alias_of(vendor: str, kind: str) -> str:
    return f"{vendor}_{kind}"


def vendor_of(alias: str) -> str:
    return alias.partition("_")[0]


def _size(default: int, text: str) -> Any:
    return field(default=default, metadata={"help": f"{text} ({default:,})"})


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done in a round."""

    appends: int = _size(100, "events that one writer appends")
    processes: int = _size(8, "writers at the same time")
    each: int = _size(25, "events that each of them appends")
    batches: int = _size(5, "batches of 100 events")
    large: int = _size(2, "batches of 1,000 events")
    reads: int = _size(5, "times that 1,000 events are read")
    tails: int = _size(50, "times that the last 50 events are read")
    history: int = _size(20_000, "events of the session whose last 50 are read")
    tokens: int = _size(10_000, "small events that a writer() is fed")
    flushes: int = _size(10, "flushes of a session, a run and 50 events")
    payload: int = _size(300, "bytes of an event's data, about")
    seed: int = _size(1, "of the contents of the records")

    def for_warming_up(self) -> Sizes:
        """Little of it, but enough for a driver to prepare the statements."""
        repeated = ("appends", "each", "batches", "large", "reads", "tails", "flushes")
        return replace(self, **dict.fromkeys(repeated, 7), tokens=200)
