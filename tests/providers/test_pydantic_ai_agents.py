"""Agents of pydantic-ai as providers: with its own models for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import ProviderError
from asm_store.models import Run
from asm_store.session_manager import SessionManager
from asm_store.test import make_event, make_session
from asm_store.transcripts import build
from tests.providers.pydantic_ai_runs import failed_run, told, types

pytest.importorskip("pydantic_ai", reason="pydantic-ai is missing")

from pydantic_ai import Agent, ModelRetry, RunContext, UsageLimits
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from asm_store.providers.pydantic_ai import PydanticAIProvider
from asm_store.providers.pydantic_ai.history import prompt_and_history


@dataclass
class Place:
    city: str
    at: datetime


def test_a_structured_output(store: BaseSessionStore, run_once: Any) -> None:
    arguments = {"city": "Rome", "at": "2026-01-02T03:04:05Z"}
    agent = Agent(TestModel(custom_output_args=arguments), output_type=Place)
    result = run_once(SessionManager(store, PydanticAIProvider(agent)), "Where?")
    assert result.output == arguments
    assert types(store, store.get_run(result.run_id)) == [
        *("token_usage_updated", "tool_call_started", "tool_call_completed", "turn_completed"),
        "run_completed",
    ]


@pytest.mark.parametrize("option", ["usage", "message_history", "user_prompt"])
def test_what_belongs_to_one_run_is_no_option(option: str) -> None:
    """A usage that all runs share would count each of them with those before it."""
    with pytest.raises(TypeError, match=f"{option}: belongs to one run"):
        PydanticAIProvider(Agent(TestModel()), **{option: None})


@pytest.mark.parametrize(
    ("kind", "arguments", "output"),
    [(int, 7, {"content": 7}), (dict[str, int], {"a": 1}, {"a": 1})],
)
def test_an_output_is_a_mapping(kind: Any, arguments: Any, output: Any) -> None:
    agent = Agent(TestModel(custom_output_args=arguments), output_type=kind)
    manager = SessionManager(InMemorySessionStore(), PydanticAIProvider(agent))
    assert manager.run_once("Hi").output == output


def calling(*names: str, then: str = "done") -> FunctionModel:
    """A model that calls a tool in each of its first answers."""

    async def stream(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        turn = sum(message.kind == "response" for message in messages)
        if turn < len(names):
            yield {0: DeltaToolCall(names[turn], '{"number": 3}', tool_call_id=f"c{turn}")}
        else:
            yield then

    return FunctionModel(stream_function=stream)


def test_tools_that_fail_are_tried_again(store: BaseSessionStore, run_once: Any) -> None:
    def odd(ctx: RunContext[Any], number: int) -> int:
        if not ctx.retry:
            raise ModelRetry("once more")
        return number

    model = calling("unknown", "odd", "odd", then="3")
    agent: Any = Agent(model, tools=[odd], retries=2)
    result = run_once(SessionManager(store, PydanticAIProvider(agent)), "Hi")
    calls = [(type, data) for type, data in told(store, result.run_id) if "tool" in type]
    assert [type for type, _ in calls] == [
        *("tool_call_started", "tool_call_failed"),
        *("tool_call_started", "tool_call_failed"),
        *("tool_call_started", "tool_call_completed"),
    ]
    assert "unknown" in calls[1][1]["error_message"].lower()
    assert calls[3][1]["error_message"] == "once more"
    assert calls[3][1]["outcome"] == "retried"
    assert calls[5][1]["tool_output"] == 3
    assert result.output == {"content": "3"}
    assert store.get_run(result.run_id).turn_count == 4


def test_a_tool_that_stays_unknown(store: BaseSessionStore, run_once: Any) -> None:
    agent: Any = Agent(calling("unknown", "unknown"))
    run = failed_run(store, run_once, PydanticAIProvider(agent), "UnexpectedModelBehavior")
    assert (run.error or {})["error_code"] == "unexpected_model_behavior"
    assert types(store, run)[-5:] == [
        *("token_usage_updated", "tool_call_started", "tool_call_failed"),
        *("error_occurred", "run_failed"),
    ]


def test_limits_of_usage(store: BaseSessionStore, run_once: Any) -> None:
    def odd(number: int) -> int:
        return number

    agent: Any = Agent(calling("odd", "odd"), tools=[odd])
    provider = PydanticAIProvider(agent, usage_limits=UsageLimits(request_limit=1))
    run = failed_run(store, run_once, provider, "UsageLimitExceeded")
    assert (run.error or {})["error_code"] == "usage_limit_exceeded"
    assert "tool_call_completed" in types(store, run)
    assert run.turn_count == 0
    assert run.token_usage["output_tokens"] > 0


def test_dependencies_are_made_for_each_run(run_once: Any) -> None:
    def who(ctx: RunContext[Any]) -> str:
        return str(ctx.deps)

    async def deps(run: Run, session: Any) -> str:
        return f"{session.agent_id} {run.input}"

    agent: Any = Agent(TestModel(), tools=[who])
    store = InMemorySessionStore()
    for made in ("Ada Hi", deps, lambda run, session: f"{session.agent_id} {run.input}"):
        manager = SessionManager(store, PydanticAIProvider(agent, deps=made, name="mine"))
        result = run_once(manager, "Hi", agent_id="Ada")
        assert result.output == {"content": '{"who":"Ada Hi"}'}
        assert store.get_run(result.run_id).provider == "mine"


def test_messages_as_input_and_a_system_prompt(run_once: Any) -> None:
    seen: list[Any] = []

    async def stream(messages: list[Any], info: AgentInfo) -> AsyncIterator[str]:
        seen.append([(part.part_kind, part.content) for m in messages for part in m.parts])
        yield "yes"

    agent: Any = Agent(FunctionModel(stream_function=stream), system_prompt="Be brief.")
    manager = SessionManager(InMemorySessionStore(), PydanticAIProvider(agent))
    said = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "Two?"}]},
        {"role": "user", "content": "Three?"},
    ]
    run_once(manager, {"messages": said})
    assert seen == [
        [
            ("system-prompt", "Be brief."),
            ("user-prompt", "One?"),
            ("text", "1"),
            ("user-prompt", ["Two?", "Three?"]),
        ]
    ]
    with pytest.raises(ProviderError, match="video"):
        run_once(manager, {"messages": [{"role": "user", "content": [{"type": "video"}]}]})


def test_parallel_calls_are_continued_in_pairs() -> None:
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    names = {"tool_name": "f"}
    parts: list[tuple[str, dict[str, Any]]] = [
        ("message_sent", {"role": "user", "content": "Hi"}),
        ("tool_call_started", {**names, "tool_call_id": "a", "tool_input": {}}),
        ("tool_call_started", {**names, "tool_call_id": "b", "tool_input": {}}),
        ("tool_call_completed", {**names, "tool_call_id": "b", "tool_output": {"x": 2}}),
        ("tool_call_completed", {**names, "tool_call_id": "a", "tool_output": 1}),
        ("message_received", {"role": "assistant", "content": "3"}),
    ]
    store.append_events(make_event(session, type=type, data=data) for type, data in parts)
    history: Any = prompt_and_history("More", build(store, session.id))[1]
    assert [[part.part_kind for part in message.parts] for message in history] == [
        ["user-prompt"],
        ["tool-call", "tool-call"],
        ["tool-return", "tool-return"],
        ["text"],
    ]
    calls = {part.tool_call_id for part in history[1].parts}
    assert {part.tool_call_id: part.content for part in history[2].parts} == {"a": 1, "b": {"x": 2}}
    assert calls == {"a", "b"}
