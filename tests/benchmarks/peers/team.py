"""Writers that append at the same time, each a process of its own."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from threading import Barrier
from typing import Any

import django

from ..measuring import Sample, timed
from ..plan import Sizes
from ..team import PATIENCE
from .known import kind_of
from .peer import Contents, Peer, Place

# What each process has of its own.
_together: Barrier
_peers: dict[str, Peer] = {}

Spans = tuple[float, float, float]


class Team:
    def __init__(self, size: int) -> None:
        self.size = size
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(
            size, context, initializer=_prepare, initargs=(context.Barrier(size),)
        )

    def close(self) -> None:
        self._pool.shutdown()

    def append(self, name: str, place: Place, sizes: Sizes) -> Sample:
        """Each to a session of its own; all begin together."""
        tasks = [self._pool.submit(_append, name, place, sizes) for _ in range(self.size)]
        starts, ends, cpu = zip(*(task.result() for task in tasks), strict=True)
        return Sample(self.size * sizes.each, max(ends) - min(starts), sum(cpu))


def _prepare(together: Barrier) -> None:
    global _together  # noqa: PLW0603
    _together = together
    django.setup()


def _append(name: str, place: Place, sizes: Sizes) -> Spans:
    if name not in _peers:
        _peers[name] = kind_of(name)(place)
    peer = _peers[name]
    session, contents = peer.new_session(), contents_of(sizes.each, sizes)
    peer.append(session, contents[0])
    _together.wait(PATIENCE)
    start, cpu = time.monotonic(), time.process_time()
    for each in contents:
        peer.append(session, each)
    return start, time.monotonic(), time.process_time() - cpu


def contents_of(count: int, sizes: Sizes) -> list[Contents]:
    # Not above: it needs Django set up, and this module is imported before.
    from ..records import new_run, tool_calls

    return [event.data for event in tool_calls(new_run()[1], count, sizes)]


# In the main process


def one_by_one(peer: Peer, sizes: Sizes) -> Sample:
    session, contents = peer.new_session(), contents_of(sizes.appends, sizes)
    return _checked(peer, session, contents, partial(_append_each, peer, session, contents))


def _append_each(peer: Peer, session: Any, contents: list[Contents]) -> None:
    for each in contents:
        peer.append(session, each)


def batches(peer: Peer, sizes: Sizes) -> Sample:
    session, contents = peer.new_session(), contents_of(100, sizes)
    sample = _checked(peer, session, contents, lambda: peer.append_batch(session, contents))
    return replace(sample, operations=1)


def _checked(peer: Peer, session: Any, contents: list[Contents], body: Any) -> Sample:
    sample = timed(len(contents), body)
    if (found := peer.read(session)) != len(contents):
        raise AssertionError(f"{type(peer).__name__}: {found} events of {len(contents)}")
    return sample


def reads(peer: Peer, session: Any, sizes: Sizes) -> Sample:
    """Of a session that has 1,000."""
    return timed(sizes.reads, lambda: [peer.read(session) for _ in range(sizes.reads)])
