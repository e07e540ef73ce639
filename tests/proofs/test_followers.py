"""Followers of a session that many append to: each number once, in order, and never otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_run, make_session
from tests.processes import run_processes
from tests.proofs.writers import append
from tests.threads import run_threads

WRITERS = 8
# Of each writer; in the long form such writers come again and again, as processes.
EVENTS, LONG_EVENTS = 20, 250
WAVES = 10
PAGE = 50
# Seconds: between two questions, and for the answer to one.
PAUSE, WAIT = 0.005, 0.1

Read = list[dict[str, Any]]  # what a follower was given, in that order
Follow = Callable[[DatabaseSessionStore, str, Read], None]


def page_by_page(next_page: Callable[[DatabaseSessionStore, str, int], Read]) -> Follow:
    """Reads on from its last number, until nothing comes after the session has ended."""

    def follow(store: DatabaseSessionStore, session_id: str, read: Read) -> None:
        while True:
            has_ended = store.get_session(session_id).status == Session.Status.COMPLETED
            page = next_page(store, session_id, read[-1]["sequence_number"] if read else 0)
            read += page
            if has_ended and not page:
                return
            if not page:
                time.sleep(PAUSE)

    return follow


@page_by_page
def asking(store: DatabaseSessionStore, session_id: str, after: int) -> Read:
    return _dicts(store.get_events(session_id, after=after, limit=PAGE))


@page_by_page
def waiting(store: DatabaseSessionStore, session_id: str, after: int) -> Read:
    return _dicts(store.get_events(session_id, after=after, wait_timeout=WAIT))


@page_by_page
def exporting(store: DatabaseSessionStore, session_id: str, after: int) -> Read:
    lines = store.iter_events_json(session_id, after=after, limit=PAGE)
    return [json.loads(line) for line in lines]


def streaming(
    store: DatabaseSessionStore, session_id: str, read: Read, run_id: str | None = None
) -> None:
    for event in store.stream_events(session_id, run_id=run_id):
        read.append(event.to_dict())


def streaming_async(store: DatabaseSessionStore, session_id: str, read: Read) -> None:
    async def follow() -> None:
        async for event in store.astream_events(session_id):
            read.append(event.to_dict())

    async_to_sync(follow)()


class Crowd:
    """A session with several runs, eight writers to it, and those who follow it."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.store = DatabaseSessionStore(using)
        self.session = self.store.save_session(make_session(status="active"))
        self.runs = [self.store.save_run(make_run(self.session)).pk for _ in range(3)]
        self.read: list[Read] = []
        self.read_meanwhile: list[int] = []  # events, until the last was written

    def append_from_threads(self) -> None:
        share = partial(append, self.using, self.session.pk, self.runs, EVENTS)
        run_threads([share] * WRITERS)

    def append_from_processes(self) -> None:
        share = [self.using, self.session.pk, self.runs, LONG_EVENTS]
        for _ in range(WAVES):
            run_processes(f"{append.__module__}.{append.__name__}", [share] * WRITERS)

    def follow(self, followers: Iterable[Follow], write: Callable[[], None]) -> None:
        """Run the followers until everything is written and the session, with that, has ended."""

        def write_and_end() -> None:
            try:
                write()
                self.read_meanwhile = [len(events) for events in self.read]
            finally:
                self.store.update_session(self.session.pk, status=Session.Status.COMPLETED)

        following: list[Callable[[], None]] = []
        for follow in followers:
            self.read.append([])
            following.append(partial(follow, self.store, self.session.pk, self.read[-1]))
        run_threads([write_and_end, *following])


def _dicts(events: Iterable[Event]) -> Read:
    return [event.to_dict() for event in events]


def test_followers_of_eight_writers(using: str, is_long: bool, tell: Callable[[str], None]) -> None:
    crowd = Crowd(using)
    of_one_run = partial(streaming, run_id=crowd.runs[0])
    followers: list[Follow] = [asking, waiting, exporting, streaming, streaming_async, of_one_run]
    crowd.follow(followers, crowd.append_from_processes if is_long else crowd.append_from_threads)

    stored = _dicts(crowd.store.get_events(crowd.session.pk))
    count = WRITERS * (WAVES * LONG_EVENTS if is_long else EVENTS)
    assert [event["sequence_number"] for event in stored] == list(range(1, count + 1))
    *of_all, of_run = crowd.read
    assert [events == stored for events in of_all] == [True] * len(of_all)
    assert of_run == [event for event in stored if event["run_id"] == crowd.runs[0]]
    assert all(crowd.read_meanwhile)
    tell(
        f"{len(stored)} events of {WRITERS} writers, read alike and in order by {len(of_all)} "
        f"followers, who had {crowd.read_meanwhile[:-1]} of them when the last was written"
    )
