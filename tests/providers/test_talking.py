"""Whole runs with a model's API: what is asked, what is stored, and what it cost."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import ProviderError, RunTimeout
from asm_store.pricing import calculate_cost
from asm_store.providers.tools import Tool
from asm_store.session_manager import RunResult, SessionManager
from tests.cases import only_on
from tests.providers.api_server import ApiServer
from tests.providers.wires import Wire
from tests.session_manager.logs import only, types
from tests.waiting.waiters import until

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """What the weather will be."""
    if city == "Atlantis":
        raise LookupError("no such city")
    return {"city": city, "sky": "clear", "days": days}


async def time_in(city: str) -> str:
    return f"noon in {city}"


def data_of(store: BaseSessionStore, session_id: str, type: str) -> list[Any]:
    return [event.data for event in store.get_events(session_id, type=type)]


def test_an_answer_is_streamed_and_counted(
    store: BaseSessionStore, wire: Wire, api: ApiServer, run_once: Any
) -> None:
    api.replies = [wire.said("Good ", "morning.")]
    result = run_once(SessionManager(store, wire.provider(api, system="Be kind.")), "Hello")

    assert [event.type for event in result.events] == [
        "message_sent", "run_started", "message_streamed", "message_streamed", "message_received",
        "token_usage_updated", "turn_completed", "run_completed",
    ]  # fmt: skip
    assert result.output == {"content": "Good morning."}
    assert result.token_usage == wire.usage
    session, run = only(store)
    assert session.status == "completed"
    assert run.provider == wire.provider_class.name
    model = run.provider_metadata["model"]
    assert model.startswith(f"{wire.model}-20")
    assert run.provider_metadata["message_id"]
    assert run.turn_count == 1
    assert result.cost_usd == calculate_cost(wire.usage, run.provider, model)
    [end] = data_of(store, session.id, "run_completed")
    assert end["stop_reason"] == wire.ends["good"]
    assert not any("_validation_warnings" in event.metadata for event in result.events)
    assert wire.turns(api.requests[0]) == [("system", "Be kind."), ("user", "Hello")]


def test_prices_are_known(wire: Wire, api: ApiServer) -> None:
    pytest.importorskip("genai_prices", reason="genai-prices is missing")
    api.replies = [wire.said("Hi.")]
    result = SessionManager(InMemorySessionStore(), wire.provider(api)).run_once("Hello")
    assert result.cost_usd


def test_tools_are_called_until_the_model_is_done(
    store: BaseSessionStore, wire: Wire, api: ApiServer, run_once: Any
) -> None:
    api.replies = [
        wire.calls(
            ("c1", "weather", {"city": "Oslo", "days": 2}), ("c2", "time_in", {"city": "Oslo"}),
            texts=["Let me see."],
        ),
        wire.calls(("c3", "weather", {"city": "Bergen"})),
        wire.said("Clear."),
    ]  # fmt: skip
    result = run_once(
        SessionManager(store, wire.provider(api, tools=[weather, time_in])), "And in Oslo?"
    )
    assert result.output == {"content": "Clear."}
    assert result.token_usage == {name: 3 * count for name, count in wire.usage.items()}
    session, run = only(store)
    assert run.turn_count == 3
    turn = ["token_usage_updated", "turn_completed"]
    call = ["tool_call_started", "tool_call_completed"]
    said = ["message_streamed", "message_received", *turn]
    assert types(store, session.id)[4:-2] == [*said, *call, *call, *turn, *call, *said]
    assert data_of(store, session.id, "tool_call_started")[0] == {
        "tool_name": "weather", "tool_call_id": "c1", "tool_input": {"city": "Oslo", "days": 2},
    }  # fmt: skip
    assert data_of(store, session.id, "tool_call_completed")[1] == {
        "tool_name": "time_in", "tool_call_id": "c2", "tool_output": "noon in Oslo",
    }  # fmt: skip
    assert wire.turns(api.requests[-1]) == [
        ("user", "And in Oslo?"),
        ("assistant", "Let me see."),
        ("call", "c1", "weather", {"city": "Oslo", "days": 2}),
        ("call", "c2", "time_in", {"city": "Oslo"}),
        ("result", "c1", '{"city": "Oslo", "sky": "clear", "days": 2}'),
        ("result", "c2", "noon in Oslo"),
        ("call", "c3", "weather", {"city": "Bergen"}),
        ("result", "c3", '{"city": "Bergen", "sky": "clear", "days": 1}'),
    ]


def test_the_next_run_goes_on_from_the_last(
    store: BaseSessionStore, wire: Wire, api: ApiServer
) -> None:
    manager = SessionManager(store, wire.provider(api, tools=[weather]))
    session = manager.start_session()
    manager.activate_session(session.id)
    api.replies = [
        wire.calls(("c1", "weather", {"city": "Oslo"}), ("c2", "weather", {"city": "Atlantis"})),
        wire.said("Clear."),
        wire.said("You are ", "welcome."),
    ]
    manager.run_once("And in Oslo?", session_id=session.id)
    asked = {"messages": [{"role": "system", "content": "Be short."},
                          {"role": "user", "content": "Thanks."}]}  # fmt: skip
    result = manager.run_once(asked, session_id=session.id, continuation=True)

    assert result.output == {"content": "You are welcome."}
    turns = wire.turns(api.requests[-1])
    assert ("system", "Be short.") in turns
    turns.remove(("system", "Be short."))
    # A database may have the keys of an object in another order.
    turns[2] = (*turns[2][:2], json.loads(turns[2][2]))
    assert turns == [
        ("user", "And in Oslo?"),
        ("call", "c1", "weather", {"city": "Oslo"}),
        ("result", "c1", {"city": "Oslo", "sky": "clear", "days": 1}),
        ("call", "c2", "weather", {"city": "Atlantis"}),
        ("result", "c2", "LookupError: no such city"),
        ("assistant", "Clear."),
        ("user", "Thanks."),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("c1", "weather", {"city": "Atlantis"}), "LookupError: no such city"),
        (("c1", "weather", {"town": "Oslo"}), "validation error"),
        (("c1", "nothing", {}), "there is no tool 'nothing'"),
        (("c1", "opaque", {}), "not JSON serializable"),
        (("c1", "stopping", {}), "StopIteration"),
    ],
)
def test_a_tool_that_fails_is_told_to_the_model(
    wire: Wire, api: ApiServer, run_once: Any, call: Any, message: str
) -> None:
    def stopping() -> None:
        raise StopIteration

    store = InMemorySessionStore()
    tools = [weather, Tool(object, "opaque", "", {"type": "object"}), stopping]
    api.replies = [wire.calls(call), wire.said("Then not.")]
    result = run_once(SessionManager(store, wire.provider(api, tools=tools)), "Hello")
    assert result.output == {"content": "Then not."}
    [failed] = data_of(store, result.session_id, "tool_call_failed")
    assert message in failed["error_message"]
    assert (failed["tool_name"], failed["tool_call_id"]) == (call[1], "c1")
    assert wire.turns(api.requests[-1])[-1] == ("result", "c1", failed["error_message"])
    assert api.requests[-1]["messages"][-1]["content"]


def nan() -> float:
    return float("nan")


def huge() -> str:
    return "x" * 9_000_000


def nearly_huge() -> str:
    return "x" * (8 * 1024 * 1024 - 50)


def lengthy() -> None:
    raise ValueError("x" * 9_000_000 + "\ud800")


def broken() -> None:
    raise ValueError("half of a pair: \ud800")


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (nan, "nan"),
        (huge, "larger than"),
        (nearly_huge, "larger than"),
        (lengthy, "ValueError: xxx"),
        (broken, "half of a pair: \ufffd"),
    ],
)
def test_what_no_event_can_hold_is_a_failure_of_the_tool(
    wire: Wire, api: ApiServer, tool: Any, message: str
) -> None:
    store = InMemorySessionStore()
    api.replies = [wire.calls(("c1", tool.__name__, {})), wire.said("Then not.")]
    result = SessionManager(store, wire.provider(api, tools=[tool])).run_once("Hello")
    assert result.output == {"content": "Then not."}
    [failed] = data_of(store, result.session_id, "tool_call_failed")
    assert message in failed["error_message"]
    assert len(failed["error_message"]) <= 10_000
    assert wire.turns(api.requests[-1])[-1] == ("result", "c1", failed["error_message"])


def half() -> str:
    return "half of a pair: \ud800"


def test_what_is_replaced_in_a_result_is_told_the_model_as_it_is_stored(
    wire: Wire, api: ApiServer
) -> None:
    store = InMemorySessionStore()
    api.replies = [wire.calls(("c1", "half", {})), wire.said("Seen.")]
    result = SessionManager(store, wire.provider(api, tools=[half])).run_once("Hello")
    assert result.output == {"content": "Seen."}
    [event] = store.get_events(result.session_id, type="tool_call_completed")
    assert event.data["tool_output"] == "half of a pair: \ufffd"
    assert event.metadata["_sanitized"] == {"nul": 0, "surrogate": 1}
    assert wire.turns(api.requests[-1])[-1] == ("result", "c1", "half of a pair: \ufffd")


@pytest.mark.parametrize("city", ["NaN", "-Infinity", "1e400", "[" * 200 + "]" * 200])
def test_arguments_that_no_event_can_hold_are_a_failure(
    wire: Wire, api: ApiServer, city: str
) -> None:
    store = InMemorySessionStore()
    given = wire.calls(("c1", "time_in", {"city": 0.123456}))
    odd = wire.with_arguments(given, '{"city": 0.123456}', f'{{"city": {city}}}')
    api.replies = [odd, wire.said("Then not.")]
    result = SessionManager(store, wire.provider(api, tools=[time_in])).run_once("Hello")
    assert result.output == {"content": "Then not."}
    [failed] = data_of(store, result.session_id, "tool_call_failed")
    assert "no JSON object" in failed["error_message"]


@only_on("default")
def test_an_async_tool_of_a_sync_view_uses_the_orm(using: str, wire: Wire, api: ApiServer) -> None:
    """Under ASGI: the view keeps the thread busy in which its request's ORM runs."""
    used: list[Any] = []

    def connect() -> None:
        connections[using].ensure_connection()
        used.append(connections[using])

    async def look() -> str:
        await sync_to_async(connect)()
        return "seen"

    api.replies = [wire.calls(("c1", "look", {})), wire.said("Seen.")]
    manager = SessionManager(InMemorySessionStore(), wire.provider(api, tools=[look]))

    async def request() -> RunResult:
        async with ThreadSensitiveContext():
            return await sync_to_async(manager.run_once)("Hello", timeout=10)

    assert asyncio.run(request()).output == {"content": "Seen."}
    [opened] = used
    until(lambda: opened.connection is None, "the thread of the ORM closes what it has opened")


