"""One run, from its first event to its last: what is asked, stored and decided, as steps.

The steps are one sync generator, which alone touches the store. It yields how long to wait for
what the provider yields next, and gets what has come, or the events to tell the caller of. Who
drives it (`driving`) waits in a thread or in an event loop, so that the logic stands once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..backends.base import BaseSessionStore
from ..exceptions import (
    EventConflict,
    ProviderError,
    RunCancelled,
    RunTimeout,
    StoreError,
    ValidationError,
)
from ..models import Event, Run, Session
from ..providers import BaseProvider
from ..providers.feeds import Arrival, Ended
from ..transcripts import Transcript
from .arrivals import KNOWN, MERGED, RUN_ENDS, Account, Stop, check_running, event_of, failed
from .lifecycle import CANCEL, COMPLETE, FAIL, Lifecycle, Step, error_data, made_event
from .recording import Recorder

# How often a run asks whether it was cancelled, in seconds.
CHECK_SECONDS = 0.5

Callback: TypeAlias = Callable[[Event], Any]
Steps: TypeAlias = Generator["list[Event] | float", Sequence[Arrival], "RunResult"]

_ERRORS = {Run.Status.TIMEOUT: RunTimeout, Run.Status.CANCELLED: RunCancelled}
_ENDS = {status: type for type, status in RUN_ENDS.items()}


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a completed run gave; `events` are the run's own, in order."""

    session_id: str
    run_id: str
    output: dict[str, Any] | None
    token_usage: dict[str, Any]
    cost_usd: float | None
    events: list[Event]


