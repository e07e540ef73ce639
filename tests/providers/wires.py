"""What the APIs of models send, byte by byte, and a provider that reads it by the real SDK."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

from asm_store.providers.anthropic import AnthropicProvider
from asm_store.providers.openai import OpenAIProvider
from asm_store.providers.tool_loop import ToolLoopProvider
from tests.providers.api_server import ApiServer, Reply, problem

# The id, the name and the arguments of a call.
Call = tuple[str, str, dict[str, Any]]


class Wire(ABC):
    """One API. Its answers count 100 tokens of input, 40 more cached, and 20 of output."""

    provider_class: ClassVar[type[ToolLoopProvider]]
    model: ClassVar[str]
    # What a good and a cut-off answer end with, and what the tools' caller ends with.
    ends: ClassVar[dict[str, str]]
    usage: ClassVar[dict[str, int]]
    # What is known of it when the answer has only begun.
    usage_at_first: ClassVar[dict[str, int]]

    def provider(self, server: ApiServer, *, max_retries: int = 0, **options: Any) -> Any:
        return self.provider_class(
            self.model, client=lambda: self.client(server, max_retries), **options
        )

    def client(self, server: ApiServer, max_retries: int = 0) -> Any:
        sdk = import_module(self.provider_class.SDK)
        address = server.address + self.path
        make = getattr(sdk, self.provider_class.CLIENT)
        return make(api_key="key", base_url=address, max_retries=max_retries)

    def said(self, *texts: str, end: str = "good") -> Reply:
        return Reply(self.pieces(texts, end=end))

    def calls(self, *calls: Call, texts: Sequence[str] = ()) -> Reply:
        return Reply(self.pieces(texts, calls, "calls"))

    def with_arguments(self, reply: Reply, old: str, new: str) -> Reply:
        """`reply` with other arguments of its call, which may be no JSON."""
        pieces = reply.pieces
        for before, after in zip(cut(old), (new, ""), strict=True):
            was, now = json.dumps(before).encode(), json.dumps(after).encode()
            pieces = [piece.replace(was, now) for piece in pieces]
        return Reply(pieces)

    def beginning(self, *texts: str) -> list[bytes]:
        """An answer that goes on."""
        return self.pieces(texts, end="")

    path = ""

    @abstractmethod
    def pieces(
        self, texts: Sequence[str], calls: Sequence[Call] = (), end: str = "good"
    ) -> list[bytes]:
        """Of an answer that ends so, or not at all."""

    @abstractmethod
    def problem(self, status: int, kind: str, **headers: str) -> Reply:
        """An error instead of an answer."""

    @abstractmethod
    def problem_in_stream(self, kind: str) -> bytes: ...

    @abstractmethod
    def turns(self, request: Any) -> list[Any]:
        """What a request tells of the conversation: (role, text), ("call", id, name, arguments)
        and ("result", id, text), in order.
        """


class AnthropicWire(Wire):
    provider_class = AnthropicProvider
    model = "claude-sonnet-5-5"
    ends = {
        "good": "end_turn", "calls": "tool_use", "long": "max_tokens", "refused": "refusal",
    }  # fmt: skip
    usage = {
        "input_tokens": 100, "output_tokens": 20,
        "cache_read_tokens": 30, "cache_creation_tokens": 10,
    }  # fmt: skip
    usage_at_first = {**usage, "output_tokens": 1}

    def pieces(
        self, texts: Sequence[str], calls: Sequence[Call] = (), end: str = "good"
    ) -> list[bytes]:
        usage = {
            "input_tokens": 100, "output_tokens": 1,
            "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10,
        }  # fmt: skip
        message: dict[str, Any] = {
            "id": "msg_01", "type": "message", "role": "assistant", "content": [],
            "model": f"{self.model}-20260301", "stop_reason": None, "stop_sequence": None,
            "usage": usage,
        }  # fmt: skip
        pieces = [self.event("message_start", message=message), self.event("ping")]
        if texts:
            pieces += self._block(0, {"type": "text", "text": ""}, "text_delta", "text", texts)
        if not end:
            return pieces[: -1 if texts else None]
        for index, (id, name, arguments) in enumerate(calls, bool(texts)):
            block = {"type": "tool_use", "id": id, "name": name, "input": {}}
            halves = cut(json.dumps(arguments))
            pieces += self._block(index, block, "input_json_delta", "partial_json", halves)
        delta = {"stop_reason": self.ends[end], "stop_sequence": None}
        counts = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}
        return [
            *pieces,
            self.event("message_delta", delta=delta, usage=counts),
            self.event("message_stop"),
        ]

    def _block(
        self, index: int, block: dict[str, Any], kind: str, key: str, deltas: Sequence[str]
    ) -> list[bytes]:
        return [
            self.event("content_block_start", index=index, content_block=block),
            *(
                self.event("content_block_delta", index=index, delta={"type": kind, key: delta})
                for delta in deltas
            ),
            self.event("content_block_stop", index=index),
        ]

    def event(self, type: str, **data: Any) -> bytes:
        return f"event: {type}\ndata: {json.dumps({'type': type, **data})}\n\n".encode()

    def problem(self, status: int, kind: str, **headers: str) -> Reply:
        error = {"type": kind, "message": f"It is a {kind}."}
        return problem(status, {"type": "error", "error": error}, request_id="req_01", **headers)

    def problem_in_stream(self, kind: str) -> bytes:
        return self.event("error", error={"type": kind, "message": f"It is a {kind}."})

    def turns(self, request: Any) -> list[Any]:
        system = [("system", request["system"])] if "system" in request else []
        roles = [message["role"] for message in request["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        return system + [
            self._turn(message["role"], block)
            for message in request["messages"]
            for block in message["content"]
        ]

    def _turn(self, role: str, block: dict[str, Any]) -> Any:
        if block["type"] == "tool_use":
            return "call", block["id"], block["name"], block["input"]
        if block["type"] == "tool_result":
            return "result", block["tool_use_id"], block["content"]
        return role, block["text"]


class OpenAIWire(Wire):
    provider_class = OpenAIProvider
    path = "/v1"
    model = "gpt-4o"
    ends = {"good": "stop", "calls": "tool_calls", "long": "length", "refused": "content_filter"}
    usage = {
        "input_tokens": 100, "output_tokens": 20,
        "cache_read_tokens": 40, "cache_creation_tokens": 0,
    }  # fmt: skip
    usage_at_first = {}

    def pieces(
        self, texts: Sequence[str], calls: Sequence[Call] = (), end: str = "good"
    ) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text} for text in texts]
        if not end:
            return [self._delta(delta) for delta in deltas]
        for index, (id, name, arguments) in enumerate(calls):
            deltas.append(_part(index, {"name": name, "arguments": ""}, id=id, type="function"))
            halves = cut(json.dumps(arguments))
            deltas += [_part(index, {"arguments": half}) for half in halves]
        usage = {
            "prompt_tokens": 140, "completion_tokens": 20, "total_tokens": 160,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 7},
        }  # fmt: skip
        return [
            *(self._delta(delta) for delta in deltas),
            self._delta({}, self.ends[end]),
            self.chunk(choices=[], usage=usage),
            b"data: [DONE]\n\n",
        ]

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self.chunk(choices=[choice], usage=None)

    def chunk(self, **data: Any) -> bytes:
        whole = {
            "id": "chatcmpl-01", "object": "chat.completion.chunk", "created": 1_764_000_000,
            "model": f"{self.model}-2024-08-06", **data,
        }  # fmt: skip
        return f"data: {json.dumps(whole)}\n\n".encode()

    def problem(self, status: int, kind: str, **headers: str) -> Reply:
        return problem(status, {"error": self._error(kind)}, x_request_id="req_01", **headers)

    def problem_in_stream(self, kind: str) -> bytes:
        return f"data: {json.dumps({'error': self._error(kind)})}\n\n".encode()

    def _error(self, kind: str) -> dict[str, Any]:
        return {"message": f"It is a {kind}.", "type": kind, "param": None, "code": None}

    def turns(self, request: Any) -> list[Any]:
        return [turn for message in request["messages"] for turn in self._turns(message)]

    def _turns(self, message: dict[str, Any]) -> Iterator[Any]:
        if message["role"] == "tool":
            yield "result", message["tool_call_id"], message["content"]
            return
        if message["content"] is not None:
            yield message["role"], message["content"]
        for call in message.get("tool_calls", ()):
            function = call["function"]
            yield "call", call["id"], function["name"], json.loads(function["arguments"])


def _part(index: int, function: dict[str, str], **data: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": function, **data}]}


def cut(text: str) -> tuple[str, str]:
    half = len(text) // 2
    return text[:half], text[half:]
