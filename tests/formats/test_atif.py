"""What an ATIF trajectory becomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.formats.atif import AtifReader
from asm_store.formats.lines import UnreadableFileError
from asm_store.formats.reports import Skipped, Tokens
from asm_store.models import Event, Run
from tests.formats.logs import kinds, of_type, read_as
from tests.formats.trajectories import Document, logbook, voyage, write

Read = Callable[[Document], tuple[AtifReader, list[Event], list[Run]]]


@pytest.fixture
def parsed(tmp_path: Path) -> Read:
    return lambda document: read_as(AtifReader, write(document, tmp_path / "a.json"))


class TestTrajectory:
    def test_a_trajectory_is_a_run_of_its_session(self, parsed: Read) -> None:
        reader, _events, (run, _of_pilot) = parsed(voyage())
        session = reader.take_sessions(final=True)[0]
        assert (session.id, session.agent_id) == ("voyage-1", "navigator")
        assert session.context == {"version": "1.2.0"}
        assert session.created_at == datetime(2026, 5, 4, 8, tzinfo=UTC)
        assert run.session_id == session.id
        assert run.input == {"messages": [{"role": "user", "content": "To the island!"}]}
        assert run.output == {"content": "We are there."}
        assert (run.status, run.provider, run.turn_count) == (Run.Status.COMPLETED, "openai", 2)
        assert run.provider_metadata["model"] == "openai/gpt-5-sea"
        assert (run.started_at, run.ended_at) == (
            datetime(2026, 5, 4, 8, tzinfo=UTC),
            datetime(2026, 5, 4, 8, 0, 9, tzinfo=UTC),
        )

    def test_the_steps_become_events(self, parsed: Read) -> None:
        _reader, events, _runs = parsed(voyage())
        events = [event for event in events if event.session_id == "voyage-1"]
        assert kinds(events) == [
            "session_created",
            "run_started",
            "message_sent",
            "message_sent",
            "message_sent",
            "message_streamed",
            "message_received",
            "tool_call_started",
            "tool_call_started",
            "token_usage_updated",
            "tool_call_completed",
            "tool_call_completed",
            "message_received",
            "token_usage_updated",
            "run_completed",
        ]
        assert [event.data for event in events[2:12]] == [
            {"content": "You navigate.", "role": "system"},
            {"content": "To the island!", "role": "user"},
            {"content": "", "role": "user", "block_type": "image"},
            {"content": "There are reefs.", "role": "assistant", "block_type": "thinking"},
            {"content": "I ask the pilot. ☂", "role": "assistant"},
            {"tool_name": "sound", "tool_call_id": "call_1", "tool_input": {"place": "reef"}},
            {"tool_name": "ask_pilot", "tool_call_id": "call_2", "tool_input": {}},
            {**Tokens(500, 60, 900, 100).to_dict(), "model": "openai/gpt-5-sea-mini"},
            {"tool_name": "sound", "tool_call_id": "call_1", "tool_output": "4 fathoms"},
            {
                "tool_name": "ask_pilot",
                "tool_call_id": "call_2",
                "tool_output": {"subagent_trajectory_ref": [{"trajectory_id": "pilot"}]},
            },
        ]

    def test_the_prompt_of_the_metrics_counts_what_was_cached(self, parsed: Read) -> None:
        reader, events, (run, of_pilot) = parsed(voyage())
        assert run.token_usage == Tokens(2_200, 80, 900, 100).to_dict()
        assert run.cost_usd == 0.09375
        assert reader.tokens == Tokens(2_240, 87, 900, 100)
        for each in (run, of_pilot):
            sums: Counter[str] = Counter()
            for event in of_type(events, EventType.TOKEN_USAGE_UPDATED):
                if event.run_id == each.id:
                    sums.update({name: event.data[name] for name in each.token_usage})
            assert {**Tokens().to_dict(), **sums} == each.token_usage

    def test_the_cost_of_the_steps_counts_where_there_is_no_total(self, parsed: Read) -> None:
        document = voyage()
        del document["final_metrics"]
        assert parsed(document)[2][0].cost_usd == 0.09375

    def test_a_subagent_is_a_session_of_its_own(self, parsed: Read) -> None:
        reader, events, (_run, of_pilot) = parsed(voyage())
        _main, pilot = reader.take_sessions(final=True)
        assert (pilot.id, pilot.parent_session_id) == ("voyage-1/pilot", "voyage-1")
        assert pilot.agent_id == "pilot"
        assert of_pilot.output == {"content": "In the west."}
        assert of_pilot.token_usage == Tokens(40, 7).to_dict()
        said = [event.data["content"] for event in of_type(events, EventType.MESSAGE_RECEIVED)]
        assert said[-1] == "In the west."

    def test_originals_are_kept_once(self, parsed: Read) -> None:
        document = voyage()
        _reader, events, _runs = parsed(document)
        originals = [event.metadata["original"] for event in events if "original" in event.metadata]
        assert originals[0]["final_metrics"] == document["final_metrics"]
        assert originals[1:5] == document["steps"]

    def test_without_times_everything_was_at_the_epoch(self, parsed: Read) -> None:
        document = voyage()
        for step in document["steps"]:
            step.pop("timestamp", None)
        reader, events, _runs = parsed(document)
        assert {event.timestamp for event in events} == {datetime(1970, 1, 1, tzinfo=UTC)}
        assert reader.take_sessions(final=True)[0].metadata["times"] == "unknown"

    def test_copied_context_stands_in_another_trajectory(self, parsed: Read) -> None:
        document = voyage()
        document["steps"][1]["is_copied_context"] = True
        reader, events, _runs = parsed(document)
        assert reader.tally.ignored == {"copied context": 1}
        assert "To the island!" not in [event.data.get("content") for event in events]

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ({"session_id": None}, "voyage-1-main"),
            ({"session_id": None, "trajectory_id": None}, "atif/"),
        ],
    )
    def test_a_session_without_a_name(
        self, parsed: Read, names: dict[str, Any], expected: str
    ) -> None:
        events = parsed({**voyage(), **names})[1]
        assert events[0].session_id.startswith(expected)

    def test_a_trajectory_that_grew_is_the_same_run(self, parsed: Read) -> None:
        document = voyage()
        del document["trajectory_id"], document["subagent_trajectories"], document["final_metrics"]
        whole = [event.id for event in parsed(document)[1]]
        for count in (2, 3):
            part = {**document, "steps": document["steps"][:count]}
            ids = [event.id for event in parsed(part)[1] if event.type != "run_completed"]
            assert ids == whole[: len(ids)]

    def test_a_turn_without_its_answer_was_cut_off(self, parsed: Read) -> None:
        document = voyage()
        document["steps"] = document["steps"][:2]
        assert parsed(document)[2][0].status == Run.Status.CANCELLED


class TestLines:
    def test_a_line_may_hold_a_trajectory(self, tmp_path: Path) -> None:
        first, second = voyage(), voyage()
        second["trajectory_id"] = "voyage-1-back"
        second["steps"][1]["message"] = "Home!"
        path = tmp_path / "a.jsonl"
        path.write_text(f"{json.dumps(first)}\n{{}}\n{json.dumps(second)}\n")
        reader, events, runs = read_as(AtifReader, path)
        assert [session.id for session in reader.take_sessions(final=True)] == [
            "voyage-1",
            "voyage-1/pilot",
        ]
        prompts = [run.input["messages"][0]["content"] for run in runs]
        assert sorted(prompts)[:2] == ["Home!", "To the island!"]
        assert len({run.id for run in runs}) == 4 - 1  # the pilot's is the same
        assert len(of_type(events, EventType.SESSION_CREATED)) == 2
        assert reader.tally.skipped == {
            "ATIF version NoneType; this package reads 1.0 to 1.8": Skipped(1, (2,))
        }


class TestNotes:
    def test_what_this_package_noted_is_taken_back(self, parsed: Read) -> None:
        reader, events, (run,) = parsed(logbook())
        assert [(event.id, str(event.type)) for event in events] == [
            ("evt_created", "session_created"),
            ("evt_begun", "run_started"),
            ("evt_thought", "message_streamed"),
            ("evt_said", "message_received"),
            ("evt_call", "tool_call_started"),
            ("evt_used", "token_usage_updated"),
            ("evt_result", "tool_call_failed"),
            (events[7].id, "token_usage_updated"),
            ("evt_ended", "run_timeout"),
        ]
        assert events[3].data == {"content": "Aye", "role": "assistant", "x": 1}
        assert events[2].timestamp == datetime(2026, 5, 4, 8, 0, 1, tzinfo=UTC)
        assert (events[5].run_id, events[6].run_id) == (None, "run_1")
        assert (run.id, run.status, run.provider) == ("run_1", Run.Status.TIMEOUT, "rower")
        assert (run.turn_count, run.cost_usd) == (3, 0.5)
        assert run.token_usage == Tokens(8, 2, 4).to_dict()
        assert reader.tokens == Tokens(14, 4, 8)
        assert run.started_at == datetime(2026, 5, 4, 7, 59, tzinfo=UTC)
        assert run.ended_at == datetime(2026, 5, 4, 8, 30, tzinfo=UTC)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"schema_version": "ATIF-v2.0"}, "ATIF version 'ATIF-v2.0'; this package reads"),
            ({"schema_version": "ATIF-v1.9"}, "ATIF version"),
            ({"steps": None}, "steps: not a list"),
            ({"session_id": "x" * 300}, "not a usable session id"),
            ({"session_id": 7}, "not a usable session id"),
            ({"subagent_trajectories": [7]}, "steps: not a list"),
        ],
    )
    def test_a_document_that_cannot_be_read(
        self, parsed: Read, change: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(UnreadableFileError, match=reason):
            parsed({**voyage(), **change})

    def test_a_step_of_nobody_is_counted(self, parsed: Read) -> None:
        document = voyage()
        document["steps"][1]["source"] = "the sea"
        document["steps"].append(7)
        assert parsed(document)[0].tally.skipped == {
            "unknown source 'the sea'": Skipped(1, (2,)),
            "unknown source NoneType": Skipped(1, (5,)),
        }
