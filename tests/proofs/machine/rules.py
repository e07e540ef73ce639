"""The rules: one for each public method of a store, named after it, and a few more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, precondition, rule

from asm_store.backends.base import BaseSessionStore
from asm_store.models import Event, Run, Session
from asm_store.test.contract.values import NOON

from . import values
from .outcomes import canonical, spoil_json
from .pair import DEEPEST, Pair, Stop, Tally
from .values import Columns, record

Some = Any  # what `multiple()` returns: the records that a rule adds to its bundle
# A writer that is to store nothing on its own, so that both stores do the same.
AT_EXIT = {"max_events": 1_000, "max_delay": 3_600.0}
AT_ONCE = {"max_events": 1, "max_delay": 0.0}


class Sessions(Pair):
    saved_sessions = Bundle[Session]("saved_sessions")

    @rule(target=saved_sessions, given=values.sessions)
    def save_session(self, given: Any) -> Some:
        return multiple(*self.kept("save_session", record(Session, given)))

    @rule(target=saved_sessions, stale=saved_sessions, changes=values.session_changes)
    def save_session_again(self, stale: Session, changes: Columns) -> Some:
        """Perhaps a copy that others have long overwritten, deleted or soft-deleted."""
        return multiple(*self.kept("save_session", _changed(stale, changes)))

    @rule(session_id=values.names)
    def get_session(self, session_id: Any) -> None:
        self.kept("get_session", session_id)

    @rule(
        session_id=values.names,
        status=st.none() | values.session_statuses,
        add_tags=values.tags,
        remove_tags=values.tags,
        metadata=st.none() | values.payloads,
    )
    def update_session(self, session_id: Any, metadata: Any, **changes: Any) -> None:
        self.kept("update_session", session_id, metadata=metadata, **changes)
        spoil_json(metadata)

    @rule(
        status=values.some_sessions,
        agent_id=st.none() | values.agents,
        include_deleted=values.flags,
        limit=values.counts,
        offset=values.counts,
    )
    def list_sessions(self, **filters: Any) -> None:
        self.kept("list_sessions", **filters)

    @rule(session_id=values.names)
    def delete_session(self, session_id: Any) -> None:
        if self.same("delete_session", session_id).error is None:
            self.artifacts = {
                name: owner for name, owner in self.artifacts.items() if owner != session_id
            }

    @rule(target=saved_sessions, session_id=values.names)
    def soft_delete_session(self, session_id: Any) -> Some:
        return multiple(*self.kept("soft_delete_session", session_id))

    @rule(target=saved_sessions, session_id=values.names)
    def restore_session(self, session_id: Any) -> Some:
        return multiple(*self.kept("restore_session", session_id))

    @rule(session_id=st.sampled_from(values.SESSION_NAMES))
    def register_artifact(self, session_id: str) -> None:
        if session_id in self.memory._data.sessions:
            self.add_artifact(session_id)


class Runs(Pair):
    saved_runs = Bundle[Run]("saved_runs")

    @rule(target=saved_runs, given=values.runs)
    def save_run(self, given: Any) -> Some:
        return multiple(*self.kept("save_run", record(Run, given)))

    @rule(target=saved_runs, stale=saved_runs, changes=values.run_changes)
    def save_run_again(self, stale: Run, changes: Columns) -> Some:
        """Perhaps moved to another session."""
        return multiple(*self.kept("save_run", _changed(stale, changes)))

    @rule(run_id=values.run_names)
    def get_run(self, run_id: Any) -> None:
        self.kept("get_run", run_id)

    @rule(session_id=values.names, status=values.some_runs, limit=values.counts)
    def list_runs(self, session_id: Any, **filters: Any) -> None:
        self.kept("list_runs", session_id, **filters)

    @rule(session_id=values.names)
    def get_active_run(self, session_id: Any) -> None:
        self.kept("get_active_run", session_id)


class Appends(Pair):
    stored_events = Bundle[Event]("stored_events")

    @rule(given=values.events)
    def append_event(self, given: Any) -> None:
        self.kept("append_event", record(Event, given))

    @rule(target=stored_events, given=values.events)
    def append_event_with_sequence(self, given: Any) -> Some:
        return multiple(*self.kept("append_event_with_sequence", record(Event, given)))

    @rule(
        target=stored_events,
        batch=values.batches,
        again=st.lists(stored_events, max_size=3),
        twice=st.booleans(),
    )
    def append_events(self, batch: Any, again: list[Event], twice: bool) -> Some:
        """New ones, known ones, and some of them twice."""
        events = batch
        if isinstance(batch, list):
            events = [record(Event, given) for given in batch]
            events[1:1] = [event.copied() for event in again]
            events += events[: 2 * twice]
        return multiple(*self.kept("append_events", events))

    @rule(
        target=stored_events,
        home=values.homes,
        batch=values.batch,
        again=st.lists(stored_events, max_size=3),
        off_by=st.integers(-1, 1),
        bad=values.mostly(st.none(), values.BAD_EXPECTED),
    )
    def append_events_if(
        self, home: Any, batch: list[Columns], again: list[Event], off_by: int, bad: Any
    ) -> Some:
        """Of one session, whose latest number is the expected one or not."""
        latest = len(self.memory._data.logs.get(home[0], []))
        expected = latest + off_by if bad is None else bad
        events = [event.copied() for event in again if event.session_id == home[0]]
        events += _of_home(home, batch)
        return multiple(*self.kept("append_events", events, expected_sequence=expected))

    @rule(target=stored_events, stale=stored_events, session_id=st.none() | values.names)
    def append_event_again(self, stale: Event, session_id: Any) -> Some:
        """Known, perhaps under another session, or not any more; its content is another."""
        changes: Columns = {"data": {"other": "content"}, "sequence_number": None}
        if session_id is not None:
            changes["session_id"] = session_id
        return multiple(*self.kept("append_event_with_sequence", _changed(stale, changes)))


class Flushes(Appends):
    @rule(
        target=Appends.stored_events,
        home=values.homes,
        session=values.session_changes,
        run=values.some(values.RUN),
        batch=values.batch,
        provider_metadata=st.none() | values.payloads,
        stranger=values.mostly(st.none(), ("event", *values.NO_RECORDS)),
    )
    def flush(
        self,
        home: Any,
        session: Columns,
        run: Columns,
        batch: list[Columns],
        provider_metadata: Any,
        stranger: Any,
    ) -> Some:
        """A session, its run and events of it or of no run, or what does not belong together."""
        session_id, run_id = home[0], home[1] or "r3"
        events = _of_home((session_id, run_id), batch)
        if stranger is not None:
            events += _of_home(("S1", None), [{"id": "e0"}])
        stored = self.kept(
            "flush",
            record(Session, {"id": session_id, "agent_id": "assistant", **session}),
            record(Run, {"id": run_id, "session_id": session_id, **run}),
            events if stranger in (None, "event") else stranger,
            provider_metadata,
        )
        spoil_json(provider_metadata)
        return multiple(*stored)


class Writers(Pair):
    @rule(
        home=values.homes,
        batch=values.batch,
        how=st.sampled_from(["at exit", "each", "stopped"]),
        bad=values.mostly(st.just({}), values.BAD_WRITERS),
    )
    def writer(self, home: Any, batch: list[Columns], how: str, bad: Columns) -> None:
        session_id, events = home[0], _of_home(home, batch)
        options = {**(AT_ONCE if how == "each" else AT_EXIT), **bad}

        def do(store: BaseSessionStore) -> None:
            written = self._awritten if self.are_async[store] else self._written
            written(store, session_id, events, how, options)

        error = self.compare("writer", do, events).error
        if error is None or isinstance(error, Stop):  # which stops no event on its way
            assert {event.pk for event in events} <= self.memory._data.events.keys()

    def _written(
        self, store: BaseSessionStore, session_id: Any, events: list[Event], how: str, options: Any
    ) -> None:
        with store.writer(session_id, **options) as writer:
            for event in events:
                writer.write(event)
                if how == "each":
                    writer.flush()
            if how == "stopped":
                raise Stop

    def _awritten(
        self, store: BaseSessionStore, session_id: Any, events: list[Event], how: str, options: Any
    ) -> None:
        async def run() -> None:
            async with store.awriter(session_id, **options) as writer:
                for event in events:
                    await writer.write(event)
                    if how == "each":
                        await writer.flush()
                if how == "stopped":
                    raise Stop

        async_to_sync(run)()


class Reading(Pair):
    @rule(
        session_id=values.names,
        run_id=st.none() | values.run_names,
        type=values.some_types,
        since=st.none() | values.times,
        after=values.positions,
        before=values.positions,
        limit=values.counts,
        wait_timeout=st.none() | values.no_time,
    )
    def get_events(self, session_id: Any, **filters: Any) -> None:
        self.kept("get_events", session_id, **filters)

    @rule(session_id=values.names)
    def get_latest_sequence(self, session_id: Any) -> None:
        self.same("get_latest_sequence", session_id)

    @rule(
        session_id=values.names,
        after=values.starts,
        run_id=st.none() | values.run_names,
        type=values.some_types,
        idle_timeout=values.no_time,
    )
    def stream_events(self, session_id: Any, idle_timeout: Any, **filters: Any) -> None:
        """Ends at once, with what is stored."""
        streamed = self.same("stream_events", session_id, idle_timeout=idle_timeout, **filters)
        if streamed.error is None:
            stored = self.memory.get_events(session_id, **filters)
            assert [event.pk for event in streamed.result] == [event.pk for event in stored]

    @rule(
        session_id=values.names,
        run_id=st.none() | values.run_names,
        type=values.some_types,
        after=values.positions,
        before=values.positions,
        limit=values.counts,
    )
    def iter_events_json(self, session_id: Any, **filters: Any) -> None:
        outcome = self.same("iter_events_json", session_id, **filters)
        if outcome.error is None:
            stored = self.memory.get_events(session_id, **filters)
            lines = [canonical(json.loads(line)) for line in outcome.result]
            assert lines == [canonical(event.to_dict()) for event in stored]


class Glances(Sessions, Runs, Reading):
    """After every step one look at one session, in turn: the rules alone look too seldom."""

    def __init__(self, using: str, tally: Tally) -> None:
        super().__init__(using, tally)
        anything: Columns = {"run_id": None, "type": None}
        looks: list[Callable[[str], Any]] = [
            self.get_session,
            self.get_active_run,
            lambda name: self.kept("list_runs", name, status="running", limit=2),
            lambda name: self.kept("get_events", name, since=NOON, limit=3),
            lambda name: self.stream_events(name, idle_timeout=0, after=0, **anything),
            lambda name: self.iter_events_json(name, after=1, before=9, limit=2, **anything),
        ]
        self.glances = itertools.cycle(itertools.product(looks, values.SESSION_NAMES))

    @invariant()
    def the_same_is_stored(self) -> None:
        super().the_same_is_stored()
        look, name = next(self.glances)
        look(name)


class StoreMachine(Flushes, Writers, Glances):
    """All of them, in a caller's block or not, by async twins or not."""

    @initialize(target=Appends.stored_events)
    def begin(self) -> Some:
        """Some of what the pools name is there."""
        for name, run in values.HOMES[:3]:
            parent = None if name == "s1" else "s1"
            columns = {"id": name, "agent_id": "assistant", "parent_session_id": parent}
            self.kept("save_session", record(Session, columns))
            for pk in (run, f"{run} too"):
                columns = {"id": pk, "session_id": name, "status": "running"}
                self.kept("save_run", record(Run, columns))
            self.add_artifact(name)
        for is_async, event in ((False, "e2"), (True, "e3")):
            self.go_on(memory=is_async, database=is_async)
            self.writer(home=values.HOMES[0], batch=[{"id": event}], how="stopped", bad={})
        events = _of_home(values.HOMES[0], [{"id": "e0"}, {"id": "e1"}])
        return multiple(*self.kept("append_events", events))

    @rule(memory=st.booleans(), database=st.booleans())
    def go_on(self, memory: bool, database: bool) -> None:
        """From now on with the async twins, or without: both, or one of the two."""
        self.are_async = {self.memory: memory, self.database: database}

    @rule(limit=st.sampled_from(values.LIMITS))
    def allow(self, limit: int) -> None:
        """A record's JSON may have so many bytes; what is stored may have more."""
        self.limit_json(limit)

    @precondition(lambda self: len(self.blocks) < DEEPEST)
    @rule()
    def enter_block(self) -> None:
        self.enter()

    @precondition(lambda self: self.blocks)
    @rule()
    def commit_block(self) -> None:
        self.leave(undo=False)

    @precondition(lambda self: self.blocks)
    @rule()
    def roll_block_back(self) -> None:
        self.leave(undo=True)


def _changed(stale: Any, changes: Columns) -> Any:
    """A copy of a record of an earlier step, with other columns."""
    changed = stale.copied()
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _of_home(home: Any, batch: list[Columns]) -> list[Event]:
    """Events of a session and its run, but for the columns that say otherwise."""
    columns = {"type": "message_sent", "session_id": home[0], "run_id": home[1]}
    return [record(Event, {**columns, **given}) for given in batch]