class Execution:
    """A run that has begun."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        provider: BaseProvider,
        session: Session,
        run: Run,
        *,
        transcript: Transcript | None,
        callback: Callback | None,
        timeout: float | None,
        ends_session: bool,
    ) -> None:
        self._lifecycle = lifecycle
        self._provider = provider
        self._session = session
        self._run = run
        self._transcript = transcript
        self.tell: Callback = callback or _ignore
        self._is_watched = callback is not None
        self._timeout = timeout
        self._ends_session = ends_session
        self._account = Account(run.copied())
        self._recorder = Recorder(lifecycle.store, run)
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        self._next_check = time.monotonic() + CHECK_SECONDS
        self._latest = 0
        # The data of `error_occurred`, when that was the latest event of the provider's.
        self._told: dict[str, Any] | None = None

    def produce(self) -> Iterable[Any]:
        """What the provider does."""
        run, session = self._run.copied(), self._session.copied()
        return self._provider.execute(run, session, transcript=self._transcript)

    def aproduce(self) -> AsyncIterator[Any]:
        run, session = self._run.copied(), self._session.copied()
        return self._provider.aexecute(run, session, transcript=self._transcript)

    def steps(self) -> Steps:
        error: BaseException | None = None
        events: list[Event] = []
        try:
            yield from self._tell(self._own_events())
            try:
                yield from self._take_all()
            finally:
                self._recorder.flush()
            self._account.check_end()
            events = self._complete()
        except BaseException as raised:
            error = raised
        if error is not None:
            events = self._give_up(error)
            if isinstance(error, Stop):
                with suppress(Exception):
                    yield from self._tell(events)
            cause = error.cause if isinstance(error, Stop) else error.__cause__
            raise self._raised(error) from cause
        yield from self._tell(events)
        return self._result()

    # While the provider runs

    def _take_all(self) -> Generator[list[Event] | float, Sequence[Arrival], None]:
        has_ended = False
        while not has_ended:
            seconds = min(self._deadline, self._next_check) - time.monotonic()
            arrivals = yield max(0.0, min(seconds, self._recorder.seconds_left))
            self._check()
            self._recorder.store_due()
            has_ended = yield from self._take_each(arrivals)

    def _take_each(self, arrivals: Sequence[Arrival]) -> Generator[list[Event], Any, bool]:
        """Whether nothing more comes. Deltas that have come together are told together."""
        deltas: list[Event] = []
        for arrival in arrivals:
            event = self._read(arrival)
            if isinstance(event, Event) and event.type == Event.Type.MESSAGE_STREAMED:
                deltas.append(self._kept(event))
                continue
            yield from self._tell(deltas)
            deltas = []
            self._check()  # what came before may have taken long to store
            if isinstance(event, Stop):
                raise event
            if event is None:
                return True
            yield from self._tell(self._take(event))
        yield from self._tell(deltas)
        return False

    def _read(self, arrival: Arrival) -> Event | Stop | None:
        """The event that has arrived, or what is wrong with it; None at the end."""
        if isinstance(arrival, Ended):
            return None if arrival.error is None else failed(arrival.error, self._told)
        try:
            return event_of(arrival.value, self._run, self._session)
        except Exception as error:  # whatever a mapping of the provider's own may raise
            return failed(error)

    def _check(self) -> None:
        """Raise `Stop` when the time is over, or when somebody else has ended the run."""
        now = time.monotonic()
        if now >= self._deadline:
            message = f"The run took longer than its timeout of {self._timeout:g} s."
            error = {"error_message": message, "error_code": "run_timeout"}
            raise Stop(Run.Status.TIMEOUT, error)
        if now >= self._next_check:
            check_running(self._store.get_run(self._run.id))
            self._next_check = time.monotonic() + CHECK_SECONDS

    def _take(self, event: Event) -> list[Event]:
        if event.type in MERGED:
            self._account.merge(event)
            kept = []
        else:
            kept = [self._kept(event)]
        if event.type in KNOWN:
            self._store_known()
        return kept

    def _kept(self, event: Event) -> Event:
        self._told = event.data if event.type == Event.Type.ERROR_OCCURRED else None
        try:
            if event.type == Event.Type.MESSAGE_STREAMED:
                written = self._recorder.write(event)
                return written.copied() if self._is_watched else written
            stored = self._recorder.append(event)
        except (ValidationError, EventConflict) as error:
            raise failed(error) from error
        # An id that was stored before has a number that was seen before.
        if stored.sequence_number > self._latest:
            self._latest = stored.sequence_number
            self._account.count(stored)
        return stored

    def _store_known(self) -> None:
        """Store what is known of the run by now: it may be ended elsewhere, or killed."""

        def body() -> dict[str, Any]:
            _session, run = self._store._locked(self._run.id)
            check_running(run)
            metadata = self._account.fill(run)
            self._store.save_run(run)
            return metadata

        with suppress(ValidationError):  # too much, or no price: the run's end tells
            self._account.keep(self._store._atomically(body))

    # How it ends

    def _complete(self) -> list[Event]:
        data, metadata = self._account.end_data(), self._account.end_metadata()
        end = self._event(Event.Type.RUN_COMPLETED, data)
        end.metadata = {**end.metadata, **metadata}

        def body() -> list[Event]:
            session, run = self._store._locked(self._run.id)
            check_running(run)
            self._account.fill(run)
            run.set_output(self._account.output())
            own = self._session_events(session, COMPLETE, self._account.session_data())
            return self._store.flush(session, run, [end, *own])

        try:
            return self._lifecycle.once(end, body, self._own_events)
        except ValidationError as error:
            raise failed(error) from error

    def _give_up(self, error: BaseException) -> list[Event]:
        """Store how the run ended; what a failing store does not take is not stored."""
        stop = error if isinstance(error, Stop) else _interrupted(error)
        with suppress(StoreError):
            try:
                return self._store_end(stop)
            except ValidationError:
                # All that is known of the run is too much to be stored together.
                self._account = Account(self._run.copied())
                return self._store_end(stop.shortened())
        return []

    def _store_end(self, stop: Stop) -> list[Event]:
        first = self._event(_ENDS[Run.Status(stop.status)], stop.data)

        def body() -> list[Event]:
            session, run = self._store._locked(self._run.id)
            events = []
            if run.status == Run.Status.RUNNING:
                self._end(run, stop)
                events = [*self._error_events(stop), first]
            if session.deleted_at is not None:
                # It takes no events, so its status stays: the run's own row tells what happened.
                return self._store.flush(session, run)
            if stop.status != Run.Status.CANCELLED:
                events += self._session_events(session, FAIL, stop.data)
            else:
                events += self._session_events(session, CANCEL, {})
            return self._store.flush(session, run, events)

        return self._lifecycle.once(first, body, self._own_events)

    def _end(self, run: Run, stop: Stop) -> None:
        self._account.fill(run)
        if stop.status != Run.Status.CANCELLED:
            run.set_error(stop.data)
        run.update_status(stop.status)

    def _error_events(self, stop: Stop) -> list[Event]:
        if stop.status != Run.Status.FAILED or self._told is not None:
            return []
        return [self._event(Event.Type.ERROR_OCCURRED, stop.data)]

    def _session_events(self, session: Session, step: Step, data: dict[str, Any]) -> list[Event]:
        """Take the step, when it is this execution's to take; a failed run fails its session."""
        if not (self._ends_session or step is FAIL) or session.status != Session.Status.ACTIVE:
            return []
        step.take(session)
        return [made_event(step.event_type, session.id, data=data)]

    def _raised(self, error: BaseException) -> BaseException:
        if not isinstance(error, Stop):
            return error
        kind = _ERRORS.get(Run.Status(error.status), ProviderError)
        text = f"run {self._run.id} ended as {error.status}: {error}"
        return kind(text, session_id=self._session.id, run_id=self._run.id)

    def _result(self) -> RunResult:
        run = self._store.get_run(self._run.id)
        return RunResult(
            run.session_id, run.id, run.output, run.token_usage, run.cost_usd, self._own_events()
        )

    # Small things

    @property
    def _store(self) -> BaseSessionStore:
        return self._lifecycle.store

    def _event(self, type: str, data: dict[str, Any]) -> Event:
        return made_event(type, self._session.id, self._run, data=data)

    def _own_events(self) -> list[Event]:
        events = self._store.get_events(self._session.id, run_id=self._run.id)
        self._latest = max([self._latest, *(event.sequence_number for event in events)])
        return events

    def _tell(self, events: Iterable[Event]) -> Iterator[list[Event]]:
        if self._is_watched and (own := [event for event in events if event.run_id is not None]):
            yield own


def _ignore(event: Event) -> None:
    """Nobody watches."""


def _interrupted(error: BaseException) -> Stop:
    """An exception of the store's or of the caller's callback; else the caller is stopped."""
    data = error_data(error, "execution_error")
    status = Run.Status.FAILED if isinstance(error, Exception) else Run.Status.CANCELLED
    return Stop(status, data, error)
