"""Providers, iterators and callbacks that do what they should not; and what comes at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store import signals, transcripts
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    InvalidStatus,
    ProviderError,
    RunCancelled,
    RunTimeout,
    StorageError,
)
from asm_store.models import Event, Run, Session
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_session
from tests.session_manager.logs import only, types
from tests.threads import run_threads

SECONDS = 30
HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
BEGIN = ["session_created", "session_started", "message_sent", "run_started"]


class Made(BaseProvider):
    """Executes what `make()` makes."""

    name = "made"

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def execute(self, run: Run, session: Session, *, transcript: Any = None) -> Iterator[Any]:
        made: Iterator[Any] = self.make()
        return made


class AsyncMade(Made):
    async def aexecute(
        self, run: Run, session: Session, *, transcript: Any = None
    ) -> AsyncIterator[Any]:
        async for value in self.make():
            yield value


def test_one_mapping_may_be_yielded_again_and_again(store: BaseSessionStore, run_once: Any) -> None:
    """Each time as it is then, however far its provider is ahead."""

    def counting() -> Iterator[Any]:
        data: dict[str, Any] = {"role": "assistant", "content": [{"type": "text"}]}
        for number in range(20):
            data["content"][0]["text"] = f"{number} "
            yield {"type": "message_received", "data": data}
        yield Event(type="message_received", data=data)
        data["content"][0]["text"] = "later"

    result = run_once(SessionManager(store, Made(counting)), "Hi")
    texts = [e.data["content"][0]["text"] for e in result.events if e.type == "message_received"]
    assert texts == [*(f"{number} " for number in range(20)), "19 "]


class Unstoppable:
    """An iterator whose `stop()` fails."""

    def __init__(self, script: list[Any]) -> None:
        self._values = iter(script)

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def stop(self) -> None:
        raise RuntimeError("it does not stop")


def test_what_cannot_be_stopped_has_ended_all_the_same(
    store: BaseSessionStore, run_once: Any
) -> None:
    result = run_once(SessionManager(store, Made(lambda: Unstoppable([HELLO]))), "Hi")
    assert result.output == {"content": "Hello."}
    with pytest.raises(KeyError):
        run_once(
            SessionManager(store, Made(lambda: Unstoppable([HELLO]))),
            *("Hi",),
            event_callback=lambda event: {}[event.type],
        )
    assert {s.status for s in store.list_sessions()} == {"completed", "failed"}


def stubborn() -> Iterator[Any]:
    try:
        yield HELLO
        yield HELLO
    except GeneratorExit:
        yield HELLO


async def astubborn() -> AsyncIterator[Any]:
    while True:
        try:
            yield HELLO
            await asyncio.sleep(SECONDS)
        except (GeneratorExit, asyncio.CancelledError):
            yield HELLO


@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_that_will_not_be_closed(
    store: BaseSessionStore, run_once: Any, is_async: bool
) -> None:
    def refuse(event: Event) -> None:
        if event.type == "message_received":
            raise KeyError(event.type)

    provider = AsyncMade(astubborn) if is_async else Made(stubborn)
    begin = time.monotonic()
    with pytest.raises((KeyError, ProviderError)):
        run_once(SessionManager(store, provider), "Hi", event_callback=refuse)
    assert time.monotonic() - begin < 5
    session, run = only(store)
    assert (run.status, session.status) == ("failed", "failed")


def test_a_callback_that_raises_what_ends_an_iteration(
    store: BaseSessionStore, run_once: Any
) -> None:
    for type in ("message_sent", "message_received", "run_completed"):

        def exhausted(event: Event, wanted: str = type) -> None:
            if event.type == wanted:
                next(iter(()))

        session = store.save_session(make_session())
        manager = SessionManager(store, ScriptedProvider([HELLO]))
        with pytest.raises(RuntimeError, match="StopIteration"):
            run_once(manager, "Hi", session_id=session.id, event_callback=exhausted)
        [run] = store.list_runs(session.id)
        expected = "completed" if type == "run_completed" else "failed"
        assert (run.status, store.get_session(session.id).status) == (expected, expected)


def test_of_two_who_execute_a_run_one_does(using: str) -> None:
    store = DatabaseSessionStore(using)
    manager = SessionManager(store, ScriptedProvider([HELLO]))
    session = store.save_session(make_session(status="active"))
    run = manager.start_run(session.id, "Hi")

    def execute() -> str:
        try:
            return str(manager.execute_run(run.id).output)
        except InvalidStatus:
            return "refused"

    assert sorted(run_threads([execute, execute])) == ["refused", "{'content': 'Hello.'}"]
    assert types(store, session.id) == [
        *("message_sent", "run_started", "message_received", "run_completed"),
    ]


def test_a_run_that_is_cancelled_before_it_begins(store: BaseSessionStore, run_once: Any) -> None:
    """By who sees it pending: the session that was made for it does not stay active."""
    manager = SessionManager(store, ScriptedProvider([HELLO]))

    def cancel(sender: Any, run: Run, **kwargs: Any) -> None:
        if run.status == "pending":
            run_threads([lambda: manager.cancel_run(run.id)])

    signals.run_saved.connect(cancel)
    try:
        with pytest.raises(InvalidStatus, match="cancelled"):
            run_once(manager, "Hi")
    finally:
        signals.run_saved.disconnect(cancel)
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")
    assert types(store, session.id) == [*BEGIN[:-1], "run_cancelled", "session_cancelled"]


@pytest.mark.parametrize("first", ["message_sent", "run_started"])
@pytest.mark.parametrize("script", [[], [HELLO]])
def test_a_run_that_is_cancelled_with_its_first_event(
    store: BaseSessionStore, run_once: Any, script: list[Any], first: str
) -> None:
    manager = SessionManager(store, ScriptedProvider(script))

    def cancel(event: Event) -> None:
        if event.type == first:
            run_threads([lambda: manager.cancel_run(event.run_id or "")])

    with pytest.raises(RunCancelled):
        run_once(manager, "Hi", event_callback=cancel)
    session, run = only(store)
    assert (run.status, session.status) == ("cancelled", "cancelled")
    assert types(store, session.id) == [*BEGIN, "run_cancelled", "session_cancelled"]


@pytest.mark.parametrize("error", [StorageError("away"), KeyboardInterrupt()])
@pytest.mark.parametrize("was_active", [False, True])
def test_a_run_that_cannot_begin(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch, error: Any, was_active: bool
) -> None:
    """What was made for it ends with it."""

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(transcripts, "build_before", fail)
    status = "active" if was_active else "paused"
    session = store.save_session(make_session(status=status))
    manager = SessionManager(store, ScriptedProvider([HELLO]))
    with pytest.raises(type(error)):
        manager.run_once("Hi", session_id=session.id, continuation=True)
    [run] = store.list_runs(session.id)
    expected = "active" if was_active else "cancelled"
    assert (run.status, store.get_session(session.id).status) == ("cancelled", expected)


def test_a_timeout_of_what_swallows_its_cancellation(store: BaseSessionStore) -> None:
    async def deaf() -> AsyncIterator[Any]:
        yield HELLO
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(SECONDS)
        await asyncio.sleep(SECONDS)

    async def run() -> float:
        begin = time.monotonic()
        with pytest.raises(RunTimeout):
            await SessionManager(store, AsyncMade(deaf)).arun_once("Hi", timeout=0.2)
        return time.monotonic() - begin

    assert async_to_sync(run)() < 5  # its grace is over long before it is done
    _session, its_run = only(store)
    assert its_run.status == "timeout"
