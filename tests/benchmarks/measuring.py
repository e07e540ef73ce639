"""Two sides measured in turn: what is slow on the machine for a while is slow for both.

Processes that are not set up for Django yet import this.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients import Client

# What PostgreSQL sends when the client may go on:
# https://www.postgresql.org/docs/current/protocol-message-formats.html
ANSWERS = ("ReadyForQuery", "CopyInResponse")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one side did in one round."""

    operations: int
    seconds: float
    cpu: float  # seconds, of all threads of the client's processes
    round_trips: int | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What one side did: medians of all rounds."""

    per_second: float
    cpu_microseconds: float  # for one operation
    trips: float | None  # round trips, for one operation

    @classmethod
    def of(cls, counted: Sample, rounds: list[Sample]) -> Side:
        trips = counted.round_trips
        return cls(
            median(sample.operations / sample.seconds for sample in rounds),
            median(sample.cpu / sample.operations for sample in rounds) * 1e6,
            None if trips is None else trips / counted.operations,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    ours: Side
    baseline: Side
    ratios: list[float]  # our speed in parts of the baseline's, round by round

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def cpu_ratio(self) -> float:
        return self.ours.cpu_microseconds / self.baseline.cpu_microseconds


def compare(
    counted: Sequence[Sample], sides: Sequence[Callable[[], Sample]], rounds: int
) -> Comparison:
    """The store is the first of both sides; who begins changes from round to round.

    `counted` are samples that tell the round trips only.
    """
    samples: list[list[Sample]] = [[], []]
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            samples[side].append(sides[side]())
    ours, baseline = map(Side.of, counted, samples)
    return Comparison(ours, baseline, [_ratio(*pair) for pair in zip(*samples, strict=True)])


def _ratio(ours: Sample, baseline: Sample) -> float:
    return (ours.operations * baseline.seconds) / (ours.seconds * baseline.operations)


def timed(operations: int, body: Callable[[], Any]) -> Sample:
    """Call `body`, which does so many operations."""
    gc.collect()
    seconds, cpu = time.perf_counter(), time.process_time()
    body()
    return Sample(operations, time.perf_counter() - seconds, time.process_time() - cpu)


def counted(client: Client, operations: int, body: Callable[[], Any]) -> Sample:
    """The same, with the round trips of the client's connection if they are asked for."""
    connection = client.postgresql()
    if not (client.is_counted and connection):
        return timed(operations, body)
    # By libpq's own record of all messages.
    with tempfile.TemporaryFile("w+", errors="replace") as record:
        connection.trace(record.fileno())
        try:
            sample = timed(operations, body)
        finally:
            connection.untrace()
        record.seek(0)
        return replace(sample, round_trips=sum(map(_is_answer, record)))


def milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1_000


def usual(call: Callable[[], object], rounds: int) -> float:
    """Milliseconds that a call takes, the median of so many after the first."""
    call()
    return median(milliseconds(call) for _ in range(rounds))


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that Python's objects take while a call goes on."""
    tracemalloc.start()
    try:
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


def _is_answer(line: str) -> bool:
    # Time, sender, size, and name of the message; a query of several lines follows it as it is.
    match line.split("\t"):
        case [_, "B", _, message, *_]:
            return message.strip() in ANSWERS
    return False
