"""eventsourcing's recorder for applications: https://eventsourcing.readthedocs.io/"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from .peer import Contents, Peer, Place


class EventSourcing(Peer):
    def __init__(self, place: Place) -> None:
        address = place.name, place.host, place.port, place.user, place.password
        self._datastore = PostgresDatastore(*address)
        self._recorder = PostgresApplicationRecorder(self._datastore)

    def make_tables(self) -> None:
        self._recorder.create_table()

    def new_session(self) -> Any:
        return {"id": uuid4(), "version": 0}

    def append(self, session: Any, contents: Contents) -> None:
        self.append_batch(session, [contents])

    def append_batch(self, session: Any, contents: list[Contents]) -> None:
        first = session["version"] + 1
        self._recorder.insert_events(
            [
                StoredEvent(session["id"], number, "tool_call", json.dumps(each).encode())
                for number, each in enumerate(contents, first)
            ]
        )
        session["version"] += len(contents)

    def read(self, session: Any) -> int:
        found = self._recorder.select_events(session["id"])
        return len([json.loads(each.state) for each in found])

    def close(self) -> None:
        self._datastore.close()
