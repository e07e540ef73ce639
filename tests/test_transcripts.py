"""Transcripts: the conversation of a log, within limits, calls and results together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from asm_store import transcripts
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import SessionNotFound, ValidationError
from asm_store.models import Event
from asm_store.test import make_event, make_run, make_session
from asm_store.transcripts import Message, Transcript, build, build_before

Part = tuple[str, dict[str, Any]]


def said(content: Any, role: str = "user") -> Part:
    return "message_sent", {"role": role, "content": content}


def answered(content: Any) -> Part:
    return "message_received", {"role": "assistant", "content": content}


def delta(content: str) -> Part:
    return "message_streamed", {"content": content}


def call(id: str | None, tool: str = "grep", **data: Any) -> Part:
    return "tool_call_started", {"tool_call_id": id, "tool_name": tool, "tool_input": {}, **data}


def result(id: str | None, tool: str = "grep", **data: Any) -> Part:
    data = {"tool_output": "found", **data}
    return "tool_call_completed", {"tool_call_id": id, "tool_name": tool, **data}


def log(store: BaseSessionStore, parts: Iterable[Part], run_id: str | None = None) -> str:
    session_id = str(store.save_session(make_session()).pk)
    add(store, session_id, parts, run_id)
    return session_id


def add(
    store: BaseSessionStore, session_id: str, parts: Iterable[Part], run_id: str | None = None
) -> list[Event]:
    return store.append_events(
        make_event(session_id, type=type, data=data, run_id=run_id) for type, data in parts
    )


def short(transcript: Transcript) -> list[str]:
    """Each message in a word: what was said, or what was called and answered."""
    return [_word(message) for message in transcript.messages]


def _word(message: Message) -> str:
    if "tool_call_id" not in message:
        return str(message["content"])
    return f"{'call' if 'tool_input' in message else 'result'} {message['tool_call_id']}"


def test_messages_tools_and_the_latest_number(store: BaseSessionStore) -> None:
    session_id = log(
        store,
        [
            ("session_started", {}),
            said("Be brief.", "system"),
            said("Find it."),
            call("c1", tool_input={"pattern": "x"}),
            result("c1", tool_output={"lines": [1]}),
            call("c2"),
            ("tool_call_failed", {"tool_call_id": "c2", "error_message": "no such file"}),
            delta("He"),
            delta("re."),
            answered("Here."),
            ("turn_completed", {}),
        ],
    )
    assert build(store, session_id) == Transcript(
        session_id,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Find it."},
            {
                "role": "assistant",
                "content": "",
                "tool_call_id": "c1",
                "tool_name": "grep",
                "tool_input": {"pattern": "x"},
            },
            {
                "role": "tool",
                "content": '{"lines": [1]}',
                "tool_call_id": "c1",
                "tool_name": "grep",
                "tool_output": {"lines": [1]},
            },
            {
                "role": "assistant",
                "content": "",
                "tool_call_id": "c2",
                "tool_name": "grep",
                "tool_input": {},
            },
            {
                "role": "tool",
                "content": "no such file",
                "tool_call_id": "c2",
                "tool_name": "",
                "tool_output": "no such file",
                "is_error": True,
            },
            {"role": "assistant", "content": "Here."},
        ],
        11,
    )


def test_no_session_and_an_empty_one(store: BaseSessionStore) -> None:
    with pytest.raises(SessionNotFound):
        build(store, "ses_none")
    session_id = log(store, [])
    assert build(store, session_id) == Transcript(session_id, [], 0)


def test_more_events_than_a_page_and_a_gap_larger_than_many(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "PAGE", 3)
    monkeypatch.setattr(transcripts, "MOST_NUMBERS", 8)
    parts = [said("first"), *[("turn_completed", {})] * 60, *(said(str(n)) for n in range(20))]
    session_id = log(store, parts)
    assert short(build(store, session_id)) == ["first", *map(str, range(20))]
    assert build(store, session_id).last_sequence == 81
    assert short(build(store, session_id, max_messages=5)) == ["15", "16", "17", "18", "19"]


def reads(store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each query from now on finds."""
    read: list[int] = []
    get_events = store.get_events

    def counted(*args: Any, **kwargs: Any) -> list[Event]:
        found = get_events(*args, **kwargs)
        read.append(len(found))
        return found

    monkeypatch.setattr(store, "get_events", counted)
    return read


