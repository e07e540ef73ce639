"""What goes wrong in the middle: kept is what arrived, told is what happened, and nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    EventConflict,
    ProviderError,
    RunCancelled,
    RunTimeout,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from asm_store.models import Event, Run, Session
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.session_manager.execution import CHECK_SECONDS
from asm_store.test import ScriptedProvider, make_event, make_session
from tests.processes import run_processes
from tests.session_manager.logs import types

SECONDS = 30
HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
DELTA = {"type": "message_streamed", "data": {"content": "He"}}
USAGE = {"type": "token_usage_updated", "data": {"input_tokens": 2, "output_tokens": 1}}
BEGIN = ["session_created", "session_started", "message_sent", "run_started"]
FAILED = ["error_occurred", "run_failed", "session_failed"]


class Boom(Exception):
    code = "boom"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


def only(store: BaseSessionStore) -> tuple[Session, Run]:
    [session] = store.list_sessions()
    [run] = store.list_runs(session.id)
    return session, run


def test_a_provider_that_raises_in_the_middle(store: BaseSessionStore, run_once: Any) -> None:
    boom = Boom("it broke")
    seen: list[str] = []
    manager = SessionManager(store, ScriptedProvider([DELTA, HELLO, USAGE, DELTA, boom, HELLO]))
    with pytest.raises(ProviderError, match="it broke") as caught:
        run_once(manager, "Hi", event_callback=lambda event: seen.append(event.type))

    session, run = only(store)
    assert caught.value.__cause__ is boom
    assert (caught.value.session_id, caught.value.run_id) == (session.id, run.id)
    assert (session.status, run.status, run.output) == ("failed", "failed", None)
    assert run.ended_at is not None
    assert run.token_usage == {"input_tokens": 2, "output_tokens": 1}
    assert run.error == {"error_message": "it broke", "error_code": "boom", "error_type": "Boom"}
    arrived = ["message_streamed", "message_received", "token_usage_updated", "message_streamed"]
    assert types(store, session.id) == [*BEGIN, *arrived, *FAILED]
    assert all(event.data == run.error for event in store.get_events(session.id)[-3:])
    assert seen == ["message_sent", "run_started", *arrived, "error_occurred", "run_failed"]


@pytest.mark.parametrize(
    "error",
    [
        *(StopIteration, GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError),
        *(MemoryError, Unprintable, ValidationError("mine")),
    ],
)
def test_whatever_a_provider_raises_is_its_error(
    store: BaseSessionStore, run_once: Any, error: Any
) -> None:
    with pytest.raises(ProviderError) as caught:
        run_once(SessionManager(store, ScriptedProvider([HELLO, error])), "Hi")
    session, run = only(store)
    assert caught.value.__cause__ is not None
    assert (session.status, run.status) == ("failed", "failed")
    assert types(store, session.id) == [*BEGIN, "message_received", *FAILED]
    assert set(run.error or {}) == {"error_message", "error_code", "error_type"}


@pytest.mark.parametrize(
    "nonsense",
    [
        *(None, 5, "text", [], {}, {"type": "unheard_of"}, {"type": None}, {"data": {}}, {1: 2}),
        *({**HELLO, "data": data} for data in (5, {1: 2}, {"x": float("nan")}, {"x": object()})),
        *({**HELLO, name: ""} for name in ("id", "surprise", "timestamp", "metadata")),
        *({**HELLO, name: "other"} for name in ("session_id", "run_id")),
        *(make_event("ses_other"), make_session(), Event(type="unheard_of")),
    ],
)
def test_nonsense_fails_the_run(store: BaseSessionStore, nonsense: Any) -> None:
    other = store.save_session(make_session(id="ses_other", status="active"))
    manager = SessionManager(store, ScriptedProvider([HELLO, nonsense, HELLO]))
    with pytest.raises(ProviderError) as caught:
        manager.run_once("Hi")
    assert isinstance(caught.value.__cause__, ValidationError)
    found = types(store, caught.value.session_id)
    assert found == [*BEGIN, "message_received", *FAILED]
    assert store.get_latest_sequence(other.id) == 0
    assert store.get_session(other.id).status == "active"


def test_an_id_of_another_session_fails_the_run(store: BaseSessionStore) -> None:
    other = store.save_session(make_session())
    taken = store.append_event_with_sequence(make_event(other))
    script = [DELTA, {**DELTA, "id": taken.id}]
    with pytest.raises(ProviderError) as caught:
        SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert isinstance(caught.value.__cause__, EventConflict)
    found = types(store, caught.value.session_id)
    assert found == [*BEGIN, "message_streamed", *FAILED]


def test_what_executes_is_no_generator(store: BaseSessionStore, run_once: Any) -> None:
    class Absent(BaseProvider):
        name = "absent"

        def execute(self, *args: Any, **kwargs: Any) -> Any:
            return None

    with pytest.raises(ProviderError) as caught:
        run_once(SessionManager(store, Absent()), "Hi")
    assert isinstance(caught.value.__cause__, TypeError)
    assert types(store, caught.value.session_id) == [*BEGIN, *FAILED]


def test_a_provider_that_says_itself_that_it_failed(store: BaseSessionStore) -> None:
    script = [
        {"type": "error_occurred", "data": {"error_message": "limit", "error_code": "429"}},
        {"type": "run_failed", "data": {"error_message": "limit", "error_code": "429"}},
    ]
    with pytest.raises(ProviderError, match="limit") as caught:
        SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    session, run = only(store)
    assert caught.value.__cause__ is None
    assert run.error == {"error_message": "limit", "error_code": "429"}
    assert types(store, session.id) == [*BEGIN, *FAILED]


@pytest.mark.parametrize(
    ("said", "kind", "run_status", "session_status"),
    [
        ("run_cancelled", RunCancelled, "cancelled", "cancelled"),
        ("run_timeout", RunTimeout, "timeout", "failed"),
    ],
)
def test_a_provider_that_says_that_it_was_stopped(
    store: BaseSessionStore, said: str, kind: Any, run_status: str, session_status: str
) -> None:
    with pytest.raises(kind):
        SessionManager(store, ScriptedProvider([HELLO, {"type": said}])).run_once("Hi")
    session, run = only(store)
    assert (run.status, session.status) == (run_status, session_status)
    end = [said, f"session_{session_status}"]
    assert types(store, session.id) == [*BEGIN, "message_received", *end]


def test_a_callback_that_raises_fails_the_run_and_passes(
    store: BaseSessionStore, run_once: Any
) -> None:
    def refuse(event: Event) -> None:
        if event.type == "message_received":
            raise Boom("closed")

    with pytest.raises(Boom):
        run_once(
            SessionManager(store, ScriptedProvider([HELLO, HELLO])), "Hi", event_callback=refuse
        )
    session, run = only(store)
    assert (session.status, run.status) == ("failed", "failed")
    assert types(store, session.id) == [*BEGIN, "message_received", *FAILED]


def test_a_callback_that_raises_at_once(store: BaseSessionStore, run_once: Any) -> None:
    def refuse(event: Event) -> None:
        raise Boom("closed")

    with pytest.raises(Boom):
        run_once(SessionManager(store, ScriptedProvider([HELLO])), "Hi", event_callback=refuse)
    session, _run = only(store)
    assert types(store, session.id) == [*BEGIN, *FAILED]


def test_whoever_is_interrupted_cancels_the_run(store: BaseSessionStore) -> None:
    def interrupt(event: Event) -> None:
        if event.type == "message_received":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SessionManager(store, ScriptedProvider([HELLO])).run_once("Hi", event_callback=interrupt)
    session, run = only(store)
    assert (session.status, run.status) == ("cancelled", "cancelled")
    end = ["run_cancelled", "session_cancelled"]
    assert types(store, session.id) == [*BEGIN, "message_received", *end]


@pytest.mark.parametrize("size", [5, 1_000])
def test_more_than_a_run_can_hold_is_a_failure(
    store: BaseSessionStore, settings: Any, size: int
) -> None:
    """The events fit one by one, the run with all of it does not, nor even with its error."""
    settings.ASM_STORE_MAX_EVENT_BYTES = 2_000
    text = {"type": "message_received", "data": {"role": "assistant", "content": "x" * 1_200}}
    metadata = {"type": "run_started", "data": {"much": "y" * 1_500}}
    with pytest.raises(ProviderError) as caught:
        SessionManager(store, ScriptedProvider([metadata, text, text])).run_once("x" * size)
    assert isinstance(caught.value.__cause__, ValidationError)
    session, run = only(store)
    assert (session.status, run.status) == ("failed", "failed")
    assert types(store, session.id) == [*BEGIN, "message_received", "message_received", *FAILED]


def test_a_session_that_is_deleted_meanwhile(store: BaseSessionStore) -> None:
    def delete(event: Event) -> None:
        if event.type == "run_started":
            store.delete_session(event.session_id)

    with pytest.raises(SessionNotFound):
        SessionManager(store, ScriptedProvider([HELLO])).run_once("Hi", event_callback=delete)
    assert store.list_sessions() == []


def test_a_store_that_fails_is_no_fault_of_the_provider(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = store.append_event_with_sequence

    def refuse(event: Event) -> Event:
        if event.type == "message_received":
            raise StorageError("the disk is full")
        return append(event)

    monkeypatch.setattr(store, "append_event_with_sequence", refuse)
    with pytest.raises(StorageError, match="disk"):
        SessionManager(store, ScriptedProvider([DELTA, HELLO])).run_once("Hi")
    session, run = only(store)
    assert (session.status, run.status) == ("failed", "failed")
    assert (run.error or {})["error_code"] == "storage_error"
    assert types(store, session.id) == [*BEGIN, "message_streamed", *FAILED]


class Blocking(BaseProvider):
    """Yields, blocks until it is released, and yields again."""

    name = "blocking"

    def __init__(self) -> None:
        self.is_blocked = threading.Event()
        self.release = threading.Event()
        self.has_ended = threading.Event()

    def execute(self, run: Run, session: Session, *, transcript: Any = None) -> Iterator[Any]:
        try:
            yield HELLO
            yield DELTA
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
    with pytest.raises(RunTimeout, match=r"0\.3 s") as caught:
        run_once(SessionManager(store, blocking), "Hi", timeout=0.3)
    assert time.monotonic() - begin < 0.3 + 1.0
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


def test_a_run_is_cancelled_while_its_provider_blocks(
    using: str, run_once: Any, blocking: Blocking
) -> None:
    store = DatabaseSessionStore(using)
    took: list[float] = []

    def cancel(event: Event) -> None:
        """From another process, when all that comes has arrived."""
        if event.type == "message_streamed":
            assert blocking.is_blocked.wait(SECONDS)
            run_processes("tests.session_manager.test_failures.cancel_in", [(using, event.run_id)])
            took.append(time.monotonic())

    with pytest.raises(RunCancelled):
        run_once(SessionManager(store, blocking), "Hi", event_callback=cancel)
    assert time.monotonic() - took[0] < 2 * CHECK_SECONDS + 1
    session, run = only(store)
    assert (run.status, session.status, run.error) == ("cancelled", "cancelled", None)
    end = ["message_received", "message_streamed", "run_cancelled", "session_cancelled"]
    found = types(store, session.id)
    assert sorted(found[4:]) == sorted(end)  # the delta may be stored after the cancellation
    assert found.count("run_cancelled") == 1


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
