"""writer(): batches by size and by age, in the order written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...exceptions import RunNotFound, SessionDeleted, SessionNotFound, StoreError, ValidationError
from ...models import Event, Session
from ..factories import make_event, make_run
from .base import ContractCase, ids, needs, numbers
from .streams import BAD_SECONDS
from .values import BAD_IDS
from .workers import SECONDS, race, results, start

GRACE = 0.1


class Writers(ContractCase):
    def events(self, session: Session, count: int, **columns: Any) -> list[Event]:
        return [make_event(session, data={"n": number}, **columns) for number in range(count)]

    def stored_ids(self, session: Session) -> list[str]:
        self.assert_log(session)
        return ids(self.store.get_events(session.pk))

    def test_what_is_written_is_stored_at_the_end_of_the_block(self) -> None:
        session = self.add_session()
        for count in (0, 1, 99, 100, 101, 350):
            before = self.store.get_latest_sequence(session.pk)
            events = self.events(session, count)
            with self.subTest(count=count), self.store.writer(session.pk) as writer:
                for event in events:
                    writer.write(event)
            found = self.store.get_events(session.pk, after=before)
            self.assertEqual(ids(found), ids(events))
            self.assertEqual([e.data for e in found], [e.data for e in events])
        self.assert_log(session)

    def test_a_full_batch_is_stored_without_a_further_write(self) -> None:
        session = self.add_session()
        events = self.events(session, 3)
        with self.store.writer(session.pk, max_events=3, max_delay=SECONDS) as writer:
            for event in events:
                writer.write(event)
            found = self.store.get_events(session.pk, after=2, wait_timeout=SECONDS / 2)
            self.assertEqual(numbers(found), [3])

    def test_an_old_batch_is_stored_without_a_further_write(self) -> None:
        session = self.add_session()
        with self.store.writer(session.pk, max_delay=0.05) as writer:
            for number in (1, 2):
                writer.write(make_event(session))
                found = self.store.get_events(
                    session.pk, after=number - 1, wait_timeout=SECONDS / 2
                )
                self.assertEqual(numbers(found), [number])

    def test_a_large_batch_is_stored_without_a_further_write(self) -> None:
        session = self.add_session()
        with self.store.writer(session.pk, max_events=1000, max_delay=SECONDS) as writer:
            writer.write(make_event(session, data={"text": "x" * 5_000_000}))
            found = self.store.get_events(session.pk, wait_timeout=SECONDS / 2)
            self.assertEqual(numbers(found), [1])

    def test_flush_stores_what_was_written(self) -> None:
        session = self.add_session()
        events = self.events(session, 5)
        with self.store.writer(session.pk, max_delay=SECONDS) as writer:
            writer.flush()
            for event in events:
                writer.write(event)
            writer.flush()
            self.assertEqual(self.stored_ids(session), ids(events))
            writer.flush()

    def test_an_exception_in_the_block_flushes_and_goes_on(self) -> None:
        for kind in (RuntimeError, KeyboardInterrupt):
            session = self.add_session()
            events = self.events(session, 3)
            with self.assertRaises(kind), self.store.writer(session.pk) as writer:
                for event in events:
                    writer.write(event)
                raise kind("the provider died")
            self.assertEqual(self.stored_ids(session), ids(events))

    def test_written_events_are_the_callers_to_change(self) -> None:
        session = self.add_session()
        event = make_event(session, data={"list": [1]})
        with self.store.writer(session.pk, max_delay=SECONDS) as writer:
            writer.write(event)
            event.data["list"].append(2)
            event.type = "error_occurred"
        [stored] = self.store.get_events(session.pk)
        self.assertEqual((stored.data, stored.type), ({"list": [1]}, "message_sent"))
        self.assertFalse(event.sequence_number)

    def test_an_id_written_twice_is_stored_once(self) -> None:
        session = self.add_session()
        kept = self.append(session)
        event = make_event(session)
        with self.store.writer(session.pk) as writer:
            for one in (event, kept, event):
                writer.write(one)
        self.assertEqual(self.stored_ids(session), [kept.pk, event.pk])

    def test_a_bad_event_is_refused_when_it_is_written(self) -> None:
        session, other = self.add_session(), self.add_session()
        good = make_event(session)
        with self.store.writer(session.pk) as writer:
            writer.write(good)
            for bad in (
                make_event(session, data={"x": float("nan")}), make_event(other), "event", None,
                make_event(session, type="unknown"),
            ):  # fmt: skip
                with self.refused(ValidationError):
                    writer.write(bad)  # type: ignore[arg-type]
        self.assertEqual(self.stored_ids(session), [good.pk])
        self.assertEqual(self.stored_ids(other), [])

    def failing(self, session: Session) -> tuple[list[Event], Callable[[], Any]]:
        """Events that cannot be stored before the returned function was called."""
        run = make_run(session)
        events = [make_event(session), make_event(session, run_id=run.pk), make_event(session)]
        return events, lambda: self.store.save_run(run)

    def test_a_failed_flush_raises_at_the_end_with_the_events(self) -> None:
        session = self.add_session()
        events, mend = self.failing(session)
        with self.assertRaises(RunNotFound) as caught, self.store.writer(session.pk) as writer:
            for event in events:
                writer.write(event)
        self.assertEqual(self.stored_ids(session), [])
        self.assertEqual(ids(caught.exception.unwritten_events), ids(events))
        self.assertEqual(numbers(caught.exception.unwritten_events), [None] * 3)
        mend()
        self.store.append_events(caught.exception.unwritten_events)
        self.store.append_events(caught.exception.unwritten_events)
        self.assertEqual(self.stored_ids(session), ids(events))

    def test_a_failed_flush_raises_at_a_later_write_with_the_events(self) -> None:
        session = self.add_session()
        events, mend = self.failing(session)
        written = list(events)
        with self.store.writer(session.pk, max_events=3) as writer:
            for event in events:
                writer.write(event)
            with self.assertRaises(RunNotFound) as caught:
                for _ in range(1000):  # At the latest when it would have to block.
                    written.append(make_event(session))
                    writer.write(written[-1])
                    threading.Event().wait(0.005)  # Mostly sooner.
            self.assertEqual(ids(caught.exception.unwritten_events), ids(written))
            mend()
            for event in caught.exception.unwritten_events:
                writer.write(event)
        self.assertEqual(self.stored_ids(session), ids(written))

    def test_what_an_error_gave_back_is_not_stored_all_the_same(self) -> None:
        session = self.add_session()
        events, mend = self.failing(session)
        with self.store.writer(session.pk, max_events=3) as writer:
            with self.assertRaises(RunNotFound):
                for event in events:
                    writer.write(event)
                for _ in range(1000):
                    writer.write(make_event(session))
            mend()
        self.assertEqual(self.stored_ids(session), [])

    def test_an_interrupted_flush_loses_nothing(self) -> None:
        session = self.add_session()
        events = self.events(session, 3)
        append = self.store._append

        def interrupted(*arguments: Any) -> Any:
            self.store._append = append  # type: ignore[method-assign]
            raise KeyboardInterrupt

        with self.store.writer(session.pk, max_delay=SECONDS) as writer:
            for event in events[:2]:
                writer.write(event)
            self.store._append = interrupted  # type: ignore[method-assign, assignment]
            with self.assertRaises(KeyboardInterrupt):
                writer.flush()
            writer.write(events[2])
        self.assertEqual(self.stored_ids(session), ids(events))

    def test_a_failed_flush_raises_over_the_blocks_own_exception(self) -> None:
        session = self.add_session()
        events, _mend = self.failing(session)
        with self.assertRaises(RunNotFound) as caught, self.store.writer(session.pk) as writer:
            for event in events:
                writer.write(event)
            raise RuntimeError("the provider died")
        self.assertIsInstance(caught.exception.__context__, RuntimeError)
        self.assertEqual(ids(caught.exception.unwritten_events), ids(events))

    def test_flush_raises_what_failed_once(self) -> None:
        session = self.add_session()
        events, _mend = self.failing(session)
        with self.store.writer(session.pk, max_delay=SECONDS) as writer:
            for event in events:
                writer.write(event)
            with self.assertRaises(RunNotFound) as caught:
                writer.flush()
            writer.flush()
        self.assertEqual(ids(caught.exception.unwritten_events), ids(events))
        self.assertEqual(self.stored_ids(session), [])

    def test_a_session_that_cannot_be_appended_to(self) -> None:
        deleted = self.add_session()
        self.store.soft_delete_session(deleted.pk)
        cases: list[tuple[str, type[StoreError]]] = [
            (deleted.pk, SessionDeleted), ("ses-missing", SessionNotFound),
        ]  # fmt: skip
        for session_id, error in cases:
            event = make_event(session_id)
            with self.assertRaises(error) as caught, self.store.writer(session_id) as writer:
                writer.write(event)
            self.assertEqual(ids(caught.exception.unwritten_events), [event.pk])

    @contextmanager
    def held(self, session: Session) -> Iterator[None]:
        """Another thread keeps the session locked during the block."""
        locked, release = threading.Event(), threading.Event()

        def hold() -> None:
            with self.atomic():
                self.append(session)
                locked.set()
                release.wait(SECONDS)

        holder = start(hold)
        try:
            self.assertTrue(locked.wait(SECONDS))
            yield
        finally:
            release.set()
            holder.result()

    @needs("supports_transactions")
    def test_write_blocks_while_too_much_is_unflushed(self) -> None:
        session = self.add_session()
        events = self.events(session, 60)
        taken: list[Event] = []
        full = threading.Event()

        def produce() -> None:
            with self.store.writer(session.pk, max_events=2) as writer:
                for event in events:
                    taken.append(event)
                    if len(taken) == 20:
                        full.set()
                    writer.write(event)

        with self.held(session):
            producer = start(produce)
            self.assertTrue(full.wait(SECONDS))
            self.assertFalse(producer.ended.wait(GRACE))
            self.assertEqual(len(taken), 20)
        producer.result()
        self.assertEqual(self.stored_ids(session)[1:], ids(events))

    @needs("supports_transactions")
    def test_write_does_not_wait_for_a_batch_under_way(self) -> None:
        session = self.add_session()
        events = self.events(session, 10)
        with self.store.writer(session.pk, max_events=2) as writer, self.held(session):
            for event in events:
                writer.write(event)
        self.assertEqual(self.stored_ids(session)[1:], ids(events))

    def test_threads_may_share_a_writer(self) -> None:
        session = self.add_session()
        with self.store.writer(session.pk, max_events=7, max_delay=0.001) as writer:

            def write() -> list[Event]:
                events = self.events(session, 40)
                for event in events:
                    writer.write(event)
                return events

            written = results(race([write] * 4))
        stored = self.stored_ids(session)
        self.assertEqual(len(stored), 160)
        for events in written:
            mine = set(ids(events))
            self.assertEqual([one for one in stored if one in mine], ids(events))

    def test_what_was_taken_before_the_end_is_stored(self) -> None:
        session = self.add_session()
        taken: list[Event] = []
        ready = threading.Barrier(4)
        writer = self.store.writer(session.pk, max_events=20, max_delay=0.001)

        def write_until_closed() -> None:
            ready.wait(SECONDS)
            with suppress(ValidationError):
                while True:
                    event = make_event(session)
                    writer.write(event)
                    taken.append(event)

        with writer:
            workers = [start(write_until_closed) for _ in range(3)]
            ready.wait(SECONDS)
            while len(taken) < 50:
                writer.flush()
        for worker in workers:
            worker.result()
        self.assertEqual(set(self.stored_ids(session)), set(ids(taken)))

    def test_no_thread_is_left(self) -> None:
        session = self.add_session()
        before = set(threading.enumerate())
        with self.store.writer(session.pk, max_events=1) as writer:
            for event in self.events(session, 3):
                writer.write(event)
        self.assertEqual(set(threading.enumerate()) - before, set())

    def test_a_writer_is_for_one_block(self) -> None:
        session = self.add_session()
        writer = self.store.writer(session.pk)
        with self.refused(ValidationError):
            writer.write(make_event(session))
        with writer:
            with self.refused(ValidationError):
                writer.__enter__()
            writer.write(make_event(session))
        with self.refused(ValidationError):
            writer.write(make_event(session))
        with self.refused(ValidationError):
            writer.__enter__()
        self.assertEqual(len(self.stored_ids(session)), 1)

    def test_bad_arguments_of_a_writer_are_refused(self) -> None:
        session = self.add_session()
        for name in ("writer", "awriter"):
            make = getattr(self.store, name)
            for bad in BAD_IDS:
                with self.subTest(bad=bad), self.refused(ValidationError):
                    make(bad)
            for bad in (0, -1, True, 1.0, "1", None):
                with self.subTest(bad=bad), self.refused(ValidationError):
                    make(session.pk, max_events=bad)
            for bad in (*BAD_SECONDS, None):
                with self.subTest(bad=bad), self.refused(ValidationError):
                    make(session.pk, max_delay=bad)