def test_a_limit_bounds_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemorySessionStore()
    session_id = log(store, [said(str(number)) for number in range(5 * transcripts.PAGE)])
    read = reads(store, monkeypatch)
    build(store, session_id, max_messages=10)
    assert read == [transcripts.PAGE]


def test_a_limit_bounds_what_is_read_of_a_stream_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemorySessionStore()
    session_id = log(store, [said("x"), *[delta("12345")] * 5 * transcripts.PAGE])
    read = reads(store, monkeypatch)
    for limits in ({"max_chars": 100}, {"max_tokens": 25}, {"max_messages": 0}):
        assert short(build(store, session_id, **limits)) == []
        assert read == [transcripts.PAGE]
        read.clear()


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"max_messages": 0}, []),
        ({"max_messages": 1}, ["dddd"]),
        ({"max_messages": 2}, ["cc", "dddd"]),
        ({"max_messages": 9}, ["aaaaaaaa", "bb", "cc", "dddd"]),
        ({"max_chars": 3}, []),
        ({"max_chars": 4}, ["dddd"]),
        ({"max_chars": 8}, ["bb", "cc", "dddd"]),
        ({"max_chars": 15}, ["bb", "cc", "dddd"]),
        ({"max_chars": 16}, ["aaaaaaaa", "bb", "cc", "dddd"]),
        ({"max_tokens": 1}, ["dddd"]),
        ({"max_tokens": 2}, ["cc", "dddd"]),
        ({"max_tokens": 5}, ["aaaaaaaa", "bb", "cc", "dddd"]),
        ({"max_tokens": 5, "max_messages": 3, "max_chars": 6}, ["cc", "dddd"]),
    ],
)
def test_limits_keep_the_most_recent(limits: dict[str, int], kept: list[str]) -> None:
    store = InMemorySessionStore()
    session_id = log(store, [said("aaaaaaaa"), answered("bb"), said("cc"), answered("dddd")])
    assert short(build(store, session_id, **limits)) == kept


@pytest.mark.parametrize("name", ["max_messages", "max_chars", "max_tokens"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "10"])
def test_limits_are_whole_numbers(name: str, value: Any) -> None:
    store = InMemorySessionStore()
    with pytest.raises(ValidationError, match=name):
        build(store, log(store, []), **{name: value})


TOOLS = [said("u"), call("a"), call("b"), result("b"), said("w"), result("a"), answered("r")]


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (1, ["r"]),
        (2, ["r"]),
        (3, ["w", "r"]),
        (4, ["w", "r"]),
        (5, ["call b", "result b", "w", "r"]),
        (6, ["call a", "call b", "result b", "w", "result a", "r"]),
        (7, ["u", "call a", "call b", "result b", "w", "result a", "r"]),
    ],
)
def test_a_limit_never_parts_a_call_from_its_result(most: int, kept: list[str]) -> None:
    store = InMemorySessionStore()
    assert short(build(store, log(store, TOOLS), max_messages=most)) == kept


def test_whatever_the_limit_calls_and_results_are_in_pairs() -> None:
    store = InMemorySessionStore()
    session_id = log(store, [*TOOLS, *TOOLS, call("open"), *TOOLS])
    for limits in (
        *({"max_messages": most} for most in range(25)),
        *({"max_chars": most} for most in range(60)),
        *({"max_tokens": most} for most in range(30)),
    ):
        words = short(build(store, session_id, **limits))
        calls = sorted(word.split()[1] for word in words if word.startswith("call"))
        assert calls == sorted(word.split()[1] for word in words if word.startswith("result"))


