"""A database's store and the one in memory side by side: every step is done to both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any

from django.db import models, transaction
from django.dispatch import Signal
from django.test import override_settings
from hypothesis.stateful import RuleBasedStateMachine, invariant

from asm_store import signals
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import Data, InMemorySessionStore
from asm_store.exceptions import StorageError, StoreError
from asm_store.models import Artifact, Record

from .outcomes import (
    Clock,
    Outcome,
    Tables,
    acall,
    call,
    database_tables,
    described,
    empty,
    held,
    memory_tables,
    spoil,
)

SIGNALS: dict[str, Signal] = {
    "session_saved": signals.session_saved,
    "session_deleted": signals.session_deleted,
    "run_saved": signals.run_saved,
    "events_appended": signals.events_appended,
}
# The method, and the class of the error that it raised.
Tally = Counter[tuple[str, str | None]]
# A caller's block, and a savepoint in it.
DEEPEST = 2


class Stop(Exception):
    """Raised by the machine itself, in a writer's block or to undo a transaction."""


class Pair(RuleBasedStateMachine):
    """What the rules stand on; `tally` counts the steps."""

    def __init__(self, using: str, tally: Tally) -> None:
        super().__init__()
        self.using, self.tally = using, tally
        self.database, self.memory = DatabaseSessionStore(using), InMemorySessionStore()
        self.stores: tuple[BaseSessionStore, ...] = self.memory, self.database
        self.clock = Clock()
        self.are_async: dict[BaseSessionStore, bool] = {self.memory: False, self.database: False}
        self.blocks: list[tuple[transaction.Atomic, Data, int, dict[str, str]]] = []
        self.told: dict[str, list[Any]] = {"database": [], "memory": []}
        self.artifacts: dict[str, str] = {}  # their sessions by their ids
        self.before: Tables = {}
        self.settings = ExitStack()
        self.undo = ExitStack()
        self.undo.enter_context(self.clock.installed())
        self.undo.callback(empty, using)
        self.undo.callback(self.settings.close)
        self._listen()

    def _listen(self) -> None:
        def note(signal: Signal, sender: Any, store: BaseSessionStore, **told: Any) -> None:
            which = "database" if store is self.database else "memory"
            name = next(name for name, known in SIGNALS.items() if known is signal)
            self.told[which].append((name, {key: described(value) for key, value in told.items()}))

        for signal in SIGNALS.values():
            signal.connect(note, weak=False)
            self.undo.callback(signal.disconnect, note)

    def teardown(self) -> None:
        with self.undo:
            while self.blocks:
                self.blocks.pop()[0].__exit__(Stop, Stop(), None)

    # Steps

    def compare(
        self, name: str, do: Callable[[BaseSessionStore], Any], given: Sequence[Any]
    ) -> Outcome:
        """Do it to both stores: they must answer alike, and leave what was given as it is.

        What was given and returned is changed then: no store may hold it. A copy is returned.
        """
        before = held(given)
        self.clock.tick()
        memory, database = (Outcome.of(partial(do, store)) for store in self.stores)
        assert database.seen == memory.seen, f"{name}:\n{database.seen}\nin memory:\n{memory.seen}"
        assert held(given) == before, "a store has changed what it was given"
        error = database.error
        if error is not None:
            assert isinstance(error, StoreError | Stop), repr(error)
            assert not isinstance(error, StorageError), repr(error)
        self.tally[name, None if error is None else type(error).__name__] += 1
        answer = Outcome(_copies(database.result), error)
        spoil([given, memory.result, database.result])
        return answer

    def same(self, name: str, *arguments: Any, **options: Any) -> Outcome:
        """Call the method of both stores, or its async twin."""

        def do(store: BaseSessionStore) -> Any:
            way = acall if self.are_async[store] else call
            return way(store, name, *arguments, **options)

        return self.compare(name, do, arguments)

    def kept(self, name: str, *arguments: Any, **options: Any) -> list[Any]:
        """As `same()`; the records that were returned, for later steps."""
        result = self.same(name, *arguments, **options).result
        records = result if isinstance(result, list) else [result]
        return [record for record in records if isinstance(record, models.Model)]

    def add_artifact(self, session_id: str) -> None:
        """Past the stores, which have no method for it yet."""
        name = f"a{len(self.artifacts)}-{self.clock.moment}"
        Artifact.objects.using(self.using).create(
            id=name, session_id=session_id, key=name, byte_size=0, created_at=self.clock.moment
        )
        self.artifacts[name] = session_id

    # The caller's blocks

    def enter(self) -> None:
        block = transaction.atomic(using=self.using)
        block.__enter__()
        told = len(self.told["memory"])
        self.blocks.append((block, _copied(self.memory._data), told, dict(self.artifacts)))

    def leave(self, *, undo: bool) -> None:
        block, data, told, artifacts = self.blocks.pop()
        if undo:
            block.__exit__(Stop, Stop(), None)
            self.memory._data = data
            del self.told["memory"][told:]
            self.artifacts = artifacts
            self.before = {}
        else:
            block.__exit__(None, None, None)

    def limit_json(self, limit: int) -> None:
        self.settings.close()
        self.settings.enter_context(override_settings(ASM_STORE_MAX_EVENT_BYTES=limit))

    # What holds after every step

    @invariant()
    def the_same_is_stored(self) -> None:
        stored = database_tables(self.using)
        stamps, artifacts = stored.pop("stamps"), stored.pop("artifacts")
        assert stored == memory_tables(self.memory)
        assert artifacts == self.artifacts
        self._check_logs(stored)
        self._check_references(stored)
        self._check_stamps(stored["counters"], stamps)
        self.before = {**stored, "stamps": stamps}

    @invariant()
    def the_same_was_told(self) -> None:
        if not self.blocks:  # the database's store tells of a block after its commit
            assert self.told["database"] == self.told["memory"]
            for told in self.told.values():
                told.clear()

    def _check_logs(self, stored: Tables) -> None:
        """Numbers 1..n without a gap; what is stored of an event never changes."""
        numbers: dict[str, list[int]] = {session_id: [] for session_id in stored["sessions"]}
        for name, event in stored["events"].items():
            numbers[event["session_id"][1]].append(event["sequence_number"][1])
            assert self.before.get("events", {}).get(name, event) == event
        assert {name: sorted(found) for name, found in numbers.items()} == {
            name: list(range(1, latest + 1)) for name, latest in stored["counters"].items()
        }

    def _check_references(self, stored: Tables) -> None:
        for run in stored["runs"].values():
            assert run["session_id"][1] in stored["sessions"]
        for event in stored["events"].values():
            if (run_id := event["run_id"][1]) is not None:
                assert stored["runs"][run_id]["session_id"] == event["session_id"]
        for session in stored["sessions"].values():
            parent = session["parent_session_id"][1]
            assert parent is None or parent in stored["sessions"]

    def _check_stamps(self, counters: dict[str, int], stamps: dict[str, datetime]) -> None:
        """An append stamps its counter, and nothing else does."""
        earlier = self.before.get("counters", {})
        for session_id in counters.keys() & earlier.keys():
            moved = counters[session_id] != earlier[session_id]
            due = self.clock.moment if moved else self.before["stamps"][session_id]
            assert stamps[session_id] == due


def _copies(result: Any) -> Any:
    if isinstance(result, list):
        return [_copies(item) for item in result]
    return result.copied() if isinstance(result, Record) else result


def _copied(data: Data) -> Data:
    events = {name: event.copied() for name, event in data.events.items()}
    return Data(
        sessions={name: session.copied() for name, session in data.sessions.items()},
        runs={name: run.copied() for name, run in data.runs.items()},
        events=events,
        logs={name: [events[event.pk] for event in log] for name, log in data.logs.items()},
    )
