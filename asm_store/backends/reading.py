"""Reading a session's events: at once, waiting for them, following them, and as JSON lines.

Each is written once, as steps (`asm_store.waiting`); the sync method and its async twin are two
ways to drive them.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from ..exceptions import SessionNotFound
from ..fields import clean_id
from ..models import Event, Session
from ..records import copied
from ..waiting import Ask, Polling, Steps, Watch, adrive, drive
from . import arguments
from .arguments import EventFilter

P = ParamSpec("P")
T = TypeVar("T")
Finder = Callable[Concatenate[Any, P], Steps[T]]
Line = tuple[int, bytes]  # an event's number, and its line

# Events that one query of a follower loads.
PAGE = 100
# Lines that one query loads: few at first, then as many as would have so many bytes if they were
# as large as those before.
FIRST_LINES = 32
FIRST_LIVE_LINES = 4  # many requests may hold them at the same time
MOST_LINES = 250  # at once, when they have no payloads: these lines are small
PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is, as one moment saw it."""

    latest_sequence: int
    has_ended: bool  # nothing more is expected
    status: str

    @classmethod
    def of(cls, latest: int | None, status: str, deleted_at: datetime | None) -> Progress:
        """Of a session's columns and its counter; a soft-deleted one cannot be appended to."""
        has_ended = deleted_at is not None or status in Session.TERMINAL_STATUSES
        return cls(latest or 0, has_ended, status)


def found_now(find: Finder[P, T], name: str) -> Callable[Concatenate[Any, P], list[T]]:
    """The public method `name` that returns all that `find` finds."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> list[T]:
        return list(drive(find(self, *args, **kwargs)))

    return _documented(method, find, name, "list[{}]")


def afound_now(
    find: Finder[P, T], name: str
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, list[T]]]:
    """Its async twin."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> list[T]:
        return [item async for item in adrive(find(self, *args, **kwargs))]

    return _documented(method, find, name, "list[{}]")


def found_later(find: Finder[P, T], name: str) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The public method `name` that yields what `find` finds."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return drive(find(self, *args, **kwargs))

    return _documented(method, find, name, "Iterator[{}]")


