"""Within the caller's transactions, with answers that were lost, and how much is written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test import TestCase

from asm_store import default_store
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Run, Session
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_session
from tests.counting import new_connections
from tests.failures import execute, kill_connection
from tests.session_manager.logs import types

HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
DELTA = {"type": "message_streamed", "data": {"content": "x"}}


def test_everything_joins_the_callers_transaction(using: str) -> None:
    store = DatabaseSessionStore(using)
    manager = SessionManager(store, ScriptedProvider([DELTA, HELLO]))
    kept = manager.start_session()
    manager.activate_session(kept.id)
    with transaction.atomic(using=using):
        assert manager.run_once("Hi", session_id=kept.id).output == {"content": "Hello."}
        manager.complete_session(kept.id)
        manager.start_session()
        transaction.set_rollback(True, using=using)
    assert [session.id for session in store.list_sessions()] == [kept.id]
    assert types(store, kept.id) == ["session_created", "session_started"]
    assert store.list_runs(kept.id) == []


class InATestCase(TestCase):
    """Everything happens in the transaction of the test."""

    def test_a_run(self) -> None:
        manager = SessionManager(default_store, ScriptedProvider([DELTA, HELLO]))
        result = manager.run_once("Hi")
        self.assertEqual(Run.objects.get().status, "completed")
        self.assertEqual(len(result.events), 5)

    async def test_an_async_run(self) -> None:
        manager = SessionManager(default_store, ScriptedProvider([DELTA, HELLO]))
        result = await manager.arun_once("Hi")
        self.assertEqual((await Run.objects.aget()).status, "completed")
        self.assertEqual(len(result.events), 5)


def losing_the_first_answer(
    store: DatabaseSessionStore, monkeypatch: pytest.MonkeyPatch
) -> list[Event]:
    """The connection breaks after the first commit that has an event of the manager's own."""
    appended: list[Event] = []
    lost: list[bool] = []
    append, flush = store.append_events, store.flush

    def lose() -> None:
        if not lost:
            lost.append(True)
            kill_connection(store.using)
            execute(store.using, "SELECT 1")

    def note(stored: list[Event]) -> list[Event]:
        appended.append(stored[0])
        transaction.on_commit(lose, using=store.using)
        return stored

    monkeypatch.setattr(store, "append_events", lambda *a, **k: note(append(*a, **k)))
    monkeypatch.setattr(store, "flush", lambda *a, **k: note(flush(*a, **k)))
    return appended


Take = Callable[[SessionManager, str, str], Any]


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda manager, session, run: manager.pause_session(session), id="pause"),
        pytest.param(lambda manager, session, run: manager.cancel_session(session), id="session"),
        pytest.param(lambda manager, session, run: manager.start_run(session, "Hi"), id="start"),
        pytest.param(lambda manager, session, run: manager.cancel_run(run), id="cancel"),
        pytest.param(lambda manager, session, run: manager.execute_run(run), id="execute"),
        pytest.param(lambda manager, session, run: manager.start_session(), id="create"),
        pytest.param(lambda manager, session, run: manager.run_once("Hi"), id="once"),
    ],
)
def test_a_step_whose_commit_nobody_heard_of_is_taken_once(
    server: str, monkeypatch: pytest.MonkeyPatch, take: Take
) -> None:
    store = DatabaseSessionStore(server)
    manager = SessionManager(store, ScriptedProvider([]))
    session = store.save_session(make_session(status="active"))
    run = manager.start_run(session.id, "Hi")
    appended = losing_the_first_answer(store, monkeypatch)
    took = take(manager, session.id, run.id)

    assert took is not None
    assert appended
    connections[server].close()
    for each in store.list_sessions():
        found = [event for event in store.get_events(each.id) if event.type != "message_sent"]
        assert len({event.type for event in found}) == len(found)


