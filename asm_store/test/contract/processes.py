"""Races of processes: each has its own interpreter, connections and store."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import connections

from ...models import Event, Session
from ..factories import make_event
from .base import ContractCase
from .workers import Children

COUNT = 4
Report = dict[str, Any]


class ProcessRaces(ContractCase):
    # One set of processes serves all races of a class: starting them takes longer than racing.
    _children: ClassVar[dict[str, Children]] = {}

    def children(self) -> Children:
        """The processes of this class; started now, or a skip where there cannot be any."""
        if not self.store.supports_processes:
            self.skipTest("the store says supports_processes = False")
        if self.make_store_path is None:
            self.skipTest("make_store_path is not set")
        if self.database and _in_memory(self.database):
            self.skipTest("the test database is in memory, where other processes cannot see it")
        path = self.make_store_path
        if path not in self._children:
            type(self).addClassCleanup(self.stop_children, path)
            self._children[path] = Children(COUNT, path)
        return self._children[path]

    @classmethod
    def stop_children(cls, path: str) -> None:
        if (children := cls._children.pop(path, None)) is not None:
            children.stop()

    def race_processes(self, jobs: list[list[list[Event]]]) -> list[list[Report]]:
        """Every process appends its batches; what it was answered, batch by batch."""
        as_dicts = [[[event.to_dict() for event in batch] for batch in job] for job in jobs]
        children = self.children()
        try:
            return children.race(as_dicts)
        except BaseException:  # The next race starts with new processes.
            self.stop_children(str(self.make_store_path))
            raise

    def assert_stored(self, session: Session, reports: list[list[Report]]) -> None:
        """Everything acknowledged is stored under the number that was acknowledged."""
        self.assertEqual([r for job in reports for r in job if "error" in r], [])
        stored = {event.pk: event.sequence_number for event in self.store.get_events(session.pk)}
        for job in reports:
            for report in job:
                for event_id, number in report["stored"]:
                    self.assertEqual(stored[event_id], number)

    def test_four_processes_on_one_hot_session(self) -> None:
        session = self.add_session()
        jobs = [[[make_event(session)] for _ in range(12)] for _ in range(COUNT)]
        reports = self.race_processes(jobs)
        self.assert_stored(session, reports)
        self.assertEqual(self.store.get_latest_sequence(session.pk), COUNT * 12)
        self.assert_log(session)

    def test_four_processes_on_four_sessions(self) -> None:
        sessions = [self.add_session() for _ in range(COUNT)]
        jobs = [[[make_event(session)] for _ in range(12)] for session in sessions]
        reports = self.race_processes(jobs)
        for session, report in zip(sessions, reports, strict=True):
            self.assert_stored(session, [report])
            self.assertEqual([r["stored"][0][1] for r in report], list(range(1, 13)))
            self.assert_log(session)

    def test_one_id_from_four_processes_is_one_event(self) -> None:
        session = self.add_session()
        events = [make_event(session) for _ in range(12)]
        reports = self.race_processes([[[event] for event in events]] * COUNT)
        self.assert_stored(session, reports)
        self.assertEqual(reports, [reports[0]] * COUNT)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 12)
        self.assert_log(session)

    def test_crossed_batches_of_four_processes(self) -> None:
        sessions = [self.add_session() for _ in range(3)]
        orders = (sessions, sessions[::-1], sessions[1:] + sessions[:1], sessions[::-1])
        jobs = [[[make_event(owner) for owner in order * 2] for _ in range(6)] for order in orders]
        reports = self.race_processes(jobs)
        self.assertEqual([r for job in reports for r in job if "error" in r], [])
        for session in sessions:
            self.assertEqual(self.store.get_latest_sequence(session.pk), COUNT * 6 * 2)
            self.assert_log(session)

    def test_one_id_in_two_sessions_from_four_processes_is_in_one(self) -> None:
        first, second = self.add_session(), self.add_session()
        names = [f"evt-{number}" for number in range(12)]
        jobs = [
            [[make_event(session, id=name)] for name in names]
            for session in (first, second) * (COUNT // 2)
        ]
        reports = self.race_processes(jobs)
        for answers in zip(*reports, strict=True):
            errors = [answer["error"] for answer in answers if "error" in answer]
            self.assertEqual(errors, ["event_conflict"] * (COUNT // 2))
        latest = [self.store.get_latest_sequence(s.pk) for s in (first, second)]
        self.assertEqual(sum(latest), 12)
        self.assert_log(first)
        self.assert_log(second)


def _in_memory(using: str) -> bool:
    is_in_memory = getattr(connections[using], "is_in_memory_db", None)
    return is_in_memory is not None and is_in_memory()
