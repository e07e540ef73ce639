"""Agents of pydantic-ai as providers: with the SDKs of real models, on a loopback server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import override_settings

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import RunTimeout
from asm_store.providers.background import background
from asm_store.session_manager import SessionManager
from tests.providers.api_server import ApiServer, Reply, problem
from tests.providers.pydantic_ai_runs import failed_run, told, types
from tests.providers.pydantic_ai_wire import (
    CLAUDE,
    OPENAI,
    anthropic_answer,
    openai_answer,
    openai_call,
    text,
    thinking,
    tool_use,
)
from tests.session_manager.logs import only

pytest.importorskip("pydantic_ai", reason="pydantic-ai is missing")

from pydantic_ai import Agent

from asm_store.providers.pydantic_ai import PydanticAIProvider

SECONDS = 30


def openai_agent(api: ApiServer, **options: Any) -> Agent[Any, Any]:
    """An agent with OpenAI's model, which asks a server once."""
    openai = pytest.importorskip("openai", reason="openai is missing")
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = openai.AsyncOpenAI(base_url=f"{api.address}/v1", api_key="k", max_retries=0)
    return Agent(
        OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=client)), **options
    )


def anthropic_agent(api: ApiServer, **options: Any) -> Agent[Any, Any]:
    anthropic = pytest.importorskip("anthropic", reason="anthropic is missing")
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = anthropic.AsyncAnthropic(base_url=api.address, api_key="k", max_retries=0)
    provider = AnthropicProvider(anthropic_client=client)
    return Agent(AnthropicModel("claude-sonnet-4-0", provider=provider), **options)


def answered(pieces: list[bytes], **options: Any) -> Reply:
    """The connection is closed after it: the loop of an async run ends with the run."""
    return Reply(pieces, headers={"connection": "close"}, **options)


def test_a_model_of_openai_calls_a_tool(store: BaseSessionStore, run_once: Any, api: Any) -> None:
    def weather(city: str) -> dict[str, int]:
        return {"degrees": len(city)}

    agent = openai_agent(api, system_prompt="Be brief.", tools=[weather])
    call = openai_call("call_1", "weather", '{"city": "Rome"}')
    api.replies = [
        answered(openai_answer(call, finish="tool_calls")),
        answered(openai_answer({"content": "It is "}, {"content": "4."})),
    ]
    result = run_once(SessionManager(store, PydanticAIProvider(agent)), "How warm is it?")

    names = {"tool_name": "weather", "tool_call_id": "call_1"}
    model = {"model": f"openai:{OPENAI}", "response_id": "chatcmpl-1"}
    usage = {
        "input_tokens": 60,
        "output_tokens": 5,
        "total_tokens": 105,
        "cache_read_tokens": 40,
        **model,
    }
    content = {"role": "assistant", "content": "It is 4."}
    totals = {"input_tokens": 120, "output_tokens": 10, "total_tokens": 210}
    assert told(store, result.run_id)[:-1] == [
        ("token_usage_updated", usage),
        ("tool_call_started", {**names, "tool_input": {"city": "Rome"}}),
        ("tool_call_completed", {**names, "tool_output": {"degrees": 4}}),
        ("turn_completed", {}),
        ("message_streamed", {"role": "assistant", "content": "It is "}),
        ("message_streamed", {"role": "assistant", "content": "4."}),
        ("message_received", content),
        ("token_usage_updated", usage),
        ("turn_completed", {}),
    ]
    assert result.events[-1].data["stop_reason"] == "stop"
    assert result.output == {"content": "It is 4."}
    assert result.token_usage == {**totals, "cache_read_tokens": 80}
    run = store.get_run(result.run_id)
    assert (run.provider, run.provider_metadata, run.turn_count) == ("pydantic_ai", model, 2)
    # Of a million tokens: 2.5 dollars, 1.25 from the cache, 10 for output.
    assert result.cost_usd == pytest.approx((120 * 2.5 + 80 * 1.25 + 10 * 10) / 1e6)
    [first, second] = api.requests
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert second["messages"][-1]["tool_call_id"] == "call_1"


