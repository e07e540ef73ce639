"""What is measured of each peer, in a process of a team or in the main one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ..measuring import Sample, timed
from ..plan import Sizes
from ..team import Spans, spans
from .known import kind_of
from .peer import Contents, Peer, Place

# What each process of a team has of its own.
_peers: dict[str, Peer] = {}


def append_in_process(name: str, place: Place, sizes: Sizes) -> Spans:
    """To a session of its own, together with the others of a team."""
    if name not in _peers:
        _peers[name] = kind_of(name)(place)
    peer = _peers[name]
    session, contents = peer.new_session(), contents_of(sizes.each, sizes)
    peer.append(session, contents[0])
    return spans(partial(peer.append, session), contents)


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
