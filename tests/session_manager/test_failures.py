"""What goes wrong in the middle: kept is what arrived, told is what happened, and nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from asm_store.backends.base import BaseSessionStore
from asm_store.exceptions import (
    EventConflict,
    ProviderError,
    RunCancelled,
    RunTimeout,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from asm_store.models import Event
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_event, make_session
from tests.session_manager.logs import only, types

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


class Codeless(Exception):
    @property
    def code(self) -> str:
        raise RuntimeError("no code either")


class Unreadable(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise AttributeError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(["type"])

    def __len__(self) -> int:
        return 1


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
        *(MemoryError, Unprintable, Codeless, ValidationError("mine")),
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


@pytest.mark.parametrize("value", [Unreadable(), {**HELLO, "data": Unreadable()}])
def test_what_cannot_even_be_read_fails_the_run(store: BaseSessionStore, value: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        SessionManager(store, ScriptedProvider([HELLO, value])).run_once("Hi")
    assert isinstance(caught.value.__cause__, AttributeError)
    found = types(store, caught.value.session_id)
    assert found == [*BEGIN, "message_received", *FAILED]


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


def test_what_a_provider_tells_before_it_raises_is_the_error(store: BaseSessionStore) -> None:
    told = {"error_message": "Slow down.", "error_code": "rate_limit", "retry_after": "17"}
    recovered = {"type": "error_occurred", "data": {"error_message": "no", "error_code": "x"}}
    boom = Boom("it broke")
    script = [recovered, HELLO, {"type": "error_occurred", "data": told}, boom]
    with pytest.raises(ProviderError, match="Slow down") as caught:
        SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    session, run = only(store)
    assert caught.value.__cause__ is boom
    assert run.error == {**told, "error_type": "Boom"}
    assert types(store, session.id) == [*BEGIN, "error_occurred", "message_received", *FAILED]
    with pytest.raises(ProviderError, match="it broke"):  # of another error
        SessionManager(store, ScriptedProvider([recovered, HELLO, boom])).run_once("Hi")


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
