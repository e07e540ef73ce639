"""One session is followed: which, from where, and what is told when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from asm_store.backends.base import BaseSessionStore
from asm_store.exceptions import SessionNotFound, StorageError, ValidationError
from asm_store.models import Event, Session
from asm_store.waiting import Polling

# Of how many numbers events are loaded at once to find the last of a kind.
FEWEST_NUMBERS, MOST_NUMBERS = 100, 1_000
GOING_ON = [status for status in Session.Status if status not in Session.TERMINAL_STATUSES]


class Lines(Protocol):
    """How events are written."""

    def of(self, event: Event) -> str:
        """What is to be written for `event`."""

    def end(self) -> str:
        """What ends a line that is still open."""


class Following:
    """Writes the events of a session as they come; `say` tells of the session itself."""

    def __init__(
        self,
        store: BaseSessionStore,
        lines: Lines,
        write: Callable[[str], None],
        say: Callable[[str], None],
        options: dict[str, Any],
    ) -> None:
        self._store = store
        self._lines = lines
        self._write = write
        self._say = say
        self._options = options
        self._filters = {"run_id": options["run_id"], "type": options["types"]}
        self._last: int | None = None

    def session(self, session_id: str | None) -> Session:
        """The session to follow: that one, or the run's, or the newest."""
        run_id = self._options["run_id"]
        if session_id is not None:
            session = self._awaited(session_id)
        elif run_id is None:
            session = self._newest()
        else:
            session = self._store.get_session(self._store.get_run(run_id).session_id)
        if run_id is not None and self._store.get_run(run_id).session_id != session.id:
            raise ValidationError(f"The run {run_id} is of another session.")
        return session

    def _awaited(self, session_id: str) -> Session:
        try:
            return self._store.get_session(session_id)
        except SessionNotFound:
            if not self._options["wait"]:
                raise
        self._say(f"Waiting for the session {session_id}.")
        with self._store._watch(session_id) as watch:
            polling = Polling(None, watch)
            while True:
                watch.sleep(polling.pause().seconds)
                try:
                    return self._store.get_session(session_id)
                except SessionNotFound:
                    continue

    def _newest(self) -> Session:
        for statuses, what in ((GOING_ON, "the newest that is going on"), (None, "the newest")):
            for session in self._store.list_sessions(status=statuses, limit=1):
                self._say(f"Session {session.id} of {session.agent_id}, {session.status}: {what}.")
                return session
        raise SessionNotFound("There is no session yet.")

    def start(self, session: Session) -> int:
        """The number after which to begin."""
        if self._options["all"]:
            return 0
        latest = self._store.get_latest_sequence(session.id)
        after: int | None = self._options["after"]
        if after is None:
            return self._before_last(session, latest)
        if after > latest:
            raise ValidationError(
                f"There is no event {after} to go on after: the latest of the session "
                f"{session.id} is {latest}."
            )
        return after

    def _before_last(self, session: Session, latest: int) -> int:
        """The number after which there are as many events as --last says."""
        missing: int = self._options["last"]
        size = min(max(missing, FEWEST_NUMBERS), MOST_NUMBERS)
        while latest > 0 and missing > 0:
            after = max(latest - size, 0)
            events = self._store.get_events(
                session.id, after=after, before=latest + 1, **self._filters
            )
            if len(events) >= missing:
                first: int = events[-missing].sequence_number
                return first - 1
            missing -= len(events)
            latest, size = after, min(2 * size, MOST_NUMBERS)
        return latest

    def run(self, session: Session, after: int) -> None:
        """Write what comes, to the end."""
        events = self._store.stream_events(
            session.id,
            after=after,
            idle_timeout=self._options["idle_timeout"] if self._options["follow"] else 0,
            **self._filters,
        )
        try:
            for event in events:
                self._write(self._lines.of(event))
                self._last = event.sequence_number
        except StorageError as error:
            if self._last is None:
                raise
            raise StorageError(f"{error} Go on with --after {self._last}.") from error
        finally:
            if end := self._lines.end():
                self._write(end)

    def tell_end(self, session: Session) -> None:
        try:
            session = self._store.get_session(session.id)
        except SessionNotFound:
            self._say(f"Session {session.id} was deleted.")
        else:
            deleted = ", soft-deleted" if session.deleted_at else ""
            self._say(f"Session {session.id} is {session.status}{deleted}.")
