"""What is particular to one API, and how its provider is made."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import ProviderError
from asm_store.providers.anthropic import AnthropicProvider
from asm_store.providers.openai import OpenAIProvider
from asm_store.providers.tools import Tool
from asm_store.session_manager import RunResult, SessionManager
from tests.providers.api_server import ApiServer, Reply
from tests.providers.wires import AnthropicWire, OpenAIWire, Wire
from tests.session_manager.logs import only

only_anthropic = pytest.mark.parametrize("wire", [AnthropicWire], indirect=True)
only_openai = pytest.mark.parametrize("wire", [OpenAIWire], indirect=True)


def look(city: str) -> str:
    """Looks out of the window."""
    return f"rain in {city}"


def run(wire: Wire, api: ApiServer, **options: Any) -> RunResult:
    return SessionManager(InMemorySessionStore(), wire.provider(api, **options)).run_once("Hello")


def failure(wire: Wire, api: ApiServer) -> dict[str, Any]:
    store = InMemorySessionStore()
    with pytest.raises(ProviderError):
        SessionManager(store, wire.provider(api)).run_once("Hello")
    return only(store)[1].error or {}


@pytest.mark.parametrize("kind", [AnthropicProvider, OpenAIProvider])
def test_a_missing_package_is_named(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind.SDK, None)
    with pytest.raises(ImproperlyConfigured, match=rf"django-asm-store\[{kind.SDK}\]"):
        kind("a-model")


def test_a_client_is_async(wire: Wire, api: ApiServer) -> None:
    sdk = import_module(wire.provider_class.SDK)
    sync = getattr(sdk, wire.provider_class.CLIENT.removeprefix("Async"))
    with sync(api_key="key") as client, pytest.raises(TypeError, match=wire.provider_class.CLIENT):
        wire.provider_class(wire.model, client=client)


def test_a_client_of_an_event_loop_is_of_no_use_elsewhere(wire: Wire, api: ApiServer) -> None:
    provider = wire.provider_class(wire.model, client=wire.client(api))
    with pytest.raises(ProviderError, match="event loop") as caught:
        SessionManager(InMemorySessionStore(), provider).run_once("Hello")
    assert isinstance(caught.value.__cause__, ImproperlyConfigured)


def test_a_client_that_cannot_be_made(wire: Wire) -> None:
    def make() -> Any:
        raise OSError("no certificates")

    provider = wire.provider_class(wire.model, client=make)
    with pytest.raises(ProviderError, match="no certificates"):
        SessionManager(InMemorySessionStore(), provider).run_once("Hello")


def test_a_subclass_has_a_name_of_its_own(wire: Wire, api: ApiServer) -> None:
    kind: Any = type("Mine", (wire.provider_class,), {"name": "mine"})
    provider = kind(wire.model, client=lambda: wire.client(api))
    api.replies = [wire.said("Hi.")]
    store = InMemorySessionStore()
    SessionManager(store, provider).run_once("Hello")
    assert only(store)[1].provider == "mine"


def test_two_tools_have_two_names(wire: Wire, api: ApiServer) -> None:
    with pytest.raises(ValueError, match="two tools named 'look'"):
        wire.provider(api, tools=[look, Tool(print, "look", "", {"type": "object"})])


def test_the_schema_of_a_function(wire: Wire) -> None:
    tool = Tool.of(look)
    assert (tool.name, tool.description) == ("look", "Looks out of the window.")
    assert tool.schema["properties"]["city"]["type"] == "string"
    assert tool.schema["required"] == ["city"]


@only_anthropic
def test_thoughts_go_back_as_they_came(wire: AnthropicWire, api: ApiServer) -> None:
    """With their signature: the API refuses the answer to a call without them."""
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    first, *rest = wire.calls(("c1", "look", {"city": "Oslo"})).pieces
    deltas = [
        wire.event("content_block_start", index=0, content_block=thought),
        *(
            wire.event("content_block_delta", index=0, delta=delta)
            for delta in (
                {"type": "thinking_delta", "thinking": "Hm, "},
                {"type": "thinking_delta", "thinking": "Oslo."},
                {"type": "signature_delta", "signature": "c2lnbmVk"},
            )
        ),
        wire.event("content_block_stop", index=0),
    ]
    rest = [piece.replace(b'"index": 0', b'"index": 1') for piece in rest]
    api.replies = [Reply([first, *deltas, *rest]), wire.said("Rain.")]
    result = run(wire, api, tools=[look])
    assert result.output == {"content": "Rain."}
    assert api.requests[1]["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm, Oslo.", "signature": "c2lnbmVk"},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"city": "Oslo"}},
    ]


@only_anthropic
def test_a_paused_turn_goes_on(wire: AnthropicWire, api: ApiServer) -> None:
    pieces = wire.said("Searching.").pieces
    paused = [piece.replace(b'"end_turn"', b'"pause_turn"') for piece in pieces]
    api.replies = [Reply(paused), wire.said("Found.")]
    result = run(wire, api)
    assert result.output == {"content": "Found."}
    assert [message["role"] for message in api.requests[1]["messages"]] == ["user", "assistant"]


@only_anthropic
def test_a_failed_call_is_marked(wire: AnthropicWire, api: ApiServer) -> None:
    api.replies = [wire.calls(("c1", "nothing", {})), wire.said("Then not.")]
    run(wire, api)
    [result] = api.requests[1]["messages"][-1]["content"]
    assert result["is_error"] is True


@only_anthropic
def test_what_is_asked_for(wire: AnthropicWire, api: ApiServer) -> None:
    api.replies = [wire.said("Hi.")]
    run(wire, api, max_tokens=77)
    [request] = api.requests
    assert (request["model"], request["max_tokens"], request["stream"]) == (wire.model, 77, True)
    assert not {"system", "tools"} & set(request)


@only_openai
def test_a_server_that_takes_no_stream_options(wire: OpenAIWire, api: ApiServer) -> None:
    api.replies = [wire.said("Hi.")] * 2
    run(wire, api)
    run(wire, api, options={"stream_options": import_module("openai").omit})
    first, second = api.requests
    assert first["stream_options"] == {"include_usage": True}
    assert "stream_options" not in second


@only_openai
def test_a_refusal_is_no_answer(wire: OpenAIWire, api: ApiServer) -> None:
    pieces = wire.said("No, ", "sorry.").pieces
    api.replies = [Reply([piece.replace(b'"content": "', b'"refusal": "') for piece in pieces])]
    assert failure(wire, api)["error_code"] == "refusal"


@only_openai
@pytest.mark.parametrize(
    ("code", "expected"),
    [("insufficient_quota", "billing"), ("context_length_exceeded", "context_too_long")],
)
def test_codes_say_more_than_the_status(
    wire: OpenAIWire, api: ApiServer, code: str, expected: str
) -> None:
    problem = wire.problem(429, "invalid_request_error")
    told = json.loads(problem.pieces[0])
    told["error"]["code"] = code
    api.replies = [Reply([json.dumps(told).encode()], 429, problem.headers)]
    assert failure(wire, api)["error_code"] == expected


@only_openai
def test_a_call_whose_arguments_are_no_json(wire: OpenAIWire, api: ApiServer) -> None:
    pieces = wire.calls(("c1", "look", {"city": "Oslo"})).pieces
    api.replies = [
        Reply([piece.replace(b"Oslo", b"Oslo\\\\") for piece in pieces]),
        wire.said("Then not."),
    ]
    result = run(wire, api, tools=[look])
    [failed] = [event for event in result.events if event.type == "tool_call_failed"]
    assert "no JSON object" in failed.data["error_message"]
    _user, call, _result = wire.turns(api.requests[1])
    assert call == ("call", "c1", "look", {"input": '{"city": "Oslo\\"}'})


@only_openai
def test_a_server_that_only_speaks_like_it(wire: OpenAIWire, api: ApiServer) -> None:
    """No ids of calls, another end than theirs, and no counts."""
    *pieces, _usage, done = wire.calls(("c1", "look", {"city": "Oslo"})).pieces
    pieces = [
        piece.replace(b'"id": "c1", ', b"").replace(b'"tool_calls"}', b'"stop"}')
        for piece in pieces
    ]
    api.replies = [Reply([*pieces, done]), wire.said("Rain.")]
    result = run(wire, api, tools=[look])
    assert result.output == {"content": "Rain."}
    assert wire.turns(api.requests[1])[1:] == [
        ("call", "call_0", "look", {"city": "Oslo"}),
        ("result", "call_0", "rain in Oslo"),
    ]
    assert result.token_usage == wire.usage  # of the other answer


@only_openai
@pytest.mark.parametrize("index", [b"0", b"null"])
def test_calls_that_share_an_index(wire: OpenAIWire, api: ApiServer, index: bytes) -> None:
    calls = [("c1", "look", {"city": "Oslo"}), ("c2", "look", {"city": "Rome"})]
    pieces = [
        piece.replace(b'"tool_calls": [{"index": %d' % own, b'"tool_calls": [{"index": ' + index)
        for own in (0, 1)
        for piece in wire.calls(*calls).pieces
        if b'"tool_calls": [{"index": %d' % own in piece
    ]
    *_calls, end, usage, done = wire.calls(*calls).pieces
    api.replies = [Reply([*pieces, end, usage, done]), wire.said("Rain.")]
    run(wire, api, tools=[look])
    assert wire.turns(api.requests[1])[1:] == [
        ("call", "c1", "look", {"city": "Oslo"}),
        ("call", "c2", "look", {"city": "Rome"}),
        ("result", "c1", "rain in Oslo"),
        ("result", "c2", "rain in Rome"),
    ]


@only_openai
def test_a_name_that_comes_with_each_piece(wire: OpenAIWire, api: ApiServer) -> None:
    pieces = [
        piece.replace(b'"function": {"arguments"', b'"function": {"name": "look", "arguments"')
        for piece in wire.calls(("c1", "look", {"city": "Oslo"})).pieces
    ]
    api.replies = [Reply(pieces), wire.said("Rain.")]
    run(wire, api, tools=[look])
    assert wire.turns(api.requests[1])[1] == ("call", "c1", "look", {"city": "Oslo"})


@only_openai
def test_an_id_that_is_new_with_each_piece(wire: OpenAIWire, api: ApiServer) -> None:
    pieces = [
        piece.replace(b'"function": {"arguments"', b'"id": "x%d", "function": {"arguments"' % place)
        for place, piece in enumerate(wire.calls(("c1", "look", {"city": "Oslo"})).pieces)
    ]
    api.replies = [Reply(pieces), wire.said("Rain.")]
    run(wire, api, tools=[look])
    assert wire.turns(api.requests[1])[1] == ("call", "c1", "look", {"city": "Oslo"})


@only_openai
@pytest.mark.parametrize(
    ("name", "sent"), [("look out!", "look_out_"), ("l" * 99, "l" * 64), ("", "_")]
)
def test_a_name_that_the_model_made_up(
    wire: OpenAIWire, api: ApiServer, name: str, sent: str
) -> None:
    """The API would refuse it when it is sent back."""
    api.replies = [wire.calls(("c1", name, {})), wire.said("Then not.")]
    result = run(wire, api, tools=[look])
    assert result.output == {"content": "Then not."}
    assert wire.turns(api.requests[1])[1] == ("call", "c1", sent, {})


@only_openai
def test_null_is_nothing(wire: OpenAIWire, api: ApiServer) -> None:
    *pieces, _usage, done = wire.said("Hi.").pieces
    counts = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
    api.replies = [Reply([*pieces, wire.chunk(choices=None, usage=counts), done])]
    result = run(wire, api)
    assert result.output == {"content": "Hi."}
    assert set(result.token_usage.values()) == {0}


@only_openai
def test_an_end_that_is_told_twice(wire: OpenAIWire, api: ApiServer) -> None:
    *pieces, end, usage, done = wire.calls(("c1", "look", {"city": "Oslo"})).pieces
    again = end.replace(b'"tool_calls"}', b'"stop"}')
    api.replies = [Reply([*pieces, end, again, usage, done]), wire.said("Rain.")]
    result = run(wire, api, tools=[look])
    assert result.output == {"content": "Rain."}
    ends = [event.data for event in result.events if event.type == "turn_completed"]
    assert [end["stop_reason"] for end in ends] == ["tool_calls", "stop"]
    assert wire.turns(api.requests[1])[1:] == [
        ("call", "c1", "look", {"city": "Oslo"}),
        ("result", "c1", "rain in Oslo"),
    ]


@only_openai
def test_of_several_answers_the_first_counts(wire: OpenAIWire, api: ApiServer) -> None:
    *pieces, usage, done = wire.calls(("c1", "look", {"city": "Oslo"}), texts=["Hm."]).pieces
    other = [piece.replace(b'[{"index": 0', b'[{"index": 1', 1) for piece in pieces]
    api.replies = [Reply([*pieces, *other, usage, done]), wire.said("Rain.")]
    run(wire, api, tools=[look], options={"n": 2})
    assert wire.turns(api.requests[1])[1:] == [
        ("assistant", "Hm."),
        ("call", "c1", "look", {"city": "Oslo"}),
        ("result", "c1", "rain in Oslo"),
    ]


def test_reasoning_is_noted(wire: Wire, api: ApiServer) -> None:
    """It is among the tokens of the output: not counted twice."""
    api.replies = [wire.said("Hi.")]
    result = run(wire, api)
    [usage] = [event for event in result.events if event.type == "token_usage_updated"]
    assert usage.metadata["reasoning_tokens"] == 7
    assert "reasoning_tokens" not in result.token_usage
