"""What a rollout of Codex becomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.formats.codex import CodexReader
from asm_store.formats.reports import Skipped, Tokens
from asm_store.models import Event, Run
from tests.formats.logs import kinds, of_type, read_as
from tests.formats.rollouts import MODEL, STARTED, Rollout, squall, tide_table, used

Read = Callable[[Rollout], tuple[CodexReader, list[Event], list[Run]]]


@pytest.fixture
def parsed(tmp_path: Path) -> Read:
    return lambda log: read_as(CodexReader, log.write(tmp_path / "log.jsonl"))


class TestSessions:
    def test_a_session_tells_where_it_came_from(self, parsed: Read) -> None:
        reader, events, _runs = parsed(tide_table())
        (session,) = reader.take_sessions(final=True)
        assert session.id == tide_table().session_id
        assert (session.agent_id, session.status) == ("codex", "completed")
        assert session.metadata == {"imported_from": "codex"}
        assert session.context == {
            "cwd": "/home/ada/lighthouse",
            "git_branch": "main",
            "version": "0.104.0",
            "model_provider": "openai",
        }
        assert session.created_at == STARTED
        assert {event.session_id for event in events} == {session.id}
        assert {event.provider for event in events} == {"codex"}

    @pytest.mark.parametrize(
        "meta",
        [
            {"parent_thread_id": "parent"},
            {"source": {"subagent": {"thread_spawn": {"parent_thread_id": "parent"}}}},
        ],
    )
    def test_a_subagent_has_its_parent(self, parsed: Read, meta: dict[str, Any]) -> None:
        reader = parsed(Rollout("child", **meta))[0]
        assert reader.take_sessions(final=True)[0].parent_session_id == "parent"

    def test_a_thread_has_a_title(self, parsed: Read) -> None:
        log = Rollout("test")
        log.event("thread_name_updated", thread_name="Tides")
        reader = parsed(log)[0]
        assert reader.take_sessions(final=True)[0].metadata["title"] == "Tides"


class TestEvents:
    def test_a_turn_becomes_events_in_the_order_of_its_lines(self, parsed: Read) -> None:
        _reader, events, _runs = parsed(tide_table())
        assert kinds(events) == [
            "session_created",
            "message_sent",
            "message_sent",
            "run_started",
            "message_sent",
            "message_streamed",
            "message_received",
            "tool_call_started",
            "tool_call_completed",
            "token_usage_updated",
            "message_received",
            "token_usage_updated",
            "turn_completed",
            "run_completed",
            "run_started",
            "message_sent",
            "tool_call_started",
            "tool_call_completed",
            "tool_call_started",
            "tool_call_completed",
            "message_received",
            "token_usage_updated",
            "turn_completed",
            "run_completed",
        ]
        assert [event.data for event in events[4:10]] == [
            {"content": "When is high tide?", "role": "user"},
            {"content": "The table knows.", "role": "assistant", "block_type": "thinking"},
            {"content": "I look it up.", "role": "assistant"},
            {
                "tool_name": "shell",
                "tool_call_id": "call_1",
                "tool_input": {"command": ["grep", "high", "tides"]},
            },
            {"tool_name": "shell", "tool_call_id": "call_1", "tool_output": "06:40\n19:05"},
            {**Tokens(4_000, 120, 1_000).to_dict(), "model": MODEL},
        ]
        assert [event.run_id for event in events[:3]] == [None] * 3
        assert events[1].timestamp == STARTED + timedelta(seconds=2)

    def test_a_message_is_one_event_though_two_lines_tell_it(self, parsed: Read) -> None:
        reader, events, _runs = parsed(tide_table())
        said = [event.data["content"] for event in of_type(events, EventType.MESSAGE_RECEIVED)]
        assert said == ["I look it up.", "At 06:40 and at 19:05.", "At 12:50."]
        asked = [event.data["content"] for event in of_type(events, EventType.MESSAGE_SENT)]
        assert asked[-2:] == ["When is high tide?", "And low tide? ☂"]
        assert reader.tally.ignored["event_msg/agent_message"] == 3
        assert reader.tally.ignored["event_msg/user_message"] == 2

    def test_calls_and_their_results_share_their_ids(self, parsed: Read) -> None:
        _reader, events, _runs = parsed(tide_table())
        started = of_type(events, EventType.TOOL_CALL_STARTED)
        completed = of_type(events, EventType.TOOL_CALL_COMPLETED)
        ids = ["call_1", "call_2", "ws_1"]
        assert [event.correlation_id for event in started] == ids
        assert [event.correlation_id for event in completed] == ids
        assert [event.data["tool_name"] for event in completed] == ["shell", "look", "web_search"]
        assert completed[1].data["tool_output"] == "12:50"

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            ("plain", "plain"),
            ({"content": "wrapped", "success": True}, "wrapped"),
            ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
            ({"type": "input_text", "text": "one"}, "one"),
            ({"other": 1}, {"other": 1}),
            (None, None),
        ],
    )
    def test_outputs(self, parsed: Read, output: Any, expected: Any) -> None:
        log = Rollout("test")
        log.task("Go")
        log.call("c", "shell", output)
        (completed,) = of_type(parsed(log)[1], EventType.TOOL_CALL_COMPLETED)
        assert completed.data["tool_output"] == expected

    def test_a_tool_that_failed_says_why(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("Go")
        log.call("c", "shell", {"content": "no such pier", "success": False})
        (failed,) = of_type(parsed(log)[1], EventType.TOOL_CALL_FAILED)
        assert failed.data["error_message"] == "no such pier"

    @pytest.mark.parametrize("given", ["not JSON", "[1, NaN]", "[" * 100_000])
    def test_arguments_that_are_no_json_stay_a_text(self, parsed: Read, given: str) -> None:
        log = Rollout("test")
        log.task("Go")
        log.item("function_call", name="shell", arguments=given, call_id="c")
        (started,) = of_type(parsed(log)[1], EventType.TOOL_CALL_STARTED)
        assert started.data["tool_input"] == given

    def test_every_line_is_kept_once_beside_its_first_event(self, parsed: Read) -> None:
        log = tide_table()
        found = [event for event in parsed(log)[1] if event.metadata]
        lines = [json.loads(line) for line in log.lines]
        originals = [event.metadata["original"] for event in found if "original" in event.metadata]
        assert [line for line in lines if line in originals] == originals
        (search, result) = [event for event in found if event.correlation_id == "ws_1"]
        assert result.metadata == {"original_in": search.id}

    def test_what_the_models_side_does_itself(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("Go")
        log.item("tool_search_call", call_id="s", arguments={"query": "sea"}, status="completed")
        log.item("tool_search_output", call_id="s", tools=[{"name": "sound"}])
        log.item("image_generation_call", id="i", status="failed", revised_prompt="A sail")
        blocks = [{"type": "input_text", "text": "Ahoy"}]
        log.item("agent_message", author="pilot", recipient="main", content=blocks)
        found = [(str(event.type), event.data) for event in parsed(log)[1][3:]]
        searched = {"tool_name": "tool_search", "tool_call_id": "s"}
        drawn = {"tool_name": "image_generation", "tool_call_id": "i"}
        assert found == [
            ("tool_call_started", {**searched, "tool_input": {"query": "sea"}}),
            ("tool_call_completed", {**searched, "tool_output": [{"name": "sound"}]}),
            ("tool_call_started", {**drawn, "tool_input": None}),
            ("tool_call_failed", {**drawn, "error_message": "failed"}),
            ("message_sent", {"content": "Ahoy", "role": "agent", "author": "pilot"}),
        ]

    def test_what_is_no_conversation_is_counted(self, parsed: Read) -> None:
        log = Rollout("test")
        log.line("world_state", full=True)
        log.line("compacted", message="in short")
        log.item("ghost_snapshot", ghost_commit={"id": "a"})
        reader, events, _runs = parsed(log)
        assert kinds(events) == ["session_created"]
        assert reader.tally.ignored == {
            "world_state": 1,
            "compacted": 1,
            "response_item/ghost_snapshot": 1,
        }

    def test_an_image_is_named_and_its_text_kept(self, parsed: Read) -> None:
        log = Rollout("test")
        blocks = [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": "x"}]
        log.item("message", role="user", content=blocks)
        sent = of_type(parsed(log)[1], EventType.MESSAGE_SENT)
        assert [event.data for event in sent] == [
            {"content": "Look", "role": "user"},
            {"content": "", "role": "user", "block_type": "input_image"},
        ]


class TestTurns:
    def test_a_run_tells_its_prompt_answer_and_models(self, parsed: Read) -> None:
        _reader, _events, (one, two) = parsed(tide_table())
        assert one.input == {"messages": [{"role": "user", "content": "When is high tide?"}]}
        assert one.output == {"content": "At 06:40 and at 19:05."}
        assert one.status == two.status == Run.Status.COMPLETED
        assert one.provider_metadata == {"model": MODEL}
        assert two.provider_metadata == {"model": "gpt-5.4-codex-mini"}
        assert (one.provider, one.turn_count) == ("codex", 2)
        assert one.ended_at is not None
        assert one.started_at < one.ended_at < two.started_at

    def test_older_versions_say_no_task(self, parsed: Read) -> None:
        log = Rollout("test")
        for prompt in ("One", "Two"):
            log.message("user", "<environment_context>x</environment_context>")
            log.ask(prompt)
            log.context()
            log.answer(f"{prompt}!")
        runs = parsed(log)[2]
        assert [run.output for run in runs] == [{"content": "One!"}, {"content": "Two!"}]
        assert {run.status for run in runs} == {Run.Status.COMPLETED}

    def test_a_prompt_in_the_middle_of_a_task_begins_no_run(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        log.answer("Well,")
        log.ask("Faster!")
        log.answer("Done")
        log.done("Done")
        (run,) = parsed(log)[2]
        assert run.input["messages"][0]["content"] == "One\nFaster!"

    def test_a_prompt_may_stand_before_its_task(self, parsed: Read) -> None:
        log = Rollout("test")
        log.ask("One")
        log.event("task_started")
        log.answer("Done")
        log.done("Done")
        assert len(parsed(log)[2]) == 1

    def test_what_goes_wrong(self, parsed: Read) -> None:
        _reader, events, (failed, aborted, cut_off) = parsed(squall())
        error = {"error_message": "Connection lost.", "error_code": "http"}
        assert (failed.status, failed.error) == (Run.Status.FAILED, error)
        assert (aborted.status, aborted.output) == (Run.Status.CANCELLED, {"content": "I try."})
        assert aborted.provider_metadata["stop_reason"] == "interrupted"
        assert cut_off.status == Run.Status.CANCELLED
        assert of_type(events, EventType.RUN_FAILED)[0].data == error
        assert len(of_type(events, EventType.RUN_CANCELLED)) == 1
        assert kinds(events)[-1] == "tool_call_started"

    def test_a_task_may_end_with_its_error(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        log.done(error={"message": "Too long.", "codex_error_info": "context_window_exceeded"})
        (run,) = parsed(log)[2]
        assert run.error == {
            "error_message": "Too long.",
            "error_code": "context_window_exceeded",
        }

    def test_an_error_that_was_overcome_fails_no_turn(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        log.event("error", message="Once more.")
        log.answer("Done")
        log.done("Done")
        assert parsed(log)[2][0].status == Run.Status.COMPLETED

    def test_a_turn_that_goes_on_has_no_end_yet(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        log.answer("First,")
        assert kinds(parsed(log)[1])[-1] == "message_received"

    def test_a_log_that_begins_in_the_middle_has_a_run_too(self, parsed: Read) -> None:
        log = Rollout("test")
        log.answer("and so on")
        assert [run.output for run in parsed(log)[2]] == [{"content": "and so on"}]


class TestUsage:
    def test_a_run_has_the_difference_of_the_totals(self, parsed: Read) -> None:
        reader, events, (one, two) = parsed(tide_table())
        assert one.token_usage == Tokens(4_400, 160, 5_900).to_dict()
        assert two.token_usage == Tokens(200, 70, 5_100, 400).to_dict()
        assert sum(reader.tokens.counts()) == 16_230  # the log's own last total
        for run in (one, two):
            sums: Counter[str] = Counter()
            for event in of_type(events, EventType.TOKEN_USAGE_UPDATED):
                if event.run_id == run.id:
                    sums.update({name: event.data[name] for name in run.token_usage})
            assert {**sums} == run.token_usage

    def test_a_count_that_goes_down_begins_anew(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        for total in (
            used(9_000, 0, 100),
            used(2_000, 500, 10),
            used(0, 0, 0),
            used(3_000, 700, 20),
        ):
            log.count(total)
        assert parsed(log)[0].tokens == Tokens(9_000 + 2_300, 120, 700)

    def test_a_single_count_that_goes_down_gives_no_negative(self, parsed: Read) -> None:
        log = Rollout("test")
        log.task("One")
        log.count(used(9_000, 5_000, 100))
        log.count(used(9_500, 4_000, 100))
        _reader, events, (run,) = parsed(log)
        assert min(run.token_usage.values()) >= 0
        for event in of_type(events, EventType.TOKEN_USAGE_UPDATED):
            assert min(event.data[name] for name in run.token_usage) >= 0

    def test_what_a_fork_copied_is_the_parents(self, parsed: Read) -> None:
        parent = tide_table()
        tomorrow = STARTED + timedelta(days=1)
        fork = Rollout("fork", tomorrow, forked_from_id=parent.session_id)
        fork.copy_of(parent)
        reader, _events, runs = parsed(fork)
        assert reader.tokens == Tokens()
        assert [run.token_usage for run in runs] == [{}, {}]
        fork.task("And tomorrow?")
        fork.answer("Later.")
        fork.count(used(20_000, 14_000, 260, 400))
        reader, _events, runs = parsed(fork)
        assert reader.tokens == Tokens(1_000, 30, 3_000)
        (session,) = reader.take_sessions(final=True)
        assert session.id == fork.session_id
        assert session.metadata["forked_from"] == parent.session_id
        assert len(runs) == 3

    def test_a_turn_of_its_own_ends_the_copy_without_a_pause(self, parsed: Read) -> None:
        fork = Rollout("fork", STARTED + timedelta(days=1), forked_from_id="parent")
        fork.copy_of(tide_table())
        at_once = {"timestamp": fork.now.isoformat()}
        fork.task("Go")
        fork.count(used(20_000, 14_000, 260, 400))
        lines = [{**json.loads(line), **at_once} for line in fork.lines]
        fork.lines = [json.dumps(line) for line in lines]
        assert parsed(fork)[0].tokens == Tokens(1_000, 30, 3_000)

    @pytest.mark.parametrize("info", [None, [], {}, {"total_token_usage": 7}])
    def test_a_count_that_says_nothing_counts_nothing(self, parsed: Read, info: Any) -> None:
        log = Rollout("test")
        log.task("One")
        log.event("token_count", info=info)
        assert parsed(log)[0].tokens == Tokens()


class TestSkipped:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"type": "moon-phase"}, "unknown type 'moon-phase'"),
            ({"type": ["event_msg"]}, "unknown type list"),
            ({"payload": None}, "no payload"),
            ({"timestamp": None}, "no timestamp"),
            ({"timestamp": "yesterday"}, "bad timestamp"),
            ({"payload": {"type": "dream"}}, "response_item: unknown type 'dream'"),
            ({"payload": {}}, "response_item: unknown type NoneType"),
            (
                {"type": "event_msg", "payload": {"type": "dream"}},
                "event_msg: unknown type 'dream'",
            ),
            ({"type": "event_msg"}, "event_msg: unknown type 'message'"),
        ],
    )
    def test_a_line_that_cannot_be_placed_is_counted(
        self, parsed: Read, change: dict[str, Any], reason: str
    ) -> None:
        log = Rollout("test")
        record = log.message("user", "Go")
        log.lines[-1] = json.dumps({**record, **change})
        log.message("user", "On")
        reader, events, _runs = parsed(log)
        assert reader.tally.skipped == {reason: Skipped(1, (2,))}
        assert len(of_type(events, EventType.MESSAGE_SENT)) == 1

    def test_nothing_is_known_before_the_first_line(self, parsed: Read) -> None:
        log = tide_table()
        log.lines.append(log.lines.pop(0))
        reader, _events, runs = parsed(log)
        assert runs == []
        assert "before the session's first line" in reader.tally.skipped
