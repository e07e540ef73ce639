from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.color import make_style, no_style
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.management.rendering import INDENT, JsonLines, Rendering
from asm_store.management.terminal import BREAK, CUT, JOINERS, Room, inert
from asm_store.models import Event
from asm_store.test import make_event, make_session

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ATTACKS = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]0;owned\x07",  # the window's title
    "\x1b]52;c;cm0gLXJmIC8=\x07",  # the clipboard
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1bP$q q\x1b\\",  # a device control string, which a terminal answers
    "\x9b31m\x9d0;owned\x9c",  # the same in C1 controls
    "seen\rhidden",
    "back\b\b\b\bspace\x7f",
    "a\vb\fc\x85d\u2028e\u2029f",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "in\u200bvisi\u00adble\ufeff\U000e0041",
    "\nat\r\n12:00:00 #9    session_completed",
    "\x0e\x0fcharset\x05",
]
# Every character up to there, in lumps, and what the rest of Unicode has that is no letter.
LUMPS = ["".join(map(chr, range(first, first + 256))) for first in range(1, 0x3000, 256)]
OTHERS = "".join(
    chr(code)
    for code in range(0x3000, sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cf", "Zl", "Zp", "Zs"}
)
HOSTILE = "".join([*ATTACKS, *LUMPS, OTHERS])
EVERY_FIELD = (
    "content", "role", "tool_name", "tool_input", "tool_output", "error_message", "error_code",
    "model", "stop_reason", "policy", "kind", "policy_name",
)  # fmt: skip


@pytest.fixture(autouse=True)
def zone() -> Iterator[None]:
    with timezone.override("UTC"):
        yield


def event(type: str = "message_sent", number: int = 1, **columns: Any) -> Event:
    columns = {"data": {}, "timestamp": NOON, **columns}
    return make_event(type=type, sequence_number=number, **columns)


def rendering(width: int | None = None, *, full: bool = False, style: Any = None) -> Rendering:
    made = Rendering(style or no_style(), lambda: width, is_full=full)
    made.of(event("run_started"))  # has the date before it, and what follows has not
    return made


def cells(text: str) -> int:
    zero = {"Mn", "Me", "Cf"}
    widths = {"W": 2, "F": 2}
    return sum(
        0 if unicodedata.category(c) in zero else widths.get(unicodedata.east_asian_width(c), 1)
        for c in text
    )


def obeyed(text: str) -> set[str]:
    """What in `text` a terminal does not just show."""
    return {c for c in text if not (c.isprintable() or c in JOINERS)}


class TestInert:
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_attacks(self, attack: str) -> None:
        assert obeyed(inert(attack)) == set()
        assert obeyed(inert(attack, line_break="\n")) <= {"\n"}

    def test_every_character(self) -> None:
        assert obeyed(inert(HOSTILE + "\0\ud800")) == set()

    def test_what_is_shown_in_their_place(self) -> None:
        assert inert("\x1b[2J\x9b\r\u202e") == r"\x1b[2J\x9b\r\u202e"
        assert inert("a\nb\r\nc\td\u00a0e") == f"a{BREAK}b{BREAK}c d e"
        plain = "Grüße, 你好, नमस्ते, 👩\u200d💻, می\u200cشو"
        assert inert(plain) == plain


class TestRoom:
    @pytest.mark.parametrize(
        ("width", "text", "expected"),
        [
            (6, "12345", "12345"),
            (6, "123456", f"12345{CUT}"),
            (6, "你好你", f"你好{CUT}"),
            (6, "e\u0301" * 5, "e\u0301" * 5),
            (6, "\x1b" * 6, rf"\x1b\{CUT}"),
            (1, "1", CUT),
            (0, "1", CUT),
            (0, "", ""),
            (None, "1" * 999, "1" * 999),
        ],
    )
    def test_it_ends(self, width: int | None, text: str, expected: str) -> None:
        assert Room(width).take(text) == expected

    def test_piece_by_piece(self) -> None:
        room = Room(6)
        assert [room.take(text) for text in ("12", "", "345", "6", "7")] == [
            "12",
            "",
            "345",
            CUT,
            "",
        ]

    def test_marks_without_end(self) -> None:
        assert len(Room(10).take("e" + "\u0301" * 10_000)) < 50


class TestLines:
    @pytest.mark.parametrize(
        ("type", "data", "expected"),
        [
            ("message_sent", {"role": "user", "content": "Hi\nyou"}, f"user: Hi{BREAK}you"),
            (
                "message_received",
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "A"}, {"type": "image"}],
                },
                "assistant: A [image]",
            ),
            ("message_sent", {"content": "no role"}, '{"content":"no role"}'),
            ("message_sent", {"role": "user", "content": 7}, '{"role":"user","content":7}'),
            ("message_sent", {"role": "user", "content": [{}]}, '{"role":"user","content":[{}]}'),
            ("tool_call_started", {"tool_name": "ls", "tool_input": {"a": [1]}}, 'ls {"a":[1]}'),
            ("tool_call_started", {"tool_name": "ls", "tool_input": {}}, "ls"),
            ("tool_call_completed", {"tool_name": "ls", "tool_output": "x"}, "ls: x"),
            ("tool_call_completed", {"tool_name": "ls", "tool_output": None}, "ls: null"),
            ("tool_call_failed", {"tool_name": "ls", "error_message": "no"}, "ls failed: no"),
            (
                "token_usage_updated",
                {"input_tokens": 1200, "cache_read_tokens": 3, "model": "m", "x": 1},
                "input 1,200, cache read 3, m",
            ),
            ("token_usage_updated", {"input_tokens": "1"}, '{"input_tokens":"1"}'),
            ("error_occurred", {"error_code": "e", "error_message": "bad"}, "e: bad"),
            ("run_failed", {"error_code": "e", "error_message": "bad"}, "e: bad"),
            ("run_completed", {"stop_reason": "end"}, "end"),
            ("run_completed", {"stop_reason": "end", "cost_usd": 1}, 'end {"cost_usd":1}'),
            ("policy_violation", {"policy": "net", "kind": "deny"}, "net: deny"),
            ("tool_approval_denied", {"tool_name": "rm", "policy_name": "p"}, "rm (p)"),
            ("session_paused", {}, ""),
            ("turn_completed", {"turn": 1}, '{"turn":1}'),
        ],
    )
    def test_each_type(self, type: str, data: dict[str, Any], expected: str) -> None:
        line = rendering().of(event(type, 12, data=data))
        assert line == f"12:00:00 #12   {type:<19} {expected}".rstrip() + "\n"

    def test_the_date_of_another_day(self) -> None:
        made = Rendering(no_style(), lambda: None, is_full=False)
        assert made.of(event("run_started")) == "2026-03-02\n12:00:00 #1    run_started\n"
        assert made.of(event("run_started")) == "12:00:00 #1    run_started\n"
        now = timezone.now()
        assert made.of(event("run_started", timestamp=now)).startswith(f"{now.date()}\n")

    def test_times_are_in_djangos_zone(self) -> None:
        made = rendering()
        with timezone.override("Asia/Kathmandu"):
            assert made.of(event("run_started")).startswith("17:45:00 #1 ")

    def test_today_has_no_date(self) -> None:
        made = Rendering(no_style(), lambda: None, is_full=False)
        assert made.of(event("run_started", timestamp=timezone.now())).count("\n") == 1

    def test_what_tools_say_is_cut_in_a_pipe_too(self) -> None:
        data = {"tool_name": "cat", "tool_output": "x" * 300}
        long = event("tool_call_completed", data=data)
        assert rendering().of(long).endswith(f"cat: {'x' * 200}{CUT}\n")
        assert rendering(full=True).of(long).endswith(f"cat: {'x' * 300}\n")

    def test_full_has_line_breaks_that_make_no_event(self) -> None:
        data = {"role": "user", "content": "a\n12:00:00 #9    session_completed"}
        line = rendering(full=True).of(event(data=data))
        assert line.splitlines()[1] == f"{INDENT}12:00:00 #9    session_completed"

    @pytest.mark.parametrize("width", [60, 80, 133])
    def test_cut_to_the_width(self, width: int) -> None:
        data = {"role": "user", "content": "你" * 200}
        line = rendering(width).of(event(data=data)).removesuffix("\n")
        assert width - 1 <= cells(line) <= width
        assert line.endswith(CUT)

    def test_colours_take_no_room(self) -> None:
        colours: Any = make_style("dark")
        data = {"role": "user", "content": "x" * 200}
        line = rendering(80, style=colours).of(event(data=data))
        assert "\x1b[32;1mmessage_sent\x1b[0m" in line
        assert line.replace("\x1b[32;1m", "").replace("\x1b[0m", "") == rendering(80).of(
            event(data=data)
        )


