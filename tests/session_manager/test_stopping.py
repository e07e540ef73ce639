"""Runs that are stopped: out of time, cancelled from anywhere, ended by somebody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from asm_store import maintenance
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    ProviderError,
    RunCancelled,
    RunNotFound,
    RunTimeout,
    SessionDeleted,
    SessionNotFound,
)
from asm_store.maintenance import RetentionPolicy
from asm_store.models import Event, Run, Session, SessionSequence
from asm_store.providers import BaseProvider
from asm_store.queries import search_runs
from asm_store.session_manager import SessionManager
from asm_store.session_manager.execution import CHECK_SECONDS
from asm_store.test import ScriptedProvider, make_session
from tests.processes import run_processes, start_process
from tests.session_manager.logs import only, types
from tests.threads import run_threads

SECONDS = 30
HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
DELTA = {"type": "message_streamed", "data": {"content": "He"}}
BEGIN = ["session_created", "session_started", "message_sent", "run_started"]


class Blocking(BaseProvider):
    """Yields, blocks until it is released, and yields again."""

    name = "blocking"

    def __init__(self, script: Sequence[Any] = (HELLO, DELTA)) -> None:
        self.script = script
        self.is_blocked = threading.Event()
        self.release = threading.Event()
        self.has_ended = threading.Event()

    def execute(self, run: Run, session: Session, *, transcript: Any = None) -> Iterator[Any]:
        try:
            yield from self.script
            self.is_blocked.set()
            self.release.wait(SECONDS)
            yield DELTA
            yield HELLO
        finally:
            self.has_ended.set()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    provider = Blocking()
    yield provider
    provider.release.set()


def test_a_blocked_provider_is_left_when_the_time_is_over(
    store: BaseSessionStore, run_once: Any, blocking: Blocking
) -> None:
    begin = time.monotonic()
    with pytest.raises(RunTimeout, match="timeout of 3 s") as caught:
        run_once(SessionManager(store, blocking), "Hi", timeout=3)
    assert time.monotonic() - begin < 3 + 1.0
    assert isinstance(caught.value, TimeoutError)

    session, run = only(store)
    assert (run.status, session.status) == ("timeout", "failed")
    assert (run.error or {})["error_code"] == "run_timeout"
    expected = [*BEGIN, "message_received", "message_streamed", "run_timeout", "session_failed"]
    assert types(store, session.id) == expected
    blocking.release.set()
    assert blocking.has_ended.wait(SECONDS)
    assert types(store, session.id) == expected  # nothing came after


def test_no_time_at_all(store: BaseSessionStore) -> None:
    with pytest.raises(RunTimeout):
        SessionManager(store, ScriptedProvider([HELLO])).run_once("Hi", timeout=0)
    session, _run = only(store)
    assert types(store, session.id) == [*BEGIN, "run_timeout", "session_failed"]


def test_a_database_that_is_busy_is_waited_for(using: str, run_once: Any) -> None:
    """It has to store how the run ended: that it is out of time shows when it can be stored."""
    store = DatabaseSessionStore(using)
    holders: list[threading.Thread] = []
    is_held, is_released = threading.Event(), threading.Event()

    def hold(session_id: str) -> None:
        def body() -> None:
            list(SessionSequence.objects.using(using).locked([session_id]))
            is_held.set()
            is_released.wait(1)

        store._atomically(body)
        connections.close_all()

    def keep_busy(event: Event) -> None:
        if event.type == "run_started":
            holders.append(threading.Thread(target=hold, args=(event.session_id,)))
            holders[0].start()
            assert is_held.wait(SECONDS)

    begin = time.monotonic()
    manager = SessionManager(store, ScriptedProvider([HELLO, HELLO]))
    with pytest.raises(RunTimeout):
        run_once(manager, "Hi", event_callback=keep_busy, timeout=0.3)
    assert time.monotonic() - begin > 0.9
    holders[0].join()
    session, run = only(store)
    assert (run.status, session.status) == ("timeout", "failed")
    assert types(store, session.id)[-2:] == ["run_timeout", "session_failed"]


def test_a_run_is_cancelled_while_its_provider_blocks(
    using: str, run_once: Any, blocking: Blocking
) -> None:
    store = DatabaseSessionStore(using)

    def execute() -> float:
        with pytest.raises(RunCancelled):
            run_once(SessionManager(store, blocking), "Hi", session_id="ses_x")
        return time.monotonic()

    def cancel() -> float:
        """From another process, when all that comes has arrived and is stored."""
        assert blocking.is_blocked.wait(SECONDS)
        [delta] = store.get_events("ses_x", type="message_streamed", wait_timeout=SECONDS)
        run_processes("tests.session_manager.test_stopping.cancel_in", [(using, delta.run_id)])
        return time.monotonic()

    ended, cancelled = run_threads([execute, cancel])
    assert ended - cancelled < 2 * CHECK_SECONDS + 1
    session, run = only(store)
    assert (run.status, session.status, run.error) == ("cancelled", "cancelled", None)
    end = ["message_received", "message_streamed", "run_cancelled", "session_cancelled"]
    assert types(store, session.id) == [*BEGIN, *end]


@pytest.mark.parametrize("more", [[HELLO], [DELTA], [DELTA, HELLO], [{**DELTA, "id": "evt_x"}]])
def test_nothing_is_stored_of_a_run_that_was_cancelled(
    store: BaseSessionStore, run_once: Any, more: list[Any]
) -> None:
    manager = SessionManager(store, ScriptedProvider([HELLO, *more]))

    def cancel(event: Event) -> None:
        if event.type == "message_received":
            run_threads([lambda: manager.cancel_run(event.run_id or "")])

    with pytest.raises(RunCancelled):
        run_once(manager, "Hi", event_callback=cancel)
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")
    end = ["message_received", "run_cancelled", "session_cancelled"]
    assert types(store, session.id) == [*BEGIN, *end]


def test_a_cancelled_run_keeps_what_it_has_used(store: BaseSessionStore, run_once: Any) -> None:
    """Whoever cancels it stores its usage and its price too."""
    script = [
        {"type": "run_started", "data": {"model": "m", "provider_session_id": "x1"}},
        {"type": "token_usage_updated", "data": {"input_tokens": 10, "output_tokens": 1}},
        {"type": "turn_completed"},
        HELLO,
        HELLO,
    ]
    manager = SessionManager(store, ScriptedProvider(script))

    def cancel(event: Event) -> None:
        if event.type == "message_received":
            run_threads([lambda: manager.cancel_run(event.run_id or "")])

    prices = {"scripted": {"models": {"m": {"input": 1.0, "output": 10.0}}}}
    with override_settings(ASM_STORE_PRICING=prices), pytest.raises(RunCancelled):
        run_once(manager, "Hi", event_callback=cancel)
    _session, run = only(store)
    assert (run.status, run.turn_count, run.cost_usd) == ("cancelled", 1, 20.0)
    assert run.token_usage == {"input_tokens": 10, "output_tokens": 1}
    assert run.provider_metadata == {"model": "m", "provider_session_id": "x1"}


def test_a_process_that_is_killed(using: str) -> None:
    """What had arrived is kept, and maintenance ends the run."""
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_x"))
    with start_process("tests.session_manager.test_stopping.run_in", [using, "ses_x"]) as child:
        [last] = store.get_events("ses_x", type="turn_completed", wait_timeout=SECONDS)
        [run] = store.list_runs("ses_x", status="running")
        deadline = time.monotonic() + SECONDS
        while not store.get_run(run.id).turn_count and time.monotonic() < deadline:
            pass
        child.kill()
    found = types(store, "ses_x")
    arrived = ["message_streamed", "token_usage_updated", "turn_completed"]
    assert found == [*BEGIN[1:], *arrived]
    run = store.get_run(run.id)
    assert (run.status, run.turn_count, run.token_usage) == ("running", 1, {"input_tokens": 10})
    run.started_at -= timedelta(hours=2)
    store.save_run(run)
    report = maintenance.execute(RetentionPolicy(max_run_age_hours=1), using=using)
    assert not report.errors
    assert types(store, "ses_x") == [*found, "run_timeout"]
    assert store.get_run(run.id).status == "timeout"
    assert last.sequence_number == len(found)


def test_what_a_killed_process_has_left_is_found_and_ended(using: str) -> None:
    """As docs/running-agents.md says."""
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_x"))
    with start_process("tests.session_manager.test_stopping.run_in", [using, "ses_x"]) as child:
        assert store.get_events("ses_x", type="turn_completed", wait_timeout=SECONDS)
        child.kill()
    assert maintenance.health_check(using=using) == []
    [run] = search_runs(status="running", started_before=timezone.now(), using=using).runs
    assert store.get_session(run.session_id).status == "active"
    SessionManager(store, ScriptedProvider([])).cancel_session(run.session_id)
    assert (store.get_run(run.id).status, store.get_session("ses_x").status) == (
        *("cancelled", "cancelled"),
    )
    assert types(store, "ses_x")[-2:] == ["run_cancelled", "session_cancelled"]


def run_in(using: str, session_id: str) -> None:
    """In a child process, which is killed."""
    script = [DELTA, {"type": "token_usage_updated", "data": {"input_tokens": 10}}]
    provider = Blocking([*script, {"type": "turn_completed"}])
    SessionManager(DatabaseSessionStore(using), provider).run_once("Hi", session_id=session_id)


def cancel_in(using: str, run_id: str) -> str:
    """In a child process."""
    manager = SessionManager(DatabaseSessionStore(using), ScriptedProvider([]))
    return str(manager.cancel_run(run_id).status)


def test_a_cancelled_session_stops_its_run(store: BaseSessionStore, blocking: Blocking) -> None:
    manager = SessionManager(store, blocking)

    def cancel(event: Event) -> None:
        if event.type == "message_received":
            manager.cancel_session(event.session_id)

    with pytest.raises(RunCancelled):
        manager.run_once("Hi", event_callback=cancel)
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")
    found = types(store, session.id)
    assert (found.count("run_cancelled"), found.count("session_cancelled")) == (1, 1)


@pytest.mark.parametrize(
    "more", [[], [HELLO], [DELTA], [{"type": "turn_completed"}], [RuntimeError("broken"), HELLO]]
)
def test_a_session_that_is_soft_deleted_ends_its_run(
    store: BaseSessionStore, run_once: Any, more: list[Any]
) -> None:
    """Nothing can be appended to it: how the run ended stands in its row alone."""
    script = [{"type": "token_usage_updated", "data": {"input_tokens": 10}}, HELLO, *more]
    seen: list[str] = []

    def delete(event: Event) -> None:
        seen.append(event.type)
        if event.type == "message_received":
            run_threads([lambda: store.soft_delete_session(event.session_id)])

    is_broken = any(isinstance(value, RuntimeError) for value in more)
    manager = SessionManager(store, ScriptedProvider(script))
    with pytest.raises(ProviderError if is_broken else SessionDeleted):
        run_once(manager, "Hi", session_id="ses_x", event_callback=delete)
    [run] = store.list_runs("ses_x")
    assert (run.status, run.token_usage) == ("failed", {"input_tokens": 10})
    code = "provider_error" if is_broken else "session_deleted"
    assert (run.error or {})["error_code"] == code
    assert run.ended_at is not None
    assert types(store, "ses_x") == [*BEGIN, "token_usage_updated", "message_received"]
    assert "run_failed" not in seen
    session = store.restore_session("ses_x")
    assert session.status == "active"
    SessionManager(store, ScriptedProvider([])).run_once("Again", session_id=session.id)


def test_a_timeout_in_a_session_that_is_soft_deleted(
    store: BaseSessionStore, run_once: Any, blocking: Blocking
) -> None:
    def delete(event: Event) -> None:
        if event.type == "run_started":
            run_threads([lambda: store.soft_delete_session(event.session_id)])

    blocking.script = []
    manager = SessionManager(store, blocking)
    with pytest.raises(RunTimeout):
        run_once(manager, "Hi", session_id="ses_x", event_callback=delete, timeout=0.2)
    [run] = store.list_runs("ses_x")
    assert (run.status, (run.error or {})["error_code"]) == ("timeout", "run_timeout")
    assert types(store, "ses_x") == BEGIN


def test_a_session_that_is_removed_takes_its_run_with_it(
    store: BaseSessionStore, run_once: Any
) -> None:
    def delete(event: Event) -> None:
        if event.type == "message_received":
            run_threads([lambda: store.delete_session(event.session_id)])

    manager = SessionManager(store, ScriptedProvider([HELLO, HELLO]))
    # The run is the first to be missed when it is time to look whether others have ended it.
    with pytest.raises((SessionNotFound, RunNotFound)):
        run_once(manager, "Hi", event_callback=delete)
    assert store.list_sessions(include_deleted=True) == []


def test_a_run_that_maintenance_ended(store: BaseSessionStore) -> None:
    """Its status stays, even when the provider completes afterwards."""

    def end(event: Event) -> None:
        if event.type == "message_received":
            store.save_run(store.get_run(event.run_id or "").update_status("timeout"))

    with pytest.raises(RunTimeout, match="elsewhere"):
        SessionManager(store, ScriptedProvider([HELLO])).run_once("Hi", event_callback=end)
    session, run = only(store)
    assert (run.status, session.status) == ("timeout", "failed")
    assert types(store, session.id) == [*BEGIN, "message_received", "session_failed"]


@pytest.mark.parametrize("kind", ["derived", "native"])
def test_a_cancelled_task_cancels_its_run(
    store: BaseSessionStore, blocking: Blocking, kind: str
) -> None:
    class Native(Blocking):
        async def aexecute(self, run: Run, session: Session, *, transcript: Any = None) -> Any:
            try:
                yield HELLO
                await asyncio.Event().wait()
            finally:
                self.has_ended.set()

    provider = Native() if kind == "native" else blocking

    async def run() -> None:
        arrived = asyncio.Event()

        def tell(event: Event) -> None:
            if event.type == "message_received":
                arrived.set()

        manager = SessionManager(store, provider)
        task = asyncio.create_task(manager.arun_once("Hi", event_callback=tell))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async_to_sync(run)()
    session, its_run = only(store)
    assert (its_run.status, session.status) == ("cancelled", "cancelled")
    found = types(store, session.id)
    assert found[-2:] == ["run_cancelled", "session_cancelled"]
    blocking.release.set()
    assert provider.has_ended.wait(SECONDS)
    assert types(store, session.id) == found
