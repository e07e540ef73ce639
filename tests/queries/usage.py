"""Token usage as it should not be, and what it counts for."""

from __future__ import annotations

import math
from typing import Any

COUNTS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
)
MOST = 1e100


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# 32 levels are more than MariaDB's JSON functions read: there, and only there, it counts as 0.
DEEP: dict[str, Any] = {"input_tokens": 7, "other": nested(60)}

HOSTILE: list[dict[str, Any]] = [
    {},
    {"input_tokens": 3, "output_tokens": 4},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": 100},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": 0},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": None},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": "7"},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": -1},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": False},
    {"input_tokens": 3, "output_tokens": 4, "total_tokens": {"total_tokens": 5}},
    {"total_tokens": 12, "cache_read_tokens": 5, "cache_creation_tokens": 6},
    {"input_tokens": "5", "output_tokens": 2},
    {"input_tokens": "", "output_tokens": "NaN", "cache_read_tokens": "Infinity"},
    {"input_tokens": -5, "output_tokens": -0.5, "cache_read_tokens": -(10**400)},
    {"input_tokens": 1.5, "output_tokens": 2.25, "cache_read_tokens": 0.1},
    {"input_tokens": True, "output_tokens": None},
    {"input_tokens": [5], "output_tokens": {"output_tokens": 5}},
    {"input_tokens": {"input_tokens": 5}, "details": {"output_tokens": 5}},
    {"usage": {"input_tokens": 5}, "a.input_tokens": 6, "input_tokens ": 7, "Input_tokens": 8},
    {"input_tokens": 2**53, "output_tokens": 1},
    {"input_tokens": 2**63, "output_tokens": 2**64},
    {"input_tokens": 10**30, "output_tokens": 1e30},
    {"input_tokens": 10**400, "output_tokens": 10**4299 + 7},
    {"input_tokens": 1e308, "output_tokens": 1e308, "cache_read_tokens": 1e308},
    {"input_tokens": 1e-5, "output_tokens": 0.0},
    {"other": [{"input_tokens": n, "x": {"y": "[{"}} for n in range(50)], "input_tokens": 9},
    {"other": nested(29), "input_tokens": 11},
    {"ключ": "\u2028 \" \\ '", "input_tokens": 13},
]


def count(value: Any) -> float:
    """What one count counts for."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return 0.0
    if value > MOST:
        return MOST
    return float(value) if math.isfinite(value) else 0.0


def counts(usage: dict[str, Any]) -> dict[str, float]:
    """What a run counts for."""
    found = {name: count(usage.get(name)) for name in COUNTS}
    if usage.get("total_tokens") is None:
        found["total_tokens"] = found["input_tokens"] + found["output_tokens"]
    return found