def delta(text: str, number: int = 1, run_id: str | None = None) -> Event:
    return event("message_streamed", number, data={"content": text}, run_id=run_id)


class TestStreamed:
    def test_one_line_as_it_comes(self) -> None:
        made = rendering()
        head = "12:00:00 #1    message_streamed    "
        pieces = [made.of(delta("Good ")), made.of(delta("morn", 2)), made.of(delta("\ning", 3))]
        assert pieces == [f"{head}Good ", "morn", f"{BREAK}ing"]
        assert made.of(event("run_completed", 4)).startswith("\n12:00:00 #4")
        assert made.end() == ""

    def test_of_another_run(self) -> None:
        made = rendering()
        made.of(delta("a", run_id="run-1"))
        assert made.of(delta("b", 2, run_id="run-2")).startswith("\n12:00:00 #2")
        assert (made.end(), made.end()) == ("\n", "")

    def test_cut_once(self) -> None:
        made = rendering(80)
        line = "".join(made.of(delta("x" * 10, number)) for number in range(1, 20))
        assert cells(line) == 80
        assert line.count(CUT) == 1

    def test_an_escape_in_two_pieces(self) -> None:
        made = rendering()
        assert (
            obeyed(made.of(delta("\x1b")) + made.of(delta("[2J")) + made.of(delta("\r"))) == set()
        )