def test_the_end_of_a_run_whose_commit_nobody_heard_of(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DatabaseSessionStore(server)
    session = store.save_session(make_session(status="active"))
    run = SessionManager(store, ScriptedProvider([])).start_run(session.id, "Hi")

    class Late(BaseProvider):
        """The answers are lost from when the provider runs."""

        name = "late"

        def execute(self, run: Run, session: Session, **kwargs: Any) -> Iterator[Any]:
            losing_the_first_answer(store, monkeypatch)
            yield from ()

    result = SessionManager(store, Late()).execute_run(run.id)
    assert [event.type for event in result.events] == [
        *("message_sent", "run_started", "run_completed"),
    ]
    assert store.get_run(run.id).status == "completed"


def appends(store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each append from now on has."""
    batches: list[int] = []
    append = store._append

    def count(events: list[Event], expected: int | None) -> list[Event]:
        batches.append(len(events))
        return append(events, expected)

    monkeypatch.setattr(store, "_append", count)
    return batches


def test_streamed_deltas_do_not_cost_a_transaction_each(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = appends(store, monkeypatch)
    deltas = [{"type": "message_streamed", "data": {"content": str(n)}} for n in range(2_000)]
    result = SessionManager(store, ScriptedProvider([*deltas, HELLO])).run_once("Hi")
    found = [event.data["content"] for event in result.events if event.type == "message_streamed"]
    assert found == [str(number) for number in range(2_000)]
    assert len(batches) < 400


@pytest.mark.parametrize("kind", ["id", "event"])
def test_deltas_with_ids_of_their_own_go_in_batches_too(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    batches = appends(store, monkeypatch)

    class Own(BaseProvider):
        name = "own"

        def execute(self, run: Run, session: Session, **kwargs: Any) -> Iterator[Any]:
            for number in range(1_000):
                delta = {**DELTA, "id": f"evt_{number}"}
                yield delta if kind == "id" else Event(**delta)

    result = SessionManager(store, Own()).run_once("Hi")
    found = [event.id for event in result.events if event.type == "message_streamed"]
    assert found == [f"evt_{number}" for number in range(1_000)]
    assert len(batches) < 200


def test_many_runs_of_a_loop_store_over_one_connection(using: str) -> None:
    count = 30
    barrier: list[str] = []

    class Streaming(BaseProvider):
        """Streams, and waits until all others have."""

        name = "streaming"

        def execute(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            raise NotImplementedError

        async def aexecute(self, run: Run, session: Session, **kwargs: Any) -> Any:
            yield DELTA
            store = DatabaseSessionStore(using)
            await store.aget_events(session.id, type="message_streamed", wait_timeout=30)
            barrier.append(run.id)
            while len(barrier) < count:
                await asyncio.sleep(0)
            yield HELLO

    with new_connections(using) as new:
        seen: list[int] = []

        def look(event: Event) -> None:
            if event.type == "message_received":
                seen.append(len(new.now()))

        async def scenario() -> None:
            manager = SessionManager(DatabaseSessionStore(using), Streaming())
            runs = (manager.arun_once("Hi", event_callback=look) for _ in range(count))
            await asyncio.gather(*runs)

        async_to_sync(scenario)()
        assert len(seen) == count
        assert max(seen) <= 1
        assert threading.active_count() < count


def test_the_provider_has_a_thread_and_a_connection_of_its_own(using: str) -> None:
    seen: list[Any] = []

    class Looking(BaseProvider):
        name = "looking"

        def execute(self, run: Run, session: Session, **kwargs: Any) -> Iterator[Any]:
            seen.append(threading.current_thread())
            seen.append(DatabaseSessionStore(using).get_run(run.id).status)
            seen.append(connections[using].connection)
            yield from ()

    manager = SessionManager(DatabaseSessionStore(using), Looking())
    manager.run_once("Hi")
    async_to_sync(manager.arun_once)("Hi")
    assert seen[1] == seen[4] == "running"
    assert threading.main_thread() not in (seen[0], seen[3])
    for thread in (seen[0], seen[3]):
        thread.join(30)
    assert not connections[using].in_atomic_block
