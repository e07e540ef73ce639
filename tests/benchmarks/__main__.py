"""The command: measures, prints a table for each database, and writes all figures as JSON."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .commands import begun
from .plan import OPTIONS, ROWS, Sizes


def main() -> None:
    parser = _parser()
    chosen = begun(parser)

    sizes = Sizes(**{size.name: getattr(chosen, size.name) for size in fields(Sizes)})
    report = _measured(chosen.on, chosen.only, sizes, chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"python -m {__package__}",
        description="How fast the store is, as ratios to hand-written SQL in the same run.",
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    add("--on", nargs="+", choices=OPTIONS, default=["postgresql", "sqlite"], metavar="DATABASE",
        help=", ".join(OPTIONS))  # fmt: skip
    add("--rounds", type=int, default=5, help="how often each side of a row is measured (5)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    for size in fields(Sizes):
        add(f"--{size.name}", type=int, default=size.default, help=size.metadata["help"])
    return parser


def _measured(vendors: list[str], rows: list[str], sizes: Sizes, rounds: int) -> dict[str, Any]:
    from . import report, run

    start = time.monotonic()
    results = []
    with run.prepared(vendors, sizes) as bench:
        environment = report.environment(vendors)
        print(report.described(environment), flush=True)  # noqa: T201
        for vendor in vendors:
            found = []
            for row in rows:
                print(f"{vendor}: {ROWS[row].title}", file=sys.stderr, flush=True)  # noqa: T201
                found.append(run.result(vendor, row, bench, rounds))
            print(f"\n{vendor}\n\n{report.table(found)}", flush=True)  # noqa: T201
            results += found
    print(f"\n{time.monotonic() - start:.0f} s")  # noqa: T201
    return {
        "environment": environment,
        "sizes": asdict(sizes),
        "rounds": rounds,
        "results": [result.to_dict() for result in results],
    }


if __name__ == "__main__":
    main()
