"""The command: the store beside its peers, on one PostgreSQL server, in one run.

Each through its public API, with events of the same contents; peers that are not installed are
named and left out: pip install google-adk openai-agents sqlalchemy asyncpg greenlet langgraph
langgraph-checkpoint-postgres eventsourcing.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from .. import report
from ..commands import begun
from ..measuring import Sample
from ..plan import Sizes, alias_of
from .known import KNOWN, OURS, is_installed, kind_of

ALIAS = alias_of("postgresql", "recommended")
ROWS = {
    "append": "append, one writer",
    "sessions": "append, 8 writers, own sessions",
    "batch": "append 100 events",
    "read": "read 1,000 events",
}
STORED = 1_000


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="how often each is measured (3)")
    add("--only", nargs="+", metavar="ROW", choices=ROWS, default=list(ROWS), help=", ".join(ROWS))
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser, "postgresql")

    from .. import run

    sizes = Sizes()
    with run.prepared(["postgresql"], Sizes(processes=1)):
        found: dict[str, Any] = {"environment": report.environment(["postgresql"])}
        print(report.described(found["environment"]))  # noqa: T201
        names = [name for name in KNOWN if is_installed(name)]
        if absent := [name for name in KNOWN if name not in names]:
            print(f"not installed: {', '.join(absent)}")  # noqa: T201
        samples = {row: _measured(row, names, sizes, chosen.rounds) for row in chosen.only}
        print(f"\n{_table(samples)}", flush=True)  # noqa: T201
        found["samples"] = {
            row: {name: list(map(asdict, some)) for name, some in each.items()}
            for row, each in samples.items()
        }
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _measured(row: str, names: list[str], sizes: Sizes, rounds: int) -> dict[str, list[Sample]]:
    """By name, one sample a round; all take their turn in each round."""
    with ExitStack() as stack:
        works = _works(row, names, sizes, stack)
        for work in works.values():
            work()  # connections, statements and tables are there
        found: dict[str, list[Sample]] = {name: [] for name in works}
        turns = list(works)
        for number in range(rounds):
            first = number % len(turns)
            for name in turns[first:] + turns[:first]:
                found[name].append(works[name]())
    return found


def _works(
    row: str, names: list[str], sizes: Sizes, stack: ExitStack
) -> dict[str, Callable[[], Sample]]:
    from ..team import Team
    from .works import append_in_process, batches, contents_of, one_by_one, reads

    place = _place()
    if row == "sessions":
        for name in names:  # who makes his tables himself does it here, and not eight at once
            peer = kind_of(name)(place)
            peer.make_tables()
            peer.append(peer.new_session(), contents_of(1, sizes)[0])
            peer.close()
        team = stack.enter_context(Team(sizes.processes))

        def work(name: str) -> Sample:
            calls = [(name, place, sizes)] * team.size
            return team.together(append_in_process, calls, sizes.each)

        return {name: partial(work, name) for name in names}
    works: dict[str, Callable[[], Sample]] = {}
    for name in names:
        peer = kind_of(name)(place)
        stack.callback(peer.close)
        peer.make_tables()
        if row == "append":
            works[name] = lambda peer=peer: one_by_one(peer, sizes)  # type: ignore[misc]
        elif row == "batch" and peer.can_batch():
            works[name] = lambda peer=peer: batches(peer, sizes)  # type: ignore[misc]
        elif row == "read":
            session = peer.new_session()
            for contents in contents_of(STORED, sizes):
                peer.append(session, contents)
            works[name] = lambda peer=peer, session=session: reads(peer, session, sizes)  # type: ignore[misc]
    return works


def _place() -> Any:
    from django.db import connections

    from .peer import Place

    known = connections[ALIAS].settings_dict
    names = ("HOST", "PORT", "USER", "PASSWORD", "NAME")
    return Place(ALIAS, *(known[name] for name in names))


def _table(samples: dict[str, dict[str, list[Sample]]]) -> str:
    """Operations a second, and in brackets the store's speed in parts of it."""
    rows = [["keeps the sessions", *(ROWS[row] for row in samples)]]
    for name in KNOWN:
        cells = [_cell(found, name) for found in samples.values()]
        if any(cell != "-" for cell in cells):
            rows.append([name, *cells])
    return report.aligned(rows)


def _cell(found: dict[str, list[Sample]], name: str) -> str:
    if name not in found:
        return "-"
    speeds = {
        each: [sample.operations / sample.seconds for sample in found[each]]
        for each in (name, OURS)
    }
    speed = f"{median(speeds[name]):,.0f}"
    if name == OURS:
        return speed
    ratio = median(ours / its for its, ours in zip(*speeds.values(), strict=True))
    return f"{speed} ({ratio:.2f})"


if __name__ == "__main__":
    main()
