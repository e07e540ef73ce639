"""What was said, as pydantic-ai's agents take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_ai import messages as ai

from ...exceptions import ValidationError
from ..conversations import Call, Called, Item, Said, conversation, text_of

if TYPE_CHECKING:
    from ...transcripts import Transcript

Prompt: TypeAlias = str | list[ai.UserContent] | None


def prompt_and_history(
    input: Any, transcript: Transcript | None
) -> tuple[Prompt, list[ai.ModelMessage]]:
    """What the user says last, and all that was said before."""
    items = conversation(input, transcript)
    asked: list[Said] = []
    while items and isinstance(last := items[-1], Said) and last.role == "user":
        asked.insert(0, last)
        items.pop()
    contents = [_content(said.content) for said in asked]
    prompt = contents[0] if len(contents) == 1 else list(chain(*map(_blocks, contents))) or None
    return prompt, _messages(items)


def _messages(items: Iterable[Item]) -> list[ai.ModelMessage]:
    """Requests and responses, which alternate."""
    messages: list[tuple[bool, list[Any]]] = []
    for is_response, part in chain(*map(_parts, items)):
        if not messages or messages[-1][0] is not is_response:
            messages.append((is_response, []))
        messages[-1][1].append(part)
    return [
        ai.ModelResponse(parts) if is_response else ai.ModelRequest(parts)
        for is_response, parts in messages
    ]


def _parts(item: Item) -> Iterator[tuple[bool, Any]]:
    """The parts that an item consists of, and whether each belongs to a response."""
    if isinstance(item, Called):
        yield from ((True, _call(call)) for call in item.calls)
        yield from ((False, _result(call)) for call in item.calls)
    elif item.role == "system":
        yield False, ai.SystemPromptPart(text_of(item.content))
    elif item.role == "user":
        yield False, ai.UserPromptPart(_content(item.content))
    elif text := text_of(item.content):
        yield True, ai.TextPart(text)


def _call(call: Call) -> ai.ToolCallPart:
    arguments = call.input if isinstance(call.input, dict) else {"input": call.input}
    return ai.ToolCallPart(call.name, arguments, call.id)


def _result(call: Call) -> ai.ToolReturnPart:
    return ai.ToolReturnPart(
        call.name, call.output, call.id, outcome="failed" if call.is_error else "success"
    )


def _content(content: Any) -> str | list[ai.UserContent]:
    """What a user says: text, or blocks of text and images."""
    return [_block(block) for block in content] if isinstance(content, list) else text_of(content)


def _blocks(content: str | list[ai.UserContent]) -> list[ai.UserContent]:
    return [content] if isinstance(content, str) else content


def _block(block: Any) -> ai.UserContent:
    if isinstance(block, str):
        return block
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind == "text":
        return str(block.get("text", ""))
    image = block.get("image_url") if kind == "image_url" else None
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise ValidationError(f"a message has a block of type {kind!a}: send text or image_url.")
    return ai.BinaryContent.from_data_uri(url) if url.startswith("data:") else ai.ImageUrl(url)