def test_no_process_waits_at_its_end_for_a_tool(wire: Wire, api: ApiServer, run_once: Any) -> None:
    """A thread that is no daemon is waited for, however long it blocks."""

    def look() -> bool:
        return threading.current_thread().daemon

    api.replies = [wire.calls(("c1", "look", {})), wire.said("Seen.")]
    run_once(SessionManager(InMemorySessionStore(), wire.provider(api, tools=[look])), "Hello")
    assert wire.turns(api.requests[1])[-1] == ("result", "c1", "true")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_tool_that_exits_ends_the_run(
    wire: Wire, api: ApiServer, error: type[BaseException]
) -> None:
    def leave() -> None:
        raise error

    api.replies = [wire.calls(("c1", "leave", {}))]
    store = InMemorySessionStore()
    with pytest.raises(ProviderError):
        SessionManager(store, wire.provider(api, tools=[leave])).run_once("Hello", timeout=10)
    assert only(store)[1].status == "failed"


def test_a_tool_that_blocks_does_not_hold_up_the_timeout(wire: Wire, api: ApiServer) -> None:
    """In the thread that Django's ORM runs in, where the end of the run is stored too."""
    has_ended = threading.Event()
    is_in_time: list[bool] = []

    def block() -> None:
        is_in_time.append(has_ended.wait(30))

    async def look() -> None:
        await sync_to_async(block)()

    class Store(InMemorySessionStore):
        def flush(self, *args: Any, **kwargs: Any) -> Any:
            has_ended.set()
            return super().flush(*args, **kwargs)

    api.replies = [wire.calls(("c1", "look", {})), wire.said("Seen.")]
    manager = SessionManager(Store(), wire.provider(api, tools=[look]))
    with pytest.raises(RunTimeout):
        asyncio.run(manager.arun_once("Hello", timeout=3))  # it is called before that
    assert is_in_time == [True]