def test_a_call_without_a_result_is_left_out_and_a_result_without_a_call_tells_it(
    store: BaseSessionStore,
) -> None:
    session_id = log(
        store, [result("gone", tool_input={"q": 1}), said("x"), call("open"), answered("y")]
    )
    transcript = build(store, session_id)
    assert short(transcript) == ["call gone", "result gone", "x", "y"]
    assert transcript.messages[0]["tool_input"] == {"q": 1}
    assert short(build(store, session_id, max_messages=3)) == ["x", "y"]


def test_results_that_were_told_twice(store: BaseSessionStore) -> None:
    twice = log(store, [call("a"), result("a"), result("a", tool_output="again"), answered("x")])
    transcript = build(store, twice)
    assert short(transcript) == ["call a", "result a", "x"]
    assert transcript.messages[1]["tool_output"] == "again"
    orphans = log(store, [result("a"), result("a"), call("b"), result("b")])
    assert short(build(store, orphans)) == ["call a", "result a"] * 2 + ["call b", "result b"]


def test_calls_are_told_apart_by_run_and_without_an_id_by_tool(store: BaseSessionStore) -> None:
    session = store.save_session(make_session())
    runs = [store.save_run(make_run(session)).id for _ in range(2)]
    add(store, session.id, [call("1"), result("1")], runs[0])
    add(store, session.id, [call("1", "first")], runs[0])
    add(store, session.id, [call("1", "second"), result("1", "second")], runs[1])
    add(store, session.id, [call(None, "a"), call(None, "b"), result(None, "b")])
    names = [message["tool_name"] for message in build(store, session.id).messages]
    assert names == ["grep", "grep", "second", "second", "b", "b"]


def test_what_a_model_thought_is_no_message(store: BaseSessionStore) -> None:
    thought = ("message_streamed", {"content": "Hm.", "block_type": "thinking"})
    parts = [said("Find it."), thought, call("c1"), result("c1"), thought, delta("Here.")]
    transcript = build(store, log(store, parts))
    assert short(transcript) == ["Find it.", "call c1", "result c1", "Here."]


def test_streamed_text_is_a_message_when_no_whole_one_follows(store: BaseSessionStore) -> None:
    session_id = log(
        store,
        [
            *(said("1"), delta("an"), delta("swer"), answered("answer")),
            *(said("2"), delta("cut "), delta("off"), ("run_failed", {})),
            *(said("3"), delta("look"), call("c"), result("c"), delta("f"), answered("final")),
        ],
    )
    assert short(build(store, session_id)) == [
        *("1", "answer", "2", "cut off", "3", "look", "call c", "result c", "final"),
    ]
    begun = log(store, [delta("only "), delta("this")])
    assert short(build(store, begun)) == ["only this"]
    assert short(build(store, begun, max_chars=8)) == []
    ends = ["3", "look", "call c", "result c", "final"]
    assert short(build(store, session_id, max_messages=5)) == ends
    assert short(build(store, session_id, max_messages=4)) == ends[1:]
    assert short(build(store, session_id, max_messages=3)) == ends[2:]


def test_odd_data(store: BaseSessionStore) -> None:
    blocks = [{"type": "text", "text": "hi"}]
    session_id = log(
        store,
        [
            ("message_sent", {}),
            ("message_received", {"role": ["odd"], "content": None}),
            said(blocks, "developer"),
            said("t", "tool"),
            ("tool_call_completed", {}),
            ("message_streamed", {"content": 5}),
        ],
    )
    roles = [(message["role"], message["content"]) for message in build(store, session_id).messages]
    assert roles == [
        ("user", ""),
        ("assistant", None),
        ("system", blocks),
        ("tool", "t"),
        ("assistant", ""),
        ("tool", ""),
        ("assistant", "5"),
    ]


def test_what_came_before_a_run(store: BaseSessionStore) -> None:
    session = store.save_session(make_session())
    first, second = (store.save_run(make_run(session)) for _ in range(2))
    add(store, session.id, [said("mine")], second.id)
    add(store, session.id, [said("one"), answered("two")], first.id)
    assert short(build_before(store, second)) == ["one", "two"]
