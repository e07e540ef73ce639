"""A run that is over leaves the API: the connection is closed, whatever was waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import RunCancelled, RunTimeout
from asm_store.models import Event
from asm_store.session_manager import SessionManager
from tests.cases import only_on
from tests.processes import run_processes
from tests.providers.api_server import SECONDS, ApiServer, Reply
from tests.providers.wires import Wire
from tests.session_manager.logs import only, types

CANCEL = "tests.session_manager.test_stopping.cancel_in"


def hanging(wire: Wire) -> Reply:
    return Reply(wire.beginning("Good "), end="hang")


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_timeout(wire: Wire, api: ApiServer, run_once: Any, is_silent: bool) -> None:
    """In the middle of the answer, and before its first byte."""
    store = InMemorySessionStore()
    api.replies = [Reply(end="hang") if is_silent else hanging(wire)]
    with pytest.raises(RunTimeout):
        run_once(SessionManager(store, wire.provider(api)), "Hello", timeout=3)
    assert api.is_left.wait(SECONDS)
    _session, run = only(store)
    assert run.status == "timeout"
    found = types(store, run.session_id)
    assert found.count("message_streamed") == (not is_silent)


def test_a_timeout_while_the_sdk_waits_to_ask_again(
    wire: Wire, api: ApiServer, run_once: Any
) -> None:
    store = InMemorySessionStore()
    api.replies = [wire.problem(429, "rate_limit_error", retry_after="50")]
    begin = time.monotonic()
    with pytest.raises(RunTimeout):
        run_once(SessionManager(store, wire.provider(api, max_retries=2)), "Hello", timeout=3)
    assert time.monotonic() - begin < 10
    assert len(api.requests) == 1


@only_on("postgresql")
def test_a_cancellation_in_another_process(
    using: str, wire: Wire, api: ApiServer, run_once: Any
) -> None:
    store = DatabaseSessionStore(using)
    api.replies = [hanging(wire)]

    def cancel(event: Event) -> None:
        if event.type == "message_streamed":
            assert api.is_hanging.wait(SECONDS)
            run_processes(CANCEL, [(using, event.run_id)])

    with pytest.raises(RunCancelled):
        run_once(SessionManager(store, wire.provider(api)), "Hello", event_callback=cancel)
    assert api.is_left.wait(SECONDS)
    _session, run = only(store)
    assert (run.status, run.token_usage) == ("cancelled", {})


def test_a_callback_that_raises(wire: Wire, api: ApiServer, run_once: Any) -> None:
    api.replies = [hanging(wire)]

    def refuse(event: Event) -> None:
        if event.type == "message_streamed":
            raise ZeroDivisionError

    manager = SessionManager(InMemorySessionStore(), wire.provider(api))
    with pytest.raises(ZeroDivisionError):
        run_once(manager, "Hello", event_callback=refuse)
    assert api.is_left.wait(SECONDS)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_cancelled_task(wire: Wire, api: ApiServer, is_shared: bool) -> None:
    """With a client of the run's own, and with one that outlives the run."""
    store = InMemorySessionStore()
    api.replies = [hanging(wire), wire.said("Good morning.")]

    async def run() -> None:
        client = wire.client(api)
        shared = wire.provider_class(wire.model, client=client)
        manager = SessionManager(store, shared if is_shared else wire.provider(api))
        task = asyncio.create_task(manager.arun_once("Hello"))
        assert await asyncio.to_thread(api.is_hanging.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(api.is_left.wait, SECONDS)
        [session] = store.list_sessions()
        assert types(store, session.id)[-2:] == ["run_cancelled", "session_cancelled"]
        result = await manager.arun_once("Hello")
        assert result.output == {"content": "Good morning."}
        await client.close()

    async_to_sync(run)()


@only_on("postgresql")
def test_a_sync_tool_has_a_connection_of_its_own(
    using: str, wire: Wire, api: ApiServer, run_once: Any
) -> None:
    """And leaves none open: the test database could not be dropped."""

    def count() -> int:
        return len(DatabaseSessionStore(using).list_sessions())

    api.replies = [wire.calls(("c1", "count", {})), wire.said("One.")]
    manager = SessionManager(DatabaseSessionStore(using), wire.provider(api, tools=[count]))
    result = run_once(manager, "How many?")
    [done] = [event for event in result.events if event.type == "tool_call_completed"]
    assert done.data["tool_output"] == 1


def test_a_tool_that_is_not_done(wire: Wire, api: ApiServer) -> None:
    """An async one is cancelled where it waits."""
    was_cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    api.replies = [wire.calls(("c1", "wait", {}))]
    provider = wire.provider(api, tools=[wait])
    with pytest.raises(RunTimeout):
        SessionManager(InMemorySessionStore(), provider).run_once("Hello", timeout=3)
    assert was_cancelled.wait(SECONDS)
