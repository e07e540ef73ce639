"""How the lines of a transcript divide into runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.models import Run
from example_project.sample_data import (
    OPUS,
    Transcript,
    storm,
    text,
    tool_use,
    usage,
)
from tests.formats.logs import Runs, kinds, of_type, read

USED = usage(1, 2, 3, 4)


class TestTurns:
    def test_every_prompt_begins_a_run(self, log: Transcript, runs: Runs) -> None:
        log.user("One")
        log.answer(text("1"), usage=USED, stop="end_turn")
        log.user([text("Two")])
        log.answer(text("2"), text("3"), usage=USED)
        one, two = runs(log)
        assert one.input == {"messages": [{"role": "user", "content": "One"}]}
        assert one.output == {"content": "1"}
        assert one.status == two.status == Run.Status.COMPLETED
        assert one.provider_metadata == {"model": OPUS, "stop_reason": "end_turn"}
        assert two.output == {"content": "2\n3"}
        assert (two.started_at, two.ended_at) == (
            datetime(2026, 3, 2, 9, 30, 3, tzinfo=UTC),
            datetime(2026, 3, 2, 9, 30, 5, tzinfo=UTC),
        )

    def test_several_records_of_one_moment_are_one_prompt(
        self, log: Transcript, runs: Runs
    ) -> None:
        first = log.user("One")
        log.line({**first, "uuid": "b", "message": {"role": "user", "content": "Two"}})
        log.answer(text("1"), usage=USED)
        (run,) = runs(log)
        assert run.input["messages"][0]["content"] == "One\nTwo"

    @pytest.mark.parametrize(
        ("content", "fields"),
        [
            ("A note of the program", {"isMeta": True}),
            ("What was before, in short", {"isCompactSummary": True}),
            ("<local-command-caveat>Ignore these", {"isMeta": True}),
        ],
    )
    def test_a_note_of_the_program_begins_no_run_and_ends_none(
        self, log: Transcript, tmp_path: Path, content: str, fields: dict[str, Any]
    ) -> None:
        log.user("One")
        log.answer(text("1"), usage=USED)
        log.user(content, **fields)
        _reader, events, (run,) = read(log.write(tmp_path / "log.jsonl"))
        assert run.status == Run.Status.COMPLETED
        assert run.ended_at == datetime(2026, 3, 2, 9, 30, 2, tzinfo=UTC)
        assert len(of_type(events, EventType.MESSAGE_SENT)) == 2

    def test_a_local_command_is_a_run_that_asks_no_model(self, log: Transcript, runs: Runs) -> None:
        log.user("<command-name>/plugin</command-name>")
        log.user("<local-command-stdout>Installed</local-command-stdout>")
        (run,) = runs(log)
        assert (run.status, run.token_usage, run.turn_count) == ("completed", {}, 0)

    @pytest.mark.parametrize("marker", ["", " for tool use"])
    def test_a_turn_that_the_user_interrupts_is_cancelled(
        self, log: Transcript, tmp_path: Path, marker: str
    ) -> None:
        log.user("One")
        log.answer(text("1"), usage=USED)
        log.user([text(f"[Request interrupted by user{marker}]")])
        log.user("Two")
        log.answer(text("2"), usage=USED)
        _reader, events, (one, two) = read(log.write(tmp_path / "log.jsonl"))
        assert (one.status, two.status) == (Run.Status.CANCELLED, Run.Status.COMPLETED)
        (cancelled,) = of_type(events, EventType.RUN_CANCELLED)
        assert (cancelled.run_id, cancelled.timestamp) == (one.id, one.ended_at)

    def test_a_turn_that_was_cut_off_has_no_end_until_the_next_begins(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        log.user("One")
        log.answer(text("I look"), tool_use("call", "Read"), usage=USED)
        _reader, events, (run,) = read(log.write(tmp_path / "log.jsonl"))
        assert run.status == Run.Status.CANCELLED
        assert kinds(events)[-1] == "tool_call_started"
        log.user("Two")
        events = read(log.write(tmp_path / "log.jsonl"))[1]
        assert kinds(events)[-3:] == ["run_cancelled", "run_started", "message_sent"]

    def test_a_turn_that_the_api_ends_has_failed(self, tmp_path: Path) -> None:
        _reader, events, runs = read(storm().write(tmp_path / "log.jsonl"))
        assert runs[-1].status == Run.Status.FAILED
        error = {"error_message": "API Error: Connection lost.", "error_code": "server_error"}
        assert runs[-1].error == events[-1].data == error
        assert kinds(events)[-2:] == ["error_occurred", "run_failed"]

    def test_what_the_program_answers_itself_changes_no_turn(
        self, log: Transcript, runs: Runs
    ) -> None:
        log.user("One")
        log.user([text("[Request interrupted by user]")])
        log.answer(text("No response requested."), usage=usage(0, 0), model="<synthetic>")
        (run,) = runs(log)
        assert (run.status, run.output, run.provider_metadata) == ("cancelled", None, {})

    def test_a_late_line_of_another_branch_finds_its_own_turn(
        self, log: Transcript, runs: Runs
    ) -> None:
        first = log.user("One")
        log.user("Two")
        log.record(
            "assistant",
            message={"id": "m", "content": [text("to one")], "usage": USED, "model": OPUS},
            parentUuid=first["uuid"],
        )
        one, two = runs(log)
        assert one.output == {"content": "to one"}
        assert (one.status, two.status) == (Run.Status.COMPLETED, Run.Status.CANCELLED)

    def test_a_log_that_begins_in_the_middle_has_a_run_too(
        self, log: Transcript, runs: Runs
    ) -> None:
        log.answer(text("and so on"), usage=USED)
        (run,) = runs(log)
        assert run.output == {"content": "and so on"}

    def test_a_long_answer_is_shortened_in_the_run_and_not_in_the_event(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        log.user("x" * 50_000)
        log.answer(text("y" * 50_000), usage=USED)
        _reader, events, (run,) = read(log.write(tmp_path / "log.jsonl"))
        assert len(run.input["messages"][0]["content"]) == len(run.output["content"]) == 20_000
        (received,) = of_type(events, EventType.MESSAGE_RECEIVED)
        assert len(received.data["content"]) == 50_000
