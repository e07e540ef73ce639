"""Models that speak OpenAI's Chat Completions, by the official SDK: docs/providers.md."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from .conversations import Call, Called, Item, Said, text_of, tool_name
from .tool_loop import Answer, ToolLoopProvider, Yield, count_in, output_text

__all__ = ["OpenAIProvider"]


class OpenAIProvider(ToolLoopProvider):
    """Executes runs with a model of OpenAI's, or of a server that speaks Chat Completions."""

    name = "openai"
    SDK = "openai"
    CLIENT = "AsyncOpenAI"

    def _request(self, items: list[Item]) -> dict[str, Any]:
        own = [Said("system", self.system)] if self.system else []
        tools = [
            {"name": tool.name, "description": tool.description, "parameters": tool.schema}
            for tool in self.tools.values()
        ]
        functions = [{"type": "function", "function": tool} for tool in tools]
        return {
            "model": self.model,
            "messages": _messages([*own, *items]),
            "stream_options": {"include_usage": True},
            **({"tools": functions} if functions else {}),
            **self.options,
        }

    @asynccontextmanager
    async def _open(self, client: Any, request: Mapping[str, Any]) -> AsyncIterator[Any]:
        async with await client.chat.completions.create(stream=True, **request) as chunks:
            yield chunks

    def _new_answer(self) -> CompletionAnswer:
        return CompletionAnswer(self.model)

    def _continue(self, messages: list[Any], answer: CompletionAnswer) -> None:
        if answer.text:
            messages.append({"role": "assistant", "content": answer.text})
        _add_calls(messages, answer.calls)


class CompletionAnswer(Answer):
    """Put together of chunks: a call comes in pieces, which its index keeps together.

    Some servers give all calls the same index, or none: then a new id begins another.
    """

    BAD_ENDS = {"length": "max_tokens", "content_filter": "refusal", "refusal": "refusal"}

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._calls: dict[int, list[Call]] = {}
        self._is_refusal = False

    def take(self, chunk: Any) -> Iterator[Yield]:
        if chunk.id and not self.id:
            yield from self.begin(chunk.id, chunk.model)
        if chunk.usage is not None:
            self._count(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index:
                continue  # of several answers, which `options` may ask for, the first counts
            if choice.delta is not None:
                yield from self._take_delta(choice.delta)
            if choice.finish_reason:
                self._finish(choice.finish_reason)

    def _take_delta(self, delta: Any) -> Iterator[Yield]:
        for part in delta.tool_calls or ():
            name = (part.function and part.function.name) or ""
            call = self._call_of(part.index or 0, part.id or "", name)
            # One that is repeated with each piece is whole.
            call.name += name if name != call.name else ""
            call.input += (part.function and part.function.arguments) or ""
        if text := delta.content or delta.refusal:
            self._is_refusal |= not delta.content
            yield from self.add_text(text)

    def _call_of(self, index: int, id: str, name: str) -> Call:
        """The call that a piece belongs to; an id without a name is new with each piece of some."""
        calls = self._calls.setdefault(index, [])
        unnamed = f"call_{index}"
        if not calls or (id and name and calls[-1].id not in (id, unnamed)):
            calls.append(Call(id or unnamed, "", ""))
        call = calls[-1]
        call.id = id if call.id == unnamed and id else call.id
        return call

    def _finish(self, reason: str) -> None:
        """Some servers say it twice, or have more to tell after it: the first reason stays."""
        self.stop_reason = "refusal" if self._is_refusal else self.stop_reason or reason
        self.is_whole = True
        calls = [call for index in sorted(self._calls) for call in self._calls[index]]
        self.calls = [replace(call, input=_arguments(call.input)) for call in calls]

    def _count(self, usage: Any) -> None:
        """Theirs count cached tokens among the others."""
        cached = count_in(usage.prompt_tokens_details, "cached_tokens")
        written = count_in(usage.prompt_tokens_details, "cache_write_tokens")
        self.usage = {
            "input_tokens": max(0, (usage.prompt_tokens or 0) - cached - written),
            "output_tokens": usage.completion_tokens or 0,
            "cache_read_tokens": cached,
            "cache_creation_tokens": written,
        }
        if thought := count_in(usage.completion_tokens_details, "reasoning_tokens"):
            self.usage_details["reasoning_tokens"] = thought


def _arguments(text: str) -> Any:
    """As JSON; a text that is none is for the tool to refuse."""
    try:
        return json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _messages(items: list[Item]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, Called):
            _add_calls(messages, item.calls)
        elif item.role in {"system", "assistant"}:
            messages.append({"role": item.role, "content": text_of(item.content)})
        else:
            is_given = isinstance(item.content, str | list)
            content = item.content if is_given else text_of(item.content)
            messages.append({"role": "user", "content": content})
    return messages


def _add_calls(messages: list[dict[str, Any]], calls: list[Call]) -> None:
    """The calls belong to the assistant's latest message, when that is the latest of all."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or "tool_calls" in last:
        messages.append(last := {"role": "assistant", "content": None})
    last["tool_calls"] = [_call(call) for call in calls]
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": output_text(call)} for call in calls
    ]


def _call(call: Call) -> dict[str, Any]:
    # Servers refuse what is no JSON object.
    value = call.input if isinstance(call.input, dict) else {"input": call.input}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": tool_name(call.name), "arguments": json.dumps(value)},
    }
