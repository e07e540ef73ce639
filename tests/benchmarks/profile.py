"""The command: where the time of an append goes, part by part.

`python -m tests.benchmarks.profile --on sqlite`
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from . import report
from .commands import begun
from .measuring import Sample, Side, timed
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
        taken: dict[str, list[Sample]] = {}
        for _ in range(rounds + 1):
            for part, (work, given) in _parts(store, baseline, count).items():
                taken.setdefault(part, []).append(_measured(work, given))
    # The first round has the statements prepared.
    sides = {part: Side.of(samples[0], samples[1:]) for part, samples in taken.items()}
    return {
        part: {"in all": 1e6 / side.per_second, "processor": side.cpu_microseconds}
        for part, side in sides.items()
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


def _measured(work: Callable[[Any], Any], given: list[Any]) -> Sample:
    def body() -> None:
        for each in given:
            work(each)

    return timed(len(given), body)


def table(found: Parts) -> str:
    rows = [
        [part, f"{figures['in all']:.0f}", f"{figures['processor']:.1f}"]
        for part, figures in found.items()
    ]
    return report.aligned([["part", "in all, us", "processor, us"], *rows])


if __name__ == "__main__":
    main()
