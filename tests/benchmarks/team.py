"""Writers that work at the same time, each a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import django

from .measuring import Sample

if TYPE_CHECKING:
    from asm_store.models import Run

    from .plan import Sizes

# How long a process may wait for the others to be ready, in seconds.
PATIENCE = 120

# When it began, when it ended (of one clock for all processes), and its CPU; in seconds.
Spans = tuple[float, float, float]


class Team:
    """`size` processes that stay: their connections are open when they are measured."""

    def __init__(self, size: int) -> None:
        self.size = size
        context = get_context("spawn")
        # A process that waits takes no second task: each of them gets one.
        self._pool = ProcessPoolExecutor(
            size, context, initializer=_prepare, initargs=(context.Barrier(size),)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def append(self, alias: str, *, by_store: bool, runs: Sequence[Run], sizes: Sizes) -> Sample:
        """Append to each of `runs` from a process of its own; all begin together."""
        calls = [(alias, by_store, run.session_id, run.pk, sizes) for run in runs]
        return self.together(_append, calls, sizes.each)

    def together(
        self, work: Callable[..., Spans], calls: Sequence[tuple[Any, ...]], each: int
    ) -> Sample:
        """Call `work`, which does `each` operations, with each of `calls`, in as many processes."""
        tasks = [self._pool.submit(work, *arguments) for arguments in calls]
        starts, ends, cpu = zip(*(task.result() for task in tasks), strict=True)
        return Sample(len(calls) * each, max(ends) - min(starts), sum(cpu))


# What each process of a team has of its own.
_together: Barrier
_clients: dict[tuple[str, bool], Any] = {}


def _prepare(together: Barrier) -> None:
    global _together  # noqa: PLW0603
    _together = together
    django.setup()


def spans(append: Callable[[Any], object], events: Sequence[Any]) -> Spans:
    """Append them all, once every process of the team is here."""
    _together.wait(PATIENCE)
    start, cpu = time.monotonic(), time.process_time()
    for event in events:
        append(event)
    return start, time.monotonic(), time.process_time() - cpu


def _append(alias: str, by_store: bool, session_id: str, run_id: str, sizes: Sizes) -> Spans:
    # Not above: they need Django set up, and this module is imported before.
    from asm_store.models import Run

    from .records import tool_calls

    client = _client(alias, by_store)
    run = Run(id=run_id, session_id=session_id)
    events = client.packed(tool_calls(run, sizes.each, sizes))
    return spans(client.append, events)


def _client(alias: str, by_store: bool) -> Any:
    from .baselines import make_baseline
    from .clients import StoreClient

    if (alias, by_store) not in _clients:
        _clients[alias, by_store] = (StoreClient if by_store else make_baseline)(alias)
    return _clients[alias, by_store]