class Clock:
    async def __call__(self, city: str) -> str:
        return await time_in(city)


@pytest.mark.parametrize("function", [Clock(), lambda **given: time_in(given["city"])])
def test_what_gives_an_awaitable_is_async(
    wire: Wire, api: ApiServer, run_once: Any, function: Any
) -> None:
    tool = Tool(function, "look", "Looks.", SCHEMA)
    api.replies = [wire.calls(("c1", "look", {"city": "Oslo"})), wire.said("Seen.")]
    run_once(SessionManager(InMemorySessionStore(), wire.provider(api, tools=[tool])), "Hello")
    assert wire.turns(api.requests[1])[-1] == ("result", "c1", "noon in Oslo")


def test_a_tool_with_a_schema_of_its_own(wire: Wire, api: ApiServer) -> None:
    given: list[Any] = []
    tool = Tool(lambda **arguments: given.append(arguments), "look", "Looks.", SCHEMA)
    api.replies = [wire.calls(("c1", "look", {"city": "Oslo"})), wire.said("Seen.")]
    SessionManager(InMemorySessionStore(), wire.provider(api, tools=[tool])).run_once("Hello")
    assert given == [{"city": "Oslo"}]
    [told] = api.requests[0]["tools"]
    assert SCHEMA in (told.get("input_schema"), told.get("function", {}).get("parameters"))
    assert wire.turns(api.requests[1])[-1] == ("result", "c1", "null")


