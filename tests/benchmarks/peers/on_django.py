"""The store, and what a Django project would write without it."""

from __future__ import annotations

from django.db import connections, transaction
from django.db.models import F

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session, SessionSequence

from .peer import Contents, Peer, Place


def _event(session: Session, contents: Contents) -> Event:
    return Event(type=Event.Type.TOOL_CALL_COMPLETED, session_id=session.pk, data=contents)


class AsmStore(Peer):
    def __init__(self, place: Place) -> None:
        self._alias = place.alias
        self._store = DatabaseSessionStore(place.alias)

    def new_session(self) -> Session:
        return self._store.save_session(Session(agent_id="assistant", status="active"))

    def append(self, session: Session, contents: Contents) -> None:
        self._store.append_event_with_sequence(_event(session, contents))

    def append_batch(self, session: Session, contents: list[Contents]) -> None:
        self._store.append_events([_event(session, each) for each in contents])

    def read(self, session: Session) -> int:
        return len(self._store.get_events(session.pk))

    def close(self) -> None:
        connections[self._alias].close()


class NaiveOrm(Peer):
    """Lock, look, count, create: on the store's own tables, with their indexes."""

    def __init__(self, place: Place) -> None:
        self._alias = place.alias

    def new_session(self) -> Session:
        session = Session(agent_id="assistant", status="active")
        session.save(using=self._alias)
        SessionSequence(session_id=session.pk, last_sequence=0).save(using=self._alias)
        return session

    def append(self, session: Session, contents: Contents) -> None:
        self.append_batch(session, [contents])

    def append_batch(self, session: Session, contents: list[Contents]) -> None:
        events = [_event(session, each) for each in contents]
        with transaction.atomic(self._alias):
            counters = SessionSequence.objects.using(self._alias).filter(pk=session.pk)
            last = counters.select_for_update().get().last_sequence
            stored = Event.objects.using(self._alias)
            if stored.filter(pk__in=[event.pk for event in events]).exists():
                raise ValueError("stored already")
            for number, event in enumerate(events, last + 1):
                event.sequence_number = number
            stored.bulk_create(events)
            counters.update(last_sequence=F("last_sequence") + len(events))

    def read(self, session: Session) -> int:
        rows = Event.objects.using(self._alias).filter(session_id=session.pk)
        return len(list(rows.order_by("sequence_number")))

    def close(self) -> None:
        connections[self._alias].close()
