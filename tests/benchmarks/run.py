"""One run: databases of its own, the rows one after the other, the databases dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

from django.db import connections
from django.test.utils import setup_databases, teardown_databases

from .baselines import make_baseline
from .clients import Client, StoreClient
from .measuring import Comparison, compare
from .plan import OPTIONS, Sizes, alias_of
from .report import Result
from .settings import FOUND
from .team import Team
from .works import WORKS, Bench


def missing(vendors: Sequence[str]) -> dict[str, str]:
    """Those of `vendors` that cannot be measured here, and why."""
    return {vendor: FOUND.missing[vendor] for vendor in vendors if vendor in FOUND.missing}


@contextmanager
def prepared(vendors: Sequence[str], sizes: Sizes) -> Iterator[Bench]:
    """The vendors' databases, with all tables, dropped in the end; and the writers."""
    aliases = {alias_of(vendor, kind): False for vendor in vendors for kind in OPTIONS[vendor]}
    with ExitStack() as stack:
        made = setup_databases(verbosity=0, interactive=False, aliases=aliases)
        stack.callback(teardown_databases, made, verbosity=0)
        stack.callback(connections.close_all)
        yield Bench(sizes, stack.enter_context(Team(sizes.processes)))


def result(vendor: str, row: str, bench: Bench, rounds: int) -> Result:
    found = {
        kind: _comparison(alias_of(vendor, kind), row, bench, rounds) for kind in OPTIONS[vendor]
    }
    return Result(vendor, row, found)


def _comparison(alias: str, row: str, bench: Bench, rounds: int) -> Comparison:
    work = WORKS[row]
    against: Callable[[str], Client] = StoreClient if work.against_store else make_baseline
    with closing(StoreClient(alias)) as ours, closing(against(alias)) as baseline:
        sides = [partial(work.measure, ours), partial(work.baseline or work.measure, baseline)]
        small = replace(bench, sizes=bench.sizes.for_warming_up())
        for side in sides:
            side(small)
        with _counting(ours, baseline):
            counted = [side(small) for side in sides]
        return compare(counted, [partial(side, bench) for side in sides], rounds)


@contextmanager
def _counting(*clients: Client) -> Iterator[None]:
    """Let the clients count their round trips, which is not for free."""
    for client in clients:
        client.is_counted = True
    yield
    for client in clients:
        client.is_counted = False
