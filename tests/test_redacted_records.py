"""Secrets are taken out of what is stored, through every door; off by default."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured

from asm_store import conf
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.events.redaction import PLACEHOLDER
from asm_store.exceptions import ProviderError, ValidationError
from asm_store.formats import import_paths
from asm_store.models import Event
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_event, make_run, make_session
from tests.secrets import PLANTED

SECRET = PLANTED["anthropic key"]


def doors(store: BaseSessionStore, session_id: str, run: Any) -> dict[str, Any]:
    def event(**columns: Any) -> Event:
        return make_event(session_id, data={"content": f"use {SECRET}"}, **columns)

    def write() -> Event:
        with store.writer(session_id) as writer:
            writer.write(event())
        return store.get_events(session_id)[-1]

    async def awrite() -> Event:
        async with store.awriter(session_id) as writer:
            await writer.write(event())
        return (await store.aget_events(session_id))[-1]

    def append() -> Event:
        store.append_event(event())
        return store.get_events(session_id)[-1]

    return {
        "append_event": append,
        "append_event_with_sequence": lambda: store.append_event_with_sequence(event()),
        "append_events": lambda: store.append_events([event()])[0],
        "flush": lambda: store.flush(store.get_session(session_id), run, [event()])[0],
        "writer": write,
        "awriter": async_to_sync(awrite),
        "aappend_events": lambda: async_to_sync(store.aappend_events)([event()])[0],
    }


def test_every_door_redacts(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    session = store.save_session(make_session())
    run = store.save_run(make_run(session))
    for name, door in doors(store, session.id, run).items():
        event = door()
        assert event.data == {"content": f"use {PLACEHOLDER}"}, name
        assert event.metadata == {"_redacted": {"anthropic": 1}}, name
    assert SECRET.encode() not in b"".join(store.iter_events_json(session.id))


def test_it_is_off_by_default(store: BaseSessionStore) -> None:
    session = store.save_session(make_session())
    run = store.save_run(make_run(session))
    for door in doors(store, session.id, run).values():
        event = door()
        assert (event.data, event.metadata) == ({"content": f"use {SECRET}"}, {})


def test_metadata_too_and_counts_add_up(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    session = store.save_session(make_session())
    event = make_event(
        session,
        data={"content": f"{SECRET} {SECRET}", "password": "p"},
        metadata={"original": {"text": SECRET}, "_redacted": {"named": 2, "jwt": 1}},
    )
    given = event.to_dict()
    stored = store.append_event_with_sequence(event)
    assert event.to_dict() == given  # the caller's own is unchanged
    assert stored.metadata == {
        "original": {"text": PLACEHOLDER},
        "_redacted": {"anthropic": 3, "named": 3, "jwt": 1},
    }
    assert store.append_event_with_sequence(event) == stored
    copy = make_event(session, data=stored.data, metadata=stored.metadata)
    assert store.append_event_with_sequence(copy).metadata == stored.metadata


@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_stored_is_stored_again_as_it_is(kind: str, settings: Any) -> None:
    """The counts too, whatever the name of the kind."""
    settings.ASM_STORE_REDACTION = True
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    stored = store.append_event_with_sequence(make_event(session, data={"content": PLANTED[kind]}))
    assert stored.metadata["_redacted"]
    again = make_event(session, data=stored.data, metadata=stored.metadata)
    assert store.append_event_with_sequence(again).metadata == stored.metadata
    imported = make_event(session, metadata={"original": stored.metadata})
    assert store.append_event_with_sequence(imported).metadata == {"original": stored.metadata}


def test_an_event_may_be_too_large_when_redacted(settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    settings.ASM_STORE_MAX_EVENT_BYTES = 100
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    with pytest.raises(ValidationError, match="larger"):
        store.append_event(make_event(session, data={"password": ["x"] * 20}))


def test_what_an_agent_says(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    script = [
        {"type": "message_streamed", "data": {"content": f"I found {SECRET}"}},
        {"type": "message_received", "data": {"role": "assistant", "content": SECRET}},
        RuntimeError(f"refused {SECRET}"),
    ]
    with pytest.raises(Exception, match="refused"):
        SessionManager(store, ScriptedProvider(script)).run_once(f"My key is {SECRET}")
    [session] = store.list_sessions()
    lines = b"".join(store.iter_events_json(session.id))
    assert SECRET.encode() not in lines
    assert lines.count(PLACEHOLDER.encode()) >= 5


def test_runs_too(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    end = {
        "stop_reason": "end_turn",
        "output": {"content": f"It is {SECRET}.", "password": "p"},
        "provider_metadata": {"model": "m", "headers": {"Authorization": SECRET}},
    }
    manager = SessionManager(store, ScriptedProvider([{"type": "run_completed", "data": end}]))
    result = manager.run_once(f"Use {SECRET}")
    run = store.get_run(result.run_id)
    assert run.input == f"Use {PLACEHOLDER}"
    assert run.output == {"content": f"It is {PLACEHOLDER}.", "password": PLACEHOLDER}
    assert run.provider_metadata == {"model": "m", "headers": {"Authorization": PLACEHOLDER}}
    assert run.metadata["_redacted"]["anthropic"] >= 2
    assert store.save_run(run) == run

    failing = SessionManager(store, ScriptedProvider([RuntimeError(f"refused {SECRET}")]))
    with pytest.raises(ProviderError) as caught:
        failing.run_once("Hi")
    failed = store.get_run(str(caught.value.run_id))
    assert failed.error is not None
    assert failed.error["error_message"] == f"refused {PLACEHOLDER}"


def test_what_is_said_with_each_turn_counts_once(store: BaseSessionStore, settings: Any) -> None:
    """What a run's provider tells of itself is stored each time that more is known."""
    settings.ASM_STORE_REDACTION = True
    about = {"model": "m", "headers": {"x-key": SECRET}, SECRET: 1}
    turn = [{"type": "run_started", "data": about}, {"type": "turn_completed"}]
    new = {"type": "run_started", "data": {"headers": {"x-key": f"{SECRET} {SECRET}"}}}
    cases: list[tuple[list[Any], int]] = [([], 2), ([new], 4), ([RuntimeError("broken")], 2)]
    for end, count in cases:
        session = store.save_session(make_session())
        manager = SessionManager(store, ScriptedProvider([*turn, *turn, *turn, *end]))
        with suppress(ProviderError):
            manager.run_once("Hi", session_id=session.id)
        [run] = store.list_runs(session.id)
        assert run.metadata["_redacted"] == {"anthropic": count}
        assert run.provider_metadata.keys() == {"model", "headers", PLACEHOLDER}


