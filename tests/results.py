"""What a trial ends with: a row of a table that is shown after the run, or written as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_COLUMNS = (
    "trial", "database", "rounds", "acknowledged", "lost", "duplicates", "stood still", "retries"
)  # fmt: skip
_ROW = "{:<18} {:<24} {:>6} {:>12} {:>4} {:>10} {:>11}  {}"


@dataclass(frozen=True, slots=True)
class Result:
    """Of events that were acknowledged. `stood_still`: the most seconds that a writer waited."""

    trial: str
    database: str
    rounds: int
    acknowledged: int
    lost: int
    duplicates: int
    stood_still: float
    retries: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def table(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The lines of the table."""
    yield _ROW.format(*_COLUMNS)
    for result in results:
        values = [result[name.replace(" ", "_")] for name in _COLUMNS]
        yield _ROW.format(*map(_shown, values)).rstrip()


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items()))
    return f"{value:.2f} s" if isinstance(value, float) else str(value)
