"""Races of threads, all started together. Afterwards: numbers 1..n, nothing lost, no orphan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...exceptions import EventConflict, SequenceConflict
from ...models import Event, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, needs, numbers, state, states
from .workers import Worker, race, results


class Races(ContractCase):
    def append_many(self, session: Session, count: int) -> list[Event]:
        store = self.make_store()
        return [store.append_event_with_sequence(make_event(session)) for _ in range(count)]

    def race_calls(self, method: str, arguments: Iterable[Any]) -> list[Worker[Any]]:
        """Call the method in a thread for each argument, on a store of the thread's own."""
        return race(partial(getattr(self.make_store(), method), each) for each in arguments)

    def race_batches(self, orders: list[list[Session]], *, times: int) -> list[list[Event]]:
        """A writer for each order, which appends that many batches with an event for each owner."""

        def write(order: list[Session]) -> list[list[Event]]:
            store = self.make_store()
            batches = ([make_event(owner) for owner in order] for _ in range(times))
            return [store.append_events(batch) for batch in batches]

        written = results(race(partial(write, order) for order in orders))
        return [batch for batches in written for batch in batches]

    def assert_contiguous(self, batch: list[Event]) -> None:
        """The events of each session in the batch have numbers without gap, in input order."""
        for session_id in {event.session_id for event in batch}:
            found = [e.sequence_number for e in batch if e.session_id == session_id]
            first = found[0]
            assert first is not None
            self.assertEqual(found, list(range(first, first + len(found))))

    def test_eight_threads_on_one_hot_session(self) -> None:
        session = self.add_session()
        workers = race([partial(self.append_many, session, 8)] * 8)
        stored = [event for events in results(workers) for event in events]
        self.assertEqual(sorted(numbers(stored)), list(range(1, 65)))
        self.assert_log(session, stored)

    def test_eight_threads_on_eight_sessions(self) -> None:
        sessions = [self.add_session() for _ in range(8)]
        workers = race(partial(self.append_many, session, 8) for session in sessions)
        for session, stored in zip(sessions, results(workers), strict=True):
            self.assertEqual(numbers(stored), list(range(1, 9)))
            self.assert_log(session, stored)

    def test_one_id_from_eight_writers_is_one_event(self) -> None:
        session = self.add_session()
        for number in range(1, 7):
            event = make_event(session)
            stored = results(
                self.race_calls(
                    "append_event_with_sequence",
                    [make_event(session, id=event.pk, data={"writer": n}) for n in range(8)],
                )
            )
            self.assertEqual(states(stored), [state(stored[0])] * 8)
            self.assertEqual(stored[0].sequence_number, number)
        self.assert_log(session)

    def test_one_batch_from_six_writers_is_stored_once(self) -> None:
        session = self.add_session()
        events = [make_event(session) for _ in range(10)]
        orders = (events, events[::-1], events[5:] + events[:5])
        stored = results(self.race_calls("append_events", orders * 2))
        for order, batch in zip(orders * 2, stored, strict=True):
            self.assertEqual(ids(batch), ids(order))
        self.assertEqual(self.store.get_latest_sequence(session.pk), 10)
        self.assert_log(session, [event for batch in stored for event in batch])

    def test_interleaved_batches_are_contiguous(self) -> None:
        first, second = self.add_session(), self.add_session()
        owners = [first, second] * 5
        batches = self.race_batches([owners] * 6, times=3)
        for batch in batches:
            self.assert_contiguous(batch)
        for session in (first, second):
            mine = [e for batch in batches for e in batch if e.session_id == session.pk]
            self.assertEqual(len(mine), 6 * 3 * 5)
            self.assert_log(session, mine)

    def test_crossed_batches_do_not_deadlock(self) -> None:
        sessions = [self.add_session() for _ in range(3)]
        orders = (sessions, sessions[::-1], sessions[1:] + sessions[:1], sessions[::-1])
        batches = self.race_batches([order * 2 for order in orders], times=6)
        for batch in batches:
            self.assert_contiguous(batch)
        for session in sessions:
            self.assertEqual(self.store.get_latest_sequence(session.pk), 4 * 6 * 2)
            self.assert_log(session)

    def test_one_id_in_two_sessions_is_stored_in_one(self) -> None:
        first, second = self.add_session(), self.add_session()
        for _ in range(6):
            event_id = make_event(first).pk
            workers = self.race_calls(
                "append_event_with_sequence",
                [make_event(session, id=event_id) for session in (first, second) * 3],
            )
            stored = [w.value for w in workers if w.value is not None]
            errors = [w.error for w in workers if w.error is not None]
            self.assertEqual(states(stored), [state(stored[0])] * 3)
            self.assertEqual([type(error) for error in errors], [EventConflict] * 3)
        latest = [self.store.get_latest_sequence(s.pk) for s in (first, second)]
        self.assertEqual(sum(latest), 6)
        self.assert_log(first)
        self.assert_log(second)

    def test_crossed_ids_in_batches_of_two_sessions(self) -> None:
        # Each batch holds ids that another one wants for the other session, in another order.
        first, second = self.add_session(), self.add_session()
        names = [f"evt-{number}" for number in range(10)]
        orders = ((first, names), (second, names[::-1])) * 2
        batches = [[make_event(owner, id=name) for name in order] for owner, order in orders]
        workers = self.race_calls("append_events", batches)
        errors = [w.error for w in workers if w.error is not None]
        self.assertEqual([type(error) for error in errors], [EventConflict] * 2)
        self.assertEqual(
            sorted(self.store.get_latest_sequence(s.pk) for s in (first, second)), [0, 10]
        )
        self.assert_log(first)
        self.assert_log(second)

    def test_a_number_is_expected_by_many_and_taken_by_one(self) -> None:
        session = self.add_session()

        def compare_and_append() -> list[Event]:
            store, stored = self.make_store(), list[Event]()
            latest = store.get_latest_sequence(session.pk)
            while len(stored) < 4:
                event = make_event(session)
                try:
                    stored += store.append_events([event], expected_sequence=latest)
                    self.assertEqual(stored[-1].sequence_number, latest + 1)
                    latest += 1
                except SequenceConflict as conflict:
                    self.assertGreater(conflict.latest_sequence, latest)
                    latest = conflict.latest_sequence
            return stored

        stored = [event for mine in results(race([compare_and_append] * 4)) for event in mine]
        self.assertEqual(len(stored), 16)
        self.assert_log(session, stored)

    def test_what_a_reader_has_seen_never_changes(self) -> None:
        session = self.add_session()
        writers, count = 3, 12

        def follow() -> list[Event]:
            store, seen = self.make_store(), list[Event]()
            while len(seen) < writers * count:
                seen += store.get_events(session.pk, after=len(seen))
                self.assertEqual(numbers(seen), list(range(1, len(seen) + 1)))
            return seen

        write = partial(self.append_many, session, count)
        jobs: list[Callable[[], list[Event]]] = [*[write] * writers, follow]
        *written, seen = results(race(jobs))
        self.assertEqual(states(seen), states(self.store.get_events(session.pk)))
        self.assert_log(session, [event for events in written for event in events])

    # Saves

    def test_racing_saves_of_a_new_session_are_one_session(self) -> None:
        for _ in range(3):
            session = make_session()
            self.added.append(session.pk)
            copies = [make_session(id=session.pk, metadata={"writer": n}) for n in range(8)]
            saved = results(self.race_calls("save_session", copies))
            self.assertEqual(states(saved), states(copies))
            self.assertIn(state(self.store.get_session(session.pk)), states(copies))
            self.assertEqual(self.append(session).sequence_number, 1)
            self.assert_log(session)
        self.assertEqual(len(self.store.list_sessions()), 3)

    def test_racing_saves_and_appends_of_a_new_session(self) -> None:
        # Whoever saved it may append at once, while the others still save it.
        session = make_session()

        def save_and_append() -> Event:
            store = self.make_store()
            store.save_session(session)
            return store.append_event_with_sequence(make_event(session))

        stored = results(race([save_and_append] * 8))
        self.assertEqual(sorted(numbers(stored)), list(range(1, 9)))
        self.assert_log(session, stored)

    def test_racing_saves_of_a_new_run_are_one_run(self) -> None:
        session = self.add_session()
        for _ in range(3):
            run = make_run(session)
            copies = [make_run(session, id=run.pk, turn_count=n) for n in range(8)]
            saved = results(self.race_calls("save_run", copies))
            self.assertEqual(states(saved), states(copies))
            self.assertIn(state(self.store.get_run(run.pk)), states(copies))
        self.assertEqual(len(self.store.list_runs(session.pk)), 3)

    def test_a_new_run_raced_into_two_sessions_is_in_one(self) -> None:
        first, second = self.add_session(), self.add_session()
        for _ in range(4):
            run = make_run(first)
            copies = [make_run(owner, id=run.pk) for owner in (first, second) * 2]
            workers = self.race_calls("save_run", copies)
            winners = [w.value for w in workers if w.value is not None]
            owner_id = self.store.get_run(run.pk).session_id
            self.assertEqual([w.session_id for w in winners], [owner_id] * 2)
            self.assertEqual(
                {getattr(w.error, "code", None) for w in workers if w.error}, {"validation_error"}
            )

    def test_racing_updates_undo_nothing(self) -> None:
        session = self.add_session()

        def update(writer: int) -> None:
            store = self.make_store()
            for turn in range(4):
                name = f"{writer}.{turn}"
                store.update_session(session.pk, add_tags=[name], metadata={name: turn})

        results(race(partial(update, writer) for writer in range(6)))
        stored = self.store.get_session(session.pk)
        names = {f"{writer}.{turn}" for writer in range(6) for turn in range(4)}
        self.assertEqual((set(stored.tags), set(stored.metadata)), (names, names))
        self.assertEqual(len(stored.tags), len(names))

    def test_updates_race_appends_and_both_are_kept(self) -> None:
        session = self.add_session()

        def update(writer: int) -> list[Event]:
            self.make_store().update_session(session.pk, add_tags=[str(writer)])
            return []

        jobs: list[Callable[[], list[Event]]] = [partial(update, writer) for writer in range(4)]
        jobs += [partial(self.append_many, session, 6)] * 4
        stored = [event for events in results(race(jobs)) for event in events]
        self.assertEqual(set(self.store.get_session(session.pk).tags), set("0123"))
        self.assert_log(session, stored)

    def test_racing_flushes_store_every_event(self) -> None:
        session = make_session()
        run = make_run(session)

        def flush() -> list[Event]:
            store, stored = self.make_store(), list[Event]()
            for _ in range(3):
                events = [make_event(session, run_id=run.pk) for _ in range(4)]
                flushed = store.flush(session, run, events)
                self.assert_contiguous(flushed)
                stored += flushed
            return stored

        stored = [event for mine in results(race([flush] * 4)) for event in mine]
        self.assertEqual(len(stored), 48)
        self.assert_log(session, stored)

    def test_one_flush_from_many_writers_is_stored_once(self) -> None:
        session = make_session()
        run = make_run(session)
        events = [make_event(session, run_id=run.pk) for _ in range(5)]
        flush = partial(self.store.flush, session, run, events)  # one store, shared by threads
        stored = results(race([flush] * 6))
        self.assertEqual([states(one) for one in stored], [states(stored[0])] * 6)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 5)
        self.assert_log(session, stored[0])

    @needs("supports_transactions")
    def test_one_id_from_the_blocks_of_many_callers(self) -> None:
        # A unique violation would abort the whole block on PostgreSQL.
        session = self.add_session()
        event = make_event(session)

        def block() -> list[Event]:
            store = self.make_store()
            with self.atomic():
                same = store.append_event_with_sequence(event)
                return [same, store.append_event_with_sequence(make_event(session))]

        stored = results(race([block] * 4))
        self.assertEqual([same.sequence_number for same, _ in stored], [1] * 4)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 5)
        self.assert_log(session, [event for pair in stored for event in pair])

    @needs("supports_transactions")
    def test_lifecycle_steps_in_blocks_do_not_meet_in_a_deadlock(self) -> None:
        # A block cannot be tried again by the store: every write must lock in one order.
        session = self.add_session()

        def step(store: Any) -> None:
            with self.atomic():
                run = store.save_run(make_run(session))
                store.append_event(make_event(session, run_id=run.pk))
                store.update_session(session.pk, status="active")

        def other_step(store: Any) -> None:
            with self.atomic():
                store.update_session(session.pk, status="paused")
                store.append_event(make_event(session))

        def repeat(block: Callable[[Any], None]) -> None:
            store = self.make_store()
            for _ in range(8):
                block(store)

        results(race([partial(repeat, block) for block in (step, step, other_step, other_step)]))
        self.assert_log(session)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 32)
