"""The steps of a session's and a run's life, each stored in one transaction with its events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from django.utils import timezone

from ..backends.base import BaseSessionStore
from ..events.validation import WARNINGS, warnings_for
from ..exceptions import InvalidStatus
from ..fields import clean_id
from ..models import Event, Run, Session
from ..providers import failures
from .inputs import messages_of

T = TypeVar("T")

UNENDED = (Run.Status.PENDING, Run.Status.RUNNING)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a session: from one of some statuses to another, told by an event."""

    name: str
    allowed: Collection[str]
    status: str
    event_type: str

    def take(self, session: Session) -> None:
        if session.status not in self.allowed:
            raise InvalidStatus(
                f"session {session.id} is {session.status}: {self.name} takes one that is "
                f"{' or '.join(self.allowed)}."
            )
        session.update_status(self.status)


_PENDING, _ACTIVE, _PAUSED, _COMPLETED, _FAILED, _CANCELLED = Session.Status
ACTIVATE = Step("activate", (_PENDING,), _ACTIVE, Event.Type.SESSION_STARTED)
PAUSE = Step("pause", (_ACTIVE,), _PAUSED, Event.Type.SESSION_PAUSED)
RESUME = Step("resume", (_PAUSED,), _ACTIVE, Event.Type.SESSION_RESUMED)
COMPLETE = Step("complete", (_ACTIVE,), _COMPLETED, Event.Type.SESSION_COMPLETED)
FAIL = Step("fail", (_ACTIVE,), _FAILED, Event.Type.SESSION_FAILED)
CANCEL = Step("cancel", (_ACTIVE, _PAUSED), _CANCELLED, Event.Type.SESSION_CANCELLED)


def made_event(type: str, session_id: str, run: Run | None = None, **columns: Any) -> Event:
    """An event of the manager's own, with what is unusual about its data noted."""
    if run is not None:
        columns = {"run_id": run.id, "provider": run.provider, **columns}
    return noted(Event(type=type, session_id=session_id, **columns))


def noted(event: Event) -> Event:
    """The event, with what is unusual about its data in its metadata."""
    if warnings := warnings_for(event.type, event.data):
        event.metadata = {**event.metadata, WARNINGS: warnings}
    return event


def error_data(error: object, code: str) -> dict[str, Any]:
    """What an event tells of an error: a text, an exception or a mapping."""
    if isinstance(error, Mapping):
        return {"error_message": "", "error_code": code, **error}
    if isinstance(error, BaseException):
        return failures.error_data(error, _code(error) or code)
    return {"error_message": failures.shortened(str(error)), "error_code": code}


def _code(error: BaseException) -> str:
    try:
        code = getattr(error, "code", "")
    except Exception:  # a property of a provider's exception
        return ""
    return code if isinstance(code, str) else ""


class Lifecycle:
    """The steps, on one store. What they raise is stored nowhere."""

    def __init__(self, store: BaseSessionStore, provider: str) -> None:
        self.store = store
        self.provider = provider

    def once(self, event: Event, body: Callable[[], T], repeated: Callable[[], T]) -> T:
        """`body()`, which stores `event`, in one transaction.

        When that was stored, and only the commit's answer was lost, `repeated()` answers.
        """
        attempts = count()

        def attempt() -> T:
            return repeated() if next(attempts) and self._is_stored(event) else body()

        return self.store._atomically(attempt)

    def _is_stored(self, event: Event) -> bool:
        stored = self.store.get_events(event.session_id, type=event.type)
        return any(other.id == event.id for other in stored)

    def create_session(self, session: Session) -> Session:
        created = made_event(Event.Type.SESSION_CREATED, session.id)
        created.data = {"agent_id": session.agent_id}

        def body() -> Session:
            stored = self.store.save_session(session)
            # One that somebody else has made meanwhile is not this one.
            self.store.append_events([created], expected_sequence=0)
            return stored

        return self.store._atomically(body)

    def step_session(self, session_id: str, step: Step, data: Mapping[str, Any]) -> Session:
        session_id = clean_id(session_id, "session_id")
        event = made_event(step.event_type, session_id, data=data)

        def change(session: Session) -> Collection[str]:
            step.take(session)
            return ("status", "updated_at")

        def body() -> Session:
            session = self.store._change_session(session_id, change)
            if step is CANCEL:
                self._cancel_runs(session_id)
            self.store.append_event(event)
            return session

        return self.once(event, body, lambda: self.store.get_session(session_id))

    def _cancel_runs(self, session_id: str) -> None:
        for run in self.store.list_runs(session_id, status=UNENDED):
            self._cancel(run, made_event(Event.Type.RUN_CANCELLED, session_id, run))

    def _cancel(self, run: Run, event: Event) -> Run:
        stored = self.store.save_run(run.update_status(Run.Status.CANCELLED))
        self.store.append_event(event)
        return stored

    def create_run(
        self,
        session_id: str,
        input: Any,
        messages: list[dict[str, Any]],
        *,
        first: Callable[[], Any] = lambda: None,
    ) -> Run:
        """`first()` is called before, within the same transaction."""
        run = Run(session_id=session_id, input=input, provider=self.provider)
        sent = Event.Type.MESSAGE_SENT
        events = [made_event(sent, session_id, run, data=message) for message in messages]

        def body() -> Run:
            first()
            stored = self.store.save_run(run)
            session, _run = self.store._locked(stored.id)
            _check_active(session)
            self.store.append_events(events)
            return stored

        return self.once(events[0], body, lambda: self.store.get_run(run.id))

    def begin_run(self, run_id: str) -> tuple[Session, Run]:
        run = self.store.get_run(run_id)
        event = made_event(Event.Type.RUN_STARTED, run.session_id, run)
        event.provider = self.provider

        def body() -> tuple[Session, Run]:
            session, run = self.store._locked(run_id)
            if run.status != Run.Status.PENDING:
                raise InvalidStatus(f"run {run_id} is {run.status}: only a pending one can start.")
            _check_active(session)
            messages_of(run.input)  # of a run that was stored as it is, it may be anything
            run.provider = self.provider
            run.started_at = timezone.now()
            run = self.store.save_run(run.update_status(Run.Status.RUNNING))
            self.store.append_event(event)
            return session, run

        return self.once(event, body, lambda: self.store._locked(run_id))

    def cancel_run(self, run_id: str) -> Run:
        run = self.store.get_run(run_id)
        event = made_event(Event.Type.RUN_CANCELLED, run.session_id, run)

        def body() -> Run:
            _session, run = self.store._locked(run_id)
            if run.status not in UNENDED:
                raise InvalidStatus(f"run {run_id} is {run.status}: it cannot be cancelled.")
            return self._cancel(run, event)

        return self.once(event, body, lambda: self.store.get_run(run_id))


def _check_active(session: Session) -> None:
    if session.status != Session.Status.ACTIVE:
        raise InvalidStatus(f"session {session.id} is {session.status}: a run needs an active one.")
