"""Bars over time, as numbers for an SVG: percents are text, since SVG knows one comma only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HEIGHT = 140
LEAST = 0.1


@dataclass(frozen=True, slots=True)
class ChartBar:
    label: str
    value: str
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One measure over time; the table behind it has the same numbers."""

    name: str
    title: Any
    bars: list[ChartBar]
    most: str
    total: str
    height: int = HEIGHT

    @property
    def first(self) -> str:
        return self.bars[0].label if self.bars else ""

    @property
    def last(self) -> str:
        return self.bars[-1].label if self.bars else ""


def chart(
    name: str, title: Any, labels: Sequence[str], values: Sequence[float], shown: Any
) -> Chart:
    """Bars of these values, each as high as it is to the largest; `shown` says a value."""
    most = max(values, default=0)
    width = 100 / max(len(values), 1)
    bars = []
    for position, (label, value) in enumerate(zip(labels, values, strict=True)):
        height = HEIGHT * value / most if most else 0
        bars.append(
            ChartBar(
                label,
                shown(value),
                f"{position * width:.3f}%",
                f"{HEIGHT - height:.2f}",
                f"{max(width * 0.85, LEAST):.3f}%",
                f"{height:.2f}",
            )
        )
    return Chart(name, title, bars, shown(most), shown(_sum(values)))


def _sum(values: Sequence[float]) -> float:
    """Whole numbers as such, of any size; costs without what adding them up would lose."""
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)
