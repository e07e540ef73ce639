"""What both sides of a comparison can do: the store, and the baselines written by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from django.db import connections

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run, Session


class Client(ABC):
    """Works on the database of `alias`, over one connection that is open."""

    # Whether its round trips are counted, which is not for free.
    is_counted = False

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @abstractmethod
    def packed(self, events: Sequence[Event]) -> list[Any]:
        """The events as the other methods take them: made before the clock runs."""

    @abstractmethod
    def append(self, event: Any) -> None: ...

    @abstractmethod
    def append_batch(self, events: list[Any]) -> None: ...

    @abstractmethod
    def flush(self, session: Session, run: Run, events: list[Any]) -> None: ...

    @abstractmethod
    def read(self, session_id: str) -> int:
        """Fetch and decode all events of a session; how many they are."""

    @abstractmethod
    def read_last(self, session_id: str, count: int) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    def postgresql(self) -> Any:
        """libpq's connection, where there is one."""
        return None


class StoreClient(Client):
    """The store, called as a project calls it."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self.store = DatabaseSessionStore(alias)
        connections[alias].ensure_connection()

    def packed(self, events: Sequence[Event]) -> list[Any]:
        return list(events)

    def append(self, event: Any) -> None:
        self.store.append_event_with_sequence(event)

    def append_batch(self, events: list[Any]) -> None:
        self.store.append_events(events)

    def write(self, session_id: str, events: list[Any]) -> None:
        with self.store.writer(session_id) as writer:
            for event in events:
                writer.write(event)

    def flush(self, session: Session, run: Run, events: list[Any]) -> None:
        self.store.flush(session, run, events)

    def read(self, session_id: str) -> int:
        return len(self.store.get_events(session_id))

    def read_lines(self, session_id: str) -> int:
        return sum(1 for _ in self.store.iter_events_json(session_id))

    def read_last(self, session_id: str, count: int) -> int:
        latest = self.store.get_latest_sequence(session_id)
        return len(self.store.get_events(session_id, after=latest - count))

    def close(self) -> None:
        connections[self.alias].close()

    def postgresql(self) -> Any:
        return getattr(connections[self.alias].connection, "pgconn", None)
