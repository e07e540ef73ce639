"""Sessions in this process's memory: for tests, with the same contract as on a database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.dispatch import Signal

from .. import signals
from ..events.sanitizing import ENCODER
from ..exceptions import SessionDeleted, ValidationError
from ..models import Event, Record, Run, Session
from . import lines
from .appending import Stored, plan_append
from .arguments import EventFilter
from .base import BaseSessionStore, Change, run_not_found
from .reading import Progress, session_not_found

RecordType = TypeVar("RecordType", bound=Record)
T = TypeVar("T")


@dataclass
class Data:
    """The records by id, each session's events in order, and the lock that every use holds."""

    sessions: dict[str, Session] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    logs: dict[str, list[Event]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    # What a block that writes together has to tell when it ends; None outside of one.
    untold: list[Callable[[], Any]] | None = None

    def _restorer(self) -> Callable[[], None]:
        """What brings back all records as they are now."""
        sessions, runs = dict(self.sessions), dict(self.runs)
        logs = {session_id: (log, len(log)) for session_id, log in self.logs.items()}

        def restore() -> None:
            self.sessions, self.runs = sessions, runs
            self.logs = {session_id: log[:length] for session_id, (log, length) in logs.items()}
            self.events = {event.id: event for log in self.logs.values() for event in log}

        return restore


# By alias, as the locmem cache's: all threads of a process see the same sessions.
SHARED: dict[str, Data] = {}


class InMemorySessionStore(BaseSessionStore):
    """Keeps sessions until the process ends; stores of the same `alias` share them.

    Without an alias the store has data of its own. Writes do not join transactions.
    """

    def __init__(self, *, alias: str | None = None) -> None:
        super().__init__(alias=alias)
        self._data = Data() if alias is None else SHARED.setdefault(alias, Data())

    # Sessions

    def _save_session(self, session: Session) -> Session:
        with self._data.lock:
            self._put_session(session)
        self._send(signals.session_saved, session=_own(session))
        return _own(session)

    def _put_session(self, session: Session) -> None:
        parent = session.parent_session_id
        if parent is not None and parent not in self._data.sessions:
            raise session_not_found(parent)
        stored = self._data.sessions.get(session.id)
        if stored is not None and session.deleted_at is None:
            session.deleted_at = stored.deleted_at
        self._data.sessions[session.id] = session
        self._data.logs.setdefault(session.id, [])

    def _get_session(self, session_id: str) -> Session:
        with self._data.lock:
            if session_id not in self._data.sessions:
                raise session_not_found(session_id)
            return _own(self._data.sessions[session_id])

    def _change_session(self, session_id: str, change: Change) -> Session:
        with self._data.lock:
            session = self._get_session(session_id)
            session = session.prepared(only=change(session))
            self._data.sessions[session_id] = session
        self._send(signals.session_saved, session=_own(session))
        return _own(session)

    def _list_sessions(
        self,
        *,
        statuses: tuple[str, ...] | None,
        agent_id: str | None,
        include_deleted: bool,
        limit: int | None,
        offset: int,
    ) -> list[Session]:
        with self._data.lock:
            found = [
                session
                for session in self._data.sessions.values()
                if (include_deleted or session.deleted_at is None)
                and (statuses is None or session.status in statuses)
                and (agent_id is None or session.agent_id == agent_id)
            ]
            found.sort(key=lambda session: (session.created_at, session.id), reverse=True)
            return _owned(found[offset:][:limit])

    def _delete_session(self, session_id: str) -> None:
        data = self._data
        with data.lock:
            if data.sessions.pop(session_id, None) is None:
                return
            for event in data.logs.pop(session_id):
                del data.events[event.id]
            for run in [run for run in data.runs.values() if run.session_id == session_id]:
                del data.runs[run.id]
            for session in data.sessions.values():
                if session.parent_session_id == session_id:
                    session.parent_session_id = None
        self._send(signals.session_deleted, session_id=session_id)

    # Runs

    def _save_run(self, run: Run, *, keep_cost: bool) -> Run:
        with self._data.lock:
            self._put_run(run, keep_cost=keep_cost)
        self._send(signals.run_saved, run=_own(run))
        return _own(run)

    def _put_run(self, run: Run, *, keep_cost: bool) -> None:
        deleted_at = self._get_session(run.session_id).deleted_at
        stored = self._data.runs.get(run.id)
        if stored is not None and stored.session_id != run.session_id:
            owner = stored.session_id
            raise ValidationError(f"session_id: run {run.id} belongs to session {owner}.")
        if stored is None and deleted_at is not None:
            raise SessionDeleted(f"session {run.session_id} is soft-deleted: no new run.")
        if keep_cost and stored is not None and stored.cost_usd is not None:
            run.cost_usd = stored.cost_usd
        self._data.runs[run.id] = run

    def _get_run(self, run_id: str) -> Run:
        with self._data.lock:
            if run_id not in self._data.runs:
                raise run_not_found(run_id)
            return _own(self._data.runs[run_id])

    def _list_runs(
        self, session_id: str, *, statuses: tuple[str, ...] | None, limit: int | None
    ) -> list[Run]:
        with self._data.lock:
            found = [
                run
                for run in self._data.runs.values()
                if run.session_id == session_id and (statuses is None or run.status in statuses)
            ]
            found.sort(key=lambda run: (run.started_at, run.id))
            return _owned(found[:limit])

    def _get_active_run(self, session_id: str) -> Run | None:
        running = self._list_runs(session_id, statuses=(Run.Status.RUNNING,), limit=None)
        return running[-1] if running else None

    # Events

    def _append(self, events: list[Event], expected_sequence: int | None) -> list[Event]:
        with self._data.lock:
            results, new = self._put_events(events, expected_sequence)
        self._send_appended(new)
        return _owned(results)

    def _put_events(
        self, events: list[Event], expected_sequence: int | None
    ) -> tuple[list[Event], list[Event]]:
        data = self._data
        sessions = {event.session_id for event in events} & data.sessions.keys()
        runs = {event.run_id for event in events if event.run_id in data.runs}
        stored = Stored(
            {session_id: len(data.logs[session_id]) for session_id in sessions},
            {session_id: data.sessions[session_id].deleted_at for session_id in sessions},
            data.events,
            {run_id: data.runs[run_id].session_id for run_id in runs if run_id is not None},
        )
        plan = plan_append(events, stored, expected_sequence)
        for event in plan.new:
            event.json_texts = {}
            data.events[event.id] = event
            data.logs[event.session_id].append(event)
        return plan.results, plan.new

    def _flush(
        self, session: Session, run: Run, events: list[Event], *, keep_cost: bool
    ) -> list[Event]:
        data = self._data
        with data.lock:
            before = dict(data.sessions), dict(data.runs), dict(data.logs)
            try:
                self._put_session(session)
                self._put_run(run, keep_cost=keep_cost)
                results, new = self._put_events(events, None)
            except BaseException:
                data.sessions, data.runs, data.logs = before
                raise
        self._send(signals.session_saved, session=_own(session))
        self._send(signals.run_saved, run=_own(run))
        self._send_appended(new)
        return _owned(results)

    def _get_events(self, wanted: EventFilter) -> list[Event]:
        with self._data.lock:
            # The log has no gaps: what comes before the bound need not be looked at.
            log = self._data.logs.get(wanted.session_id, [])[max(wanted.after or 0, 0) :]
            return _owned([event for event in log if wanted.matches(event)][: wanted.limit])

    def _get_event_lines(self, wanted: EventFilter) -> list[tuple[int, bytes]]:
        left_out = () if wanted.payloads else lines.PAYLOADS
        found = []
        for event in self._get_events(wanted):
            shown = {key: value for key, value in event.to_dict().items() if key not in left_out}
            found.append((event.sequence_number, (ENCODER.encode(shown) + "\n").encode()))
        return found

    def _get_progress(self, session_id: str) -> Progress | None:
        with self._data.lock:
            session = self._data.sessions.get(session_id)
            if session is None:
                return None
            latest = len(self._data.logs[session_id])
            return Progress.of(latest, session.status, session.deleted_at)

    def _get_latest_sequence(self, session_id: str) -> int:
        with self._data.lock:
            return len(self._data.logs.get(session_id, []))

    def _atomically(self, body: Callable[[], T]) -> T:
        data = self._data
        with data.lock:
            if data.untold is not None:
                return body()
            restore = data._restorer()
            untold: list[Callable[[], Any]] = []
            data.untold = untold
            try:
                result = body()
            except BaseException:
                restore()
                raise
            finally:
                data.untold = None
        for send in untold:
            send()
        return result

    def _locked(self, run_id: str) -> tuple[Session, Run]:
        run = self._get_run(run_id)
        return self._get_session(run.session_id), run

    def _send(self, signal: Signal, **arguments: Any) -> None:
        send = partial(signal.send_robust, sender=type(self), store=self, **arguments)
        with self._data.lock:
            # In another thread's block this waits for its end.
            if self._data.untold is not None:
                self._data.untold.append(send)
                return
        send()

    def _send_appended(self, new: list[Event]) -> None:
        if new:
            self._send(signals.events_appended, events=_owned(new))


def _own(record: RecordType) -> RecordType:
    """A copy that its holder may change."""
    own = record.copied()
    own._state.adding = False
    return own


def _owned(records: Iterable[RecordType]) -> list[RecordType]:
    return [_own(record) for record in records]