def test_a_model_that_never_is_done(store: BaseSessionStore, wire: Wire, api: ApiServer) -> None:
    api.replies = [wire.calls((f"c{n}", "weather", {"city": "Oslo"})) for n in range(2)]
    provider = wire.provider(api, tools=[weather], max_turns=2)
    with pytest.raises(ProviderError, match="2 turns"):
        SessionManager(store, provider).run_once("Hello")
    _session, run = only(store)
    assert (run.error or {})["error_code"] == "max_turns"
    assert run.turn_count == 2
    assert len(api.requests) == 2


def test_options_and_retries_are_the_users(wire: Wire, api: ApiServer) -> None:
    """The SDK asks again by itself, and nothing is told twice."""
    store = InMemorySessionStore()
    busy = wire.problem(429, "rate_limit_error", retry_after_ms="1")
    api.replies = [busy, busy, wire.said("Good ", "morning.")]
    provider = wire.provider(api, max_retries=2, options={"extra_body": {"temperature": 0.5}})
    result = SessionManager(store, provider).run_once("Hello")
    assert result.output == {"content": "Good morning."}
    assert [request["temperature"] for request in api.requests] == [0.5] * 3
    assert types(store, result.session_id).count("message_streamed") == 2
    assert result.token_usage == wire.usage
