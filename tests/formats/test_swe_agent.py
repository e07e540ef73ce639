"""What the trajectories of SWE-agent and mini-swe-agent become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.formats.reports import Skipped, Tokens
from asm_store.formats.swe_agent import SweAgentReader
from asm_store.models import Event, Run
from tests.formats.logs import kinds, of_type, read_as
from tests.formats.trajectories import STARTED, Document, knots, leak, write

Read = Callable[[Document], tuple[SweAgentReader, list[Event], list[Run]]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def parsed(tmp_path: Path) -> Read:
    return lambda document: read_as(SweAgentReader, write(document, tmp_path / "a.traj"))


class TestSweAgent:
    def test_a_document_is_a_session_with_a_run(self, parsed: Read) -> None:
        reader, _events, (run,) = parsed(leak())
        (session,) = reader.take_sessions(final=True)
        assert session.id.startswith("swe-agent/hull__leak-7/")
        assert session.agent_id == "swe-agent"
        assert session.metadata == {
            "imported_from": "swe-agent",
            "title": "hull__leak-7",
            "times": "unknown",
        }
        assert session.context == {"version": "1.1.0"}
        assert run.input == {"messages": [{"role": "user", "content": "The hull leaks."}]}
        assert run.output == {"content": "Mended. ☂", "submission": "a patch"}
        assert (run.status, run.turn_count) == (Run.Status.COMPLETED, 2)
        assert (run.started_at, run.ended_at) == (EPOCH, EPOCH)
        assert run.provider_metadata == {"model": "openai/gpt-5-ship", "stop_reason": "submitted"}

    def test_what_it_used_and_cost(self, parsed: Read) -> None:
        reader, events, (run,) = parsed(leak())
        assert run.cost_usd == 0.375
        assert run.token_usage == reader.tokens.to_dict() == Tokens(9_000, 450).to_dict()
        (used,) = of_type(events, EventType.TOKEN_USAGE_UPDATED)
        assert used.data == {**run.token_usage, "model": "openai/gpt-5-ship"}

    def test_the_history_becomes_events(self, parsed: Read) -> None:
        reader, events, _runs = parsed(leak())
        assert kinds(events) == [
            "session_created",
            "run_started",
            "message_sent",
            "message_sent",
            "message_streamed",
            "message_received",
            "tool_call_started",
            "tool_call_completed",
            "message_received",
            "tool_call_started",
            "tool_call_completed",
            "token_usage_updated",
            "run_completed",
        ]
        assert [event.data for event in events[4:8]] == [
            {
                "content": "Water comes from the bow.",
                "role": "assistant",
                "block_type": "thinking",
            },
            {"content": "I look for the leak.", "role": "assistant"},
            {"tool_name": "find_leak", "tool_call_id": "call_1", "tool_input": {"where": "bow"}},
            {
                "tool_name": "find_leak",
                "tool_call_id": "call_1",
                "tool_output": "Found at plank 7.",
            },
        ]
        assert reader.tally.ignored == {"demonstration": 1}

    def test_the_originals_are_kept(self, parsed: Read) -> None:
        document = leak()
        _reader, events, _runs = parsed(document)
        originals = [event.metadata["original"] for event in events if "original" in event.metadata]
        assert originals[0]["info"] == document["info"]
        assert "history" not in originals[0]
        shown = [item for item in document["history"] if not item.get("is_demo")]
        assert originals[1 : len(shown) + 1] == shown

    def test_an_older_document_has_steps_only(self, parsed: Read) -> None:
        document = leak()
        del document["history"]
        document["trajectory"] = [
            {"response": "I look.", "action": "find_leak bow\n", "observation": "Found."},
            {"thought": "Done.", "action": "submit", "observation": None},
        ]
        _reader, events, (run,) = parsed(document)
        assert kinds(events)[2:-2] == [
            "message_received",
            "tool_call_started",
            "tool_call_completed",
            "message_received",
            "tool_call_started",
            "tool_call_completed",
        ]
        (call, _other) = of_type(events, EventType.TOOL_CALL_STARTED)
        assert call.data["tool_input"] == {"command": "find_leak bow\n"}
        assert run.output["content"] == "Done."

    @pytest.mark.parametrize(
        ("exit_status", "status"),
        [
            ("submitted", Run.Status.COMPLETED),
            ("submitted (exit_cost)", Run.Status.COMPLETED),
            ("exit_context", Run.Status.FAILED),
            (None, Run.Status.CANCELLED),
            ("", Run.Status.CANCELLED),
            ({"a": 1}, Run.Status.CANCELLED),
        ],
    )
    def test_how_it_ended(self, parsed: Read, exit_status: Any, status: Run.Status) -> None:
        document = leak()
        document["info"]["exit_status"] = exit_status
        _reader, events, (run,) = parsed(document)
        assert run.status == status
        is_over = status != Run.Status.CANCELLED
        assert (kinds(events)[-1] in {"run_completed", "run_failed"}) is is_over
        assert len(of_type(events, EventType.TOKEN_USAGE_UPDATED)) == is_over
        assert run.token_usage == Tokens(9_000, 450).to_dict()

    @pytest.mark.parametrize("wrong", [None, "12", -1, True, float("1e300"), [1]])
    def test_a_cost_that_is_none_is_not_stored(self, parsed: Read, wrong: Any) -> None:
        document = leak()
        document["info"]["model_stats"]["instance_cost"] = wrong
        assert parsed(document)[2][0].cost_usd is None

    def test_a_count_of_requests_that_no_column_holds(self, parsed: Read) -> None:
        document = leak()
        document["info"]["model_stats"]["api_calls"] = 2**40
        assert parsed(document)[2][0].prepared().turn_count == 2**31 - 1

    def test_a_document_that_grew_is_the_same_session(self, parsed: Read) -> None:
        whole = parsed(leak())[1]
        document = leak()
        document["info"] = {"model_stats": {"tokens_sent": 40}}
        for count in (4, 5, 6):
            document["history"] = leak()["history"][:count]
            part = parsed(document)[1]
            assert [event.id for event in part] == [event.id for event in whole][: len(part)]

    def test_another_run_of_the_same_task_is_another_session(self, parsed: Read) -> None:
        ids = set()
        for seconds in (0.25, 0.5):
            document = leak()
            document["trajectory"][0]["execution_time"] = seconds
            ids.add(parsed(document)[1][0].session_id)
        assert len(ids) == 2

    def test_a_message_that_is_none_is_counted(self, parsed: Read) -> None:
        document = leak()
        document["history"] += [7, {"role": 7}, {"content": "no role"}]
        reader = parsed(document)[0]
        assert reader.tally.skipped == {"no message": Skipped(3, (8, 9, 10))}


class TestMini:
    def test_a_document_is_a_session_with_a_run(self, parsed: Read) -> None:
        reader, _events, (run,) = parsed(knots())
        (session,) = reader.take_sessions(final=True)
        assert session.id.startswith("mini-swe-agent/knots__splice-3/")
        assert session.agent_id == "mini-swe-agent"
        assert session.created_at == datetime.fromtimestamp(STARTED, UTC)
        assert session.metadata == {"imported_from": "swe-agent", "title": "knots__splice-3"}
        assert run.provider_metadata["model"] == "anthropic/claude-knot-4"
        assert run.output == {"content": "Spliced.", "submission": "one rope"}
        assert run.ended_at == datetime.fromtimestamp(STARTED + 5, UTC)

    def test_what_it_used_and_cost(self, parsed: Read) -> None:
        reader, events, (run,) = parsed(knots())
        assert run.cost_usd == 0.25
        assert run.token_usage == reader.tokens.to_dict() == Tokens(1_500, 100, 900).to_dict()
        used = of_type(events, EventType.TOKEN_USAGE_UPDATED)
        assert [event.data["input_tokens"] for event in used] == [1_000, 500]
        assert run.turn_count == 2

    def test_commands_in_the_text_are_calls(self, parsed: Read) -> None:
        events = parsed(knots())[1]
        started = of_type(events, EventType.TOOL_CALL_STARTED)
        (completed,) = of_type(events, EventType.TOOL_CALL_COMPLETED)
        assert started[0].data["tool_input"] == {"command": "ls ropes"}
        assert completed.data["tool_output"] == "hemp\nsisal"
        assert completed.correlation_id == started[0].correlation_id
        assert len(of_type(events, EventType.MESSAGE_SENT)) == 2

    def test_calls_and_answers_of_other_shapes(self, parsed: Read) -> None:
        document = knots()
        document["trajectory_format"] = "mini-swe-agent-1"
        document["messages"][2:] = [
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm",
                "tool_calls": [
                    {"id": "c", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "hemp"},
            {
                "object": "response",
                "output": [
                    {"type": "reasoning", "summary": [{"text": "Well"}]},
                    {"type": "function_call", "call_id": "d", "name": "bash", "arguments": "{}"},
                ],
            },
            {"type": "function_call_output", "call_id": "d", "output": "sisal"},
        ]
        events = parsed(document)[1]
        assert kinds(events)[4:] == [
            "message_streamed",
            "tool_call_started",
            "tool_call_completed",
            "message_streamed",
            "tool_call_started",
            "tool_call_completed",
            "run_completed",
        ]
