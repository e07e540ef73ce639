"""What the lines of a transcript become: their events, or a count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.formats.drafts import derived_id
from asm_store.formats.reports import Skipped, Tokens
from asm_store.models import Event
from example_project.sample_data import (
    OPUS,
    Transcript,
    text,
    thinking,
    tool_use,
    usage,
)
from tests.formats.logs import Events, kinds, of_type, read

USED = usage(1, 2, 3, 4)


class TestEvents:
    def test_a_turn_becomes_events_in_the_order_of_its_lines(
        self, log: Transcript, events: Events
    ) -> None:
        log.user("Go")
        log.answer(thinking("Hm"), text("Yes"), tool_use("call", "Read", path="a"), usage=USED)
        log.result("call", "found")
        log.answer(text("Done"), usage=USED, stop="end_turn")
        found = events(log)
        assert kinds(found) == [
            "session_created",
            "run_started",
            "message_sent",
            "message_streamed",
            "token_usage_updated",
            "message_received",
            "tool_call_started",
            "tool_call_completed",
            "message_received",
            "token_usage_updated",
            "run_completed",
        ]
        assert [event.data for event in found[2:9]] == [
            {"content": "Go", "role": "user"},
            {"content": "Hm", "role": "assistant", "block_type": "thinking"},
            {**Tokens(1, 2, 3, 4).to_dict(), "model": OPUS},
            {"content": "Yes", "role": "assistant"},
            {"tool_name": "Read", "tool_call_id": "call", "tool_input": {"path": "a"}},
            {"tool_name": "Read", "tool_call_id": "call", "tool_output": "found"},
            {"content": "Done", "role": "assistant"},
        ]
        assert found[-1].data == {"stop_reason": "end_turn"}
        assert {event.provider for event in found} == {"claude"}

    def test_a_call_and_its_result_share_their_correlation_id(
        self, log: Transcript, events: Events
    ) -> None:
        log.user("Go")
        log.answer(tool_use("call", "Read"), usage=USED)
        log.result("call", "found")
        found = events(log)
        (started,) = of_type(found, EventType.TOOL_CALL_STARTED)
        (completed,) = of_type(found, EventType.TOOL_CALL_COMPLETED)
        assert started.correlation_id == completed.correlation_id == "call"

    @pytest.mark.parametrize(
        ("content", "output"),
        [
            ("plain", "plain"),
            ([text("one"), text("two")], "one\ntwo"),
            ([text("one"), {"type": "image", "source": {}}], None),
            ([], ""),
        ],
    )
    def test_a_result_of_text_blocks_is_one_text(
        self, log: Transcript, events: Events, content: Any, output: str | None
    ) -> None:
        log.user("Go")
        log.result("call", content)
        (completed,) = of_type(events(log), EventType.TOOL_CALL_COMPLETED)
        assert completed.data["tool_output"] == (content if output is None else output)
        assert completed.data["tool_name"] == ""

    def test_a_failed_tool_says_why(self, log: Transcript, events: Events) -> None:
        log.user("Go")
        log.answer(tool_use("call", "Bash"), usage=USED)
        log.result("call", "Exit code 1", is_error=True)
        (failed,) = of_type(events(log), EventType.TOOL_CALL_FAILED)
        assert failed.data == {
            "tool_name": "Bash",
            "tool_call_id": "call",
            "error_message": "Exit code 1",
        }

    def test_every_line_is_kept_once_beside_its_first_event(
        self, log: Transcript, events: Events
    ) -> None:
        log.user([text("one"), {"type": "image", "source": {"data": "aGk="}}, text("three")])
        log.answer(text("Yes"), usage=USED)
        found = [event for event in events(log) if event.metadata]
        originals = [event for event in found if "original" in event.metadata]
        assert [event.metadata["original"] for event in originals] == [
            json.loads(line) for line in log.lines
        ]
        first, second, third = found[:3]
        assert second.metadata == third.metadata == {"original_in": first.id}
        assert second.data == {"content": "", "role": "user", "block_type": "image"}

    def test_a_failed_request_is_an_error_and_not_the_end(
        self, log: Transcript, events: Events
    ) -> None:
        log.user("Go")
        log.api_error(529, 1)
        log.answer(text("Done"), usage=USED)
        found = events(log)
        (error,) = of_type(found, EventType.ERROR_OCCURRED)
        assert error.data == {
            "error_message": "Overloaded",
            "error_code": "529",
            "retry_attempt": 1,
        }
        assert kinds(found)[-1] == "run_completed"

    def test_an_error_without_words_is_known_by_its_code(
        self, log: Transcript, events: Events
    ) -> None:
        cause = {"code": "ConnectionRefused", "errno": 0}
        log.record("system", subtype="api_error", error={"cause": cause}, cause=cause)
        (error,) = of_type(events(log), EventType.ERROR_OCCURRED)
        assert error.data["error_message"] == error.data["error_code"] == "ConnectionRefused"
        assert error.run_id is None

    def test_the_ids_are_in_the_shape_of_new_ones_and_begin_with_the_time(self) -> None:
        moment = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
        made = derived_id("evt", moment, "a", None)
        assert made == derived_id("evt", moment, "a", None)
        assert made != derived_id("evt", moment, "a", "None")
        assert len(made) == len(Event().id)
        assert made.startswith(f"evt_{int(moment.timestamp() * 1000):012x}8")

    def test_what_one_message_says_twice_is_two_events(
        self, log: Transcript, events: Events
    ) -> None:
        log.user([text("again"), text("again")])
        assert len(of_type(events(log), EventType.MESSAGE_SENT)) == 2

    def test_hostile_text_makes_events_that_can_be_stored(
        self, log: Transcript, events: Events
    ) -> None:
        hostile = {"requestId": "\ud800", "uuid": "\0", "parentUuid": "\ud800", "key \0": "\ud800"}
        message = {"id": "\ud800", "model": "\ud800\0", "content": [text("\ud800 \0")]}
        odd = {"content": [{"type": 7, "text": ["no text"]}, {}, 7, None], "usage": [1]}
        for content in ({**message, "usage": USED}, odd):
            for kind in ("user", "assistant"):
                record = log.record(kind)
                log.lines[-1] = json.dumps({**record, **hostile, "message": content})
        assert len(events(log)) > 10
        for event in events(log):
            event.prepared()


class TestSkipped:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"type": "moon-phase"}, "unknown type 'moon-phase'"),
            ({"type": None}, "unknown type NoneType"),
            ({"type": ["user"]}, "unknown type list"),
            ({"sessionId": None}, "no session id"),
            ({"sessionId": ""}, "not a usable session id"),
            ({"sessionId": "x" * 256}, "not a usable session id"),
            ({"sessionId": {"a": 1}}, "not a usable session id"),
            ({"sessionId": "a\0b"}, "not a usable session id"),
            ({"agentId": "x" * 250}, "not a usable session id"),
            ({"timestamp": None}, "no timestamp"),
            ({"timestamp": "yesterday"}, "bad timestamp"),
            ({"timestamp": "2026-03-02T09:30:00"}, "bad timestamp"),
            ({"timestamp": 1772443800}, "bad timestamp"),
            ({"message": None}, "no message content"),
            ({"message": "Go"}, "no message content"),
            ({"message": {"content": 7}}, "no message content"),
        ],
    )
    def test_a_record_that_cannot_be_placed_is_counted(
        self, log: Transcript, tmp_path: Path, change: dict[str, Any], reason: str
    ) -> None:
        record = log.user("Go")
        log.line({**record, "uuid": "second", **change})
        log.user("On")
        reader, events, _runs = read(log.write(tmp_path / "log.jsonl"))
        assert reader.tally.skipped == {reason: Skipped(1, (2,))}
        assert len(of_type(events, EventType.MESSAGE_SENT)) == 2

    def test_records_that_are_no_conversation_are_counted_by_kind(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        for kind in ("progress", "queue-operation", "file-history-snapshot"):
            log.record(kind)
        log.record("system", subtype="compact_boundary")
        log.record("system")
        log.user([])
        log.line({"type": "summary", "summary": 7, "leafUuid": "x"})
        reader, events, runs = read(log.write(tmp_path / "log.jsonl"))
        assert (events, runs, reader.tally.skipped) == ([], [], {})
        assert reader.tally.ignored == {
            "progress": 1,
            "queue-operation": 1,
            "file-history-snapshot": 1,
            "system/compact_boundary": 1,
            "system/None": 1,
            "empty message": 1,
            "summary": 1,
        }
