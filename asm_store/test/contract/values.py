"""Values that the parts of the contract share: times, and what must be refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

NOON: Final = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
MICROSECOND: Final = timedelta(microseconds=1)
NAIVE: Final = NOON.replace(tzinfo=None)

# `astimezone(UTC)` overflows on the last but one.
BAD_TIMES: Final[tuple[Any, ...]] = (
    NAIVE,
    NAIVE.isoformat(),
    "yesterday",
    date(2026, 3, 1),
    1_772_366_400,
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    True,
)
BAD_IDS: Final[tuple[Any, ...]] = (
    "", "x" * 256, "a\x00b", "a\ud800", "\udfff", 7, True, b"ses", ["a"], ("a",), {}, object(),
)  # fmt: skip
BAD_COUNTS: Final[tuple[Any, ...]] = (-1, True, False, 1.0, float("nan"), "1", Decimal(1), [1], {})
BAD_POSITIONS: Final[tuple[Any, ...]] = (True, 1.0, "1", Decimal(1), [1])
BAD_STATUSES: Final[tuple[Any, ...]] = (
    "unknown", "", "ACTIVE", "active ", "act\x00ive", "\ud800", 5, True, object(),
)  # fmt: skip
NOT_JSON: Final[tuple[Any, ...]] = (
    {1, 2},
    frozenset(),
    b"bytes",
    bytearray(b"x"),
    Decimal("1.5"),
    NOON,
    date(2026, 3, 1),
    UUID(int=7),
    1 + 2j,
    object(),
    range(3),
    (number for number in (1, 2)),
    dict,
    float("nan"),
    float("inf"),
    float("-inf"),
)
NOT_STRING_KEYS: Final[tuple[Any, ...]] = (1, 1.5, True, None, b"key", ("a", "b"))
HUGE: Final = 10**30


def nested(levels: int) -> Any:
    """Lists in lists, `levels` deep."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value
