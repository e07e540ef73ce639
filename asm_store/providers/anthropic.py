"""Claude, by the Messages API and the official SDK: docs/providers.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from .conversations import Call, Called, Item, Said, text_of
from .tool_loop import Answer, ToolLoopProvider, Yield, count_in, output_text

__all__ = ["AnthropicProvider"]

_COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_creation_tokens",
}
# The first message is the user's.
_BEFORE = "(The conversation began earlier.)"


class AnthropicProvider(ToolLoopProvider):
    """Executes runs with a model of Anthropic's; `max_tokens` bounds each answer of it.

    The other arguments are those of `ToolLoopProvider`.
    """

    name = "anthropic"
    SDK = "anthropic"
    CLIENT = "AsyncAnthropic"

    def __init__(self, model: str, *, max_tokens: int = 8192, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self.max_tokens = max_tokens

    def _request(self, items: list[Item]) -> dict[str, Any]:
        said = [
            text_of(item.content)
            for item in items
            if isinstance(item, Said) and item.role == "system"
        ]
        system = "\n\n".join(text for text in [self.system or "", *said] if text.strip())
        tools = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in self.tools.values()
        ]
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "messages": _messages(items),
            **({"system": system} if system else {}),
            **({"tools": tools} if tools else {}),
            **self.options,
        }

    def _open(self, client: Any, request: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
        opened: AbstractAsyncContextManager[Any] = client.messages.stream(**request)
        return opened

    def _new_answer(self) -> MessageAnswer:
        return MessageAnswer(self.model)

    def _continue(self, messages: list[Any], answer: MessageAnswer) -> None:
        inputs = {call.id: _call(call)["input"] for call in answer.calls}
        blocks = [
            {**block, "input": inputs[block["id"]]} if block["type"] == "tool_use" else block
            for block in answer.blocks
        ]
        _add(messages, "assistant", blocks)
        _add(messages, "user", [_result(call) for call in answer.calls])


class MessageAnswer(Answer):
    """The SDK has put the blocks together."""

    BAD_ENDS = {
        "max_tokens": "max_tokens",
        "model_context_window_exceeded": "context_too_long",
        "refusal": "refusal",
    }

    def __init__(self, model: str) -> None:
        super().__init__(model)
        # As they came, thoughts with their signatures too: the API wants them back.
        self.blocks: list[dict[str, Any]] = []

    @property
    def is_final(self) -> bool:
        return super().is_final and self.stop_reason != "pause_turn"

    def take(self, chunk: Any) -> Iterator[Yield]:
        if chunk.type == "message_start":
            self._count(chunk.message.usage)
            yield from self.begin(chunk.message.id, chunk.message.model)
        elif chunk.type == "text":
            yield from self.add_text(chunk.text)
        elif chunk.type == "content_block_stop":
            self._add(chunk.content_block)
        elif chunk.type == "message_delta":
            self.stop_reason = chunk.delta.stop_reason or ""
            self._count(chunk.usage)
        elif chunk.type == "message_stop":
            self.is_whole = True

    def _add(self, block: Any) -> None:
        self.blocks.append(block.to_dict())
        if block.type == "tool_use":
            self.calls.append(Call(block.id, block.name, block.input))

    def _count(self, usage: Any) -> None:
        """Counts are of the whole answer: the latest are right, and some are not told again."""
        for theirs, ours in _COUNTS.items():
            if (count := getattr(usage, theirs, None)) is not None:
                self.usage[ours] = count
        details = getattr(usage, "output_tokens_details", None)
        if thought := count_in(details, "thinking_tokens"):
            self.usage_details["reasoning_tokens"] = thought


def _messages(items: list[Item]) -> list[dict[str, Any]]:
    """The conversation in turns: the user's and the assistant's alternate."""
    messages: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, Called):
            _add(messages, "assistant", [_call(call) for call in item.calls])
            _add(messages, "user", [_result(call) for call in item.calls])
        elif item.role != "system":
            _add(messages, "assistant" if item.role == "assistant" else "user", _blocks(item))
    if messages and messages[0]["role"] == "assistant":
        messages.insert(0, {"role": "user", "content": [_text(_BEFORE)]})
    return messages


def _add(messages: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    elif blocks:
        messages.append({"role": role, "content": list(blocks)})


def _blocks(said: Said) -> list[dict[str, Any]]:
    """Blocks of the user's as they are; an empty text is none."""
    content = said.content
    is_of_blocks = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    if is_of_blocks and said.role != "assistant":
        return list(content)
    text = text_of(content)
    return [_text(text)] if text.strip() else []


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _call(call: Call) -> dict[str, Any]:
    value = call.input if isinstance(call.input, dict) else {"input": call.input}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": value}


def _result(call: Call) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call.id, "content": output_text(call)}
    return {**block, "is_error": True} if call.is_error else block
