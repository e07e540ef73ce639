"""What two models' APIs answer, as the bytes that their official SDKs read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

OPENAI = "gpt-4o-2024-08-06"
CLAUDE = "claude-sonnet-4-20250514"


def openai_answer(*deltas: dict[str, Any], finish: str = "stop") -> list[bytes]:
    """A streamed chat completion: 100 tokens went in, 40 of them cached, and 5 came out."""
    choices = [_choice(delta) for delta in ({"role": "assistant"}, *deltas)]
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    chunks = [{"choices": [choice]} for choice in [*choices, _choice({}, finish)]]
    sent = [_chunk(**chunk) for chunk in chunks] + [_chunk(choices=[], usage=usage)]
    return [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in sent), b"data: [DONE]\n\n"]


def openai_call(id: str, name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    """A delta that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _chunk(**fields: Any) -> dict[str, Any]:
    fixed = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": OPENAI}
    return {**fixed, **fields}


def anthropic_answer(*blocks: tuple[dict[str, Any], list[dict[str, Any]]]) -> list[bytes]:
    """A streamed message: 10 tokens in, 80 from and 20 to the cache, and 7 came out."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 80,
        "cache_creation_input_tokens": 20,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE}
    rest: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    is_call = any(block["type"] == "tool_use" for block, _ in blocks)
    end = {"stop_reason": "tool_use" if is_call else "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": {**message, **rest}},
        *(event for index, block in enumerate(blocks) for event in _block(index, *block)),
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]


def thinking(*texts: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    deltas = [{"type": "thinking_delta", "thinking": text} for text in texts]
    signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
    return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]


def text(*texts: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": t} for t in texts]


def tool_use(id: str, name: str, arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    block = {"type": "tool_use", "id": id, "name": name, "input": {}}
    return block, [{"type": "input_json_delta", "partial_json": arguments}]


def _block(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterable[Any]:
    yield {"type": "content_block_start", "index": index, "content_block": block}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