def test_a_model_of_anthropic_thinks(store: BaseSessionStore, run_once: Any, api: Any) -> None:
    def weather(city: str) -> str:
        return "warm"

    agent = anthropic_agent(api, tools=[weather])
    api.replies = [
        answered(anthropic_answer(thinking("Hm", "m."), tool_use("t1", "weather", '{"city":"X"}'))),
        answered(anthropic_answer(text("Wa", "rm."))),
    ]
    manager = SessionManager(store, PydanticAIProvider(agent))
    session = manager.start_session()
    manager.activate_session(session.id)
    result = run_once(manager, "How warm is it?", session_id=session.id)

    thought = {"role": "assistant", "block_type": "thinking"}
    found = told(store, result.run_id)
    assert found[:2] == [
        ("message_streamed", {**thought, "content": "Hm"}),
        ("message_streamed", {**thought, "content": "m."}),
    ]
    assert [type for type, _ in found[2:]] == [
        *("token_usage_updated", "tool_call_started", "tool_call_completed", "turn_completed"),
        *("message_streamed", "message_streamed", "message_received"),
        *("token_usage_updated", "turn_completed", "run_completed"),
    ]
    assert result.token_usage == {
        "input_tokens": 20,
        "output_tokens": 14,
        "total_tokens": 234,
        "cache_read_tokens": 160,
        "cache_creation_tokens": 40,
    }
    run = store.get_run(result.run_id)
    assert run.provider_metadata["model"] == f"anthropic:{CLAUDE}"
    cost = (20 * 3 + 160 * 0.3 + 40 * 3.75 + 14 * 15) / 1e6
    assert result.cost_usd == pytest.approx(cost)

    api.replies = [answered(anthropic_answer(text("Yes.")))]
    run_once(manager, "Sure?", session_id=session.id, continuation=True)
    said = api.requests[-1]["messages"]
    assert [message["role"] for message in said] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert [block["type"] for block in said[1]["content"]] == ["tool_use"]  # no thought
    assert [block["type"] for block in said[2]["content"]] == ["tool_result"]
    assert said[1]["content"][0]["id"] == said[2]["content"][0]["tool_use_id"]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (429, "rate_limit", "ModelRateLimitError"),
        (401, "authentication", "ModelAuthenticationError"),
        (500, "server_error", "ModelServerError"),
        (400, "invalid_request", "ModelRequestRejectedError"),
    ],
)
def test_what_the_api_refuses(
    store: BaseSessionStore, run_once: Any, api: Any, status: int, code: str, error: str
) -> None:
    body = {"error": {"message": "no", "type": "t", "code": None}}
    api.replies = [problem(status, body, connection="close")]
    run = failed_run(store, run_once, PydanticAIProvider(openai_agent(api)), error)
    assert run.error is not None
    assert (run.error["error_code"], run.error["status_code"]) == (code, status)
    assert run.error["error_type"] == error
    assert types(store, run) == ["error_occurred", "run_failed"]
    assert run.provider_metadata == {"model": "openai:gpt-4o"}


def test_a_stream_that_is_cut(store: BaseSessionStore, run_once: Any, api: Any) -> None:
    api.replies = [answered(openai_answer({"content": "It is "})[:2], end="cut")]
    run = failed_run(store, run_once, PydanticAIProvider(openai_agent(api)), "ModelConnectionError")
    assert run.error is not None
    assert run.error["error_code"] == "connection_error"
    assert types(store, run) == ["message_streamed", "error_occurred", "run_failed"]


def test_what_a_failed_run_has_used_is_kept(
    store: BaseSessionStore, run_once: Any, api: Any
) -> None:
    def weather() -> str:
        raise LookupError("no such city")

    agent = openai_agent(api, tools=[weather])
    api.replies = [answered(openai_answer(openai_call("c1", "weather", "{}"), finish="tool_calls"))]
    run = failed_run(store, run_once, PydanticAIProvider(agent), "LookupError")
    assert run.token_usage["total_tokens"] == 105
    assert run.cost_usd == pytest.approx((60 * 2.5 + 40 * 1.25 + 5 * 10) / 1e6)
    assert (run.error or {})["error_message"] == "no such city"
    found = told(store, run.id)
    assert found[2] == (
        "tool_call_failed",
        {"tool_name": "weather", "tool_call_id": "c1", "error_message": "no such city"},
    )


def test_a_stop_closes_the_connection(store: BaseSessionStore, run_once: Any, api: Any) -> None:
    api.replies = [answered(openai_answer({"content": "It is "})[:2], end="hang")]
    begin = time.monotonic()
    with pytest.raises(RunTimeout):
        run_once(SessionManager(store, PydanticAIProvider(openai_agent(api))), "Hi", timeout=3)
    assert time.monotonic() - begin < 8  # the server hangs on
    assert api.is_left.wait(SECONDS)
    _session, run = only(store)
    assert types(store, run) == ["message_streamed", "run_timeout"]


def test_connections_are_kept_over_sync_runs(api: Any) -> None:
    agent: Any = openai_agent(api)
    manager = SessionManager(InMemorySessionStore(), PydanticAIProvider(agent))
    api.replies = [Reply(openai_answer({"content": "4."})) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(manager.run_once, "Hi") for _ in range(8)]
    assert [result.result().output for result in results] == [{"content": "4."}] * 8
    background.run(agent.model.client.close())


def test_rates_of_ones_own_go_before(api: Any) -> None:
    store = InMemorySessionStore()
    api.replies = [answered(openai_answer({"content": "4."}))]
    one = {"input": 1, "output": 2, "cache_read": 0}
    with override_settings(ASM_STORE_PRICING={"openai": {"models": {"gpt-4o": one}}}):
        result = SessionManager(store, PydanticAIProvider(openai_agent(api))).run_once("Hi")
    assert result.cost_usd == 60 + 2 * 5
