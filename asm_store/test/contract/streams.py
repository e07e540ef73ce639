"""Waiting for events and following a session, in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from django.db import connections

from ...backends.base import BaseSessionStore
from ...exceptions import InvalidEventType, SessionNotFound, ValidationError
from ...models import Event, Session
from ...waiting import polling
from ..factories import make_event, make_run
from .base import ContractCase, ids, needs, numbers, states
from .interleavings import Interruption
from .values import BAD_IDS, BAD_POSITIONS
from .workers import SECONDS, Worker, start

BAD_SECONDS: tuple[Any, ...] = (
    -0.001, float("nan"), float("inf"), 10**10, True, "1", [1],
)  # fmt: skip
PROBED = ("_get_events", "_get_event_lines", "_get_progress")
# More than one query of a follower reads.
MANY = 450


def often() -> AbstractContextManager[Any]:
    """Those who wait look soon and again, even where they would be woken."""
    return mock.patch.object(polling, "HEARD_PAUSE", polling.SHORTEST_PAUSE)


def before_look(store: BaseSessionStore, number: int, action: Callable[[], Any]) -> None:
    """Do `action` right before the store's `number`-th look at what is stored, from 1."""
    looks = iter(range(1, 10_000))

    def probed(look: Callable[..., Any]) -> Callable[..., Any]:
        def probe(*arguments: Any) -> Any:
            if next(looks) == number:
                action()
            return look(*arguments)

        return probe

    for name in PROBED:
        setattr(store, name, probed(getattr(store, name)))


