"""The command: where the time of an append goes, part by part.

`python -m tests.benchmarks.profile --on sqlite`
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from . import report
from .commands import begun
from .plan import OPTIONS, Sizes, alias_of

BASELINE, CHECKS, STORING, WHOLE = "the baseline", "checks", "storing", "the whole append"
Parts = dict[str, dict[str, float]]


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.profile", description=__doc__)
    add = parser.add_argument
    add("--on", choices=OPTIONS, default="postgresql", metavar="DATABASE")
    add("--events", type=int, default=1_000, help="appended in each round (1,000)")
    add("--rounds", type=int, default=9, help="how often each part is measured (9)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser)

    from . import run

    with run.prepared([chosen.on], Sizes(processes=1)):
        environment = report.environment([chosen.on])
        found = measure(alias_of(chosen.on, "recommended"), chosen.events, chosen.rounds)
    print(f"{report.described(environment)}\n\n{table(found)}")  # noqa: T201
    if chosen.json:
        figures = {"environment": environment, "microseconds": found}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(alias: str, count: int, rounds: int) -> Parts:
    """Microseconds of an event by part: in all, and of the client's processor; medians."""
    from .baselines import make_baseline
    from .clients import StoreClient

    with closing(StoreClient(alias)) as store, closing(make_baseline(alias)) as baseline:
        taken: dict[str, list[tuple[float, float]]] = {}
        for each in range(rounds + 1):
            for part, (work, given) in _parts(store, baseline, count).items():
                figures = _measured(work, given)
                if each:  # the first round has the statements prepared
                    taken.setdefault(part, []).append(figures)
    return {
        part: dict(
            zip(("in all", "processor"), map(median, zip(*figures, strict=True)), strict=True)
        )
        for part, figures in taken.items()
    }


def _parts(store: Any, baseline: Any, count: int) -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """What each part does with each of what it is given, for a session of its own."""
    from asm_store.backends.arguments import prepared_events
    from asm_store.db import get_operations

    from .records import tool_calls
    from .works import stored_run

    def events() -> list[Any]:
        return tool_calls(stored_run(store.alias), count, Sizes())

    def stored(records: list[Any]) -> None:
        assert get_operations(store.alias).append(records, None)

    return {
        BASELINE: (baseline.append, baseline.packed(events())),
        CHECKS: (prepared_events, [[event] for event in events()]),
        STORING: (stored, [prepared_events([event]) for event in events()]),
        WHOLE: (store.append, events()),
    }


def _measured(work: Callable[[Any], Any], given: list[Any]) -> tuple[float, float]:
    begin, processor = time.perf_counter(), time.process_time()
    for each in given:
        work(each)
    seconds = time.perf_counter() - begin, time.process_time() - processor
    return seconds[0] / len(given) * 1e6, seconds[1] / len(given) * 1e6


def table(found: Parts) -> str:
    lines = ["| part | in all, us | processor, us |", "|---|---|---|"]
    for part, figures in found.items():
        lines.append(f"| {part} | {figures['in all']:.0f} | {figures['processor']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