class TestHostile:
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("width", [None, 80])
    @pytest.mark.parametrize("type", [*Event.Type.values, HOSTILE])
    def test_no_field_of_any_type(self, type: str, width: int | None, full: bool) -> None:
        for text in [*ATTACKS, HOSTILE]:
            data = dict.fromkeys(EVERY_FIELD, text) | {f"{text}_tokens": 1, text: text}
            for value in (data, {**data, "content": [{"type": text}, {"text": text}]}, {text: 1}):
                out = rendering(width, full=full).of(event(type, data=value))
                assert obeyed(out) <= {"\n"}
                lines = out.splitlines()
                assert all(line.startswith(INDENT) for line in lines[1:])
                assert full or len(lines) == 1

    def test_json_for_a_terminal_is_ascii(self) -> None:
        hostile = event(data={"content": HOSTILE, HOSTILE: 1})
        line = JsonLines(is_ascii=True).of(hostile)
        assert obeyed(line.removesuffix("\n")) == set()
        assert line.isascii()
        assert json.loads(line) == hostile.to_dict()

    def test_json_is_what_the_store_gives(self, using: str) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())
        store.append_events([make_event(session, data={"content": text}) for text in ATTACKS])
        numbers = {"n": [0.1, 1e15, 2**70, -0.5, 1e-7], "deep": [[[{"": None}]]], "é": HOSTILE}
        store.append_event(make_event(session, data=numbers, metadata={"x": "\0"}))
        file = TextIOWrapper(BytesIO(), "latin-1")
        args = [session.pk, "--json", "--all", "--no-follow", "--using", using]
        call_command("asm_tail", *args, stdout=file, stderr=StringIO())
        written = file.detach().getvalue()
        assert written.endswith(b"\n")
        lines = written.split(b"\n")[:-1]
        given = list(store.iter_events_json(session.pk))
        assert list(map(json.loads, lines)) == list(map(json.loads, given))


@pytest.mark.django_db
def test_what_an_encoding_has_not_is_escaped() -> None:
    store = DatabaseSessionStore()
    session = store.save_session(make_session(status="completed"))
    store.append_event(make_event(session, data={"role": "user", "content": "é ☂\n"}))
    file = TextIOWrapper(BytesIO(), "latin-1")
    call_command("asm_tail", session.pk, stdout=file, stderr=StringIO())
    assert file.detach().getvalue().endswith(b"user: \xe9 \\u2602\\u21b5\n")


def test_the_width_is_asked_for_each_line() -> None:
    widths: Callable[[], int] = iter([80, 80, 120]).__next__
    made = Rendering(no_style(), widths, is_full=False)
    long = event(data={"role": "user", "content": "x" * 300})
    lines = [made.of(long).splitlines()[-1] for _ in range(3)]
    assert [len(line) for line in lines] == [80, 80, 120]
