"""One call runs an agent: session, run, events, output, usage and cost, all stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from asm_store.backends.base import BaseSessionStore
from asm_store.exceptions import InvalidStatus, SessionDeleted, ValidationError
from asm_store.models import Event, Run, Session
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_event, make_session
from tests.session_manager.logs import types

HELLO = {"type": "message_received", "data": {"role": "assistant", "content": "Hello."}}
RATES = {"scripted": {"models": {"m": {"input": 1.0, "output": 10.0}}}}


@override_settings(ASM_STORE_PRICING=RATES)
def test_the_whole_life_of_a_run(store: BaseSessionStore, run_once: Any) -> None:
    script = [
        {"type": "run_started", "data": {"model": "m", "provider_session_id": "x1"}},
        {"type": "message_streamed", "data": {"content": "Hel"}},
        {"type": "message_streamed", "data": {"content": "lo."}},
        HELLO,
        {"type": "token_usage_updated", "data": {"input_tokens": 2, "output_tokens": 1}},
        {"type": "token_usage_updated", "data": {"input_tokens": 3, "output_tokens": 1}},
        {"type": "turn_completed"},
        {"type": "run_completed", "data": {"stop_reason": "end_turn"}},
    ]
    manager = SessionManager(store, ScriptedProvider(script))
    seen: list[Event] = []
    result = run_once(
        manager,
        "Hi",
        agent_id="greeter",
        context={"a": 1},
        tags=["t"],
        metadata={"m": 1},
        event_callback=seen.append,
    )

    session, run = store.get_session(result.session_id), store.get_run(result.run_id)
    assert (session.status, session.agent_id, session.tags) == ("completed", "greeter", ["t"])
    assert (session.context, session.metadata) == ({"a": 1}, {"m": 1})
    assert (run.status, run.provider, run.input, run.turn_count) == (
        *("completed", "scripted", "Hi", 1),
    )
    assert result.output == run.output == {"content": "Hello."}
    assert result.token_usage == run.token_usage == {"input_tokens": 5, "output_tokens": 2}
    assert result.cost_usd == run.cost_usd == 25.0
    assert run.provider_metadata == {"model": "m", "provider_session_id": "x1"}
    assert run.ended_at is not None
    assert run.error is None
    assert types(store, session.id) == [
        "session_created",
        "session_started",
        "message_sent",
        "run_started",
        "message_streamed",
        "message_streamed",
        "message_received",
        "token_usage_updated",
        "token_usage_updated",
        "turn_completed",
        "run_completed",
        "session_completed",
    ]
    assert result.events == store.get_events(session.id, run_id=run.id)
    assert [event.id for event in seen] == [event.id for event in result.events]
    assert {event.provider for event in result.events} == {"scripted"}
    assert result.events[-1].data == {"stop_reason": "end_turn"}
    assert result.events[0].data == {"role": "user", "content": "Hi"}
    assert not any("_validation_warnings" in event.metadata for event in result.events)


def test_nothing_at_all_is_an_empty_answer(store: BaseSessionStore, run_once: Any) -> None:
    result = run_once(SessionManager(store, ScriptedProvider([])), "Hi")
    assert (result.output, result.token_usage, result.cost_usd) == ({"content": ""}, {}, 0.0)
    assert types(store, result.session_id)[-2:] == ["run_completed", "session_completed"]
    assert store.get_session(result.session_id).agent_id == "scripted"


def test_what_run_completed_says_goes_before(store: BaseSessionStore) -> None:
    said = {
        "output": {"answer": 42},
        "token_usage": {"input_tokens": 7, "model": "no count"},
        "cost_usd": 0.25,
        "provider_metadata": {"model": "z"},
    }
    script = [
        {"type": "token_usage_updated", "data": {"input_tokens": 2, "output_tokens": 1}},
        {"type": "run_completed", "data": said, "metadata": {"mine": 1}},
        HELLO,  # after its own end: stored, before the end
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    run = store.get_run(result.run_id)
    assert (result.output, result.token_usage) == ({"answer": 42}, {"input_tokens": 7})
    assert (result.cost_usd, run.provider_metadata) == (0.25, {"model": "z"})
    assert [event.type for event in result.events[-2:]] == ["message_received", "run_completed"]
    end = result.events[-1]
    assert end.data == {"stop_reason": "completed", **said}
    assert end.metadata["mine"] == 1


def test_what_is_said_twice_is_merged(store: BaseSessionStore) -> None:
    script = [
        {"type": "run_completed", "data": {"output": {"a": 1}, "stop_reason": "one"}},
        {"type": "run_completed", "data": {"stop_reason": "two"}},
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert result.output == {"a": 1}
    assert result.events[-1].data == {"output": {"a": 1}, "stop_reason": "two"}


@pytest.mark.parametrize("totals", [{}, {"model": "m"}])
def test_totals_that_say_nothing_replace_nothing(store: BaseSessionStore, totals: Any) -> None:
    script = [
        {"type": "token_usage_updated", "data": {"input_tokens": 2, "output_tokens": 1}},
        {"type": "run_completed", "data": {"token_usage": totals}},
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert result.token_usage == {"input_tokens": 2, "output_tokens": 1}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_a_total_counts_what_did_not_tell_it_too(store: BaseSessionStore, order: Any) -> None:
    usages = [
        {"input_tokens": 2, "output_tokens": 1, "total_tokens": 30},
        {"input_tokens": 10, "output_tokens": 5},
        {"input_tokens": 100},
    ]
    script = [{"type": "token_usage_updated", "data": usages[number]} for number in order]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    expected = {"input_tokens": 112, "output_tokens": 6, "total_tokens": 145}
    assert result.token_usage == expected


def test_nonsense_in_run_completed_is_warned_of_and_ignored(store: BaseSessionStore) -> None:
    said = {"output": "text", "token_usage": 5, "cost_usd": -1, "provider_metadata": []}
    script = [HELLO, HELLO, {"type": "run_completed", "data": said}]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert result.output == {"content": "Hello.\nHello."}
    assert (result.token_usage, result.cost_usd) == ({}, 0.0)
    assert len(result.events[-1].metadata["_validation_warnings"]) == 5


def test_the_text_of_blocks(store: BaseSessionStore) -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "image"}, "odd", {"text": "b"}]
    script = [
        {"type": "message_received", "data": {"content": blocks}},
        {"type": "message_received"},
        {"type": "message_received", "data": None},
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert result.output == {"content": "ab\n\n"}


def test_unusual_shapes_are_stored_with_a_warning(store: BaseSessionStore) -> None:
    script = [
        {"type": "tool_call_started", "data": {"tool_name": 5, "tool_call_id": "c"}},
        {"type": "token_usage_updated", "data": {"input_tokens": "many", "output_tokens": 1}},
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    [started, usage] = result.events[2:-1]
    assert started.metadata == {
        "_validation_warnings": [
            "tool_input is missing.",
            "tool_name: expected a string, got 5.",
        ]
    }
    assert usage.metadata["_validation_warnings"] == [
        "input_tokens: expected a number >= 0, got 'many'."
    ]
    assert result.token_usage == {"output_tokens": 1}


@override_settings(ASM_STORE_PRICING=RATES)
def test_the_model_of_the_usage_is_the_runs(store: BaseSessionStore) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "model": "m"}
    script = [{"type": "token_usage_updated", "data": usage}]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    assert (result.token_usage, result.cost_usd) == ({"input_tokens": 1, "output_tokens": 1}, 11.0)


def test_messages_as_input(store: BaseSessionStore) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ["x"]}]
    result = SessionManager(store, ScriptedProvider([])).run_once({"messages": messages})
    assert [event.data for event in result.events[:2]] == messages
    assert store.get_run(result.run_id).input == {"messages": messages}


@pytest.mark.parametrize(
    "bad",
    [
        *(None, 5, [], {}, b"x"),
        *({"messages": []}, {"messages": "x"}, {"messages": [5]}, {"messages": [{}]}),
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": 1, "content": "x"}]},
    ],
)
def test_bad_input_stores_nothing(store: BaseSessionStore, bad: Any) -> None:
    with pytest.raises(ValidationError, match="input"):
        SessionManager(store, ScriptedProvider([])).run_once(bad)
    assert store.list_sessions() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timeout", -1), ("timeout", "1"), ("continuation", 1), ("event_callback", 5)),
        *(("tags", "x"), ("tags", 5), ("metadata", []), ("context", 5)),
        *(("agent_id", 5), ("session_id", "")),
    ],
)
def test_a_bad_argument_stores_nothing(store: BaseSessionStore, name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        SessionManager(store, ScriptedProvider([])).run_once("Hi", **{name: value})
    assert store.list_sessions() == []


def test_a_provider_is_one() -> None:
    with pytest.raises(TypeError, match="BaseProvider"):
        SessionManager(None, object())  # type: ignore[arg-type]
    for name in ("", None, 5):
        with pytest.raises(TypeError, match=r"ScriptedProvider\.name"):
            SessionManager(None, ScriptedProvider([], name=name))  # type: ignore[arg-type]


def test_a_given_id_makes_a_session_of_that_id(store: BaseSessionStore, run_once: Any) -> None:
    result = run_once(SessionManager(store, ScriptedProvider([])), "Hi", session_id="ses_mine")
    assert result.session_id == "ses_mine"
    assert store.get_session("ses_mine").status == "completed"


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        ("pending", "completed", "session_started"),
        ("paused", "completed", "session_resumed"),
        ("active", "active", None),
    ],
)
def test_a_stored_session(
    store: BaseSessionStore, before: str, after: str, step: str | None
) -> None:
    session = store.save_session(make_session(status=before))
    SessionManager(store, ScriptedProvider([])).run_once("Hi", session_id=session.id)
    assert store.get_session(session.id).status == after
    found = types(store, session.id)
    assert found[0] == (step or "message_sent")
    assert ("session_completed" in found) == (after == "completed")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_session_that_has_ended_takes_no_run(store: BaseSessionStore, status: str) -> None:
    session = store.save_session(make_session(status=status))
    with pytest.raises(InvalidStatus, match=status):
        SessionManager(store, ScriptedProvider([])).run_once("Hi", session_id=session.id)
    assert store.list_runs(session.id) == []
    assert store.get_latest_sequence(session.id) == 0


def test_a_soft_deleted_session_takes_no_run(store: BaseSessionStore) -> None:
    session = store.save_session(make_session())
    store.soft_delete_session(session.id)
    with pytest.raises(SessionDeleted):
        SessionManager(store, ScriptedProvider([])).run_once("Hi", session_id=session.id)
    assert store.get_session(session.id).status == "pending"


class Parrot(BaseProvider):
    """Tells the transcript that it was given."""

    name = "parrot"

    def execute(self, run: Run, session: Session, *, transcript: Any = None) -> Iterator[Any]:
        heard = None if transcript is None else [m["content"] for m in transcript.messages]
        yield {"type": "message_received", "data": {"role": "assistant", "content": str(heard)}}
        run.status = session.status = "failed"  # its own copies


def test_a_run_can_go_on_from_the_transcript(store: BaseSessionStore, run_once: Any) -> None:
    manager = SessionManager(store, Parrot())
    session = manager.start_session()
    manager.activate_session(session.id)
    one = run_once(manager, "one", session_id=session.id)
    two = run_once(manager, "two", session_id=session.id, continuation=True)
    three = run_once(manager, "three", session_id=session.id)
    assert one.output == three.output == {"content": "None"}
    assert two.output == {"content": "['one', 'None']"}
    assert store.get_session(session.id).status == "active"


def test_what_a_run_goes_on_from_is_limited(store: BaseSessionStore, run_once: Any) -> None:
    session = store.save_session(make_session(status="active"))
    manager = SessionManager(store, Parrot(), max_messages=3, max_chars=100, max_tokens=2)
    for text in ("one", "two"):
        run_once(manager, text, session_id=session.id)
    result = run_once(manager, "three", session_id=session.id, continuation=True)
    assert result.output == {"content": "['two', 'None']"}
    for limit in ({"max_messages": -1}, {"max_chars": "5"}, {"max_tokens": True}):
        with pytest.raises(ValidationError, match=next(iter(limit))):
            SessionManager(store, Parrot(), **limit)


def test_an_async_callback_of_a_sync_run_stores_nothing(store: BaseSessionStore) -> None:
    async def tell(event: Event) -> None:
        raise NotImplementedError

    class Teller:
        async def __call__(self, event: Event) -> None:
            raise NotImplementedError

    manager = SessionManager(store, ScriptedProvider([HELLO]))
    session = store.save_session(make_session(status="active"))
    run = manager.start_run(session.id, "Hi")
    for callback in (tell, partial(tell), Teller()):
        with pytest.raises(ValidationError, match="async"):
            manager.run_once("Hi", event_callback=callback)
        with pytest.raises(ValidationError, match="async"):
            manager.execute_run(run.id, event_callback=callback)
    assert len(store.list_sessions()) == 1
    assert store.get_run(run.id).status == "pending"


def test_events_are_stored_as_they_arrive(store: BaseSessionStore) -> None:
    """The callback sees each in the store already, but for a delta on its way."""
    script = [HELLO, {"type": "message_streamed", "data": {"content": "x"}}, HELLO]
    stored: list[bool] = []

    def look(event: Event) -> None:
        is_stored = event in store.get_events(event.session_id)
        stored.append(is_stored or event.type == "message_streamed")
        assert (event.sequence_number is None) == (event.type == "message_streamed")

    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi", event_callback=look)
    assert stored == [True] * len(result.events)


def test_an_event_given_twice_counts_once(store: BaseSessionStore) -> None:
    usage = {"id": "evt_u", "type": "token_usage_updated", "data": {"input_tokens": 1}}
    result = SessionManager(store, ScriptedProvider([usage, HELLO, usage])).run_once("Hi")
    assert result.token_usage == {"input_tokens": 1}
    assert [event.type for event in result.events].count("token_usage_updated") == 1


def test_what_a_provider_may_say_of_an_event(store: BaseSessionStore) -> None:
    moment = make_event("x").timestamp
    script = [
        {**HELLO, "id": "evt_mine", "timestamp": moment, "metadata": {"a": 1}},
        {**HELLO, "timestamp": moment.isoformat(), "correlation_id": "c"},
        Event(type="message_received", data={"role": "assistant", "content": "e"}),
        {"type": "session_paused"},  # no step of the provider's: merged
        {"type": "session_completed", "data": {"why": "done"}},
    ]
    result = SessionManager(store, ScriptedProvider(script)).run_once("Hi")
    first, second, third = result.events[2:-1]
    assert (first.id, first.timestamp, first.metadata) == ("evt_mine", moment, {"a": 1})
    assert (second.timestamp, second.correlation_id) == (moment, "c")
    assert (third.data["content"], third.provider, third.run_id) == ("e", "scripted", result.run_id)
    assert store.get_events(result.session_id)[-1].data == {"why": "done"}


def test_an_async_provider_and_an_async_callback(store: BaseSessionStore) -> None:
    class Native(Parrot):
        async def aexecute(self, run: Run, session: Session, *, transcript: Any = None) -> Any:
            await asyncio.sleep(0)
            yield HELLO
            yield HELLO

    seen: list[str] = []

    async def tell(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.type)

    manager = SessionManager(store, Native())
    result = async_to_sync(manager.arun_once)("Hi", event_callback=tell)
    assert seen == [event.type for event in result.events]
    assert seen.count("message_received") == 2
