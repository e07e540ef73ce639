"""What was said before a run, as models' APIs take it: every call with its result, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from asm_store.exceptions import ValidationError
from asm_store.providers.anthropic import _messages as for_anthropic
from asm_store.providers.conversations import Call, Called, Item, Said, conversation
from asm_store.providers.openai import _messages as for_openai
from asm_store.transcripts import Message, Transcript


def said(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


def call(id: str, name: str = "look", **arguments: Any) -> Message:
    return {
        "role": "assistant", "content": "", "tool_call_id": id, "tool_name": name,
        "tool_input": arguments,
    }  # fmt: skip


def result(id: str, output: Any, name: str = "look") -> Message:
    return {
        "role": "tool", "content": str(output), "tool_call_id": id, "tool_name": name,
        "tool_output": output,
    }  # fmt: skip


def shown(messages: list[Message], asked: Any = "And?") -> list[Any]:
    """The items, calls as (id, name, output)."""
    transcript = Transcript("session", messages, len(messages))
    return [
        (item.role, item.content)
        if isinstance(item, Said)
        else [(call.id, call.name, call.output) for call in item.calls]
        for item in conversation(asked, transcript)
    ]


@pytest.mark.parametrize(
    ("messages", "items"),
    [
        ([], []),
        ([said("user", "Hi"), said("assistant", "Hm.")], [("user", "Hi"), ("assistant", "Hm.")]),
        # At once, and one after the other.
        (
            [call("a"), call("b"), result("a", 1), result("b", 2)],
            [[("a", "look", 1), ("b", "look", 2)]],
        ),
        (
            [call("a"), result("a", 1), call("b"), result("b", 2)],
            [[("a", "look", 1)], [("b", "look", 2)]],
        ),
        # Results that come late, or in another order, stand with their calls.
        (
            [call("a"), call("b"), said("user", "Wait"), result("b", 2), result("a", 1)],
            [[("a", "look", 1), ("b", "look", 2)], ("user", "Wait")],
        ),
        # What is said between a call and its result stands before both.
        (
            [call("a"), said("assistant", "One moment."), call("b"), result("a", 1),
             result("b", 2)],
            [("assistant", "One moment."), [("a", "look", 1), ("b", "look", 2)]],
        ),
        # Without the other half, neither.
        ([call("a"), result("b", 2), said("user", "Hi")], [("user", "Hi")]),
        ([result("a", 1)], []),
        ([call("a"), call("b"), result("b", 2)], [[("b", "look", 2)]]),
        # Ids that come again, or that no API takes; calls without one go by the tool.
        (
            [call("a"), result("a", 1), call("a"), result("a", 2)],
            [[("a", "look", 1)], [("call_2_1", "look", 2)]],
        ),
        ([call("functions.look:0"), result("functions.look:0", 1)], [[("call_1_0", "look", 1)]]),
        ([call("", "a.b"), result("", 1, "a.b")], [[("call_1_0", "a_b", 1)]]),
        ([said("developer", "Be kind.")], [("system", "Be kind.")]),
    ],
)  # fmt: skip
def test_items(messages: list[Message], items: list[Any]) -> None:
    assert shown(messages) == [*items, ("user", "And?")]


def test_a_call_that_failed_goes_on_being_one() -> None:
    failed: Message = {**result("a", "no such file"), "is_error": True}
    messages = [call("a"), call("b"), failed, result("b", "found")]
    [called, _asked] = conversation("And?", Transcript("session", messages, 4))
    assert isinstance(called, Called)
    assert [call.is_error for call in called.calls] == [True, False]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
        {"role": "assistant", "content": "", "function_call": {"name": "look"}},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]},
        {"role": "user", "content": ["Hi", {"type": "tool_result", "tool_use_id": "a"}]},
    ],
)
def test_calls_in_the_form_of_an_api_are_refused(message: dict[str, Any]) -> None:
    """In the input; what is stored already is gone on from as well as it can be."""
    with pytest.raises(ValidationError, match="continuation=True"):
        conversation({"messages": [said("user", "Hi"), message]}, None)
    earlier = Transcript("session", [said(message["role"], message["content"])], 1)
    assert len(conversation("Hi", earlier)) == 2


def test_no_calls_are_none() -> None:
    asked = {"messages": [{**said("assistant", "Hi"), "tool_calls": []}]}
    assert conversation(asked, None) == [Said("assistant", "Hi")]


def test_the_input_is_said_last() -> None:
    asked = {"messages": [said("system", "Be kind."), said("user", [{"type": "text"}])]}
    assert shown([said("user", "Hi")], asked) == [
        ("user", "Hi"), ("system", "Be kind."), ("user", [{"type": "text"}]),
    ]  # fmt: skip
    assert conversation("And?", None) == [Said("user", "And?")]


def answered(id: str, input: Any, output: Any, *, is_error: bool = False) -> Called:
    return Called([Call(id, "look", input, output, is_answered=True, is_error=is_error)])


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


def test_for_anthropic() -> None:
    """Turns alternate, the user's is the first, and no text is empty."""
    items: list[Item] = [
        Said("assistant", "Earlier."),
        Said("assistant", [{"type": "text", "text": "More."}, {"type": "thinking"}]),
        answered("a", "no object", {"sky": "klar ☀"}, is_error=True),
        answered("b", {}, None),
        Said("user", " "),
        Said("system", "elsewhere"),
        Said("user", [IMAGE]),
        Said("user", {"asked": 1}),
    ]
    text = "(The conversation began earlier.)"
    use = {"type": "tool_use", "name": "look"}
    answer = {"type": "tool_result"}
    assert for_anthropic(items) == [
        {"role": "user", "content": [{"type": "text", "text": text}]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Earlier."}, {"type": "text", "text": "More."},
            {**use, "id": "a", "input": {"input": "no object"}},
        ]},
        {"role": "user", "content": [
            {**answer, "tool_use_id": "a", "content": '{"sky": "klar ☀"}', "is_error": True},
        ]},
        {"role": "assistant", "content": [{**use, "id": "b", "input": {}}]},
        {"role": "user", "content": [
            {**answer, "tool_use_id": "b", "content": "null"},
            IMAGE, {"type": "text", "text": '{"asked": 1}'},
        ]},
    ]  # fmt: skip


def test_for_openai() -> None:
    items: list[Item] = [
        Said("system", "Be kind."),
        Said("assistant", [{"type": "text", "text": "Earlier."}]),
        answered("a", {"city": "Oslo"}, "klar ☀"),
        answered("b", "no JSON", ["ö"]),
        Said("user", [IMAGE]),
        Said("user", {"asked": 1}),
    ]
    calls = [
        {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}
        for id, arguments in (("a", '{"city": "Oslo"}'), ("b", '{"input": "no JSON"}'))
    ]
    assert for_openai(items) == [
        {"role": "system", "content": "Be kind."},
        {"role": "assistant", "content": "Earlier.", "tool_calls": calls[:1]},
        {"role": "tool", "tool_call_id": "a", "content": "klar ☀"},
        {"role": "assistant", "content": None, "tool_calls": calls[1:]},
        {"role": "tool", "tool_call_id": "b", "content": '["ö"]'},
        {"role": "user", "content": [IMAGE]},
        {"role": "user", "content": '{"asked": 1}'},
    ]