class Streams(ContractCase):
    @contextmanager
    def quickly(self) -> Iterator[None]:
        """The block must not wait for its timeout, which is SECONDS."""
        began = time.monotonic()
        yield
        self.assertLess(time.monotonic() - began, SECONDS / 2)

    def looking(self, number: int = 2) -> tuple[BaseSessionStore, threading.Event]:
        """A store, and what is set when it has begun to look again for what was not there."""
        store, blocked = self.make_store(), threading.Event()
        before_look(store, number, blocked.set)
        return store, blocked

    def complete(self, session: Session, *events: Event) -> None:
        """The last events of a session and its end, in one transaction."""
        ended = self.store.get_session(session.pk).update_status("completed")
        run = make_run(session)
        self.store.flush(ended, run, events)

    # get_events(wait_timeout=...)

    def test_a_wait_ends_at_once_when_something_matches(self) -> None:
        session = self.add_session()
        event = self.append(session)
        with self.quickly():
            found = self.store.get_events(session.pk, wait_timeout=SECONDS)
        self.assertEqual(states(found), states([event]))

    def test_a_wait_ends_with_nothing_after_its_timeout(self) -> None:
        session = self.add_session()
        self.append(session)
        for timeout in (0, 0.05, 0.2):
            began = time.monotonic()
            self.assertEqual(self.store.get_events(session.pk, after=1, wait_timeout=timeout), [])
            self.assertGreaterEqual(time.monotonic() - began, timeout)

    def test_nothing_is_awaited_that_cannot_come(self) -> None:
        session = self.add_session()
        with self.quickly():
            self.assertEqual(self.store.get_events("ses-missing", wait_timeout=SECONDS), [])
            found = self.store.get_events(session.pk, limit=0, wait_timeout=SECONDS)
            self.assertEqual(found, [])
            self.assertEqual(self.store.get_events(session.pk, type=[], wait_timeout=SECONDS), [])

    def test_an_append_ends_a_wait(self) -> None:
        session = self.add_session()
        store, blocked = self.looking(3)
        waiter = start(lambda: store.get_events(session.pk, wait_timeout=SECONDS))
        self.assertTrue(blocked.wait(SECONDS))
        with self.quickly():
            event = self.append(session)
            self.assertEqual(states(waiter.result()), states([event]))

    def test_only_a_matching_append_ends_a_wait(self) -> None:
        session = self.add_session()
        store, blocked = self.looking(3)
        waiter = start(
            lambda: store.get_events(session.pk, type="error_occurred", wait_timeout=SECONDS)
        )
        self.assertTrue(blocked.wait(SECONDS))
        self.append(session)
        store, looked = self.looking(3)  # As long as others need for their looks.
        others = start(lambda: store.get_events(session.pk, type="run_failed", wait_timeout=0.2))
        self.assertTrue(looked.wait(SECONDS))
        self.assertEqual(others.result(), [])
        event = self.append(session, type="error_occurred")
        self.assertEqual(states(waiter.result()), states([event]))

    def test_an_append_between_two_looks_ends_a_wait(self) -> None:
        for look in range(1, 6):
            session, store = self.add_session(), self.make_store()
            event = make_event(session)
            before_look(store, look, lambda: self.store.append_event(event))  # noqa: B023
            with self.subTest(look=look), self.quickly(), often():
                found = store.get_events(session.pk, wait_timeout=SECONDS)
                self.assertEqual(ids(found), [event.pk])

    def test_a_wait_on_a_busy_session_still_ends(self) -> None:
        session, store = self.add_session(), self.make_store()
        look = store._get_progress

        def busy(session_id: str) -> Any:
            self.append(session)
            return look(session_id)

        store._get_progress = busy  # type: ignore[method-assign]
        self.assertEqual(store.get_events(session.pk, type="run_failed", wait_timeout=0.1), [])

    def test_a_hard_delete_ends_a_wait(self) -> None:
        session = self.add_session()
        store, blocked = self.looking(3)
        waiter = start(lambda: store.get_events(session.pk, wait_timeout=SECONDS))
        self.assertTrue(blocked.wait(SECONDS))
        with self.quickly():
            self.store.delete_session(session.pk)
            self.assertEqual(waiter.result(), [])

    def test_bad_timeouts_are_refused(self) -> None:
        session = self.add_session()
        for bad in BAD_SECONDS:
            with self.subTest(seconds=bad):
                with self.refused(ValidationError):
                    self.store.get_events(session.pk, wait_timeout=bad)
                with self.refused(ValidationError):
                    self.store.stream_events(session.pk, idle_timeout=bad)

    # stream_events

    def streamed(self, session: Session, **options: Any) -> list[int]:
        return numbers(self.store.stream_events(session.pk, **{"idle_timeout": 0, **options}))

    def test_a_stream_yields_what_is_stored(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        for column in ({}, {"run_id": run.pk}, {"type": "error_occurred"}, {"run_id": run.pk}):
            self.append(session, **column)
        self.assertEqual(self.streamed(session), [1, 2, 3, 4])
        self.assertEqual(self.streamed(session, after=2), [3, 4])
        self.assertEqual(self.streamed(session, after=9), [])
        self.assertEqual(self.streamed(session, after=-5), [1, 2, 3, 4])
        self.assertEqual(self.streamed(session, run_id=run.pk), [2, 4])
        self.assertEqual(self.streamed(session, type=["error_occurred", "run_failed"]), [3])
        self.assertEqual(self.streamed(session, type=[]), [])
        found = self.store.stream_events(session.pk, idle_timeout=0)
        self.assertEqual(states(found), states(self.store.get_events(session.pk)))

    def test_a_long_log_is_streamed_whole(self) -> None:
        session = self.add_session()
        types = ["message_sent", "error_occurred", "error_occurred"]
        self.store.append_events([make_event(session, type=types[n % 3]) for n in range(MANY)])
        self.assertEqual(self.streamed(session), list(range(1, MANY + 1)))
        self.assertEqual(self.streamed(session, type="message_sent"), list(range(1, MANY, 3)))

    def test_a_stream_ends_with_its_session(self) -> None:
        for status in ("completed", "failed", "cancelled"):
            session = self.add_session(status=status)
            self.append(session)
            with self.subTest(status=status), self.quickly():
                self.assertEqual(self.streamed(session, idle_timeout=SECONDS), [1])
                self.assertEqual(self.streamed(session, idle_timeout=SECONDS, after=1), [])
                self.assertEqual(self.streamed(session, idle_timeout=None), [1])

    def test_a_stream_follows_what_is_appended(self) -> None:
        session = self.add_session()
        self.append(session)
        store, blocked = self.looking(3)
        follower = start(lambda: list(store.stream_events(session.pk, idle_timeout=SECONDS)))
        self.assertTrue(blocked.wait(SECONDS))
        self.append(session)
        self.store.append_events([make_event(session)] * 2 + [make_event(session)])
        self.complete(session, make_event(session))
        with self.quickly():
            found = follower.result()
        self.assertEqual(numbers(found), [1, 2, 3, 4, 5])
        self.assertEqual(states(found), states(self.store.get_events(session.pk)))

    def test_a_stream_misses_nothing_that_comes_between_two_looks(self) -> None:
        for look in range(1, 7):
            session, store = self.add_session(), self.make_store()
            self.append(session)
            before_look(
                store,
                look,
                lambda: self.complete(session, make_event(session), make_event(session)),  # noqa: B023
            )
            with self.subTest(look=look), self.quickly(), often():
                found = store.stream_events(session.pk, idle_timeout=SECONDS)
                self.assertEqual(numbers(found), [1, 2, 3])

    @needs("using")
    def test_a_stream_misses_nothing_that_comes_between_two_statements(self) -> None:
        # Two looks at what is stored, in two statements each, and the first one of the third: it
        # goes on looking until the session is complete.
        for position in range(5):
            session = self.add_session()
            self.append(session)
            worker = Worker(
                lambda: self.complete(session, make_event(session), make_event(session))  # noqa: B023
            )
            interruption = Interruption(worker, position)
            with connections[str(self.database)].execute_wrapper(interruption), often():
                found = self.streamed(session, idle_timeout=SECONDS)
            worker.result()
            self.assertEqual(found, [1, 2, 3], f"it came before statement {position}")

    def test_a_stream_of_one_type_misses_nothing_either(self) -> None:
        for look in range(1, 7):
            session, store = self.add_session(), self.make_store()
            self.append(session)
            last = [make_event(session), make_event(session, type="run_completed")]
            before_look(store, look, lambda: self.complete(session, *last))  # noqa: B023
            with self.subTest(look=look), self.quickly(), often():
                found = store.stream_events(session.pk, type="run_completed", idle_timeout=SECONDS)
                self.assertEqual(numbers(found), [3])

    def test_a_stream_ends_after_its_idle_time(self) -> None:
        session = self.add_session()
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=0.2)
        self.assertEqual(next(stream).sequence_number, 1)
        began = time.monotonic()
        self.assertEqual(list(stream), [])
        self.assertGreaterEqual(time.monotonic() - began, 0.2)

    def test_the_time_of_the_caller_is_no_idle_time(self) -> None:
        session = self.add_session()
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=0.1)
        next(stream)
        threading.Event().wait(0.15)
        self.append(session)
        self.assertEqual(numbers(stream), [2])

    def test_a_soft_deleted_session_is_streamed_to_its_end(self) -> None:
        session = self.add_session()
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=SECONDS)
        self.assertEqual(next(stream).sequence_number, 1)
        self.append(session)
        self.store.soft_delete_session(session.pk)
        with self.quickly():
            self.assertEqual(numbers(stream), [2])
            self.assertEqual(self.streamed(session, idle_timeout=SECONDS), [1, 2])

    def test_a_stream_ends_with_a_hard_delete(self) -> None:
        session = self.add_session()
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=SECONDS)
        self.assertEqual(next(stream).sequence_number, 1)
        self.store.delete_session(session.pk)
        with self.quickly():
            self.assertEqual(list(stream), [])

    def test_a_stream_does_not_go_on_in_another_session_of_its_id(self) -> None:
        session = self.add_session()
        self.append(session)
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=SECONDS)
        self.assertEqual([next(stream).sequence_number for _ in range(2)], [1, 2])
        self.store.delete_session(session.pk)
        self.add_session(id=session.pk)
        self.append(session)
        with self.quickly():
            self.assertEqual(list(stream), [])

    def test_an_unknown_session_is_not_streamed(self) -> None:
        with self.assertRaises(SessionNotFound):
            next(self.store.stream_events("ses-missing"))

    def test_a_stream_holds_no_transaction(self) -> None:
        session = self.add_session()
        self.append(session)
        stream = self.store.stream_events(session.pk, idle_timeout=SECONDS)
        next(stream)
        if self.database is not None:
            self.assertFalse(connections[self.database].in_atomic_block)
        start(lambda: self.store.delete_session(session.pk)).result()
        self.assertEqual(list(stream), [])

    def test_a_stream_can_be_left_and_taken_up(self) -> None:
        session = self.add_session()
        self.store.append_events([make_event(session) for _ in range(5)])
        seen: list[int] = []
        for event in self.store.stream_events(session.pk):
            seen.append(event.sequence_number)
            if len(seen) == 3:
                break
        self.append(session)
        self.assertEqual(self.streamed(session, after=seen[-1]), [4, 5, 6])

    def test_bad_arguments_of_a_stream_are_refused_at_the_call(self) -> None:
        session = self.add_session()
        for bad in BAD_IDS:
            with self.subTest(bad=bad), self.refused(ValidationError):
                self.store.stream_events(bad)
        for bad in BAD_POSITIONS:
            with self.subTest(bad=bad), self.refused(ValidationError):
                self.store.stream_events(session.pk, after=bad)
        with self.refused(InvalidEventType):
            self.store.stream_events(session.pk, type="unknown")
