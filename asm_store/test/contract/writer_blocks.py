"""writer() in the caller's own transaction."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from functools import partial

from ...backends.writing import EventWriter
from ...exceptions import RunNotFound, ValidationError
from ...models import Event
from ..factories import make_event, make_run
from .base import ContractCase, ids, needs, numbers
from .transactions import Undo
from .workers import SECONDS, start
from .writers import GRACE


class WritersInBlocks(ContractCase):
    """Within the caller's block nothing is stored but by the caller's thread."""

    @needs("supports_transactions")
    def test_what_is_written_in_a_block_is_committed_with_it(self) -> None:
        session = self.add_session()
        events = [make_event(session) for _ in range(5)]
        with self.atomic():
            with self.store.writer(session.pk, max_events=2, max_delay=0) as writer:
                for event in events:
                    writer.write(event)
            self.assertEqual(ids(self.store.get_events(session.pk)), ids(events))
            self.assertEqual(start(lambda: self.store.get_events(session.pk)).result(), [])
        self.assertEqual(ids(self.store.get_events(session.pk)), ids(events))
        self.assert_log(session)

    @needs("supports_transactions")
    def test_what_is_written_in_a_block_is_rolled_back_with_it(self) -> None:
        session = self.add_session()
        for delay in (0, 0.01, 60):
            with suppress(Undo), self.atomic():
                with self.store.writer(session.pk, max_events=2, max_delay=delay) as writer:
                    for number in range(5):
                        writer.write(make_event(session, data={"n": number}))
                raise Undo
            self.assertEqual(self.store.get_events(session.pk), [])
        self.assert_log(session)

    @needs("supports_transactions")
    def test_in_a_block_size_and_age_flush_at_the_write(self) -> None:
        session = self.add_session()
        for options in ({"max_events": 1, "max_delay": 60}, {"max_events": 60, "max_delay": 0}):
            with self.atomic(), self.store.writer(session.pk, **options) as writer:
                event = make_event(session)
                writer.write(event)
                self.assertEqual(ids(self.store.get_events(session.pk))[-1], event.pk)

    @needs("supports_transactions")
    def test_in_a_block_no_other_thread_stores_it(self) -> None:
        session = self.add_session()
        before = set(threading.enumerate())
        with self.atomic(), self.store.writer(session.pk, max_events=60, max_delay=60) as writer:
            writer.write(make_event(session))
            # Asked first: a reader that waits may be woken by a thread.
            self.assertEqual(set(threading.enumerate()) - before, set())
            self.assertEqual(self.store.get_events(session.pk, wait_timeout=GRACE), [])
        self.assert_log(session)

    @needs("supports_transactions")
    def test_a_failed_flush_in_a_block_raises_there(self) -> None:
        session = self.add_session()
        run = make_run(session)
        kept = make_event(session)
        bad = make_event(session, run_id=run.pk)
        with self.atomic():
            self.store.append_event(kept)
            writer = self.store.writer(session.pk, max_events=1)
            with self.assertRaises(RunNotFound) as caught, writer:
                writer.write(bad)
            self.assertEqual(ids(caught.exception.unwritten_events), [bad.pk])
            self.store.save_run(run)
            self.store.append_events(caught.exception.unwritten_events)
        self.assertEqual(ids(self.store.get_events(session.pk)), [kept.pk, bad.pk])
        self.assert_log(session)

    @needs("supports_transactions")
    def test_a_writer_is_either_in_a_block_or_not(self) -> None:
        session = self.add_session()
        with self.store.writer(session.pk, max_delay=60) as writer:
            writer.write(make_event(session))
            with self.atomic():
                with self.refused(ValidationError):
                    writer.write(make_event(session))
                with self.refused(ValidationError):
                    writer.flush()
            writer.write(make_event(session))
        self.assertEqual(numbers(self.store.get_events(session.pk)), [1, 2])
        with ExitStack() as stack:
            with self.atomic():
                writer = stack.enter_context(self.store.writer(session.pk, max_delay=60))
                writer.write(make_event(session))
            with self.refused(ValidationError):
                writer.write(make_event(session))
        self.assertEqual(numbers(self.store.get_events(session.pk)), [1, 2, 3])
        self.assert_log(session)

    @needs("supports_transactions")
    def test_the_end_of_a_writer_in_a_later_block_does_not_wait_for_its_thread(self) -> None:
        """The block holds the very lock that the thread waits for."""
        session = self.add_session()
        events = [make_event(session) for _ in range(4)]
        with ExitStack() as stack:
            writer = stack.enter_context(self.store.writer(session.pk, max_events=1))
            with self.atomic():
                first = self.append(session)
                # As if it had been written right before: its thread cannot store it now.
                start(partial(self.write_all, writer, events)).result()
                stack.close()
                self.assertEqual(ids(self.store.get_events(session.pk)), [first.pk, *ids(events)])
        for thread in threading.enumerate():  # It ends by itself, and finds all stored.
            if thread.name == "asm_store.writer":
                thread.join(SECONDS)
        self.assertEqual(ids(self.store.get_events(session.pk)), [first.pk, *ids(events)])
        self.assert_log(session)

    @staticmethod
    def write_all(writer: EventWriter, events: list[Event]) -> None:
        for event in events:
            writer.write(event)
