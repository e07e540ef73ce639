"""Ids: what can be one, exact comparison, and the order of code points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...exceptions import RunNotFound, SessionNotFound, ValidationError
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, numbers
from .values import BAD_IDS, NOON

# Each of these is another id: case, accents, composition, spaces and ligatures are not folded.
ALIKE = (
    "cafe", "Cafe", "CAFE", "café", "cafe\u0301", "cafe ", "cafe  ", " cafe", "cafe\t", "cafe\n",
    "\ufb01", "fi", "ß", "ss", "SS", "\u0131", "i", "I", "\u0130", "\u212a", "K", "k", "\uff41",
    "a", "\u200ba",
)  # fmt: skip
# In the order of their code points; by UTF-16 units the last two would change places.
ORDERED = (
    " a", "-", "A", "B", "Z", "Zz", "_", "a", "a b", "a-b", "aa", "ab", "b", "z", "É", "ß", "é",
    "ж", "中", "\ufffd", "\U0001f600",
)  # fmt: skip


class Identifiers(ContractCase):
    def test_generated_ids_are_time_ordered_and_unique(self) -> None:
        session = self.add_session()
        events = [make_event(session) for _ in range(50)]
        self.assertEqual(len(set(ids(events))), 50)
        for record, prefix in ((session, "ses_"), (make_run(session), "run_"), (events[0], "evt_")):
            self.assertRegex(record.pk, f"^{prefix}[0-9a-f]{{12}}7[0-9a-f]{{19}}$")

    def test_what_can_be_no_id_is_refused_by_every_read(self) -> None:
        reads: tuple[Callable[[Any], Any], ...] = (
            self.store.get_session,
            self.store.update_session,
            self.store.delete_session,
            self.store.soft_delete_session,
            self.store.restore_session,
            self.store.get_run,
            self.store.list_runs,
            self.store.get_active_run,
            self.store.get_events,
            self.store.get_latest_sequence,
        )
        for value in (*BAD_IDS, None):
            for read in reads:
                with self.subTest(id=value, read=read.__name__), self.refused(ValidationError):
                    read(value)
        for value in BAD_IDS:
            with self.subTest(run_id=value), self.refused(ValidationError):
                self.store.get_events("ses-any", run_id=value)

    def test_what_can_be_no_id_is_refused_by_every_write(self) -> None:
        session = self.add_session()
        store = self.store
        with self.no_trace(session):
            for value in BAD_IDS:
                writes: tuple[Callable[[], Any], ...] = (
                    lambda: store.save_session(make_session(id=value)),  # noqa: B023
                    lambda: store.save_session(make_session(parent_session_id=value)),  # noqa: B023
                    lambda: store.save_run(make_run(session, id=value)),  # noqa: B023
                    lambda: store.save_run(make_run(session_id=value)),  # noqa: B023
                    lambda: store.append_event(make_event(session, id=value)),  # noqa: B023
                    lambda: store.append_event(make_event(session_id=value)),  # noqa: B023
                    lambda: store.append_event(make_event(session, run_id=value)),  # noqa: B023
                )
                for number, write in enumerate(writes):
                    with self.subTest(id=value, write=number), self.refused(ValidationError):
                        write()
            for record in (make_run(session_id=None), make_run(session, id=None)):
                with self.refused(ValidationError):
                    store.save_run(record)
            for event in (make_event(session_id=None), make_event(session, id=None)):
                with self.refused(ValidationError):
                    store.append_event(event)
            with self.refused(ValidationError):
                store.save_session(make_session(id=None))

    def test_ids_have_up_to_255_characters_of_any_kind(self) -> None:
        for character in ("x", "é", "中", "\U0001f600"):
            name = character * 255
            session = self.add_session(id=name)
            run = self.add_run(session, id=name)
            child = self.add_session(id=name[:-1] + "y", parent_session_id=name)
            event = self.append(session, id=name, run_id=run.pk)
            self.assertEqual(self.store.get_session(name).pk, name)
            self.assertEqual(self.store.get_run(name).session_id, name)
            self.assertEqual(self.store.get_session(child.pk).parent_session_id, name)
            self.assert_same(self.store.get_events(name, run_id=name)[0], event)

    def test_ids_with_quotes_wildcards_and_controls_are_ids(self) -> None:
        for name in ("'; --", '"', "%", "_", "\\", "\x01", "a\nb", "\u2028", "\ufeff", "None", "0"):
            session = self.add_session(id=name)
            event = self.append(session, id=name)
            self.assertEqual(self.store.get_session(name).pk, name)
            self.assert_same(self.store.get_events(name)[0], event)

    def test_session_ids_compare_exactly(self) -> None:
        for number, name in enumerate(ALIKE):
            with self.assertRaises(SessionNotFound):
                self.store.get_session(name)
            self.add_session(id=name, metadata={"number": number})
        for number, name in enumerate(ALIKE):
            session = self.store.get_session(name)
            self.assertEqual((session.pk, session.metadata), (name, {"number": number}))

    def test_run_ids_compare_exactly(self) -> None:
        session = self.add_session()
        for name in ALIKE:
            with self.assertRaises(RunNotFound):
                self.store.get_run(name)
            self.add_run(session, id=name)
            self.append(session, run_id=name)
        for number, name in enumerate(ALIKE, 1):
            self.assertEqual(self.store.get_run(name).pk, name)
            self.assertEqual(numbers(self.store.get_events(session.pk, run_id=name)), [number])

    def test_event_ids_compare_exactly(self) -> None:
        session = self.add_session()
        stored = self.store.append_events(make_event(session, id=name) for name in ALIKE)
        self.assertEqual(numbers(stored), list(range(1, len(ALIKE) + 1)))
        for number, name in enumerate(ALIKE, 1):
            self.assertEqual(self.append(session, id=name).sequence_number, number)

    def test_events_belong_to_exactly_their_session(self) -> None:
        sessions = [self.add_session(id=name) for name in ALIKE]
        self.store.append_events(
            make_event(session, id=f"e{n}") for n, session in enumerate(sessions)
        )
        for number, session in enumerate(sessions):
            self.assertEqual(ids(self.store.get_events(session.pk)), [f"e{number}"])
            self.assertEqual(self.store.get_latest_sequence(session.pk), 1)
        self.store.delete_session(ALIKE[0])
        self.assertEqual(len(self.store.list_sessions()), len(ALIKE) - 1)

    def test_a_filter_by_agent_compares_exactly(self) -> None:
        for name in ALIKE:
            self.add_session(agent_id=name, id=f"of {name}")
        for name in ALIKE:
            self.assertEqual(ids(self.store.list_sessions(agent_id=name)), [f"of {name}"])
        self.assertEqual(self.store.list_sessions(agent_id="caf%"), [])

    def test_a_filter_by_a_strange_agent_leaks_no_driver_error(self) -> None:
        self.add_session(agent_id="plain")
        for name in ("plain\x00", "\ud800", "x" * 300):
            try:
                found = self.store.list_sessions(agent_id=name)
            except ValidationError:
                continue
            self.assertEqual(found, [])

    def test_ties_of_sessions_are_ordered_by_id_descending(self) -> None:
        for name in (*ORDERED[::2], *ORDERED[1::2]):
            self.add_session(id=name, created_at=NOON)
        self.assertEqual(ids(self.store.list_sessions()), list(ORDERED[::-1]))
        self.assertEqual(ids(self.store.list_sessions(limit=3, offset=2)), list(ORDERED[-3:-6:-1]))

    def test_ties_of_runs_are_ordered_by_id(self) -> None:
        session = self.add_session()
        for name in (*ORDERED[::2], *ORDERED[1::2]):
            self.add_run(session, id=name, started_at=NOON)
        self.assertEqual(ids(self.store.list_runs(session.pk)), list(ORDERED))

    def test_a_batch_over_sessions_of_any_name_is_stored(self) -> None:
        sessions = [self.add_session(id=name) for name in ORDERED]
        stored = self.store.append_events(make_event(session) for session in sessions * 2)
        self.assertEqual(numbers(stored), [1] * len(ORDERED) + [2] * len(ORDERED))