def afound_later(find: Finder[P, T], name: str) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """Its async twin."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return adrive(find(self, *args, **kwargs))

    return _documented(method, find, name, "AsyncIterator[{}]")


M = TypeVar("M", bound=Callable[..., Any])


def _documented(method: M, find: Callable[..., Any], name: str, returns: str) -> M:
    signature = inspect.signature(find)
    found = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    method.__name__ = name
    method.__qualname__ = f"{find.__qualname__.rpartition('.')[0]}.{name}"
    method.__doc__ = find.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation=returns.format(found)
    )
    return method


class EventReader(ABC):
    """The reading methods of every store; those that wait block nothing while they do."""

    # Whether what one task reads is what others would.
    _share_reads = True

    def _find(
        self,
        session_id: str,
        *,
        run_id: str | None = None,
        type: str | Iterable[str] | None = None,
        since: datetime | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        wait_timeout: float | None = None,
    ) -> Steps[Event]:
        """The session's events in sequence order; an unknown session has none.

        `type` is one or several. `since`: timestamp strictly later. `after` / `before`: sequence
        number strictly greater / less. Without `limit` all of them are loaded. When nothing
        matches, `wait_timeout` waits up to so many seconds for a matching append. In a caller's
        transaction only what its isolation lets it see can end the wait.
        """
        wanted = EventFilter(
            session_id=clean_id(session_id, "session_id"),
            run_id=arguments.optional_id(run_id, "run_id"),
            types=arguments.event_types(type),
            since=arguments.optional_time(since, "since"),
            after=arguments.sequence_bound(after, "after"),
            before=arguments.sequence_bound(before, "before"),
            limit=arguments.row_count(limit, "limit"),
        )
        return self._find_steps(wanted, arguments.optional_seconds(wait_timeout, "wait_timeout"))

    def _find_steps(self, wanted: EventFilter, timeout: float | None) -> Steps[Event]:
        found = yield Ask(partial(self._get_events, wanted))
        if found or timeout is None or wanted.matches_nothing:
            yield found
            return
        seen = -1
        with self._watch(wanted.session_id) as watch:
            polling = Polling(timeout, watch)
            while (progress := (yield self._ask_progress(watch))) is not None:
                if progress.latest_sequence != seen:
                    seen = watch.seen = progress.latest_sequence
                    if found := (yield self._ask_events(wanted, watch)):
                        yield found
                        return
                if polling.is_over:
                    return
                yield from self._pause(polling)

    def _follow(
        self,
        session_id: str,
        *,
        after: int = 0,
        run_id: str | None = None,
        type: str | Iterable[str] | None = None,
        idle_timeout: float | None = None,
    ) -> Steps[Event]:
        """Each matching event once, in sequence order, first the stored, then those to come.

        Ends when the session is in a terminal status and everything was yielded, when it is
        deleted, or after `idle_timeout` seconds without a matching event (None: never).
        `after` and `type` are as for `get_events()`; go on later with the last number seen. An
        unknown session: `SessionNotFound`, when the first event is asked for. Holds no
        transaction. In a caller's transaction it sees only what its isolation lets it see.
        """
        wanted = EventFilter(
            session_id=clean_id(session_id, "session_id"),
            run_id=arguments.optional_id(run_id, "run_id"),
            types=arguments.event_types(type),
            after=arguments.sequence_bound(after, "after") or 0,
        )
        seconds = arguments.optional_seconds(idle_timeout, "idle_timeout")
        return self._follow_steps(wanted, seconds, self._pages)

    def _afollow_lines(
        self, wanted: EventFilter, idle_timeout: float | None
    ) -> AsyncGenerator[Line, None]:
        """As `astream_events()`, with the lines of the events instead of these."""
        lines = adrive(self._follow_steps(wanted, idle_timeout, self._new_lines))
        return cast("AsyncGenerator[Line, None]", lines)

    def _follow_steps(
        self,
        wanted: EventFilter,
        idle_timeout: float | None,
        pages: Callable[[EventFilter, int, int, Polling], Steps[T]],
    ) -> Steps[T]:
        seen, after = -1, wanted.after or 0
        with self._watch(wanted.session_id) as watch:
            polling = Polling(idle_timeout, watch)
            # How far it is, is asked before the events are: what commits in between comes next
            # time, and the last events of a session that has ended are not missed.
            while (progress := (yield self._ask_progress(watch))) is not None:
                if progress.latest_sequence < seen:
                    return  # deleted, and saved anew under the same id
                seen = watch.seen = progress.latest_sequence
                yield from pages(wanted, after, seen, polling)
                after = max(seen, after)
                if progress.has_ended or polling.is_over:
                    return
                yield from self._pause(polling)
        if seen < 0:
            raise session_not_found(wanted.session_id)

    def _pages(
        self, wanted: EventFilter, after: int, latest: int, polling: Polling
    ) -> Steps[Event]:
        """The matching events `after` .. `latest`, by their numbers: no page is skipped."""
        while after < latest:
            next_page = wanted.page(after, latest + 1, PAGE)
            page = yield self._ask_events(next_page, polling.watch)
            if page:
                yield from _given(page, polling)
            after = page[-1].sequence_number if len(page) == PAGE else latest

    def _new_lines(
        self, wanted: EventFilter, after: int, latest: int, polling: Polling
    ) -> Steps[Line]:
        """The same as lines, in pages that large payloads make short."""
        if after < latest:
            yield from self._live_lines(replace(wanted, after=after, before=latest + 1), polling)

    def _live_lines(self, wanted: EventFilter, polling: Polling | None = None) -> Steps[Line]:
        """The matching lines, of which little is held at a time."""
        return self._line_pages(wanted, list, FIRST_LIVE_LINES, polling)

    def _pause(self, polling: Polling) -> Steps[Any]:
        pause = polling.pause()
        if polling.has_joined:
            # What others read is what this one would, unless it is in the caller's transaction.
            polling.watch.may_share = self._share_reads and not (yield Ask(self._is_in_block))
        yield pause

    def _ask_progress(self, watch: Watch) -> Ask:
        read = partial(self._get_progress, watch.session_id)
        return Ask(read, (type(self), watch.session_id), watch, is_kept=True)

    def _ask_events(self, wanted: EventFilter, watch: Watch) -> Ask:
        # Their reader may change the events, which are others' too.
        read = partial(self._get_events, wanted)
        return Ask(read, (type(self), wanted), watch, copied)

    def _ask_lines(self, wanted: EventFilter, polling: Polling | None) -> Ask:
        # Nobody changes a line: those who share them need no copies.
        watch = None if polling is None else polling.watch
        return Ask(partial(self._get_event_lines, wanted), (type(self), "lines", wanted), watch)

    def _export(
        self,
        session_id: str,
        *,
        run_id: str | None = None,
        type: str | Iterable[str] | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> Steps[bytes]:
        r"""The session's events as lines of UTF-8 JSON: `to_dict()`, ended by `\n`.

        Payloads pass from the database to the line without being decoded. Arguments are as for
        `get_events()`. The events are read in pages by their numbers, with no cursor and no
        transaction open between them, so that memory does not grow with their count.
        """
        wanted = EventFilter(
            session_id=clean_id(session_id, "session_id"),
            run_id=arguments.optional_id(run_id, "run_id"),
            types=arguments.event_types(type),
            after=arguments.sequence_bound(after, "after"),
            before=arguments.sequence_bound(before, "before"),
            limit=arguments.row_count(limit, "limit"),
        )
        return self._export_steps(wanted)

    def _export_steps(self, wanted: EventFilter) -> Steps[bytes]:
        return self._line_pages(wanted, _without_numbers, FIRST_LINES)

    def _line_pages(
        self,
        wanted: EventFilter,
        of: Callable[[list[Line]], list[T]],
        first: int,
        polling: Polling | None = None,
    ) -> Steps[T]:
        """What `of` makes of the matching lines, page by page, of `first` lines at first."""
        left = wanted.limit
        size = first if wanted.payloads else MOST_LINES
        while left is None or left > 0:
            count = size if left is None else min(size, left)
            page = yield self._ask_lines(replace(wanted, limit=count), polling)
            if page:
                yield from _given(of(page), polling)
            if len(page) < count:
                return
            wanted = replace(wanted, after=page[-1][0])
            left = None if left is None else left - count
            loaded = sum(len(line) for _number, line in page)
            size = max(1, min(8 * size, MOST_LINES, PAGE_BYTES * count // loaded))

    get_events = found_now(_find, "get_events")
    aget_events = afound_now(_find, "aget_events")
    stream_events = found_later(_follow, "stream_events")
    astream_events = afound_later(_follow, "astream_events")
    iter_events_json = found_later(_export, "iter_events_json")
    aiter_events_json = afound_later(_export, "aiter_events_json")

    @abstractmethod
    def _get_events(self, wanted: EventFilter) -> list[Event]: ...

    @abstractmethod
    def _get_event_lines(self, wanted: EventFilter) -> list[Line]:
        """The lines of the events; without `payloads` these are not even read."""

    def _watch(self, session_id: str) -> Watch:
        """Whom this store wakes, if it can; nobody wakes him by default, and he polls."""
        return Watch(session_id)

    @abstractmethod
    def _is_in_block(self) -> bool: ...

    @abstractmethod
    def _get_progress(self, session_id: str) -> Progress | None:
        """None when the session is not stored."""


def _given(page: list[T], polling: Polling | None) -> Steps[T]:
    if polling is None:
        yield page
        return
    polling.watch.has_read()
    yield page
    polling.restart()  # what the caller did with the page was no idle time


def _without_numbers(page: list[Line]) -> list[bytes]:
    return [line for _number, line in page]


def session_not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"session {session_id} is not stored.")