def test_who_watches_a_run_sees_what_is_stored(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    delta = {"type": "message_streamed", "data": {"content": f"use {SECRET} \0"}}
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event.copied())
        event.data["content"] = "its own copy"

    manager = SessionManager(store, ScriptedProvider([delta, delta]))
    result = manager.run_once("Hi", event_callback=watch)
    own = [event for event in result.events if event.type == "message_streamed"]
    told = [event for event in seen if event.type == "message_streamed"]
    assert [(event.id, event.data, event.metadata) for event in told] == [
        (event.id, event.data, event.metadata) for event in own
    ]
    assert own[0].data == {"content": f"use {PLACEHOLDER} \u2400"}


def test_what_is_imported(using: str, settings: Any, tmp_path: Path) -> None:
    settings.ASM_STORE_REDACTION = True
    line = {
        "type": "user",
        "sessionId": "5d2b9f3e-0000-4000-8000-000000000001",
        "uuid": "5d2b9f3e-0000-4000-8000-000000000002",
        "timestamp": "2026-03-02T10:00:00.000Z",
        "message": {"role": "user", "content": f"use {SECRET}"},
    }
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    import_paths([tmp_path], using=using)
    store = DatabaseSessionStore(using)
    [session] = store.list_sessions()
    lines = b"".join(store.iter_events_json(session.id))
    assert PLACEHOLDER.encode() in lines
    assert SECRET.encode() not in lines


@pytest.mark.parametrize("value", [None, 1, "yes", []])
def test_the_setting_is_true_or_false(settings: Any, value: Any) -> None:
    settings.ASM_STORE_REDACTION = value
    with pytest.raises(ImproperlyConfigured, match="ASM_STORE_REDACTION"):
        conf.redaction()
